"""Which signal places the bits best: all six at a small and a middle budget.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/signals.py \
        --bases=runs/azr_small-precision_budget/bases

Expected: about 50 minutes on 2 cores by the speed of precision_budget.py; not yet run whole. 65 runs after 5 shared
warm-ups, which are those of precision_budget.py.
"""

from collections.abc import Iterator
from typing import Any

SIGNALS = ("fisher", "activation", "attention", "magnitude", "static", "random")
BUDGETS = (2.25, 3.0)

# Two layers, so that five seeds of every point fit an evening; the weights turn ternary at step 1,200 at once.
BASE = {
    "model.num_layers": 2,
    "model.max_tier": 4,
    "warmup.steps": 1600,
    "warmup.ramp_start": 0.75,
    "warmup.ramp_end": 0.75,
    "tasks.unlock_every": 1600,
    "selfplay.steps": 0,
    "eval.items": 0,
    "eval.locked_items": 0,
}
BRANCH = 1200
AFTER_BRANCH = ("precision", "model.weights", "eval", "run")


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Every signal at every budget, beside ternary."""
    yield "ternary", "ternary", 2.0, {}
    for signal in SIGNALS:
        for budget in BUDGETS:
            yield f"{signal}-{budget:g}", signal, budget, {"precision.budget": budget, "precision.signal": signal}
