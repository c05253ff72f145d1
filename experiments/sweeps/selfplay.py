"""Does self-play add anything, and under which precision? The whole of it beside what leaves a part out.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/selfplay.py --seeds=3

Expected: about 340 minutes on 2 cores by the speed of the main job (9 for a warm-up, 12 for a point, 4 for
`supervised`); not yet run whole. 21 runs after 12 warm-ups, four of the seven points from the same one: these alone,
shorter, are `selfplay_controls.py`. Asked of dev; with --config.eval.split=test the last comparison reads test, once.

`supervised` has the same rows of the generator at the same rates and no policy loss; `generator` solves the generator's
tasks and trains no proposer; `shuffled` deals the rewards out anew. Three run self-play under another precision.
"""

from collections.abc import Iterator
from typing import Any

BASE = {
    "warmup.steps": 5600,
    "selfplay.steps": 300,
    "model.max_tier": 4,
    "eval.split": "dev",
    "eval.items": 340,  # of three levels: 1,020 a kind
    "eval.locked_items": 0,
    "eval.passk_items": 0,
    "eval.operation_items": 0,
}
BRANCH = 5600  # the end of warm-up
AFTER_BRANCH = ("selfplay", "eval", "run")
REFERENCE = "full"


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Self-play, its controls from the same warm-up, and self-play under other precisions from their own."""
    yield "full", "self-play", 2.0, {}
    # Its rollouts are only counted, and a few will do.
    few = {"selfplay.num_tasks": 3, "selfplay.group_size": 2, "selfplay.learnt_groups": 0}
    yield "supervised", "control", 2.0, {"selfplay.ablation": "supervised", **few}
    yield "generator", "control", 2.0, {"selfplay.ablation": "generator"}
    yield "shuffled", "control", 2.0, {"selfplay.ablation": "shuffled"}
    by_level = {"precision.policy": "by_level", "precision.budget": 2.5, "precision.phase_steps": 40}
    yield "bits-by-level", "precision", 2.5, by_level
    falling = {"precision.policy": "progressive", "precision.budget": 2.5, "precision.start_budget": 4.0}
    yield "progressive", "precision", 2.5, falling
    yield "unquantised", "precision", 32.0, {"model.weights": "full", "model.max_tier": 0}
