"""``--mode=adapt``: a person's verified tasks teach a delta on top of a packed model, or they teach nothing.

python launch.py --mode=adapt --model=runs/azr_small/packed.npz --config.run.minutes=2

A quarter of every batch is the person's lessons, the rest the generator's, so that what the base can do stays; of what
was learned the largest share is taken that costs the generator's programs nearly nothing. A third of the person's
functions, told by what they do, is never trained on. Every delta starts at the base; it is kept only if

- held-out accuracy on the generator's dev questions has not fallen against the base: a paired difference of at least 0,
  or of at least −``ALLOWED_FALL`` with an interval that holds 0, and
- more of the held-back tasks are right than with what was in use before.

The person's tasks reach the delta and nothing else: the base is only read.
"""

import dataclasses
import datetime
import functools
import itertools
import os
import pathlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jaxtyping import Array, Bool, UInt16

from bitzero import config as configuration
from bitzero.config import Config, ConfigError
from bitzero.evaluation import heldout, questions
from bitzero.evaluation.questions import Solver
from bitzero.evaluation.statistics import paired_gain
from bitzero.generator.stream import BatchOrder, Stream
from bitzero.model import delta as deltas
from bitzero.model import packing
from bitzero.model.delta import Delta
from bitzero.run import device, packed_file, workdir
from bitzero.run.deltas import MODE, Deltas, told
from bitzero.run.experiment import override_setting
from bitzero.run.sitting import open_sandbox
from bitzero.run.stop import Stop
from bitzero.run.workdir import RunError
from bitzero.sandbox import Sandbox
from bitzero.selfplay import objective
from bitzero.tasks import tokens
from bitzero.tasks.kinds import Task, TooLong
from bitzero.tasks.lessons import Lesson, tasks_of
from bitzero.tasks.levels import NUM_LEVELS
from bitzero.tasks.sequences import training_example

MINUTES = 4.0  # of training, where config.run.minutes is 0
STEPS = 1200  # at most
ROWS = 4  # sequences of the person's in a batch
GENERATED = 12  # and of the generator's; with only as many as the person's the base forgot (log, 2026-11-27)
AHEAD = 5  # steps of an order to the generator
LR = 0.004  # at its peak; falls to 0 with the steps or the time, whichever ends first
SHARES = (1.0, 0.75, 0.5, 0.35, 0.25)  # of what was learned, the most of it that the generator's rows can bear
BEARABLE = 0.002  # nats a token that these may lose
WEIGHED = 12  # batches of such rows, none of which was trained on
RISE = 10  # steps up to it
HELD_BACK = 3  # one function in so many is never trained on
LEAST = (4, 2)  # functions to train on and held back, without which nothing is tried
ALLOWED_FALL = 0.01  # of held-out accuracy, where the interval holds 0
ASKED = 24  # questions decoded together
VALUE_BYTES = 8192  # of what a person's program tells
_FIRST_STEP = 1 << 30  # of the generator's batches: none that a training of the base has seen
SETTINGS = ("run.minutes", "run.nice", "selfplay.dev_items", "tasks.workers", "sandbox.allow_unsafe")

Lessons = Callable[[Sandbox], list[Lesson]]
Say = Callable[[str], None]
Rows = tuple[UInt16[np.ndarray, "rows T"], Bool[np.ndarray, "rows T"]]  # tokens, and which are targets


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptOrder:
    """What the command line asks for."""

    base: pathlib.Path  # a packed file
    home: pathlib.Path  # where deltas live
    lessons: Lessons
    settings: tuple[tuple[str, str], ...] = ()  # dotted key and text, of ``SETTINGS``


def _print(line: str) -> None:
    print(line, flush=True)


