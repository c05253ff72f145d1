"""Does self-play add anything? The whole of it beside what leaves a part out, all from one warm-up a seed.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/selfplay_controls.py \
        --seeds=3

About 45 minutes on 2 cores (without AVX-512) a seed: 16 for the warm-up and what self-play waits for, 8 for a point, 4
for `supervised`. 12 runs after 3 warm-ups. They are the points of `selfplay.py` under one precision, with the main
job's number of steps of self-play after a shorter warm-up.
"""

from collections.abc import Iterator
from typing import Any

from experiments.sweeps import selfplay
from experiments.sweeps.selfplay import AFTER_BRANCH, REFERENCE

__all__ = ["AFTER_BRANCH", "BASE", "BRANCH", "REFERENCE", "points"]

BRANCH = 4200
BASE = {**selfplay.BASE, "warmup.steps": BRANCH, "selfplay.steps": 100, "model.max_tier": 0}


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Self-play and its controls, from the same warm-up."""
    yield from (point for point in selfplay.points() if point[1] != "precision")
