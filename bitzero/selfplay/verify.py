"""The door: the only callback from the jitted step to the host, where proposals and answers meet the sandbox.

Inside a callback no JAX operation may run (it can deadlock), and an argument of 100 KiB or more is copied on the thread
pool that the callback itself may be holding. So the host side is numpy only, its first act is `np.asarray`, and arrays
cross in pieces under that size. It never raises, which would lose the donated state: a fault becomes the `infra` code,
the stop bit and `Door.error`, which the driver raises after the chunk.

The calls are `ordered`, so a step's proposals are gated before its answers are judged and steps never overlap.
"""

import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jaxtyping import Array, Int, Integer, UInt16, UInt32

from bitzero.config import Config
from bitzero.sandbox import Sandbox
from bitzero.selfplay import buffer
from bitzero.tasks.gates import GATES, Proposal, Verdict, task_hash, validate
from bitzero.tasks.gates import INFRA as INFRA_GATE
from bitzero.tasks.judge import INFRA, OUTCOMES, Judgement, judge
from bitzero.tasks.kinds import TASK_KINDS, Kinds, Task, TaskKind, TooLong, names_of, record, task_of
from bitzero.tasks.tokens import PAD, decode

PIECE_BYTES = 96 * 1024  # XLA copies 102,400 bytes and more on its thread pool

Arrays = dict[str, Any]  # of numpy arrays on the host, of JAX arrays on the device


class Door:
    """The host side: owns what a step needs outside the graph. Its methods take and return numpy arrays."""

    def __init__(self, sandbox: Sandbox, cfg: Config, kinds: Kinds = TASK_KINDS) -> None:
        self.sandbox = sandbox
        self.cfg = cfg
        self.kinds = kinds
        self.guarded: frozenset[int] = frozenset()  # behaviours of held-out programs, which no proposal may have
        self.error: str | None = None  # traceback of the first fault, for the driver to raise after the chunk
        self.seconds = {"propose": 0.0, "solve": 0.0}  # wall time spent on the host
        self.calls = {"propose": 0, "solve": 0}
        self.loose = 0  # answers that only Python's == would have passed
        self.samples: list[tuple[int, str]] = []  # (step, text) of every `samples_every`-th step; the driver drains it
        self._stop = False

    def request_stop(self) -> None:
        """Makes the running chunk end after the present step; safe in a signal handler."""
        self._stop = True

    def propose(
        self, prompts: Any, completions: Any, proposal_kinds: Any, levels: Any, step: Any, trace: Any
    ) -> Arrays:
        """Gates N proposals. Arrays as in ``verify_proposals``."""
        prompts, completions = _joined_pieces(prompts), _joined_pieces(completions)
        proposal_kinds, step = np.asarray(proposal_kinds), int(np.asarray(step))
        levels, traced = np.asarray(levels), bool(np.asarray(trace))

        def work() -> Arrays:
            proposals = [
                _proposal(self.kinds[int(kind)], prompt, ids)
                for kind, prompt, ids in zip(proposal_kinds, prompts, completions, strict=True)
            ]
            verdicts = validate(self.sandbox, proposals, self.cfg, self.kinds, self.guarded)
            self._sample_proposals(step, levels, proposals, verdicts)
            return verdict_arrays(verdicts, traced, self.cfg, self.kinds)

        failed = [Verdict(gate=INFRA_GATE)] * len(completions)
        return self._never_raising("propose", work, lambda: verdict_arrays(failed, traced, self.cfg, self.kinds))

    def solve(self, records: Any, completions: Any, step: Any) -> Arrays:
        """Judges N × G answers. Arrays as in ``verify_answers``."""
        records, completions, step = _joined_pieces(records), _joined_pieces(completions), int(np.asarray(step))

        def work() -> Arrays:
            out = _unjudged_answers(*completions.shape[:2])
            filled = [i for i, ids in enumerate(records) if ids.any()]
            tasks = [task_of(records[i].tolist(), self.kinds) for i in filled]
            answers = [
                [self.kinds[task.kind].parse_answer(ids) for ids in completions[i].tolist()]
                for i, task in zip(filled, tasks, strict=True)
            ]
            judged = judge(self.sandbox, tasks, answers, self.kinds)
            for i, task, row in zip(filled, tasks, judged, strict=True):
                out["reward"][i] = [verdict.correct for verdict in row]
                out["outcome"][i] = [OUTCOMES.index(verdict.outcome) for verdict in row]
                out["coverage"][i] = [verdict.coverage for verdict in row]
                out["trivial"][i] = self.kinds[task.kind].is_trivial(task)
                self.loose += sum(verdict.loose for verdict in row)
            self._sample_answers(step, tasks, answers, judged)
            return out

        return self._never_raising("solve", work, lambda: _unjudged_answers(*completions.shape[:2]))

    def _never_raising(self, name: str, work: Callable[[], Arrays], failed: Callable[[], Arrays]) -> Arrays:
        """Runs `work`, times it, turns any fault into `failed()` and the stop bit, which it adds."""
        start = time.perf_counter()
        try:
            out = work()
        except BaseException:  # nothing may cross the door: not even KeyboardInterrupt
            self.error = self.error or traceback.format_exc()
            self._stop = True
            out = failed()
        self.seconds[name] += time.perf_counter() - start
        self.calls[name] += 1
        return out | {"stop": np.asarray(self._stop)}

    # -- text samples for TensorBoard --

    def _sampled(self, step: int) -> bool:
        return step % self.cfg.run.samples_every == 0

    def _sample_proposals(
        self, step: int, levels: np.ndarray, proposals: Sequence[Proposal], verdicts: Sequence[Verdict]
    ) -> None:
        if self._sampled(step):
            for level, proposal, verdict in zip(levels, proposals, verdicts, strict=True):
                head = f"propose {names_of(self.kinds)[proposal.kind]} L{int(level)}: {GATES[verdict.gate]}"
                self.samples.append((step, "\n".join([head, proposal.code or "(malformed)", *proposal.inputs])))

    def _sample_answers(
        self,
        step: int,
        tasks: Sequence[Task],
        answers: Sequence[Sequence[str | None]],
        judged: Sequence[Sequence[Judgement]],
    ) -> None:
        if self._sampled(step):
            for task, texts, row in zip(tasks, answers, judged, strict=True):
                right = sum(verdict.correct for verdict in row)
                head = f"solve {names_of(self.kinds)[task.kind]} L{task.level}: {right} of {len(row)} right"
                question = decode(self.kinds[task.kind].solver_prompt(task, trace=False))
                self.samples.append((step, "\n".join([head, question, f"first answer: {texts[0]}"])))


