"""What deduction and abduction share: a task is a program and one pair, and the proposer writes both."""

import abc
from collections.abc import Sequence

from bitzero.config import Config
from bitzero.sandbox import Outcome, loosely_equal
from bitzero.tasks import tokens
from bitzero.tasks.kinds.interface import Judgement, MaskedIds, Ran
from bitzero.tasks.kinds.task import LabelledProgram, Task, TooLong, before_end, split_args, split_at
from bitzero.tasks.tokens import ANS, EOS, IN, LEVELS, PROG, decode, encode


class SinglePair(abc.ABC):
    """The half of ``TaskKind`` that is the same for both; the other half is in ``deduction`` and ``abduction``."""

    number: int
    tag: int
    opener = PROG
    writes_program = True
    answers_with_program = False

    @abc.abstractmethod
    def is_trivial(self, task: Task) -> bool:
        """Whether a trivial answer is known to solve the task by its recorded pairs alone."""

    def pairs_wanted(self, cfg: Config) -> tuple[int, int]:
        """One argument list."""
        return 1, 1

    def proposer_prompt(self, level: int, reference: str | None) -> list[int]:
        """`<propose><kind><Lk>`, a program to differ from if there is a ``reference``, then `<prog>`."""
        shown = [] if reference is None else [PROG, *encode(reference)]
        return [tokens.PROPOSE, self.tag, LEVELS[level], *shown, PROG]

    def parse_proposal(self, prompt: Sequence[int], completion: Sequence[int]) -> tuple[str, tuple[str, ...]] | None:
        """`CODE <in> ARGS` → code and its one argument list; None if the form is wrong."""
        ids = before_end(completion)
        if ids is None or ANS in ids:
            return None
        code, *inputs = split_at(ids, IN)
        return (decode(code), (decode(inputs[0]),)) if code and len(inputs) == 1 else None

    def task_of_pairs(
        self, level: int, code: str, inputs: tuple[str, ...], outputs: tuple[str, ...], cfg: Config
    ) -> Task:
        """The task of a program and its one pair."""
        return Task(kind=self.number, level=level, code=code, inputs=inputs, outputs=outputs, shown=1)

    def task_of_program(self, program: LabelledProgram, cfg: Config) -> Task:
        """The task of a generated program's first pair."""
        return self.task_of_pairs(program.level, program.code, program.inputs[:1], program.outputs[:1], cfg)

    def disguised(self, task: Task, other: Task) -> Task:
        """The other task's program with this task's pair."""
        return Task(
            kind=task.kind,
            level=task.level,
            code=other.code,
            inputs=task.inputs,
            outputs=task.outputs,
            shown=task.shown,
        )

    def trivial_by_runs(self, task: Task, ran: Sequence[Ran]) -> bool:
        """Whether the program gave one value for all inputs (of three or more runs), or always the same argument."""
        values = tuple(run.value for run in ran)
        if len(ran) > 2 and len(set(values)) == 1 and len({run.given for run in ran}) > 1:
            return True
        return gives_an_argument([run.given for run in ran], values)

    def proposer_example(
        self, program: LabelledProgram, order: list[int], reference: str | None, cfg: Config
    ) -> MaskedIds:
        """Proposes the program with the first input of ``order`` that no recorded trivial answer solves."""
        for i in order:
            task = self.task_of_pairs(
                program.level, program.code, program.inputs[i : i + 1], program.outputs[i : i + 1], cfg
            )
            if not self.is_trivial(task):
                break
        else:
            raise TooLong("every input makes a trivial task")
        answer = [*encode(program.code), IN, *encode(program.inputs[i]), EOS]
        asked = self.proposer_prompt(program.level, reference)
        if len(asked) > cfg.tasks.prompt or len(asked) + len(answer) > cfg.tasks.context:
            asked = self.proposer_prompt(program.level, None)
        return joined(asked, answer, cfg.tasks.completion, cfg)


def gives_an_argument(inputs: Sequence[str], values: tuple[str, ...]) -> bool:
    """Whether the values are those of one argument, in every run."""
    columns = zip(*((split_args(given) or ()) for given in inputs), strict=False)
    return any(tuple(column) == values for column in columns)


def judge_value(task: Task, outcome: Outcome) -> Judgement:
    """The verdict on a value: strict equality with the task's first output, as canonical texts."""
    gold = task.outputs[0]
    correct = outcome.kind == "ok" and outcome.value == gold
    loose = outcome.kind == "ok" and not correct and loosely_equal(outcome.value or "", gold)
    return Judgement(correct=correct, outcome=outcome.kind, loose=loose)


def joined(asked: list[int], answer: list[int], limit: int, cfg: Config) -> MaskedIds:
    """Prompt and answer as a training example whose targets are the answer.

    Raises TooLong, for a prompt too that could not be asked: what is taught can be.
    """
    if max(len(answer) - limit, len(asked) - cfg.tasks.prompt, len(asked) + len(answer) - cfg.tasks.context) > 0:
        room = f"{cfg.tasks.context} (prompt {cfg.tasks.prompt}, answer {limit})"
        raise TooLong(f"{len(asked)} + {len(answer)} tokens do not fit {room}")
    return asked + answer, [False] * len(asked) + [True] * len(answer)


def packed_pairs(head: list[int], pairs: Sequence[tuple[list[int], list[int]]], cfg: Config) -> MaskedIds:
    """One program (``head``) with every pair (asked, answer) that could be asked and still fits; answers are targets.

    Raises TooLong where none does.
    """
    ids, mask = head, [False] * len(head)
    for asked, answer in pairs:
        if len(answer) > cfg.tasks.answer or len(head) + len(asked) > cfg.tasks.prompt:
            continue
        if len(ids) + len(asked) + len(answer) <= cfg.tasks.context:
            ids = ids + asked + answer
            mask = mask + [False] * len(asked) + [True] * len(answer)
    if len(ids) == len(head):
        raise TooLong(f"no pair of the example fits {cfg.tasks.context} tokens")
    return ids, mask
