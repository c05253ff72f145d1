"""Which signal places the bits best: all six at a small and a middle budget.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/signals.py \
        --bases=runs/azr_small-precision_budget/bases

Expected: about 50 minutes on 2 cores by the speed of precision_budget.py. 65 runs after 5 shared warm-ups, which are
those of precision_budget.py. What 3 seeds of the learner of before gave is in benchmarks/results/signals and the log.

Both budgets are within the reach of every signal: attention has something to say of q, k and v alone, which all
promoted make 2.89 bits, and static of o and down (3.34 bits). Beyond that their blocks would be drawn by magnitude.
"""

from collections.abc import Iterator
from typing import Any

from experiments.sweeps.precision_budget import AFTER_BRANCH, BASE, BRANCH

__all__ = ["AFTER_BRANCH", "BASE", "BRANCH", "points"]

SIGNALS = ("fisher", "activation", "attention", "magnitude", "static", "random")
BUDGETS = (2.25, 2.75)


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Every signal at every budget, beside ternary."""
    yield "ternary", "ternary", 2.0, {}
    for signal in SIGNALS:
        for budget in BUDGETS:
            yield f"{signal}-{budget:g}", signal, budget, {"precision.budget": budget, "precision.signal": signal}