class _Stopped(Exception):
    """A signal ended it; nothing is kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Asking:
    """Everything that a measurement needs but the weights."""

    solver: Solver
    sandbox: Sandbox
    stop: Stop

    def answered_right(self, tree: dict[str, Any], tasks: Sequence[Task]) -> Bool[np.ndarray, " n"]:
        """Which tasks the model of these weights answers rightly, greedily. Raises ``_Stopped``."""
        solver, found = dataclasses.replace(self.solver, weights=tree), [np.zeros(0, bool)]
        for start in range(0, len(tasks), ASKED):
            if self.stop.asked:
                raise _Stopped
            some = tasks[start : start + ASKED]
            found.append(questions.correct_answers(self.sandbox, some, questions.ask(solver, some))[:, 0])
        return np.concatenate(found)


def main(order: AdaptOrder, say: Say = _print) -> int:
    """Adapts the base to the lessons; the value is the exit code, 0 whether the delta is kept or not, 130 where it was
    stopped. Raises ``RunError`` where there is nothing to learn from, and ``ConfigError`` for a setting.
    """
    device.configure_jax(say)
    solver = packed_file.load(order.base, batch_size=ASKED, say=say)
    cfg = with_settings(solver.cfg, order.settings)
    if cfg.run.nice:
        os.nice(cfg.run.nice)
    store = Deltas(order.home, order.base)
    store.make_folder()
    owned = workdir.owned(store.folder, MODE, "--profile_dir")
    with owned, Stop(say) as stop, open_sandbox(_roomy(cfg)) as sandbox, Stream(cfg) as stream:
        solver = dataclasses.replace(solver, cfg=cfg, weights=packing.to_dense(solver.weights, _operand(cfg)))
        asking = _Asking(solver=solver, sandbox=sandbox, stop=stop)
        try:
            report, delta = _adapted(order.lessons(sandbox), asking, stream, store, say)
        except _Stopped:
            say("stopped: nothing is kept")
            return 130
        if report["kept"]:
            store.keep(delta, report)
        store.note(report)
        say(f"{'kept' if report['kept'] else 'dropped'}: {told(report)}")
    return 0


def with_settings(cfg: Config, settings: Sequence[tuple[str, str]]) -> Config:
    """The base's configuration with settings of the command line. Raises ``ConfigError``."""
    editable = ml_collections.ConfigDict(dataclasses.asdict(cfg))
    editable.run.minutes = 0.0
    for key, text in settings:
        if key not in SETTINGS:
            raise ConfigError(f"config.{key} is the base model's own; adapting takes {', '.join(SETTINGS)}")
        override_setting(editable, key, text)
    return configuration.freeze(editable)


def _roomy(cfg: Config) -> Config:
    """With room for what a person's program tells of its run."""
    return dataclasses.replace(cfg, sandbox=dataclasses.replace(cfg.sandbox, value_bytes=VALUE_BYTES))


def _operand(cfg: Config) -> Any:
    return cfg.model.compute


def _adapted(
    lessons: Sequence[Lesson], asking: _Asking, stream: Stream, store: Deltas, say: Say
) -> tuple[dict[str, Any], Delta]:
    """What was measured before and after, whether the delta is to be kept, and the delta."""
    cfg, base = asking.solver.cfg, asking.solver.weights
    learned, held_back = split(lessons)
    _check_enough(learned, held_back)
    own = [task for lesson in held_back for task in tasks_of(lesson, cfg) if _fits(task, asking.solver)]
    say(f"your functions: {_functions(learned)} to learn from, {_functions(held_back)} held back ({len(own)} tasks)")
    dev = heldout.dev_programs(stream.heldout, cfg, cfg.selfplay.dev_items)
    general = [kind.task_of_program(program, cfg) for program in dev for kind in asking.solver.kinds]
    in_use = store.load(base)
    say(f"asking the model as it is: {len(general)} held-out questions and your {len(own)}")
    before = asking.answered_right(base, general)
    own_before = asking.answered_right(base if in_use is None else deltas.applied(base, in_use), own)
    generated = _generated(stream, cfg)
    weighed = list(itertools.islice(generated, WEIGHED))
    delta, steps, seconds = _train(learned, asking, generated, say)
    share = bearable_share(delta, base, weighed, cfg)
    delta = deltas.scaled(delta, share)
    adapted = deltas.applied(base, delta)
    say(f"{share:.0%} of what was learned costs other programs nearly nothing; asking the adapted model the same")
    report: dict[str, Any] = {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "functions": _functions(learned), "held_back": _functions(held_back),
        "steps": steps, "seconds": round(seconds, 1), "share": share, "numbers": deltas.size(delta),
        "general": compared(before, asking.answered_right(adapted, general)),
        "own": compared(own_before, asking.answered_right(adapted, own)),
    }  # fmt: skip
    return report | {"kept": is_kept(report)}, delta


