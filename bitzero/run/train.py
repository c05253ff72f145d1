"""A sitting: chunks of steps from where the run stands to its end, saved on the way, resumed by the same command.

Everything that shapes the result is a function of the step and the state; the clock and signals only end a sitting.
Before the chunk that starts at a boundary the curriculum is read; a checkpoint is taken before that, so that a run
resumed there reads it again and goes on bit for bit alike.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from bitzero import config as configuration
from bitzero.config import Config
from bitzero.evaluation import heldout
from bitzero.evaluation.questions import GoOn, Heldout, checkpoint_structure
from bitzero.generator.stream import Batch, BatchOrder, GeneratorFailed, Stream
from bitzero.model import precision, weight_figures
from bitzero.run import curriculum, device, evaluate, fit, guarded, layers, pace, refresh, watch, workdir
from bitzero.run.checkpoint import Checkpoints, digest
from bitzero.run.metrics import Metrics
from bitzero.run.progress import Progress, clock_text
from bitzero.run.report import report_chunk, report_weights, write_run_json
from bitzero.run.sitting import (
    Ledger,
    Meters,
    Sitting,
    StopAsked,
    go_on,
    known_of_heldout,
    open_sandbox,
    timed_as,
    waits_for,
)
from bitzero.run.stop import Stop
from bitzero.run.workdir import RunError
from bitzero.sandbox import Sandbox
from bitzero.selfplay import loop, schedule, verify, warmup
from bitzero.selfplay.verify import Door
from bitzero.state import Supervised, TrainState

AHEAD = 2  # chunks of generator data ordered before they are needed
MAX_BAD = 3  # non-finite steps in a row that mean collapse
MAX_RETRIES = 2


def main(cfg: Config, home: pathlib.Path) -> int:
    """Trains ``cfg`` in ``home`` to its end or to the end of this sitting; the value is the exit code.

    Raises ``RunError``, ``ShapeError`` or ``ConfigError``: one line each.
    """
    began = time.monotonic()
    with workdir.owned(home), Progress() as progress, Stop(progress.say) as stop:
        workdir.settle_config(home, cfg, progress.say)
        os.nice(cfg.run.nice)
        with open_sandbox(cfg) as sandbox, Stream(cfg, sandbox) as stream:
            device.configure_jax(progress.say)
            exempt = [cfg.warmup.steps]
            with Checkpoints(home / "checkpoints", keep=cfg.run.keep, exempt=exempt, say=progress.say) as store:
                state, meters = restore_or_init(cfg, store, progress)
                cfg = layers.with_layers(cfg, meters.ledger)
                cfg = fit.fit_run(cfg, meters.ledger, progress)
                fit.note_fitting(cfg, meters.ledger, int(state.step))
                door = Door(sandbox, cfg)
                stop.call_when_asked(door.request_stop)
                with Metrics(home / "tb", int(state.step)) as metrics:
                    sitting = Sitting(
                        cfg=cfg, home=home, store=store, stream=stream, sandbox=sandbox, door=door, metrics=metrics,
                        progress=progress, stop=stop, meters=meters, began=began,
                    )  # fmt: skip
                    report_confinement(sitting, int(state.step))
                    if cfg.selfplay.steps:
                        guarded.request_guarded(stream)
                    return train_chunks(sitting, state)


def restore_or_init(cfg: Config, store: Checkpoints, progress: Progress) -> tuple[TrainState, Meters]:
    """The newest good checkpoint, or random weights; and the meters of a sitting that begins there."""
    found = store.latest(checkpoint_structure(cfg))
    if found:
        state, meta = found
        progress.say(f"resuming at step {int(state.step):,} of {configuration.steps_in_all(cfg):,}")
        return state, Meters(ledger=Ledger(**meta), saved_step=int(state.step))
    state = device.on_first_device(random_state(cfg))
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    operand, whose = layers.choose(cfg)
    progress.say(
        f"{size / 1e6:.2f}M parameters from random weights · {operand} operands "
        f"({device.operand_reason(cfg.model)}){layers.NAMED[whose]} · seed {cfg.seed}"
    )
    return state, Meters(ledger=Ledger(operand=operand, layers=whose))


def report_confinement(sitting: Sitting, step: int) -> None:
    """Says how well programs are confined here, on the terminal and in TensorBoard."""
    report: dict[str, Any] = sitting.sandbox.report()
    missing = [f"{layer}: {state}" for layer, state in report["layers"].items() if state != "active"]
    sitting.progress.say(f"sandbox: {report['level']}" + (f" ({'; '.join(missing)})" if missing else ""))
    rows = "\n".join(f"| {layer} | {state} |" for layer, state in report["layers"].items())
    head = f"level **{report['level']}**\n\n| layer | state |\n|---|---|\n"
    sitting.metrics.text(step, "executor/sandbox", head + rows)


@functools.partial(jax.jit, static_argnames="cfg")
def random_state(cfg: Config) -> TrainState:
    """``warmup.init_state``, compiled: seconds faster, and always the same bits for one configuration."""
    return warmup.init_state(cfg)


def train_chunks(sitting: Sitting, state: TrainState) -> int:
    """Trains chunk by chunk until the run is done or the sitting ends; the value is the exit code."""
    cfg, total = sitting.cfg, configuration.steps_in_all(sitting.cfg)
    sitting.stop.ask_after(cfg.run.minutes)
    if int(state.step) == total:
        sitting.progress.say("this run is finished; evaluating it again")
    while int(state.step) < total and not sitting.stop.asked:
        if cfg.run.until and int(state.step) >= cfg.run.until:
            sitting.stop.ask(f"step {cfg.run.until:,} was asked for")
            break
        with generator_failures(sitting, state):
            try:
                ready = cross_boundary(sitting, state)
                go_on(sitting)
            except StopAsked:  # decided again by the next sitting: a checkpoint is from before its boundary
                break
            batch = take_sequences(sitting, ready)
        state = train_chunk(sitting, ready, batch)
    if int(state.step) < total:
        save_once(sitting, state)
        write_run_json(sitting, state)
        place = sitting.store.path / str(int(state.step))
        sitting.progress.say(
            f"{sitting.stop.asked}: saved step {int(state.step):,} in {place}; the same command goes on"
        )
        return 0
    with generator_failures(sitting, state):
        return finish_run(sitting, state)


@contextlib.contextmanager
def generator_failures(sitting: Sitting, state: TrainState) -> Iterator[None]:
    """Context: if the generator fails inside, saves ``state``, as it was before, and raises ``RunError``."""
    try:
        yield
    except GeneratorFailed as error:
        save_once(sitting, state)
        raise RunError(f"the program generator stopped: {error}") from None


def finish_run(sitting: Sitting, state: TrainState) -> int:
    """What follows the last step: the held-out table, ``run.json``, the parameter hash; the value is the exit code."""
    write_run_json(sitting, state)
    result, cfg = None, sitting.cfg
    with contextlib.suppress(StopAsked):
        go_on(sitting)
        if not cfg.selfplay.steps and cfg.eval.items:  # the start of self-play would have chosen
            settled = settle_answer_mode(sitting, state)
            if int(settled.trace_mode) != int(state.trace_mode):  # evaluation and export read it in the checkpoint
                save_checkpoint(sitting, settled)
            state = settled
        if watch.is_due(int(state.step), cfg):
            watch.read_dev(sitting, state)
        result = evaluate.evaluate_state(sitting, state)
    if result is None:
        sitting.progress.say(f"{sitting.stop.asked}: training is done and saved; the same command evaluates it")
        return 0
    sitting.meters.ledger.add_seconds("evaluation", result["seconds"])
    write_run_json(sitting, state)
    if sentence := watch.best_sentence(sitting.meters.ledger.watched, sitting.home):
        sitting.progress.say(sentence)
    sitting.progress.say(f"parameter hash {digest(state.params)}")
    sitting.progress.say(f"{clock_text(sitting.meters.ledger.seconds)} in all · {sitting.home}")
    return 0


def cross_boundary(sitting: Sitting, state: TrainState) -> TrainState:
    """The state as the chunk at its step wants it: levels unlocked, bits spent, mode chosen, self-play started.

    Raises ``StopAsked``.
    """
    cfg, step = sitting.cfg, int(state.step)
    with timed_as(sitting, "dev"):
        if curriculum.is_dev_step(step, cfg):
            state = reweigh(sitting, state)
            for guess in upcoming_orders(cfg, state, chunks=1):  # right wherever no level opens
                sitting.stream.request_batch(guess)
            state, measured = curriculum.unlock_levels(*_asked_on_dev(sitting, state))
            sitting.meters.ledger.accuracy |= {str(level): share for level, share in measured.items()}
            sitting.metrics.scalars(step, {f"eval/dev_L{level}": share for level, share in measured.items()})
    if refresh.is_due(step, cfg):
        with timed_as(sitting, "precision"):
            state = allocate_bits(sitting, state)
    if schedule.phase(step, cfg) == "selfplay":
        state = ready_selfplay(sitting, state)
    if watch.is_due(step, cfg):
        watch.read_dev(sitting, state)
    if step in schedule.phase_boundaries(cfg):
        sitting.meters.compiles_next = True
    return device.on_first_device(state)


def ready_selfplay(sitting: Sitting, state: TrainState) -> TrainState:
    """The state with which self-play begins, at its first step; the door knows what held-out programs do.

    Raises ``StopAsked``.
    """
    cfg, step = sitting.cfg, int(state.step)
    if not sitting.door.guarded:
        with timed_as(sitting, "ready selfplay"):
            sitting.door.guarded = known_of_heldout(sitting)
    if step > cfg.warmup.steps:
        return state
    state = settle_answer_mode(sitting, state)
    told = waits_for(sitting, "tasks to begin self-play with")
    with timed_as(sitting, "ready selfplay"):
        seeds = sitting.stream.tasks(cfg.selfplay.seed_tasks, step, int(state.open_levels), told)
    rows = verify.ring_rows([task for task, _ in seeds], bool(state.trace_mode), cfg)
    state = loop.start_selfplay(state, rows, cfg, jnp.asarray(verify.hashes_of(seeds)))
    # Here, for self-play leaves the workers time.
    evaluate.request_heldout_programs(sitting.stream, cfg, int(state.open_levels))
    sitting.meters.compiles_next = True
    return state


def _asked_on_dev(sitting: Sitting, state: TrainState) -> tuple[TrainState, Config, Heldout, Sandbox, GoOn]:
    """What the curriculum asks the model by."""
    go = functools.partial(go_on, sitting)
    return state, sitting.cfg, sitting.stream.heldout_draws, sitting.sandbox, go


def reweigh(sitting: Sitting, state: TrainState) -> TrainState:
    """The state with the mix of batches that training asks for, where it goes by one; the mix is written."""
    state, step = curriculum.reweigh(state, sitting.cfg), int(state.step)
    sitting.metrics.scalars(step, curriculum.mix_figures(state))
    if table := curriculum.mix_table(state):
        sitting.metrics.text(step, "mix/productions", table)
    return state


def allocate_bits(sitting: Sitting, state: TrainState) -> TrainState:
    """The state with its bits spent anew; what changed, the map, and how far the policy moved are written."""
    cfg, step = sitting.cfg, int(state.step)
    new = refresh.reallocate(state, cfg)
    values = refresh.allocation_changes(state, new)
    if cfg.precision.policy != "fixed":  # which allocates once, at the first ternary step, and never refreshes
        held = sitting.meters.heldout_answers = sitting.meters.heldout_answers or heldout.answer_rows(
            heldout.dev_programs(sitting.stream.heldout_draws, cfg, cfg.eval.precision_items), cfg
        )
        kl = functools.partial(
            heldout.divergence_of_precisions, state.params, state.precision, held=held, model=cfg.model,
        )  # fmt: skip
        values["precision/kl_of_refresh"] = kl(new.precision)
        values["precision/kl_when_faded_in"] = kl(precision.advance_ramps(new.precision, 1))
    sitting.metrics.scalars(step, values | weight_figures.stored_bit_figures(new.precision, cfg.model))
    sitting.metrics.image(step, "precision/map", weight_figures.tier_image(new.precision, cfg.model))
    sitting.progress.say(
        f"precision: {values['precision/budget']:.3f} bits a weight granted; "
        f"{values['precision/promoted_blocks']:.0f} blocks promoted, {values['precision/demoted_blocks']:.0f} demoted, "
        f"{values['precision/kept_blocks']:.0f} kept"
    )
    return new


def settle_answer_mode(sitting: Sitting, state: TrainState) -> TrainState:
    """The state at the end of warm-up with the better way of answering deductions, trace or direct, on dev."""
    with timed_as(sitting, "dev"):
        state, shares = curriculum.choose_answer_mode(*_asked_on_dev(sitting, state))
    sitting.metrics.scalars(int(state.step), {f"eval/dev_{name}": share for name, share in shares.items()})
    sitting.progress.say(
        f"deduction answers: {'trace' if int(state.trace_mode) else 'direct'} "
        f"(dev: trace {100 * shares['trace']:.0f}%, direct {100 * shares['direct']:.0f}%)"
    )
    return state


def train_chunk(sitting: Sitting, state: TrainState, batch: Supervised) -> TrainState:
    """Runs the steps to the next multiple of ``run.chunk``, records them, and saves where a save is due.

    Where the sandbox's door failed, the state is saved (what the door could not judge is masked out of it, and the
    chunk ended with that step) before ``RuntimeError`` is raised.
    """
    cfg, bad_before = sitting.cfg, int(state.bad_steps)
    state, chunk = pace.run_chunk(sitting, state, batch)
    step = chunk.step
    if sitting.door.error:
        save_checkpoint(sitting, state)
        raise RuntimeError(f"the sandbox's door failed; step {step} is saved:\n{sitting.door.error}")
    report_chunk(sitting, chunk)
    report_weights(sitting, state)
    if longest_bad_run(bad_before, chunk.values["loss/nonfinite"]) >= MAX_BAD:
        return restore_healthy(sitting, state)
    total = configuration.steps_in_all(cfg)
    due = step % cfg.run.save_every == 0 or step in (cfg.warmup.steps, cfg.run.until, total)
    if due or sitting.stop.asked:
        with timed_as(sitting, "save"):
            save_checkpoint(sitting, state)
    return state


def order_at(cfg: Config, state: TrainState, start: int) -> BatchOrder:
    """The generator order of the chunk that begins at ``start``; the levels are those of ``state``."""
    playing = start >= cfg.warmup.steps
    return BatchOrder(
        step=start,
        steps=cfg.run.chunk,
        batch_size=cfg.selfplay.supervised_batch if playing else cfg.warmup.batch_size,
        context=cfg.tasks.context,
        open_levels=int(state.open_levels),
        frontier=int(state.frontier),
        level_weights=curriculum.level_weights(state),
        production_weights=curriculum.production_weights(state),
        phase="selfplay" if playing else "warmup",
    )


def upcoming_orders(cfg: Config, state: TrainState, chunks: int = AHEAD + 1) -> list[BatchOrder]:
    """Orders of the state's chunk and the next ones; none past the next dev measurement, whose outcome is unknown."""
    start = int(state.step) - int(state.step) % cfg.run.chunk
    known = min((start // cfg.tasks.unlock_every + 1) * cfg.tasks.unlock_every, configuration.steps_in_all(cfg))
    return [order_at(cfg, state, at) for at in range(start, min(start + chunks * cfg.run.chunk, known), cfg.run.chunk)]


def take_sequences(sitting: Sitting, state: TrainState) -> Supervised:
    """The sequences of all steps of the state's chunk, shape [k, B, T], those that an earlier sitting ran too."""
    wanted, *later = upcoming_orders(sitting.cfg, state)
    for one in (wanted, *later):
        sitting.stream.request_batch(one)
    with timed_as(sitting, "generator"):
        batch = sitting.stream.take_batch(wanted)
    # A wrong shape would not fail: it would silently compile another program.
    chex.assert_shape([batch.tokens, batch.mask], (wanted.steps, wanted.batch_size, wanted.context))
    return supervised(batch, productions=state.mix is not None)


def supervised(batch: Batch, *, productions: bool) -> Supervised:
    """Generator sequences on the device; ``productions`` are told where the state has a mix, which learns from them."""
    return Supervised(
        tokens=jnp.asarray(batch.tokens),
        mask=jnp.asarray(batch.mask),
        kind=jnp.asarray(batch.kind),
        level=jnp.asarray(batch.level),
        skeleton=jnp.asarray(batch.skeleton),
        productions=jnp.asarray(batch.productions) if productions else None,
    )


def longest_bad_run(before: int, nonfinite: np.ndarray) -> int:
    """Longest run of non-finite steps, ``before`` of them directly ahead of ``nonfinite`` (0/1 a step)."""
    longest, current = before, before
    for bad in nonfinite:
        current = current + 1 if bad else 0
        longest = max(longest, current)
    return longest


def restore_healthy(sitting: Sitting, state: TrainState) -> TrainState:
    """The last checkpoint taken in good health, with one more retry; raises ``RunError`` after two.

    Not saved by itself: killed before the next save, a run collapses at the same step again and comes back here.
    """
    retries = int(state.retries) + 1
    step = int(state.step)
    if retries > MAX_RETRIES:
        raise RunError(
            f"training collapsed at step {step:,} for the third time (non-finite loss); lower the learning rate; "
            f"checkpoints up to step {max(sitting.store.steps(), default=0):,} are in {sitting.store.path}"
        )
    found = sitting.store.latest(checkpoint_structure(sitting.cfg), accept=lambda good: int(good.bad_steps) == 0)
    sitting.meters.saved_step = int(found[0].step) if found else None
    good = found[0] if found else device.on_first_device(random_state(sitting.cfg))
    sitting.store.drop_after(int(good.step))
    sitting.progress.say(
        f"{MAX_BAD} non-finite steps in a row at step {step:,}: back to step {int(good.step):,}, "
        f"retry {retries} of {MAX_RETRIES} with half the learning rate"
    )
    return dataclasses.replace(good, retries=jnp.int32(retries))


def save_checkpoint(sitting: Sitting, state: TrainState) -> None:
    """Checkpoint and ``run.json`` of the state's step."""
    write_run_json(sitting, state)
    sitting.store.save(int(state.step), state, dataclasses.asdict(sitting.meters.ledger))
    sitting.meters.saved_step = int(state.step)


def save_once(sitting: Sitting, state: TrainState) -> None:
    """Saves a state with which the sitting ends, if its step is not the one that this sitting saved or resumed last."""
    if sitting.meters.saved_step != int(state.step):
        save_checkpoint(sitting, state)
