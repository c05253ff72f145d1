"""Putting held-out questions to a model: free-running decode in batches, answers judged by the sandbox."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, PRNGKeyArray, UInt16

from bitzero.config import Config, Model, with_operand
from bitzero.generator.programs import Program, Split
from bitzero.model import quant
from bitzero.sandbox import Sandbox
from bitzero.selfplay import buffer, rollout, schedule, warmup
from bitzero.state import TrainState
from bitzero.tasks import judge, tokens
from bitzero.tasks.kinds import TASK_KINDS, Kinds, Task

Heldout = Callable[[Split, int, int], list[Program]]  # (split, level, n) → n programs, or the draws that hold them
GoOn = Callable[[], None]  # called before each batch; what it raises ends the asking


def always() -> None:
    """A ``GoOn`` that ends nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solver:
    """A model ready to be asked: the integers (or, during the ramp, the blend) of one step."""

    weights: dict[str, Any]
    trace: bool  # deduction answers are asked as a trace
    cfg: Config
    batch_size: int  # questions decoded together; fewer are filled up to it, so that one shape is compiled
    kinds: Kinds = TASK_KINDS
    parts: int = 1  # equal parts of a batch, decoded one after the other
    go_on: GoOn = always


def solver_of(
    state: TrainState, cfg: Config, *, trace: bool | None = None, settled: bool = False, kinds: Kinds = TASK_KINDS,
    go_on: GoOn = always,
) -> Solver:  # fmt: skip
    """The model of ``state`` as it is used at its step: λ = 1 from the end of the ramp, below it the blend.

    ``settled`` is λ = 1 at any step.
    """
    integers = settled or schedule.is_ternary(int(state.step), cfg)
    lam = None if integers else schedule.lam(state.step, cfg)
    weights = _materialise(state.params, state.precision, cfg.model, lam)
    traced = bool(state.trace_mode) if trace is None else trace
    return Solver(
        weights=weights, cfg=cfg, trace=traced, batch_size=cfg.eval.batch_size, kinds=kinds,
        parts=max(cfg.eval.parts, 1), go_on=go_on,
    )  # fmt: skip


def checkpoint_structure(cfg: Config) -> Callable[[int, dict[str, Any]], TrainState]:
    """What a checkpoint of ``cfg`` holds: step and meta → the state's structure, shapes and types.

    From self-play on the ring may know how its tasks were answered, and the state may hold the frozen reference policy,
    in the run's operand type.
    """

    def like(step: int, meta: dict[str, Any]) -> TrainState:
        state = jax.eval_shape(lambda: warmup.init_state(cfg))
        if step <= cfg.warmup.steps:
            return state
        if cfg.selfplay.replay == "spread":
            state = dataclasses.replace(state, ring=jax.eval_shape(buffer.rated, state.ring))
        if not cfg.selfplay.kl:
            return state
        freeze = functools.partial(quant.materialise, model=with_operand(cfg, meta["operand"]).model)
        return dataclasses.replace(state, reference=jax.eval_shape(freeze, state.params, state.precision))

    return like


def ask(
    solver: Solver, tasks: Sequence[Task], *, samples: int = 1, temperature: float = 0.0, seed: int = 0
) -> list[list[str | None]]:
    """``samples`` answers to each task as text; None where the form is wrong or the prompt does not fit."""
    kinds = solver.kinds
    prompts = [kinds[task.kind].solver_prompt(task, solver.trace) for task in tasks]
    found: list[list[str | None]] = [[] for _ in tasks]
    rows = [i for i, prompt in enumerate(prompts) for _ in range(samples) if len(prompt) <= solver.cfg.tasks.prompt]
    longest = max((kinds[task.kind].longest_answer(solver.cfg, solver.trace) for task in tasks), default=1)
    completions = complete_prompts(
        solver, [prompts[i] for i in rows], max_new=longest, temperature=temperature, seed=seed
    )
    for i, ids in zip(rows, completions, strict=True):
        found[i].append(kinds[tasks[i].kind].parse_answer(ids))
    return [answers or [None] * samples for answers in found]


def complete_prompts(
    solver: Solver, prompts: Sequence[Sequence[int]], *, max_new: int, temperature: float, seed: int
) -> Iterator[list[int]]:
    """Sampled completions of ``prompts`` (each at most ``cfg.tasks.prompt`` ids), in their order."""
    size, width = solver.batch_size, solver.cfg.tasks.prompt
    for start in range(0, len(prompts), size):
        solver.go_on()
        part = prompts[start : start + size]
        batch = left_padded([*part, *([part[0]] * (size - len(part)))], width)  # one shape: one compilation
        key = jax.random.fold_in(jax.random.key(seed), start)
        drawn = sample_completions(
            key, solver.weights, batch, temperature, solver.cfg.model, max_new, parts=solver.parts
        )
        for row in np.asarray(drawn)[: len(part)]:
            yield [int(token) for token in row]


def sample_completions(
    key: PRNGKeyArray,
    weights: dict[str, Any],
    prompts: Integer[np.ndarray, "B P"],
    temperature: float,
    model: Model,
    max_new: int,
    parts: int = 1,
) -> Int[Array, "B C"]:
    """Completions of left-padded prompts, as ``rollout.sample`` draws them, in ``parts`` one after the other.

    Compiled in two halves, one after the other: most of the memory of an answering process is what XLA's compiler
    keeps until a program is done (``whole`` of benchmarks/inference.py is what one program would take). Seven
    arguments: those of ``rollout.sample`` that differ from one question to the next.
    """
    rows = prompts.shape[0]
    drawn: list[Array] = []
    for own in np.split(prompts, parts):
        logits, cache = prefill(weights, own, model, max_new=max_new)
        place = {} if parts == 1 else {"first": jnp.int32(len(drawn) * len(own)), "rows": rows}
        done = decode(key, weights, own, logits, cache, model, temperature=jnp.float32(temperature), **place)
        drawn.append(done.tokens)
    return jnp.concatenate(drawn)


prefill = jax.jit(rollout.prefill, static_argnames=("model", "max_new"))
decode = jax.jit(rollout.decode, static_argnames=("model", "rows"))


def correct_answers(
    sandbox: Sandbox, tasks: Sequence[Task], answers: Sequence[Sequence[str | None]], kinds: Kinds = TASK_KINDS
) -> Bool[np.ndarray, "n s"]:
    """Which answers the sandbox finds right; every task must have the same number of answers."""
    verdicts = judge.judge(sandbox, tasks, [[answer or None for answer in row] for row in answers], kinds)
    return np.array([[verdict.correct for verdict in row] for row in verdicts], dtype=bool).reshape(len(tasks), -1)


def left_padded(prompts: Sequence[Sequence[int]], width: int) -> UInt16[np.ndarray, "n width"]:
    """Prompts as rows that end in the last column; raises ValueError for one longer than ``width``."""
    batch = np.full((len(prompts), width), tokens.PAD, np.uint16)
    for row, prompt in zip(batch, prompts, strict=True):
        if len(prompt) > width:
            raise ValueError(f"a prompt of {len(prompt)} tokens does not fit {width}")
        row[width - len(prompt) :] = prompt
    return batch


@functools.partial(jax.jit, static_argnames="model")
def _materialise(
    params: dict[str, Any], precision: dict[str, Any], model: Model, lam: Float[Array, ""] | None
) -> dict[str, Any]:
    return quant.materialise(params, precision, model, lam)
