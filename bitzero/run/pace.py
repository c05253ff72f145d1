"""A chunk in dispatches to the device of about ten seconds at most, so that Ctrl-C and the live line are served.

How many steps a dispatch has is decided by the clock and changes nothing but when the host is back: all of them are one
compiled program (``dispatch.run_span``), and what is written is written by the chunk.
"""

import time

import jax
import numpy as np

from bitzero.run.report import PHASE_NAMES, RanChunk, show_status
from bitzero.run.sitting import Sitting, timed_as
from bitzero.selfplay import loop, schedule, warmup
from bitzero.state import Supervised, TrainState

DISPATCH_S = 10.0  # seconds; a single step may take longer


def steps_of_dispatch(step_seconds: float, left: int) -> int:
    """Steps of the next dispatch of a chunk with ``left`` steps; one where ``step_seconds`` is not known (0)."""
    return min(left, max(1, int(DISPATCH_S / step_seconds))) if step_seconds else 1


def run_chunk(sitting: Sitting, state: TrainState, batch: Supervised) -> tuple[TrainState, RanChunk]:
    """Runs the steps from the state's to the end of its chunk, or to a stop; ``batch`` holds the whole chunk's rows."""
    meters, size, first = sitting.meters, sitting.cfg.run.chunk, int(state.step)
    start, phase, at = first - first % size, schedule.phase(first, sitting.cfg), first
    columns: list[dict[str, np.ndarray]] = []
    seconds, timed = 0.0, 0
    while at < start + size:
        compiles, meters.compiles_next = meters.compiles_next, False
        if compiles:  # its time says nothing about the next
            meters.step_seconds = 0.0
            sitting.progress.say(f"compiling the {PHASE_NAMES[phase]} step")
        steps, began = steps_of_dispatch(meters.step_seconds, start + size - at), time.monotonic()
        with timed_as(sitting, f"compile {phase}" if compiles else phase):
            state, values = _dispatch(sitting, state, batch, phase, (at - start, at - start + steps))
            to = int(state.step)  # waits for the device
            jax.effects_barrier()
        columns.append({tag: np.asarray(column)[at - start : to - start] for tag, column in values.items()})
        if not compiles and to > at:
            spent = time.monotonic() - began
            meters.step_seconds = spent / (to - at)
            seconds, timed = seconds + spent, timed + to - at
        stopped, at = to < at + steps or sitting.stop.asked or sitting.door.error, to
        if stopped:
            break
        if at < start + size:
            show_status(sitting, phase, at)
    joined = {tag: np.concatenate([part[tag] for part in columns]) for tag in columns[0]}
    return state, RanChunk(
        phase=phase, first=first, step=at, values=joined, batch=batch, seconds=seconds, timed=timed
    )  # fmt: skip


def _dispatch(
    sitting: Sitting, state: TrainState, batch: Supervised, phase: str, span: tuple[int, int]
) -> tuple[TrainState, dict[str, jax.Array]]:
    """The steps of ``span`` of the chunk's; raises ValueError for a phase without a step."""
    if phase == "selfplay":
        return loop.run_chunk(state, batch, sitting.cfg, sitting.door, span)
    if phase in schedule.WARMUP_PHASES:
        return warmup.run_chunk(state, batch, sitting.cfg, phase, span)
    raise ValueError(f"no step of phase {phase}")
