"""What a sitting reports: metrics and the live line after each chunk, ``run.json`` at each save."""

import time
from typing import Any

import numpy as np

from bitzero import config as configuration
from bitzero.model import weight_figures
from bitzero.run import device, workdir
from bitzero.run.checkpoint import digest
from bitzero.run.progress import Status
from bitzero.run.sitting import Sitting
from bitzero.state import Supervised, TrainState

PHASES = {  # as people read them
    "full": "warm-up",
    "ramp": "warm-up (ramp)",
    "integer": "warm-up (ternary)",
    "selfplay": "self-play",
}


def record(
    sitting: Sitting, phase: str, first: int, step: int, values: dict[str, Any], batch: Supervised, seconds: float
) -> None:
    """Metrics and the live line of the steps from ``first`` to ``step``, which took ``seconds`` together."""
    ran = step - first
    if not ran:
        return
    for at, text in sitting.door.samples:
        sitting.metrics.text(at, "selfplay/samples", f"```\n{text}\n```")
    sitting.door.samples.clear()
    sitting.means = sitting.metrics.chunk(first, values, ran=ran, each=phase == "selfplay")
    tokens = trained_tokens(sitting, batch, ran)
    sitting.ledger.tokens += tokens
    scalars = executor(sitting)
    door = door_seconds(sitting)
    sitting.rate = 0.0 if sitting.fresh else seconds / ran  # a chunk that compiles says nothing about the next
    if not sitting.fresh:
        scalars |= {"perf/tokens_s": tokens / seconds, "perf/step_ms": 1000 * seconds / ran}
    if phase == "selfplay" and not sitting.fresh:
        scalars |= {f"perf/verify_{name}_ms": 1000 * spent / ran for name, spent in door.items()}
        scalars["perf/verify_share"] = sum(door.values()) / seconds
        for name, spent in door.items():
            sitting.ledger.spend(f"verify {name}", spent)
    sitting.metrics.scalars(step, scalars)
    sitting.fresh = False
    sitting.progress.show(status(sitting, phase, step, tokens / seconds))


def weigh(sitting: Sitting, state: TrainState) -> None:
    """Figures of the quantised weights after a chunk, and how far the scales moved in it."""
    figures, scales = (
        weight_figures.state_figures(state, sitting.cfg.model),
        weight_figures.matrix_scales(state.params, sitting.cfg.model),
    )
    if sitting.scales:
        figures["quant/alpha_drift"] = weight_figures.largest_scale_change(sitting.scales, scales)
    sitting.metrics.scalars(int(state.step), figures)
    sitting.scales = scales


def status(sitting: Sitting, phase: str, step: int, tokens_s: float) -> Status:
    """The live line after ``step``."""
    cfg = sitting.cfg
    end = configuration.steps_in_all(cfg) if phase == "selfplay" else cfg.warmup.steps
    return Status(
        phase=PHASES[phase],
        step=step,
        total=end,
        tokens_s=tokens_s,
        loss=sitting.means.get("loss/total"),
        accuracy={int(level): share for level, share in sorted(sitting.ledger.accuracy.items())},
        valid=sitting.means.get("selfplay/valid_rate"),
        left_s=sitting.rate * (end - step) if sitting.rate else None,
    )


def trained_tokens(sitting: Sitting, batch: Supervised, ran: int) -> int:
    """Tokens of the last ``ran`` updates: the generator's sequences and, in self-play, all completions."""
    play, means = sitting.cfg.selfplay, sitting.means
    sampled = play.num_tasks * means.get("selfplay/length_propose", 0.0)
    sampled += play.num_tasks * play.group_size * means.get("selfplay/length_solve", 0.0)
    return int(np.count_nonzero(np.asarray(batch.tokens[:ran]))) + round(ran * sampled)


def door_seconds(sitting: Sitting) -> dict[str, float]:
    """Wall seconds inside each host callback since the last call of this function."""
    now = dict(sitting.door.seconds)
    since = {name: seconds - sitting.door_before.get(name, 0.0) for name, seconds in now.items()}
    sitting.door_before = now
    return since


def executor(sitting: Sitting) -> dict[str, float]:
    """The sandbox's counters of this sitting, and how often a generated label disagreed with it."""
    counts = {name: value for name, value in sitting.sandbox.report().items() if type(value) is int}
    counts |= {"audited": sitting.stream.audited, "disagreements": sitting.stream.disagreements}
    counts["loosely_right"] = sitting.door.loose
    return {f"executor/{name}": float(value) for name, value in counts.items()}


def write_run(sitting: Sitting, state: TrainState) -> None:
    """``run.json``: where the run stands, what it cost, on what it ran."""
    ledger = sitting.ledger
    now = time.monotonic() - sitting.began
    ledger.seconds += now - sitting.counted
    sitting.counted = now
    playing = ledger.spent.get("selfplay", 0.0)
    verifying = sum(seconds for name, seconds in ledger.spent.items() if name.startswith("verify "))
    workdir.write_json(
        sitting.home / "run.json",
        {
            "step": int(state.step),
            "steps": configuration.steps_in_all(sitting.cfg),
            "minutes": round(ledger.seconds / 60, 2),
            "tokens": ledger.tokens,
            "tokens_per_second": round(ledger.tokens / max(ledger.seconds, 1e-9), 1),
            "seconds": {name: round(value, 2) for name, value in sorted(ledger.spent.items())},
            "verify_share_of_selfplay": round(verifying / playing, 4) if playing else None,
            "parameter_hash": digest(state.params),
            "operand": ledger.operand,
            "trace_mode": bool(state.trace_mode),
            "frontier": int(state.frontier),
            "open_levels": int(state.open_levels),
            "retries": int(state.retries),
            "skipped_steps": int(state.skipped),
            "audited_programs": sitting.stream.audited,
            "audit_disagreements": sitting.stream.disagreements,
            "sandbox": sitting.sandbox.report(),
            "machine": device.describe(),
        },
    )
