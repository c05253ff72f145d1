"""What training batches hold: productions and levels alike, by errors or by what is half known, and how many traces.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/curriculum.py --seeds=3

Expected: about 130 minutes on 2 cores, 24 runs; not yet measured as a sweep (single runs: the log). Each point is the
main job at 2,800 warm-up steps, its whole schedule in them, without self-play; judged on dev programs.
"""

from collections.abc import Iterator
from typing import Any

BASE = {
    "warmup.steps": 2800,
    "tasks.unlock_every": 400,
    "selfplay.steps": 0,
    "eval.items": 0,
    "eval.locked_items": 0,
    "eval.operation_items": 600,
    "eval.precision_items": 600,
}
REFERENCE = "even"
BRANCH = 0  # the mix is another from step 400 on


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Neither (the control), each alone in two forms, both by what is half known; that with other shares of traces."""
    even: dict[str, Any] = {"tasks.productions": "even", "tasks.levels": "frontier"}
    yield "even", "control", 2.0, even
    for form in ("learnable", "errors"):
        yield f"productions-{form}", "productions", 2.0, even | {"tasks.productions": form}
        yield f"levels-{form}", "levels", 2.0, even | {"tasks.levels": form}
    yield "both-learnable", "both", 2.0, {}
    for share in (0.7, 1.0):  # both-learnable has 0.9
        yield f"traces-{share}", "traces", 2.0, {"warmup.trace": share}
