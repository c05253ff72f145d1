"""Abduction: a program and a value are shown, an input that leads to it is asked for; any that does is right."""

import random
from collections.abc import Sequence

from bitzero.config import Config, Warmup
from bitzero.sandbox import Outcome
from bitzero.tasks import tokens
from bitzero.tasks.kinds.interface import Check, Judgement, MaskedIds
from bitzero.tasks.kinds.single_pair import SinglePair, judge_value, packed_pairs
from bitzero.tasks.kinds.task import LabelledProgram, Task, before_end, split_args
from bitzero.tasks.tokens import ANS, EOS, IN, OUT, decode, encode
from bitzero.tasks.trivial import CONSTANTS, FILLS, RULED_ARGS


class Abduction(SinglePair):
    """`<solve><abduction> CODE <out> VALUE <in>` → `ARGS`."""

    number = 1
    name = "abduction"
    tag = tokens.ABDUCTION_TAG
    lender = 1
    traced = False
    one_answer = False
    inverse = True

    def solver_prompt(self, task: Task, trace: bool) -> list[int]:
        """Program and value."""
        return [tokens.SOLVE, self.tag, *encode(task.code), OUT, *encode(task.outputs[0]), IN]

    def parse_answer(self, completion: Sequence[int]) -> str | None:
        """The whole text: an argument list."""
        ids = before_end(completion)
        return None if not ids or IN in ids or ANS in ids else decode(ids)

    def gold(self, task: Task) -> str:
        """The input that was run."""
        return task.inputs[0]

    def checks(self, task: Task, answers: Sequence[str]) -> list[Check]:
        """The task's program on every answer."""
        return [Check(code=task.code, inputs=(answer,)) for answer in answers]

    def judge(self, task: Task, answers: Sequence[str], outcomes: Sequence[Sequence[Outcome]]) -> list[Judgement]:
        """Each answer's own run."""
        return [judge_value(task, outcome) for [outcome] in outcomes]

    def longest_answer(self, cfg: Config, trace: bool) -> int:
        """As long as in self-play."""
        return cfg.tasks.completion

    def trivial_rules(self) -> tuple[str, ...]:
        """One constant everywhere; the output in one place and an empty value in the others."""
        return (
            *(f"all {text}" for text in CONSTANTS),
            *(f"output as argument {k}, others {fill}" for fill in FILLS for k in range(RULED_ARGS)),
        )

    def trivial_answers(self, task: Task) -> list[str]:
        """One constant everywhere; the output in one place and an empty value in the others."""
        count = len(split_args(task.inputs[0]) or ())
        same = [", ".join([text] * count) for text in CONSTANTS]
        output = task.outputs[0]
        return same + _placed(output, range(RULED_ARGS), count) + _placed(output, range(RULED_ARGS, count), count)

    def is_trivial(self, task: Task) -> bool:
        """Whether a trivial answer is among the recorded inputs with this output."""
        known = {given for given, value in zip(task.inputs, task.outputs, strict=True) if value == task.outputs[0]}
        return any(answer in known for answer in self.trivial_answers(task) if answer)

    def trivial_check(self, task: Task) -> Check | None:
        """The task's program on every trivial answer."""
        answers = tuple(dict.fromkeys(answer for answer in self.trivial_answers(task) if answer))
        return Check(code=task.code, inputs=answers)

    def solved_trivially(self, task: Task, outcomes: Sequence[Outcome]) -> bool:
        """Whether one of them leads to the output."""
        return any(outcome.kind == "ok" and outcome.value == task.outputs[0] for outcome in outcomes)

    def training_share(self, warmup: Warmup) -> float:
        """``warmup.abduction``."""
        return warmup.abduction

    def solver_example(self, program: LabelledProgram, order: list[int], rng: random.Random, cfg: Config) -> MaskedIds:
        """The program once, then up to ``tasks.packed`` pairs."""
        head = [tokens.SOLVE, self.tag, *encode(program.code)]
        pairs = [
            ([OUT, *encode(program.outputs[i]), IN], [*encode(program.inputs[i]), EOS])
            for i in order[: cfg.tasks.packed]
        ]
        return packed_pairs(head, pairs, cfg)


def _placed(output: str, places: range, count: int) -> list[str]:
    """Argument lists with the output in one place and an empty value in the others."""
    return [
        ", ".join(output if i == k else fill for i in range(count)) if k < count else ""
        for fill in FILLS
        for k in places
    ]
