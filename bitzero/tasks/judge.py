"""Whether answers are right: by canonical text for values, by running the program for inputs and programs.

Answers are hostile text. They are parsed and run in sandbox children, the gold never enters a child, and the two are
compared here as text, so neither an `__eq__`, nor a bracket, nor a side effect of an answer can reach the verdict.
"""

from collections.abc import Iterator, Sequence

from bitzero.sandbox import KINDS as OUTCOME_KINDS
from bitzero.sandbox import Job, Outcome, Sandbox, literal_job
from bitzero.tasks.gates import GATES, Proposal, Verdict, validate
from bitzero.tasks.kinds import TASK_KINDS, Check, Judgement, Kinds, Task, coverage_of
from bitzero.tasks.running import run_surely

__all__ = ["GATES", "INFRA", "OUTCOMES", "Judgement", "Proposal", "Verdict", "judge", "validate"]

# What became of an answer; the index is the code that travels.
OUTCOMES = (*OUTCOME_KINDS, "format")
INFRA = OUTCOMES.index("infra")  # to be masked out of loss and statistics
_LITERALS = 64  # answers parsed in one child; no program runs there
_WAVE = 4  # answers to a task that run before their time is looked at
_TASK_CPU_US = 1_500_000  # processor time of all answers to a task; what is left then is cut: infra, never a verdict
_CUT = Outcome(kind="infra", detail="the task's answers took too long")
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
    outcomes = _outcomes(sandbox, checks)
    for task, known, new, of_task in zip(tasks, verdicts, asked, checks, strict=True):
        found = kinds[task.kind].judge(task, new, [next(outcomes) for _ in of_task]) if new else []
        known.update(zip(new, found, strict=True))
    return [[known[answer] for answer in texts] for texts, known in zip(answers, verdicts, strict=True)]


def _known_verdicts(task: Task, kinds: Kinds) -> dict[str | None, Judgement]:
    """What needs no child: the wrong form, and the gold's own text."""
    hidden, kind = len(task.hidden_outputs), kinds[task.kind]
    coverage = coverage_of(hidden, hidden) if kind.answers_with_program else 1.0
    return {None: _MALFORMED, kind.gold(task): Judgement(correct=True, outcome="ok", coverage=coverage)}


def _unjudged(texts: Sequence[str | None], known: dict[str | None, Judgement]) -> list[str]:
    return [answer for answer in dict.fromkeys(texts) if answer is not None and answer not in known]


def _outcomes(sandbox: Sandbox, checks: Sequence[Sequence[Check]]) -> Iterator[list[Outcome]]:
    """The outcomes of each check of each task, in order."""
    flat = [(task, check) for task, of_task in enumerate(checks) for check in of_task]
    read = _read_literals(sandbox, [text for _, check in flat if check.code is None for text in check.inputs])
    ran = iter(_run_programs(sandbox, [(task, check) for task, check in flat if check.code is not None]))
    for _, check in flat:
        yield [read[text] for text in check.inputs] if check.code is None else next(ran)


def _read_literals(sandbox: Sandbox, texts: Sequence[str]) -> dict[str, Outcome]:
    """Literals of all tasks share children."""
    distinct = list(dict.fromkeys(texts))
    groups = [tuple(distinct[at : at + _LITERALS]) for at in range(0, len(distinct), _LITERALS)]
    results = sandbox.run([literal_job(i, group) for i, group in enumerate(groups)]) if groups else []
    return dict(zip(distinct, (outcome for part in results for outcome in part), strict=True))


def _run_programs(sandbox: Sandbox, checks: Sequence[tuple[int, Check]]) -> list[list[Outcome]]:
    """Every check with its own time, a few of each task at once, as long as the task has time left.

    Programs that answers wrote have a call of their own: a task's program may be the gold of another task, and nothing
    that an answer runs in may ever have held it.
    """
    found: list[list[Outcome]] = [[_CUT] * len(check.inputs) for _, check in checks]
    spent: dict[int, int] = {}
    waiting: dict[int, list[int]] = {}
    for place, (task, _) in enumerate(checks):
        waiting.setdefault(task, []).append(place)
    while waiting:
        wave = [place for places in waiting.values() for place in places[:_WAVE]]
        for own in (False, True):
            _fill(sandbox, found, checks, [place for place in wave if checks[place][1].own_program == own])
        for place in wave:
            task = checks[place][0]
            spent[task] = spent.get(task, 0) + sum(run.cpu_us for run in found[place])
        left = {task: places[_WAVE:] for task, places in waiting.items() if spent[task] < _TASK_CPU_US}
        waiting = {task: places for task, places in left.items() if places}
    return found


def _fill(
    sandbox: Sandbox, found: list[list[Outcome]], checks: Sequence[tuple[int, Check]], places: Sequence[int]
) -> None:
    """Runs these checks, one job for those of one program, and puts their outcomes in their places."""
    programs: dict[tuple[int, str], list[int]] = {}
    for place in places:
        task, check = checks[place]
        programs.setdefault((task, str(check.code)), []).append(place)
    jobs = [
        Job(id=i, code=code, inputs=tuple(text for place in together for text in checks[place][1].inputs), owner=task)
        for i, ((task, code), together) in enumerate(programs.items())
    ]
    for together, outcomes in zip(programs.values(), run_surely(sandbox, jobs), strict=True):
        left = iter(outcomes)
        for place in together:
            found[place] = [next(left) for _ in checks[place][1].inputs]
