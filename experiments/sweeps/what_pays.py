"""Which settings of self-play teach most: its learning rate, the groups it learns from, what a proposer is paid for.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/what_pays.py --seeds=3

Expected: about 560 minutes on 2 cores by the speed of the main job; not yet run. 36 runs after 3 shared warm-ups, asked
of dev: what wins here is compared with its controls by `selfplay.py`.
"""

from collections.abc import Iterator
from typing import Any

from experiments.sweeps.selfplay import AFTER_BRANCH, BASE, BRANCH

__all__ = ["AFTER_BRANCH", "BASE", "BRANCH", "REFERENCE", "points"]

REFERENCE = "job"


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """The main job's self-play, and one change at a time."""
    yield "job", "job", 2.0, {}
    for rate in (3e-4, 1e-3, 3e-3):
        yield f"lr-{rate:g}", "rate", 2.0, {"selfplay.lr": rate, "selfplay.lr_flat": 0.3}
    yield "constant-1e-3", "rate", 2.0, {"selfplay.lr": 1e-3}
    yield "half-of-the-groups", "groups", 2.0, {"selfplay.learnt_groups": 8}
    yield "32-groups-half", "groups", 2.0, {"selfplay.num_tasks": 32, "selfplay.learnt_groups": 16}
    budget = {"selfplay.learnt_groups": 8, "selfplay.level_budget": True}
    yield "half-of-the-groups-by-level", "groups", 2.0, budget
    yield "16-supervised", "rows", 2.0, {"selfplay.supervised_batch": 16}
    for weight in (0.1, 0.3):
        yield f"own-answers-{weight}", "targets", 2.0, {"selfplay.own_answers": weight}
    yield "new-and-as-asked", "proposer", 2.0, {"selfplay.stale": 0.25, "selfplay.off_level": 0.5}