def _joined_pieces(pieces: Any) -> np.ndarray:
    """One numpy array from the pieces an argument crossed in."""
    if isinstance(pieces, list | tuple):
        return np.concatenate([np.asarray(piece) for piece in pieces])
    return np.asarray(pieces)


def _proposal(kind: TaskKind, prompt: np.ndarray, ids: np.ndarray) -> Proposal:
    code, inputs = kind.parse_proposal(prompt.tolist(), ids.tolist()) or (None, ())
    return Proposal(kind=kind.number, code=code, inputs=inputs)


def verdict_arrays(verdicts: Sequence[Verdict], trace: bool, cfg: Config, kinds: Kinds = TASK_KINDS) -> Arrays:
    """The verdicts as arrays of fixed shape; rows of rejected proposals are zero apart from `gate`."""
    count = len(verdicts)
    out: Arrays = {
        "gate": np.array([verdict.gate for verdict in verdicts], np.int32),
        "prompt": np.full((count, cfg.tasks.prompt), PAD, np.uint16),
        "record": np.full((count, cfg.tasks.record), PAD, np.uint16),
        "program_hash": buffer.hash_words([verdict.program_hash for verdict in verdicts]),
        "task_hash": buffer.hash_words([verdict.task_hash for verdict in verdicts]),
        "confidence": np.array([verdict.confidence for verdict in verdicts], np.float32),
        "level": np.array([verdict.level for verdict in verdicts], np.int32),
    }
    for i, verdict in enumerate(verdicts):
        if verdict.task is not None:
            _write_row(out["prompt"][i], out["record"][i], verdict.task, trace, kinds)
    return out


def _write_row(prompt_row: np.ndarray, record_row: np.ndarray, task: Task, trace: bool, kinds: Kinds) -> None:
    """The solver prompt, left-padded, and the record, right-padded. Raises ValueError where one does not fit."""
    asked, kept = kinds[task.kind].solver_prompt(task, trace), record(task, kinds)
    if len(asked) > len(prompt_row) or len(kept) > len(record_row):
        raise TooLong(f"prompt of {len(asked)} or record of {len(kept)} tokens does not fit")
    prompt_row[len(prompt_row) - len(asked) :] = asked
    record_row[: len(kept)] = kept


def ring_rows(tasks: Sequence[Task], trace: bool, cfg: Config, kinds: Kinds = TASK_KINDS) -> Arrays:
    """Tasks that fit as rows for the ring: prompt u16[M, P], record u16[M, R], kind i32[M], level i32[M]."""
    rows: list[tuple[Task, np.ndarray, np.ndarray]] = []
    for task in tasks:
        prompt, kept = np.full(cfg.tasks.prompt, PAD, np.uint16), np.full(cfg.tasks.record, PAD, np.uint16)
        try:
            _write_row(prompt, kept, task, trace, kinds)
        except TooLong:
            continue
        rows.append((task, prompt, kept))
    return {
        "prompt": np.array([prompt for _, prompt, _ in rows], np.uint16).reshape(len(rows), cfg.tasks.prompt),
        "record": np.array([kept for _, _, kept in rows], np.uint16).reshape(len(rows), cfg.tasks.record),
        "kind": np.array([task.kind for task, _, _ in rows], np.int32),
        "level": np.array([task.level for task, _, _ in rows], np.int32),
    }


