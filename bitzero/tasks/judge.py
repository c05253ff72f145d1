"""Whether answers are right: by canonical text for values, by running the program for inputs and programs.

Answers are hostile text. They are parsed and run in sandbox children, the gold never enters a child, and the two are
compared here as text, so neither an `__eq__`, nor a bracket, nor a side effect of an answer can reach the verdict.
"""

from collections.abc import Iterator, Sequence

from bitzero.sandbox import Job, Outcome, Sandbox, literal_job
from bitzero.tasks.gates import GATES, Proposal, Verdict, validate
from bitzero.tasks.kinds import TASK_KINDS, Check, Judgement, Kinds, Task

__all__ = ["GATES", "INFRA", "OUTCOMES", "Judgement", "Proposal", "Verdict", "judge", "validate"]

# What became of an answer; the index is the code that travels.
OUTCOMES = (
    *("ok", "exception", "timeout", "memory", "forbidden", "nondeterministic", "oversize", "infra"),
    "format",
)
INFRA = OUTCOMES.index("infra")  # to be masked out of loss and statistics
_LITERALS = 64  # answers parsed in one child; no program runs there
_MALFORMED = Judgement(correct=False, outcome="format")


def judge(
    sandbox: Sandbox, tasks: Sequence[Task], answers: Sequence[Sequence[str | None]], kinds: Kinds = TASK_KINDS
) -> list[list[Judgement]]:
    """A judgement per answer of each task; None stands for a completion of the wrong form.

    Equal answers of a task are judged once, and an answer that repeats the gold's text needs no child. Never raises
    for what an answer does.
    """
    verdicts = [_known_verdicts(task, kinds) for task in tasks]
    asked = [_unjudged(texts, known) for texts, known in zip(answers, verdicts, strict=True)]
    checks = [kinds[task.kind].checks(task, new) if new else [] for task, new in zip(tasks, asked, strict=True)]
    written = [
        kinds[task.kind].answers_with_program for task, of_task in zip(tasks, checks, strict=True) for _ in of_task
    ]
    outcomes = _answers_of_sandbox(sandbox, [check for of_task in checks for check in of_task], written)
    for task, known, new, of_task in zip(tasks, verdicts, asked, checks, strict=True):
        found = kinds[task.kind].judge(task, new, [next(outcomes) for _ in of_task]) if new else []
        known.update(zip(new, found, strict=True))
    return [[known[answer] for answer in texts] for texts, known in zip(answers, verdicts, strict=True)]


def _known_verdicts(task: Task, kinds: Kinds) -> dict[str | None, Judgement]:
    """What needs no child: the wrong form, and the gold's own text."""
    hidden, kind = len(task.hidden_outputs), kinds[task.kind]
    coverage = (hidden + 1) / (hidden + 2) if kind.answers_with_program else 1.0
    return {None: _MALFORMED, kind.gold(task): Judgement(correct=True, outcome="ok", coverage=coverage)}


def _unjudged(texts: Sequence[str | None], known: dict[str | None, Judgement]) -> list[str]:
    return [answer for answer in dict.fromkeys(texts) if answer is not None and answer not in known]


def _answers_of_sandbox(sandbox: Sandbox, checks: Sequence[Check], written: Sequence[bool]) -> Iterator[list[Outcome]]:
    """The outcomes of each check, in order. Literals of all tasks share children; every program has its own.

    Programs that were ``written`` as answers go in a call of their own: the other programs are tasks', and one of them
    may be what an answer is asked for, so the two are never in one zygote at a time.
    """
    texts = list(dict.fromkeys(text for check in checks if check.code is None for text in check.inputs))
    groups = [tuple(texts[at : at + _LITERALS]) for at in range(0, len(texts), _LITERALS)]
    jobs = [[literal_job(i, group) for i, group in enumerate(groups)], []]
    for check, by_model in zip(checks, written, strict=True):
        if check.code is not None:
            jobs[by_model].append(Job(id=len(jobs[by_model]), code=check.code, inputs=check.inputs))
    results = [sandbox.run(part) if part else [] for part in jobs]
    read = dict(zip(texts, (outcome for part in results[0][: len(groups)] for outcome in part), strict=True))
    ran = (iter(results[0][len(groups) :]), iter(results[1]))
    for check, by_model in zip(checks, written, strict=True):
        yield [read[text] for text in check.inputs] if check.code is None else next(ran[by_model])
