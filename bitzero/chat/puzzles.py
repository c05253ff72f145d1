"""Puzzles: the model proposes a task that passes the gates of self-play, the person answers, the sandbox judges."""

from collections.abc import Iterator
from dataclasses import dataclass

from bitzero.chat import intent, judging, programs
from bitzero.chat.model import ROWS, drawn
from bitzero.chat.solving import WARMTH, Asked
from bitzero.sandbox import Sandbox
from bitzero.tasks import judge
from bitzero.tasks.judge import Proposal
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, KINDS, TASK_KINDS, Task

ROUNDS = 6  # batches of proposals before it gives up


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """A task that waits for a person's answer."""

    kind: str
    level: int  # as measured, not as asked for
    task: Task
    proposals: int  # that were drawn for it

    def text(self) -> str:
        """The puzzle as it is shown."""
        task = self.task
        if self.kind == "induction":
            pairs = "\n".join(f"  f({given}) = {value}" for given, value in self._pairs()[: task.shown])
            return f"{pairs}\nWrite f: def f(…): …"
        if self.kind == "abduction":
            return f"{task.code}\nf(?) == {task.outputs[0]}\nWhich input does that? Any that works is right."
        return f"{task.code}\nf({task.inputs[0]}) == ?\nWhat does it return?"

    def solution(self) -> str:
        """An answer that is right."""
        return TASK_KINDS[KINDS.index(self.kind)].gold(self.task)

    def judged(self, sandbox: Sandbox, answer: str) -> tuple[bool, str]:
        """Whether a person's answer is right, and what Python says."""
        if self.kind == "induction":
            return self._judged_program(sandbox, answer)
        asked = intent.understand(answer)
        if self.kind == "deduction":
            return judging.matches(sandbox, answer, self.task.outputs[0]), self.task.outputs[0]
        args = asked.args if isinstance(asked, intent.CallQuestion) and asked.name == "f" else answer
        outcome = judging.value_of(sandbox, self.task.code, args)
        right = outcome.kind == "ok" and outcome.value == self.task.outputs[0]
        return right, f"f({args}) {'is' if outcome.kind == 'ok' else ''} {judging.explained(outcome)}".replace(
            "  ", " "
        )

    def _judged_program(self, sandbox: Sandbox, answer: str) -> tuple[bool, str]:
        asked = intent.understand(answer)
        if not isinstance(asked, intent.Definition):
            return False, "that is no function; one is written def f(a): return a + 1"
        code = programs.program_of(asked.source, asked.names[-1], {})
        [(met, _)] = judging.pairs_met(sandbox, [code], self.task.inputs, self.task.outputs)
        return met == len(self.task.inputs), f"{met} of {len(self.task.inputs)} pairs come out, hidden ones among them"

    def _pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.task.inputs, self.task.outputs, strict=True))


def propose(asked: Asked, kind: str, level: int) -> Iterator[str | Puzzle]:
    """Dots while it proposes, then a puzzle of a level near the one asked for; none where no proposal passes."""
    number = KINDS.index(kind)
    best: Puzzle | None = None
    for turn in range(1, ROUNDS + 1):
        for task in _accepted(asked, number, level):
            found = Puzzle(kind=kind, level=task.level, task=task, proposals=turn * ROWS)
            if best is None or abs(found.level - level) < abs(best.level - level):
                best = found
        if best is not None and (best.level == level or turn >= ROUNDS // 2):
            break
        yield "."
    if best is not None:
        yield best


def _accepted(asked: Asked, kind: int, level: int) -> list[Task]:
    """The tasks among one batch of proposals that pass every gate."""
    reference = None
    if kind == INDUCTION:  # inputs are proposed for a program, which has to be proposed first
        lent = _accepted(asked, ABDUCTION, level) or _accepted(asked, DEDUCTION, level)
        if not lent:
            return []
        reference = min(lent, key=lambda task: abs(task.level - level)).code
    prompt = TASK_KINDS[kind].proposer_prompt(level, reference)
    if len(prompt) > asked.model.longest_prompt:
        return []
    rows = drawn(asked.model, prompt, [WARMTH] * ROWS, asked.precisions()[-1])
    parsed = [TASK_KINDS[kind].parse_proposal(prompt, row) or (None, ()) for row in rows]
    proposals = [Proposal(kind=kind, code=code, inputs=inputs) for code, inputs in parsed]
    verdicts = judge.validate(asked.sandbox, proposals, asked.model.solver.cfg)
    return [verdict.task for verdict in verdicts if verdict.task is not None]
