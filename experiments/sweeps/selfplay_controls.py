"""Does self-play add anything? The whole of it beside what leaves a part out, all from one warm-up a seed.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/selfplay_controls.py \
        --seeds=3

Expected: about 115 minutes on 2 cores by the speed of the main job (a seed: 9 for its warm-up, 9 for a point, 3 for
`supervised`); not yet run. 12 runs after 3 warm-ups. They are the points of `selfplay.py` that need no warm-up of their
own, for 200 steps instead of 300; with the same `--bases` each of the two sweeps takes over the warm-ups of the other.
"""

from collections.abc import Iterator
from typing import Any

from experiments.sweeps import selfplay
from experiments.sweeps.selfplay import AFTER_BRANCH, BRANCH, REFERENCE

__all__ = ["AFTER_BRANCH", "BASE", "BRANCH", "REFERENCE", "points"]

BASE = {**selfplay.BASE, "selfplay.steps": 200}


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Self-play and its controls, from the same warm-up."""
    yield from (point for point in selfplay.points() if point[1] != "precision")
