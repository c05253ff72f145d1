"""Which settings of self-play teach most: its learning rate, the groups it learns from, what a proposer is paid for.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/what_pays.py --seeds=3

Expected: about 420 minutes on 2 cores by the speed of the main job; not yet run. 45 runs after 3 shared warm-ups, asked
of dev: what wins here is compared with its controls by `selfplay.py`.
"""

from collections.abc import Iterator
from typing import Any

from experiments.sweeps.selfplay import AFTER_BRANCH, BASE, BRANCH

__all__ = ["AFTER_BRANCH", "BASE", "BRANCH", "REFERENCE", "points"]

REFERENCE = "job"


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """The main job's self-play, three times as long and from a shorter warm-up, and one change at a time."""
    yield "job", "job", 2.0, {}
    for rate in (2.5e-4, 1e-3):
        yield f"lr-{rate:g}", "rate", 2.0, {"selfplay.lr": rate}
    for temperature in (0.4, 1.0):
        yield f"answers-at-{temperature}", "temperature", 2.0, {"selfplay.answer_temperature": temperature}
    yield "all-groups", "groups", 2.0, {"selfplay.learnt_groups": 0}
    yield "replay-by-spread", "groups", 2.0, {"selfplay.replay": "spread"}
    yield "by-level", "groups", 2.0, {"selfplay.level_budget": True}
    # A deduction has one right answer, which the generator's rows teach word by word.
    yield "no-deductions", "groups", 2.0, {"selfplay.kinds": "abduction,induction"}
    yield "a-quarter-of-the-answers", "groups", 2.0, {"selfplay.num_tasks": 16, "selfplay.learnt_groups": 6}
    for weight in (0.2, 1.0):
        yield f"supervised-{weight}", "rows", 2.0, {"selfplay.supervised": weight}
    yield "own-answers-0.1", "targets", 2.0, {"selfplay.own_answers": 0.1}
    yield "proposer-1", "proposer", 2.0, {"selfplay.proposer": 1.0}
    yield "any-proposal", "proposer", 2.0, {"selfplay.stale": 1.0, "selfplay.off_level": 1.0}
