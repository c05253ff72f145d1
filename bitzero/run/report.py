"""What a sitting reports: metrics and the live line after each chunk, ``run.json`` at each save."""

import dataclasses
import time

import numpy as np

from bitzero import config as configuration
from bitzero.model import weight_figures
from bitzero.run import device, played, watch, workdir
from bitzero.run.checkpoint import digest
from bitzero.run.progress import Status
from bitzero.run.sitting import Sitting
from bitzero.state import Supervised, TrainState

PHASE_NAMES = {  # as people read them
    "full": "warm-up",
    "ramp": "warm-up (ramp)",
    "integer": "warm-up (ternary)",
    "selfplay": "self-play",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RanChunk:
    """The steps of a chunk that a sitting ran, as they came back."""

    phase: str
    first: int  # step before it
    step: int  # step after it; equal to ``first`` where the sitting was asked to end before its first update
    values: dict[str, np.ndarray]  # tag → f32[step − first]
    batch: Supervised  # the generator's sequences of the whole chunk, shape [k, B, T]
    seconds: float  # wall time of the ``timed`` steps
    timed: int  # steps of the dispatches that compiled nothing


def report_chunk(sitting: Sitting, chunk: RanChunk) -> None:
    """Writes the metrics of the steps of ``chunk`` and shows the live line."""
    meters, seconds, ran = sitting.meters, chunk.seconds, chunk.step - chunk.first
    if not ran:
        return
    for at, text in sitting.door.samples:
        sitting.metrics.text(at, "selfplay/samples", f"```\n{text}\n```")
    sitting.door.samples.clear()
    meters.chunk_means = sitting.metrics.chunk(chunk.first, chunk.values, ran=ran, each=chunk.phase == "selfplay")
    if chunk.phase == "selfplay":
        steps = {tag: column[:ran] for tag, column in chunk.values.items()}
        played.note_steps(meters.ledger.played, meters.ledger.peaks, chunk.first, steps, sitting.cfg)
    tokens = trained_tokens(sitting, chunk)
    meters.ledger.tokens += tokens
    scalars = sandbox_scalars(sitting)
    door = new_door_seconds(sitting)
    meters.tokens_s = tokens * chunk.timed / ran / seconds if chunk.timed else 0.0
    if chunk.timed:
        scalars |= {"perf/tokens_s": meters.tokens_s, "perf/step_ms": 1000 * seconds / chunk.timed}
    if chunk.phase == "selfplay" and chunk.timed == ran:
        scalars |= {f"perf/verify_{name}_ms": 1000 * spent / ran for name, spent in door.items()}
        scalars["perf/verify_share"] = sum(door.values()) / seconds
        for name, spent in door.items():
            meters.ledger.add_seconds(f"verify {name}", spent)
    settle_waits(sitting, sum(door.values()))
    sitting.metrics.scalars(chunk.step, scalars)
    show_status(sitting, chunk.phase, chunk.step)


def settle_waits(sitting: Sitting, door_seconds: float) -> None:
    """Notes which shares of the time since the last call were spent waiting for the generator and for the sandbox."""
    meters, now = sitting.meters, time.monotonic()
    generator = meters.ledger.spent.get("generator", 0.0)
    passed = max(now - (meters.waits_until or sitting.began), 1e-9)
    waited = {"generator": generator - meters.last_generator_seconds, "sandbox": door_seconds}
    meters.waits = {name: min(seconds / passed, 1.0) for name, seconds in waited.items()}
    meters.waits_until, meters.last_generator_seconds = now, generator


def show_status(sitting: Sitting, phase: str, step: int) -> None:
    """Shows the live line after ``step``."""
    sitting.progress.show(chunk_status(sitting, phase, step))


def report_weights(sitting: Sitting, state: TrainState) -> None:
    """Writes figures of the quantised weights after a chunk, and how far the scales moved in it."""
    figures, scales = (
        weight_figures.state_figures(state, sitting.cfg.model),
        weight_figures.matrix_scales(state.params, sitting.cfg.model),
    )
    if sitting.meters.last_scales:
        figures["quant/alpha_drift"] = weight_figures.largest_scale_change(sitting.meters.last_scales, scales)
    sitting.metrics.scalars(int(state.step), figures)
    sitting.meters.last_scales = scales


def chunk_status(sitting: Sitting, phase: str, step: int) -> Status:
    """The live line after ``step``."""
    cfg, meters = sitting.cfg, sitting.meters
    end = configuration.steps_in_all(cfg) if phase == "selfplay" else cfg.warmup.steps
    return Status(
        phase=PHASE_NAMES[phase],
        step=step,
        total=end,
        tokens_s=meters.tokens_s or None,
        loss=meters.chunk_means.get("loss/total"),
        accuracy={int(level): share for level, share in sorted(meters.ledger.accuracy.items())},
        valid=meters.chunk_means.get("selfplay/valid_rate"),
        waits=meters.waits,
        left_s=meters.step_seconds * (end - step) if meters.step_seconds else None,
    )


def trained_tokens(sitting: Sitting, chunk: RanChunk) -> int:
    """Tokens of the updates of ``chunk``: the generator's sequences and, in self-play, all completions."""
    play, means, ran = sitting.cfg.selfplay, sitting.meters.chunk_means, chunk.step - chunk.first
    done = chunk.first % sitting.cfg.run.chunk
    sampled = play.num_tasks * means.get("selfplay/length_propose", 0.0)
    sampled += play.num_tasks * play.group_size * means.get("selfplay/length_solve", 0.0)
    return int(np.count_nonzero(np.asarray(chunk.batch.tokens[done : done + ran]))) + round(ran * sampled)


def new_door_seconds(sitting: Sitting) -> dict[str, float]:
    """Wall seconds inside each host callback since the last call of this function."""
    now = dict(sitting.door.seconds)
    since = {name: seconds - sitting.meters.last_door_seconds.get(name, 0.0) for name, seconds in now.items()}
    sitting.meters.last_door_seconds = now
    return since


def sandbox_scalars(sitting: Sitting) -> dict[str, float]:
    """The sandbox's counters of this sitting, and how often a generated label disagreed with it."""
    counts = {name: value for name, value in sitting.sandbox.report().items() if type(value) is int}
    counts |= {"audited": sitting.stream.audited, "disagreements": sitting.stream.disagreements}
    counts["loosely_right"] = sitting.door.loose
    return {f"executor/{name}": float(value) for name, value in counts.items()}


def write_run_json(sitting: Sitting, state: TrainState) -> None:
    """Writes ``run.json``: where the run stands, what it cost, on what it ran. Raises ``RunError``."""
    ledger = sitting.meters.ledger
    now = time.monotonic() - sitting.began
    ledger.seconds += now - sitting.meters.counted_seconds
    sitting.meters.counted_seconds = now
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
            "layers": ledger.layers,
            "fitted": ledger.fitted,
            "watched": ledger.watched,
            "alarms": watch.alarms(ledger.watched),
            "played": played.figures(ledger.played, ledger.peaks, sitting.cfg),
            "generator_workers": sitting.stream.workers,
            "trace_mode": bool(state.trace_mode),
            "frontier": int(state.frontier),
            "open_levels": int(state.open_levels),
            "retries": int(state.retries),
            "skipped_steps": int(state.skipped),
            "audited_programs": sitting.stream.audited,
            "audit_disagreements": sitting.stream.disagreements,
            "sandbox": sitting.sandbox.report(),
            "machine": device.describe_machine(),
        },
    )
