"""What a kind of task is: the one interface through which proposer, gates, judge, training and evaluation see it.

A kind is an object that nobody registers: the kinds of a run are a tuple, ``kinds[n]`` has the number n, and whoever
works on tasks is given the tuple. On the wire, in seeds and on the device a kind is its number.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bitzero.config import Config, Warmup
from bitzero.sandbox import Outcome
from bitzero.tasks.kinds.task import LabelledProgram, Task

MaskedIds = tuple[list[int], list[bool]]  # ids and target mask (True: the loss counts this id)


@dataclass(frozen=True, kw_only=True)
class Check:
    """What the sandbox is asked about an answer: a program on inputs, or (``code`` None) literals to be read."""

    code: str | None
    inputs: tuple[str, ...]
    own_program: bool = False  # the code is the answer's own: it must not meet a task's program in one process


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict on one answer."""

    correct: bool
    outcome: str  # one of ``judge.OUTCOMES``; ok also for an answer that is well-formed and wrong
    coverage: float = 1.0  # induction: (h + 1)/(H + 2) with h of H hidden pairs passed
    loose: bool = False  # wrong, yet equal under Python's == (True for 1); counted apart, never rewarded


@dataclass(frozen=True)
class Ran:
    """One run of a proposed program: argument list and canonical value."""

    given: str
    value: str


@runtime_checkable
class TaskKind(Protocol):
    """One kind of task. Ids are token ids, texts are canonical; ``cfg`` gives lengths and numbers of pairs."""

    number: int  # its place in the tuple of kinds
    name: str
    tag: int  # token id
    opener: int  # token id that ends a proposer's prompt: after <prog> a program is written, after <in> an input
    writes_program: bool  # a proposal brings its program; else it is about the program that its prompt shows
    lender: int  # number of the kind whose tasks in the ring lend the program that a proposer's prompt shows
    traced: bool  # an answer may be asked with a trace before it
    one_answer: bool  # exactly one text is right, so that equal text is all there is to being right
    inverse: bool  # asks for an input, so programs whose input is read off the output are capped
    answers_with_program: bool

    # ---- solver ----

    def solver_prompt(self, task: Task, trace: bool) -> list[int]:
        """Ids the solver reads; ``trace`` asks for the trace before the answer where the kind has one."""
        ...

    def parse_answer(self, completion: Sequence[int]) -> str | None:
        """The answer's text; None if the form is wrong."""
        ...

    def gold(self, task: Task) -> str:
        """The answer that is right by construction."""
        ...

    def checks(self, task: Task, answers: Sequence[str]) -> list[Check]:
        """What the sandbox is asked, so that ``judge`` can tell which of the distinct ``answers`` are right."""
        ...

    def judge(self, task: Task, answers: Sequence[str], outcomes: Sequence[Sequence[Outcome]]) -> list[Judgement]:
        """A judgement for each answer, from the outcomes of each of its ``checks``."""
        ...

    def longest_answer(self, cfg: Config, trace: bool) -> int:
        """New tokens that an evaluation gives an answer."""
        ...

    def disguised(self, task: Task, other: Task) -> Task:
        """``task`` as the shuffled control asks it: with what its prompt shows taken from ``other``."""
        ...

    # ---- proposer ----

    def proposer_prompt(self, level: int, reference: str | None) -> list[int]:
        """Ids the proposer reads; ``reference`` is a program to show. Raises ValueError where one is missing."""
        ...

    def parse_proposal(self, prompt: Sequence[int], completion: Sequence[int]) -> tuple[str, tuple[str, ...]] | None:
        """Code and argument lists of a proposal; None if the form is wrong."""
        ...

    def pairs_wanted(self, cfg: Config) -> tuple[int, int]:
        """Least and largest number of argument lists of a proposal."""
        ...

    def task_of_pairs(
        self, level: int, code: str, inputs: tuple[str, ...], outputs: tuple[str, ...], cfg: Config
    ) -> Task:
        """The task that a proposal's program and pairs make."""
        ...

    def task_of_program(self, program: LabelledProgram, cfg: Config) -> Task:
        """The task that a generated program makes."""
        ...

    # ---- trivial answers ----

    def trivial_rules(self) -> tuple[str, ...]:
        """Names of the rules behind ``trivial_answers``, in their order."""
        ...

    def trivial_answers(self, task: Task) -> list[str]:
        """The answer of every rule, in the order of the names; '' where a rule does not apply; further ones after."""
        ...

    def is_trivial(self, task: Task) -> bool:
        """Whether a trivial answer is known to solve the task by its recorded pairs alone."""
        ...

    def trivial_check(self, task: Task) -> Check | None:
        """What the sandbox is asked, so that ``solved_trivially`` can tell; None where texts alone decide."""
        ...

    def solved_trivially(self, task: Task, outcomes: Sequence[Outcome]) -> bool:
        """Whether one of the trivial answers of ``trivial_check`` solves the task."""
        ...

    def trivial_by_runs(self, task: Task, ran: Sequence[Ran]) -> bool:
        """Whether the task is trivial as its runs on inputs and probes show: a constant, an identity, guessable."""
        ...

    # ---- training ----

    def training_share(self, warmup: Warmup) -> float:
        """Share of the examples of a warm-up batch that are the solver's in this kind."""
        ...

    def solver_example(self, program: LabelledProgram, order: list[int], rng: random.Random, cfg: Config) -> MaskedIds:
        """A training example of the solver from the program's pairs in this order. Raises ``TooLong``."""
        ...

    def proposer_example(
        self, program: LabelledProgram, order: list[int], reference: str | None, cfg: Config
    ) -> MaskedIds:
        """A training example of the proposer that passes the gates by its text. Raises ``TooLong``."""
        ...


Kinds = tuple[TaskKind, ...]
