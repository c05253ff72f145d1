"""Induction: some pairs of a hidden program are shown, a program is asked for that has the hidden ones too."""

import random
from collections.abc import Sequence

from bitzero.config import Config, Warmup
from bitzero.sandbox import Outcome
from bitzero.tasks import tokens
from bitzero.tasks.kinds.interface import Check, Judgement, MaskedIds, Ran
from bitzero.tasks.kinds.single_pair import gives_an_argument, joined
from bitzero.tasks.kinds.task import (
    MIN_HIDDEN,
    LabelledProgram,
    Task,
    TooLong,
    before_end,
    coverage_of,
    split_args,
    split_at,
)
from bitzero.tasks.tokens import ANS, EOS, IN, LEVELS, OUT, PAD, PROG, decode, encode
from bitzero.tasks.trivial import RULED_ARGS

# Everything that a trivial program could return, at once; written here, so it needs no gate.
_RULES = """def f(*a):
    found = []
    for x in a:
        found.append(x)
        for rule in (len, sorted):
            try:
                found.append(rule(x))
            except TypeError:
                found.append(None)
    return found"""


class Induction:
    """`<solve><induction> <in> A1 <out> V1 … <prog>` → `CODE`, judged on the hidden pairs."""

    number = 2
    name = "induction"
    tag = tokens.INDUCTION_TAG
    opener = IN
    writes_program = False
    lender = 1
    traced = False
    one_answer = False
    inverse = False
    answers_with_program = True

    # ---- solver ----

    def solver_prompt(self, task: Task, trace: bool) -> list[int]:
        """The shown pairs."""
        ids = [tokens.SOLVE, self.tag]
        for given, value in zip(task.inputs[: task.shown], task.outputs[: task.shown], strict=True):
            ids += [IN, *encode(given), OUT, *encode(value)]
        return [*ids, PROG]

    def parse_answer(self, completion: Sequence[int]) -> str | None:
        """The whole text: a program."""
        ids = before_end(completion)
        return None if not ids or IN in ids or ANS in ids else decode(ids)

    def gold(self, task: Task) -> str:
        """The program that made the pairs."""
        return task.code

    def checks(self, task: Task, answers: Sequence[str]) -> list[Check]:
        """Every answer on the hidden inputs."""
        return [Check(code=answer, inputs=task.inputs[task.shown :], own_program=True) for answer in answers]

    def judge(self, task: Task, answers: Sequence[str], outcomes: Sequence[Sequence[Outcome]]) -> list[Judgement]:
        """Right if every hidden pair comes out."""
        return [self._judgement(task, runs) for runs in outcomes]

    def _judgement(self, task: Task, runs: Sequence[Outcome]) -> Judgement:
        hidden = task.hidden_outputs
        passed = sum(run.kind == "ok" and run.value == gold for run, gold in zip(runs, hidden, strict=True))
        failed = [run.kind for run in runs if run.kind != "ok"]
        outcome = "infra" if "infra" in failed else (failed[0] if failed else "ok")
        coverage = coverage_of(passed, len(hidden))
        return Judgement(correct=passed == len(hidden), outcome=outcome, coverage=coverage)

    def longest_answer(self, cfg: Config, trace: bool) -> int:
        """As long as in self-play."""
        return cfg.tasks.completion

    def disguised(self, task: Task, other: Task) -> Task:
        """The other task's pairs."""
        return Task(
            kind=task.kind, level=task.level, code=task.code, inputs=other.inputs, outputs=other.outputs,
            shown=other.shown,
        )  # fmt: skip

    # ---- proposer ----

    def proposer_prompt(self, level: int, reference: str | None) -> list[int]:
        """`<propose><induction><Lk> <prog> CODE <in>`: the program to find inputs for. Raises ValueError without."""
        if reference is None:
            raise ValueError("an induction proposal needs the program it is about")
        return [tokens.PROPOSE, self.tag, LEVELS[level], PROG, *encode(reference), IN]

    def parse_proposal(self, prompt: Sequence[int], completion: Sequence[int]) -> tuple[str, tuple[str, ...]] | None:
        """`A1 <in> A2 …` → the prompt's program and the argument lists; None if the form is wrong."""
        ids = before_end(completion)
        asked = [int(token) for token in prompt if token != PAD]
        if ids is None or ANS in ids or PROG not in asked or asked[-1] != IN:
            return None
        code = asked[asked.index(PROG) + 1 : -1]
        return (decode(code), tuple(decode(part) for part in split_at(ids, IN))) if code else None

    def pairs_wanted(self, cfg: Config) -> tuple[int, int]:
        """Enough to hide ``MIN_HIDDEN`` beside the shown ones."""
        return cfg.tasks.shown + MIN_HIDDEN, cfg.tasks.pairs

    def task_of_pairs(
        self, level: int, code: str, inputs: tuple[str, ...], outputs: tuple[str, ...], cfg: Config
    ) -> Task:
        """The first ``tasks.shown`` pairs are shown."""
        return Task(kind=self.number, level=level, code=code, inputs=inputs, outputs=outputs, shown=cfg.tasks.shown)

    def task_of_program(self, program: LabelledProgram, cfg: Config) -> Task:
        """The task of all pairs of a generated program."""
        return self.task_of_pairs(program.level, program.code, program.inputs, program.outputs, cfg)

    # ---- trivial answers ----

    def trivial_rules(self) -> tuple[str, ...]:
        """Programs that return an argument, its length, or it sorted; the first output; a table of the shown pairs."""
        places = range(RULED_ARGS)
        return (
            *(f"argument {k}" for k in places),
            *(f"{call}(argument {k})" for call in ("len", "sorted") for k in places),
            *("first output", "shown pairs"),
        )

    def trivial_answers(self, task: Task) -> list[str]:
        """The programs of ``trivial_rules``."""
        count = len(split_args(task.inputs[0]) or ())
        first, further = range(RULED_ARGS), range(RULED_ARGS, count)
        return [*_copies(first, count), _constant(task, count), _lookup(task), *_copies(further, count)]

    def is_trivial(self, task: Task) -> bool:
        """Whether the hidden outputs are all equal, all among the shown ones, or copies of one argument."""
        return _guessable(task) or gives_an_argument(task.inputs[task.shown :], task.hidden_outputs)

    def trivial_check(self, task: Task) -> Check | None:
        """What every rule returns on the hidden inputs."""
        return Check(code=_RULES, inputs=task.inputs[task.shown :])

    def solved_trivially(self, task: Task, outcomes: Sequence[Outcome]) -> bool:
        """Whether one rule's value is the output of every hidden pair."""
        lists = [split_args(str(outcome.value)[1:-1]) or () for outcome in outcomes if outcome.kind == "ok"]
        if len(lists) < len(task.hidden_outputs):
            return False
        return any(values == task.hidden_outputs for values in zip(*lists, strict=False))

    def trivial_by_runs(self, task: Task, ran: Sequence[Ran]) -> bool:
        """Whether the hidden outputs are all equal or all among the shown ones."""
        return _guessable(task)

    # ---- training ----

    def training_share(self, warmup: Warmup) -> float:
        """``warmup.induction``."""
        return warmup.induction

    def solver_example(self, program: LabelledProgram, order: list[int], rng: random.Random, cfg: Config) -> MaskedIds:
        """The first pairs of ``order`` shown, the program asked for."""
        asked = self.solver_prompt(self._ordered(program, order, cfg), trace=False)
        return joined(asked, [*encode(program.code), EOS], cfg.tasks.answer, cfg)

    def proposer_example(
        self, program: LabelledProgram, order: list[int], reference: str | None, cfg: Config
    ) -> MaskedIds:
        """Proposes all inputs if they fit a completion, else as many as a task needs; in an order that is no lookup."""
        asked = self.proposer_prompt(program.level, program.code)
        least, _ = self.pairs_wanted(cfg)
        while _length(program, order) > cfg.tasks.completion and len(order) > least:
            order = order[:-1]
        for turn in range(len(order)):
            turned = order[turn:] + order[:turn]
            if not self.is_trivial(self._ordered(program, turned, cfg)):
                answer = [token for i in turned for token in (*encode(program.inputs[i]), IN)]
                return joined(asked, [*answer[:-1], EOS], cfg.tasks.completion, cfg)
        raise TooLong("every order of the inputs makes a trivial task")

    def _ordered(self, program: LabelledProgram, order: Sequence[int], cfg: Config) -> Task:
        inputs, outputs = (tuple(texts[i] for i in order) for texts in (program.inputs, program.outputs))
        return self.task_of_pairs(program.level, program.code, inputs, outputs, cfg)


def _guessable(task: Task) -> bool:
    hidden = set(task.hidden_outputs)
    return len(hidden) < 2 or hidden <= set(task.outputs[: task.shown])


def _copies(places: range, count: int) -> list[str]:
    names = ", ".join(f"a{k}" for k in range(count))
    bodies = ("a{}", "len(a{})", "sorted(a{})")
    return [f"def f({names}):\n    return {body.format(k)}" if k < count else "" for body in bodies for k in places]


def _constant(task: Task, count: int) -> str:
    return f"def f({', '.join(f'a{k}' for k in range(count))}):\n    return {task.outputs[0]}"


def _lookup(task: Task) -> str:
    """A program that knows the shown pairs by heart and answers the last of them elsewhere."""
    pairs = list(zip(task.inputs, task.outputs, strict=True))[: task.shown]
    lines = [f"    if a == ({given},):\n        return {value}" for given, value in pairs[:-1]]
    return "\n".join(["def f(*a):", *lines, f"    return {pairs[-1][1]}"])


def _length(program: LabelledProgram, order: list[int]) -> int:
    return sum(len(encode(program.inputs[i])) + 1 for i in order)
