"""Whether answers are right: by canonical text for values, by running the program for inputs and programs.

Answers are hostile text. They are parsed and run in sandbox children, the gold never enters a child, and the two are
compared here as text, so neither an `__eq__`, nor a bracket, nor a side effect of an answer can reach the verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bitzero.sandbox import Job, Outcome, Sandbox, literal_job, loosely_equal
from bitzero.tasks.gates import GATES, Proposal, Verdict, validate
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, Task

__all__ = ["GATES", "INFRA", "OUTCOMES", "Judgement", "Proposal", "Verdict", "judge", "validate"]

# What became of an answer; the index is the code that travels.
OUTCOMES = (
    *("ok", "exception", "timeout", "memory", "forbidden", "nondeterministic", "oversize", "infra"),
    "format",
)
INFRA = OUTCOMES.index("infra")  # to be masked out of loss and statistics
_LITERALS = 64  # answers parsed in one child; no program runs there


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict on one answer."""

    correct: bool
    outcome: str  # one of OUTCOMES; ok also for an answer that is well-formed and wrong
    coverage: float = 1.0  # induction: (h + 1)/(H + 2) with h of H hidden pairs passed
    loose: bool = False  # wrong, yet equal under Python's == (True for 1); counted apart, never rewarded


_MALFORMED = Judgement(correct=False, outcome="format")


def judge(sandbox: Sandbox, tasks: Sequence[Task], answers: Sequence[Sequence[str | None]]) -> list[list[Judgement]]:
    """A judgement per answer of each task; None stands for a completion of the wrong form.

    Equal answers of a task are judged once, and an answer that repeats the gold's text needs no child. Never raises
    for what an answer does.
    """
    verdicts: list[dict[str | None, Judgement]] = [_known(task) for task in tasks]
    asked = [
        (i, answer)
        for i, texts in enumerate(answers)
        for answer in dict.fromkeys(texts)
        if answer is not None and answer not in verdicts[i]
    ]
    _judge_values(sandbox, tasks, [pair for pair in asked if tasks[pair[0]].kind == DEDUCTION], verdicts)
    _judge_programs(sandbox, tasks, [pair for pair in asked if tasks[pair[0]].kind != DEDUCTION], verdicts)
    return [[verdicts[i][answer] for answer in texts] for i, texts in enumerate(answers)]


def _known(task: Task) -> dict[str | None, Judgement]:
    """What needs no child: the wrong form, and the gold's own text."""
    gold = {DEDUCTION: task.outputs[0], ABDUCTION: task.inputs[0], INDUCTION: task.code}[task.kind]
    hidden = len(task.outputs) - task.shown
    coverage = (hidden + 1) / (hidden + 2) if task.kind == INDUCTION else 1.0
    return {None: _MALFORMED, gold: Judgement(correct=True, outcome="ok", coverage=coverage)}


def _judge_values(
    sandbox: Sandbox, tasks: Sequence[Task], asked: list[tuple[int, str]], verdicts: list[dict[str | None, Judgement]]
) -> None:
    texts = list(dict.fromkeys(answer for _, answer in asked))
    groups = [tuple(texts[at : at + _LITERALS]) for at in range(0, len(texts), _LITERALS)]
    results = sandbox.run([literal_job(i, group) for i, group in enumerate(groups)]) if groups else []
    found = dict(zip(texts, (outcome for outcomes in results for outcome in outcomes), strict=True))
    for i, answer in asked:
        outcome = found[answer]
        verdicts[i][answer] = _value_judgement(tasks[i], outcome)


def _judge_programs(
    sandbox: Sandbox, tasks: Sequence[Task], asked: list[tuple[int, str]], verdicts: list[dict[str | None, Judgement]]
) -> None:
    """Abduction: the task's program on every answer, in one job. Induction: every answer on the hidden inputs."""
    jobs: list[Job] = []
    places: list[tuple[int, tuple[str, ...]]] = []  # task and answers of each job
    by_task: dict[int, list[str]] = {}
    for i, answer in asked:
        by_task.setdefault(i, []).append(answer)
    for i, distinct in by_task.items():
        task = tasks[i]
        if task.kind == ABDUCTION:
            jobs.append(Job(id=len(jobs), code=task.code, inputs=tuple(distinct)))
            places.append((i, tuple(distinct)))
        else:
            for text in distinct:
                jobs.append(Job(id=len(jobs), code=text, inputs=task.inputs[task.shown :]))
                places.append((i, (text,)))
    for (i, texts), outcomes in zip(places, sandbox.run(jobs) if jobs else [], strict=True):
        if tasks[i].kind == ABDUCTION:
            for text, outcome in zip(texts, outcomes, strict=True):
                verdicts[i][text] = _value_judgement(tasks[i], outcome)
        else:
            verdicts[i][texts[0]] = _program_judgement(tasks[i], outcomes)


def _value_judgement(task: Task, outcome: Outcome) -> Judgement:
    """Strict equality of the canonical texts decides."""
    gold = task.outputs[0]
    correct = outcome.kind == "ok" and outcome.value == gold
    loose = outcome.kind == "ok" and not correct and loosely_equal(outcome.value or "", gold)
    return Judgement(correct=correct, outcome=outcome.kind, loose=loose)


def _program_judgement(task: Task, outcomes: Sequence[Outcome]) -> Judgement:
    hidden = task.outputs[task.shown :]
    passed = sum(o.kind == "ok" and o.value == gold for o, gold in zip(outcomes, hidden, strict=True))
    failed = [outcome.kind for outcome in outcomes if outcome.kind != "ok"]
    kind = "infra" if "infra" in failed else (failed[0] if failed else "ok")
    return Judgement(correct=passed == len(hidden), outcome=kind, coverage=(passed + 1) / (len(hidden) + 2))