def hashes_of(tasks: Sequence[tuple[Task, Sequence[int]]]) -> UInt32[np.ndarray, "K 2"]:
    """Hashes (high, low) of tasks and of their programs, given each with what its program does."""
    found = [value for task, done in tasks for b in done for value in (b, task_hash(task.kind, b, task.inputs))]
    return buffer.hash_words(found)


def _unjudged_answers(count: int, group: int) -> Arrays:
    """What a slot without a task, or a failed callback, gives: masked out by its `infra` code."""
    return {
        "reward": np.zeros((count, group), np.float32),
        "outcome": np.full((count, group), INFRA, np.int32),
        "coverage": np.ones((count, group), np.float32),
        "trivial": np.zeros((count,), bool),
    }


# ---- the device side ----


def cut_in_pieces(x: Integer[Array, " N *rest"]) -> list[Array]:
    """`x` cut along its first axis into pieces under 100 KiB."""
    row = x.dtype.itemsize * int(np.prod(x.shape[1:]))
    step = max(1, PIECE_BYTES // row)
    return [x[at : at + step] for at in range(0, x.shape[0], step)]


def verify_proposals(
    door: Door,
    prompts: Integer[Array, "N P"],
    completions: Integer[Array, "N C"],
    proposal_kinds: Integer[Array, " N"],
    levels: Integer[Array, " N"],
    step: Int[Array, ""],
    trace: Int[Array, ""],
) -> Arrays:
    """Sends proposals through the gates. Its arguments are what crosses the door.

    Returns gate i32[N] (index into GATES), prompt u16[N, P] (solver prompt, left-padded), record u16[N, R],
    program_hash u32[N, 2] (high, low), task_hash u32[N, 2], confidence f32[N], level i32[N], stop bool[].
    """
    count, cfg = completions.shape[0], door.cfg
    shapes = {
        "gate": jax.ShapeDtypeStruct((count,), jnp.int32),
        "prompt": jax.ShapeDtypeStruct((count, cfg.tasks.prompt), jnp.uint16),
        "record": jax.ShapeDtypeStruct((count, cfg.tasks.record), jnp.uint16),
        "program_hash": jax.ShapeDtypeStruct((count, 2), jnp.uint32),
        "task_hash": jax.ShapeDtypeStruct((count, 2), jnp.uint32),
        "confidence": jax.ShapeDtypeStruct((count,), jnp.float32),
        "level": jax.ShapeDtypeStruct((count,), jnp.int32),
        "stop": jax.ShapeDtypeStruct((), jnp.bool_),
    }
    sent = (
        cut_in_pieces(_as_uint16(prompts)),
        cut_in_pieces(_as_uint16(completions)),
        proposal_kinds,
        levels,
        step,
        trace,
    )
    return _ask(door.propose, shapes, *sent)


def verify_answers(
    door: Door, records: UInt16[Array, "N R"], completions: Integer[Array, "N G C"], step: Int[Array, ""]
) -> Arrays:
    """Sends answers to the judge.

    Returns reward f32[N, G] (0 or 1), outcome i32[N, G] (index into OUTCOMES; INFRA is to be masked out),
    coverage f32[N, G], trivial bool[N] (a trivial answer is known to solve the task), stop bool[].
    """
    count, group, _ = completions.shape
    shapes = {
        "reward": jax.ShapeDtypeStruct((count, group), jnp.float32),
        "outcome": jax.ShapeDtypeStruct((count, group), jnp.int32),
        "coverage": jax.ShapeDtypeStruct((count, group), jnp.float32),
        "trivial": jax.ShapeDtypeStruct((count,), jnp.bool_),
        "stop": jax.ShapeDtypeStruct((), jnp.bool_),
    }
    return _ask(door.solve, shapes, cut_in_pieces(records), cut_in_pieces(_as_uint16(completions)), step)


def _ask(method: Callable[..., Arrays], shapes: Arrays, *sent: Any) -> Arrays:
    """The ordered call of the host with finished arrays.

    Without the barrier XLA's compiler for GPUs (jaxlib 0.11.2) makes one fusion of the call and the slices that its
    arguments are, and aborts on the token in its result that keeps calls in order.
    """
    return io_callback(method, shapes, *jax.lax.optimization_barrier(sent), ordered=True)


def _as_uint16(tokens: Integer[Array, "..."]) -> UInt16[Array, "..."]:
    return tokens.astype(jnp.uint16)
