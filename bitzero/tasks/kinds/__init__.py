"""Deduction, abduction, induction: one object a kind, with all that is of that kind (``interface.TaskKind``).

``TASK_KINDS[n]`` is the kind with the number n. The functions below take tasks and numbers of these three, for scripts;
the project itself passes the tuple on and asks its objects.
"""

from collections.abc import Sequence

from bitzero.config import Config
from bitzero.tasks.kinds.abduction import Abduction
from bitzero.tasks.kinds.deduction import Deduction
from bitzero.tasks.kinds.induction import Induction
from bitzero.tasks.kinds.interface import Check, Judgement, Kinds, Ran, TaskKind
from bitzero.tasks.kinds.task import (
    MIN_HIDDEN,
    PROPOSE,
    BadRecord,
    LabelledProgram,
    Task,
    TooLong,
    before_end,
    coverage_of,
    read_record,
    split_args,
    write_record,
)
from bitzero.tasks.tokens import ANS, EOS, encode

__all__ = [
    "ABDUCTION", "DEDUCTION", "INDUCTION", "KINDS", "MIN_HIDDEN", "PROPOSE", "TASK_KINDS", "BadRecord", "Check",
    "Example", "Judgement", "Kinds", "LabelledProgram", "Ran", "Task", "TaskKind", "TooLong", "answer_of",
    "coverage_of", "finished", "in_turn", "induction_task", "names_of", "proposal_of", "propose_prompt", "record",
    "solve_prompt", "split_args", "tags_of", "task_of", "usable_in_ring",
]  # fmt: skip

TASK_KINDS: Kinds = (Deduction(), Abduction(), Induction())
DEDUCTION, ABDUCTION, INDUCTION = range(3)
KINDS = tuple(kind.name for kind in TASK_KINDS)


def names_of(kinds: Kinds) -> tuple[str, ...]:
    """The kinds' names, by number."""
    return tuple(kind.name for kind in kinds)


def in_turn(names: str, kinds: Kinds = TASK_KINDS) -> tuple[int, ...]:
    """Numbers of the kinds named in ``names`` (``selfplay.kinds``), in that order; all of them where it is empty.

    Raises ValueError for a name that is of no kind.
    """
    known = names_of(kinds)
    return tuple(known.index(name.strip()) for name in names.split(",")) if names else tuple(range(len(kinds)))


def tags_of(kinds: Kinds) -> tuple[int, ...]:
    """The kinds' token ids, by number."""
    return tuple(kind.tag for kind in kinds)


def record(task: Task, kinds: Kinds = TASK_KINDS) -> list[int]:
    """The whole task as ids, for the device's ring (``task.write_record``)."""
    return write_record(task, kinds[task.kind].tag)


def task_of(ids: Sequence[int], kinds: Kinds = TASK_KINDS) -> Task:
    """The task of a record, PAD after it allowed. Raises BadRecord for anything else."""
    return read_record(ids, tags_of(kinds))


def usable_in_ring(task: Task, trace: str, cfg: Config, kinds: Kinds = TASK_KINDS) -> bool:
    """Whether a generated task fits the ring, a prompt and an answer in either mode, and is not trivial by its record.

    ``trace`` is that of its first pair. It needs room where ``cfg`` teaches traces: whoever draws the ring's tasks does
    not know how they will be asked.
    """
    kind = kinds[task.kind]
    answer = [*encode(kind.gold(task)), EOS]
    if kind.traced and cfg.warmup.trace:
        answer = [*encode(trace), ANS, *answer]
    fits = len(record(task, kinds)) <= cfg.tasks.record
    fits = fits and len(kind.solver_prompt(task, trace=True)) <= cfg.tasks.prompt
    return fits and len(answer) <= cfg.tasks.completion and not kind.is_trivial(task)


# ---- for scripts: the three kinds by number, under the names they always had ----

Example = LabelledProgram
finished = before_end


def solve_prompt(task: Task, trace: bool) -> list[int]:
    """Ids the solver reads; ``trace`` asks a deduction for its trace before the answer."""
    return TASK_KINDS[task.kind].solver_prompt(task, trace)


def propose_prompt(kind: int, level: int, reference: str | None) -> list[int]:
    """Ids the proposer reads; for induction ``reference`` is the program to find inputs for (ValueError if None)."""
    return TASK_KINDS[kind].proposer_prompt(level, reference)


def answer_of(kind: int, completion: Sequence[int]) -> str | None:
    """The answer's text (a value, an argument list or a program); None if the form is wrong."""
    return TASK_KINDS[kind].parse_answer(completion)


def proposal_of(kind: int, prompt: Sequence[int], completion: Sequence[int]) -> tuple[str, tuple[str, ...]] | None:
    """Code and argument lists of a proposal; None if the form is wrong."""
    return TASK_KINDS[kind].parse_proposal(prompt, completion)


def induction_task(program: LabelledProgram, order: Sequence[int], cfg: Config) -> Task:
    """The induction task that shows the first ``cfg.tasks.shown`` pairs of ``order``."""
    inputs, outputs = (tuple(texts[i] for i in order) for texts in (program.inputs, program.outputs))
    return TASK_KINDS[INDUCTION].task_of_pairs(program.level, program.code, inputs, outputs, cfg)
