"""How fast to quantise: the length and the place of the ramp to ternary, and of the fade-in of promoted blocks.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/ramp.py

Expected: about 90 minutes on 2 cores by the speed of the main job; not yet measured. 40 runs after 5 shared warm-ups.

800 steps follow the branch, so that a fade-in of 300 steps ends before the run does.
"""

from collections.abc import Iterator
from typing import Any

BUDGET = 3.0
FADE_INS = (20, 100, 300)  # updates; 100 is the default
RAMPS = {"none": (0.6, 0.6), "long": (0.6, 0.85), "late": (0.75, 0.85)}  # shares of the 2,000 steps

BASE = {
    "model.max_tier": 4,
    "warmup.steps": 2000,
    "warmup.ramp_start": 0.6,  # step 1,200
    "warmup.ramp_end": 0.7,  # step 1,400
    "selfplay.steps": 0,
    "eval.items": 0,
    "eval.locked_items": 0,
}
BRANCH = 1200
AFTER_BRANCH = ("precision", "warmup.ramp_start", "warmup.ramp_end", "model.weights", "eval", "run")


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Ramps of the ternary model, then fade-ins of promoted blocks."""
    yield "ternary", "ternary", 2.0, {}
    for name, (start, end) in RAMPS.items():
        yield f"ramp-{name}", "ramp", 2.0, {"warmup.ramp_start": start, "warmup.ramp_end": end}
    for steps in FADE_INS:
        yield f"fade-{steps}", "fade-in", BUDGET, {"precision.budget": BUDGET, "precision.ramp_steps": steps}
    settings = {"precision.budget": BUDGET, "warmup.ramp_start": 0.6, "warmup.ramp_end": 0.85}
    yield "fade-100-ramp-long", "fade-in, long ramp", BUDGET, settings
