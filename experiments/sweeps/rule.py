"""Is it the signal, or the rule "q, k and v first"? Bits for q, k and v rows alone, by the Fisher signal and by chance.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/rule.py \
        --bases=runs/azr_small-precision_budget/bases

Expected: 66 minutes on 2 cores with --jobs=2, measured with tests beside it. 35 runs after 5 shared
warm-ups, which precision_budget.py can lend; what the learner of before gave is in benchmarks/results/rule and in the
log.

In this sweep "random" is random among the q, k and v rows, so a series that beats it does more than follow the rule.
The Fisher signal chooses nothing else at these budgets, so its points are as in precision_budget.py.
"""

from collections.abc import Iterator
from typing import Any

from experiments.sweeps.precision_budget import AFTER_BRANCH, BASE, BRANCH

__all__ = ["AFTER_BRANCH", "BASE", "BRANCH", "points"]

BUDGETS = (2.125, 2.25, 2.5)


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """The signal and chance, both within q, k and v."""
    yield "ternary", "ternary", 2.0, {}
    for signal in ("fisher", "random"):
        for budget in BUDGETS:
            settings = {"precision.budget": budget, "precision.signal": signal, "precision.kinds": "qkv"}
            yield f"{signal}-qkv-{budget:g}", signal, budget, settings
