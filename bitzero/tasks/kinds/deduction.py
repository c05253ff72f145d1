"""Deduction: a program and an input are shown, the value is asked for, with a trace of the run before it or without."""

import random
from collections.abc import Sequence

from bitzero.config import Config, Warmup
from bitzero.sandbox import Outcome
from bitzero.tasks import tokens
from bitzero.tasks.kinds.interface import Check, Judgement, MaskedIds, Ran
from bitzero.tasks.kinds.single_pair import SinglePair, judge_value, packed_pairs
from bitzero.tasks.kinds.task import LabelledProgram, Task, before_end, split_args
from bitzero.tasks.tokens import ANS, DIRECT, EOS, IN, OUT, TRACE, decode, encode
from bitzero.tasks.trivial import CONSTANTS, RULED_ARGS


class Deduction(SinglePair):
    """`<solve><deduction> CODE <in> ARGS <out><direct>` → `VALUE`, or `…<trace>` → `TRACE <ans> VALUE`."""

    number = 0
    name = "deduction"
    tag = tokens.DEDUCTION_TAG
    lender = 0
    traced = True
    one_answer = True
    inverse = False

    def solver_prompt(self, task: Task, trace: bool) -> list[int]:
        """Program, input, and the mode of answering."""
        asked = [tokens.SOLVE, self.tag, *encode(task.code), IN, *encode(task.inputs[0]), OUT]
        return [*asked, TRACE if trace else DIRECT]

    def parse_answer(self, completion: Sequence[int]) -> str | None:
        """The text after the one `<ans>`, or the whole where there is none."""
        ids = before_end(completion)
        if ids is None or IN in ids or ids.count(ANS) > 1:
            return None
        if ANS in ids:
            ids = ids[ids.index(ANS) + 1 :]
        return decode(ids) if ids else None

    def gold(self, task: Task) -> str:
        """The value."""
        return task.outputs[0]

    def checks(self, task: Task, answers: Sequence[str]) -> list[Check]:
        """Answers are literals to be read: no program runs."""
        return [Check(code=None, inputs=tuple(answers))]

    def judge(self, task: Task, answers: Sequence[str], outcomes: Sequence[Sequence[Outcome]]) -> list[Judgement]:
        """Each answer's own value."""
        return [judge_value(task, outcome) for outcome in outcomes[0]]

    def longest_answer(self, cfg: Config, trace: bool) -> int:
        """A trace is longer than what self-play has room for."""
        return cfg.tasks.answer if trace else cfg.tasks.completion

    def trivial_rules(self) -> tuple[str, ...]:
        """The constants, then each argument."""
        return (*CONSTANTS, *(f"argument {k}" for k in range(RULED_ARGS)))

    def trivial_answers(self, task: Task) -> list[str]:
        """The constants, then each argument."""
        args = split_args(task.inputs[0]) or ()
        ruled = [args[k] if k < len(args) else "" for k in range(RULED_ARGS)]
        return [*CONSTANTS, *ruled, *args[RULED_ARGS:]]

    def is_trivial(self, task: Task) -> bool:
        """Whether a constant or an argument is the output."""
        return task.outputs[0] in self.trivial_answers(task)

    def trivial_check(self, task: Task) -> Check | None:
        """Nothing: the texts decide."""
        return None

    def solved_trivially(self, task: Task, outcomes: Sequence[Outcome]) -> bool:
        """What ``is_trivial`` says, without a run."""
        return self.is_trivial(task)

    def trivial_by_runs(self, task: Task, ran: Sequence[Ran]) -> bool:
        """A trivial answer, or a program that is a constant or an identity."""
        return self.is_trivial(task) or super().trivial_by_runs(task, ran)

    def training_share(self, warmup: Warmup) -> float:
        """``warmup.deduction``."""
        return warmup.deduction

    def solver_example(self, program: LabelledProgram, order: list[int], rng: random.Random, cfg: Config) -> MaskedIds:
        """The program once, then up to ``tasks.packed`` pairs, each answered with a trace or directly."""
        head = [tokens.SOLVE, self.tag, *encode(program.code)]
        return packed_pairs(head, [self._pair(program, i, rng, cfg) for i in order[: cfg.tasks.packed]], cfg)

    def _pair(self, program: LabelledProgram, i: int, rng: random.Random, cfg: Config) -> tuple[list[int], list[int]]:
        value = [*encode(program.outputs[i]), EOS]
        traced = rng.random() < cfg.warmup.trace
        if traced:
            answer = [*encode(program.traces[i]), ANS, *value]
            traced = len(answer) <= cfg.tasks.answer
        return [IN, *encode(program.inputs[i]), OUT, TRACE if traced else DIRECT], answer if traced else value