def split(lessons: Sequence[Lesson]) -> tuple[list[Lesson], list[Lesson]]:
    """Lessons to train on, and those held back: by what the function does, so one is always on the same side."""
    held = [lesson for lesson in lessons if lesson.behaviour % HELD_BACK == 0]
    return [lesson for lesson in lessons if lesson.behaviour % HELD_BACK], held


def _functions(lessons: Sequence[Lesson]) -> int:
    return len({lesson.behaviour for lesson in lessons})


def _check_enough(learned: Sequence[Lesson], held_back: Sequence[Lesson]) -> None:
    """Raises ``RunError`` where too few functions are there to learn from and to show it."""
    there = (_functions(learned), _functions(held_back))
    if there[0] < LEAST[0] or there[1] < LEAST[1]:
        raise RunError(
            f"too little to learn from: {there[0]} of {LEAST[0]} functions to train on and {there[1]} of {LEAST[1]} "
            "held back (one in three is, by what it does); ask about more functions that give a value"
        )


def _fits(task: Task, solver: Solver) -> bool:
    return len(solver.kinds[task.kind].solver_prompt(task, solver.trace)) <= solver.cfg.tasks.prompt


def compared(before: Bool[np.ndarray, " n"], after: Bool[np.ndarray, " n"]) -> dict[str, Any]:
    """Shares before and after on the same items, and the paired difference with its 95 % interval."""
    gain, low, high = paired_gain(before, after)
    return {
        "n": len(before), "before": round(float(before.mean()), 4), "after": round(float(after.mean()), 4),
        "gain": round(gain, 4), "ci_low": round(low, 4), "ci_high": round(high, 4),
    }  # fmt: skip


def is_kept(report: dict[str, Any]) -> bool:
    """The rule of the module's docstring."""
    general, own = report["general"], report["own"]
    stands = general["gain"] >= 0 or (general["gain"] >= -ALLOWED_FALL and general["ci_high"] >= 0)
    return stands and own["gain"] > 0


# ---- training ----


def _train(lessons: Sequence[Lesson], asking: _Asking, generated: Iterator[Rows], say: Say) -> tuple[Delta, int, float]:
    """The delta after as many steps as there are or as fit into the minutes; steps and seconds. Raises ``_Stopped``."""
    cfg, base = asking.solver.cfg, asking.solver.weights
    limit = 60 * (cfg.run.minutes or MINUTES)
    delta = deltas.zero(base)
    moments = OPTIMISER.init(delta)
    own = own_rows(lessons, asking.solver, random.Random(f"adapt/{cfg.seed}"))
    losses: list[float] = []
    began = last = time.monotonic()
    for step, (ids, mask) in enumerate(generated):
        seconds = time.monotonic() - began
        if asking.stop.asked:
            raise _Stopped
        done = max(step / STEPS, seconds / limit)
        if done >= 1:
            break
        lr = LR * min(1.0, (step + 1) / RISE) * (1 - done)
        mine, targets = next(own)
        batch = np.concatenate([ids, mine]), np.concatenate([mask, targets])
        delta, moments, loss = learn(delta, moments, base, *batch, jnp.float32(lr), cfg)
        losses.append(float(loss))
        if step == 0:
            say(f"ready to learn after {time.monotonic() - began:.0f} s, most of them the compiler's")
            began = last = time.monotonic()
        if time.monotonic() - last > 10:
            last = time.monotonic()
            say(f"step {step + 1}, {last - began:.0f} s of {limit:.0f}: loss {np.mean(losses[-10:]):.3f}")
    if not np.isfinite(losses).all():
        raise RunError("the loss is not finite; nothing is kept")
    return delta, len(losses), time.monotonic() - began


@functools.partial(jax.jit, static_argnames="cfg")
def _loss(
    delta: Delta, base: dict[str, Any], ids: UInt16[Array, "B T"], mask: Bool[Array, "B T"], cfg: Config
) -> Array:
    """Nats a target token."""
    return objective.supervised_loss(deltas.applied(base, delta), {}, ids, mask, cfg, None)[0]


OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1.0, b1=0.9, b2=0.98))


@functools.partial(jax.jit, static_argnames="cfg")
def learn(
    delta: Delta,
    moments: Any,
    base: dict[str, Any],
    ids: UInt16[Array, "B T"],
    mask: Bool[Array, "B T"],
    lr: Array,
    cfg: Config,
) -> tuple[Delta, Any, Array]:
    """The delta and the optimiser's moments after one step on a batch, and its loss; the base is data.

    Seven arguments: what is learned, what it stands on, and a batch.
    """
    loss, grads = jax.value_and_grad(_loss)(delta, base, ids, mask, cfg)
    updates, moments = OPTIMISER.update(grads, moments)
    return {path: leaf + lr * updates[path] for path, leaf in delta.items()}, moments, loss


def bearable_share(delta: Delta, base: dict[str, Any], weighed: Sequence[Rows], cfg: Config) -> float:
    """The largest of ``SHARES`` of a delta under which the rows lose at most ``BEARABLE`` nats; 0 where none is.

    Between a model and what it was tuned to, the old task is lost later than the new one is won (WiSE-FT, arXiv
    2109.01903).
    """
    ids, mask = (np.concatenate(side) for side in zip(*weighed, strict=True))
    loss = lambda share: float(_loss(deltas.scaled(delta, share), base, ids, mask, cfg))
    before = loss(0.0)
    return next((share for share in SHARES if loss(share) <= before + BEARABLE), 0.0)


def _generated(stream: Stream, cfg: Config) -> Iterator[Rows]:
    """The generator's rows of one step after another, drawn ahead; all open levels alike, as held-out questions are."""
    orders = [
        BatchOrder(
            step=_FIRST_STEP + at, steps=AHEAD, batch_size=GENERATED, context=cfg.tasks.context,
            open_levels=cfg.tasks.open_levels, frontier=cfg.tasks.open_levels - 1,
            level_weights=tuple(int(level < cfg.tasks.open_levels) for level in range(NUM_LEVELS)),
        )
        for at in range(0, WEIGHED + STEPS + 2 * AHEAD, AHEAD)
    ]  # fmt: skip
    for now, following in itertools.pairwise(orders):
        stream.request_batch(now)
        stream.request_batch(following)
        batch = stream.take_batch(now)
        yield from zip(batch.tokens, batch.mask, strict=True)


def own_rows(
    lessons: Sequence[Lesson], solver: Solver, rng: random.Random
) -> Iterator[tuple[UInt16[np.ndarray, "rows T"], Bool[np.ndarray, "rows T"]]]:
    """Batches of the person's lessons, each as likely as any other, as they are asked: with a trace or without.

    Raises ``RunError`` where no lesson fits a row.
    """
    asked = dataclasses.replace(solver.cfg.warmup, trace=float(solver.trace))
    cfg = dataclasses.replace(solver.cfg, warmup=asked)
    usable = [lesson for lesson in lessons if _example(lesson, rng, cfg) is not None]
    if not usable:
        raise RunError(f"none of your functions fits the {cfg.tasks.context} tokens of a training row")
    waiting: tuple[list[int], list[bool]] | None = None
    while True:
        ids = np.full((ROWS, cfg.tasks.context), tokens.PAD, np.uint16)
        mask, row, at = np.zeros(ids.shape, bool), 0, 0
        while row < ROWS:
            waiting = waiting or _example(rng.choice(usable), rng, cfg)
            if waiting is None:  # with these pairs it does not fit
                continue
            end = at + len(waiting[0])
            if end > ids.shape[1]:
                row, at = row + 1, 0
                continue
            ids[row, at:end], mask[row, at:end] = waiting
            at, waiting = end, None
        yield ids, mask


def _example(lesson: Lesson, rng: random.Random, cfg: Config) -> tuple[list[int], list[bool]] | None:
    try:
        return training_example(lesson.kind, lesson, rng, cfg)
    except (TooLong, UnicodeEncodeError):  # a lone surrogate has no UTF-8 form
        return None
