"""Which signal places the bits best: all six at a small and a middle budget.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/signals.py \
        --bases=runs/azr_small-precision_budget/bases

Expected: about 50 minutes on 2 cores by the speed of precision_budget.py; not yet run whole. 65 runs after 5 shared
warm-ups, which are those of precision_budget.py.
"""

from collections.abc import Iterator
from typing import Any

from experiments.sweeps.precision_budget import AFTER_BRANCH, BASE, BRANCH

__all__ = ["AFTER_BRANCH", "BASE", "BRANCH", "points"]

SIGNALS = ("fisher", "activation", "attention", "magnitude", "static", "random")
BUDGETS = (2.25, 3.0)


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Every signal at every budget, beside ternary."""
    yield "ternary", "ternary", 2.0, {}
    for signal in SIGNALS:
        for budget in BUDGETS:
            yield f"{signal}-{budget:g}", signal, budget, {"precision.budget": budget, "precision.signal": signal}
