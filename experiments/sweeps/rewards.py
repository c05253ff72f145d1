"""Which proposer reward and which advantage: three times two, in a short self-play from one warm-up a seed.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/rewards.py

Expected: about 120 minutes on 2 cores by the speed of the main job; not yet measured. 30 runs after 5 shared warm-ups.

The reference, paper with group, is what the main job does. All points are of one size.
"""

from collections.abc import Iterator
from typing import Any

BASE = {
    "warmup.steps": 1500,
    "warmup.ramp_start": 0.6,  # step 900
    "warmup.ramp_end": 0.8,  # step 1,200
    "selfplay.steps": 60,
    "eval.items": 0,
    "eval.locked_items": 0,
}
BRANCH = 1500  # the end of warm-up
AFTER_BRANCH = ("selfplay", "eval", "run")
REFERENCE = "paper-group"


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Every reward with every advantage."""
    for reward in ("paper", "code", "balanced"):
        for advantage in ("group", "task_relative"):
            settings = {"selfplay.reward": reward, "selfplay.advantage": advantage}
            yield f"{reward}-{advantage}", advantage, 2.0, settings
