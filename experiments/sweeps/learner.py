"""What each addition to BitNet's block and each schedule buys, against the main job without it.

    python launch.py --config=experiments/azr_small.py --mode=sweep --sweep=experiments/sweeps/learner.py --seeds=3

Expected: about 300 minutes on 2 cores, 75 runs; with one seed most points were run, at `optimiser.lr_gains=0.5` (the
log). Each point is the main job at 2,800 warm-up steps, its whole schedule in them, without self-play; judged on dev
programs. Nothing is shared between points: a shape, a peak or a share of rows acts from the first step on, and the
ramp's own points are too few for a base of their own.
"""

from collections.abc import Iterator
from typing import Any

BASE = {
    "warmup.steps": 2800,
    "tasks.unlock_every": 400,
    "selfplay.steps": 0,
    "eval.items": 0,
    "eval.locked_items": 0,
    "eval.operation_items": 0,
    "eval.precision_items": 600,
}
REFERENCE = "job"
BRANCH = 0  # shapes and peaks differ from the first step on
OFF: dict[str, dict[str, Any]] = {
    "value-embeddings": {"model.value_embeddings": False},
    "input-skips": {"model.input_skips": False},
    "qk-norm": {"model.qk_norm": False, "optimiser.lr": 3e-3},
    "smear": {"model.smear": 0},
    "convolution": {"model.conv": 0},
    "even-rows": {"optimiser.row_beta": 1.0},
}
COSINE = {"optimiser.lr_decay": "cosine", "optimiser.lr_flat": 0.0, "optimiser.lr_end": 0.1}


def points() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """The job, changed and without each addition; then schedules and peaks."""
    yield "job", "job", 2.0, {}
    yield "plain", "block", 2.0, {key: value for off in OFF.values() for key, value in off.items()}
    yield "2-heads", "block", 2.0, {"model.num_heads": 2, "model.num_kv_heads": 1, "model.head_dim": 64}
    yield "rope-200", "block", 2.0, {"model.rope_theta": 200.0}
    yield "zero-outputs", "block", 2.0, {"model.zero_outputs": True}
    for name, settings in OFF.items():
        yield f"without-{name}", "block", 2.0, settings
    yield "cosine", "schedule", 2.0, COSINE
    for flat in (0.4, 0.5, 0.8):
        yield f"flat-{flat}", "schedule", 2.0, {"optimiser.lr_flat": flat}
    yield "floor-0.1", "schedule", 2.0, {"optimiser.lr_end": 0.1}
    for start, end in ((0.2, 0.5), (0.35, 0.6), (0.5, 0.8)):
        yield f"ramp-{start}-{end}", "schedule", 2.0, {"warmup.ramp_start": start, "warmup.ramp_end": end}
    for peak in (3e-3, 6e-3, 1.2e-2):  # of the matrices alone
        gains = 4.5e-3 * 1.33 / peak
        yield f"peak-{peak}", "peak", 2.0, {"optimiser.lr": peak, "optimiser.lr_gains": gains}
    for gains in (0.5, 2.67):  # of all that is no matrix
        yield f"gains-{gains}", "peak", 2.0, {"optimiser.lr_gains": gains}
    yield "one-pair", "rows", 2.0, {"tasks.packed": 1}
