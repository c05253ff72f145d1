"""Quality against stored bits: does a signal place its bits better than chance, and better than other uses of them?

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/precision_budget.py

Expected: 49 minutes on 2 cores with --seeds=3 --jobs=2, 54 runs after 9 shared warm-ups; five seeds if none are given;
what came out is in benchmarks/results/precision_budget and in experiments/LOG.md, with seven deductions in ten taught
by their trace. The main job has nine since, and nats of the two do not compare: `--config.warmup.trace=0.7` repeats it.

Budgets are mean stored bits a ternary-able weight. Controls: the same budget for blocks drawn at random, for blocks
fixed by their place (static: o and down; all of them make 3.34 bits, the rest goes by magnitude), for a wider ternary
model of equal size, for everything at 4 residual bits; 4-bit weights without a ternary base and unquantised weights
show what quantising costs at all.
"""

from collections.abc import Iterator
from typing import Any

from bitzero.config import Model, largest_budget

SIGNAL = "fisher"
BUDGETS = (2.125, 2.25, 2.5, 3.0, 4.0)
# The model of azr_small with 4-bit tiers: every block promoted.
EVERYTHING = largest_budget(Model(width=128, num_heads=4, num_kv_heads=2, head_dim=32, ffn_width=256, max_tier=4))
# FFN widths at which azr_small, all ternary, is as large as at ffn_width=256 with that budget.
WIDER = {2.5: 352, 4.0: 640}

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
    "eval.precision_items": 600,  # a third of them had intervals of two points, wider than the models differ by
}
BRANCH = 1200
AFTER_BRANCH = ("precision", "model.weights", "eval", "run")


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """The signal and its controls."""
    yield "ternary", "ternary", 2.0, {}
    for signal in (SIGNAL, "random"):
        for budget in BUDGETS:
            yield f"{signal}-{budget:g}", signal, budget, {"precision.budget": budget, "precision.signal": signal}
    for budget in (2.5, 4.0):
        yield f"static-{budget:g}", "static", budget, {"precision.budget": budget, "precision.signal": "static"}
    for budget, width in WIDER.items():
        yield f"wider-{budget:g}", "wider", budget, {"model.ffn_width": width}
    yield "all-4-bit", "all 4-bit", EVERYTHING, {"precision.budget": EVERYTHING}
    yield "int4", "int4, no ternary base", 4.2222, {"model.weights": "int4"}
    yield "full", "unquantised", 32.0, {"model.weights": "full"}
