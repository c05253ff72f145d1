"""Which proposals become tasks: one gate after another, each rejection counted, everything hostile run in the sandbox.

The host sees proposals as text only. Parsing, alpha-normalising, deleting statements and running happen in sandbox
children; what travels back is canonical text. AZR's seven executor defects (inert determinism check, corrupt golds,
truncation, spliced answers, evaluation in the trainer, missing bans, leaking state) are regressions in the tests.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bitzero.config import Config
from bitzero.sandbox import Job, Outcome, Parsed, Sandbox, literal_job
from bitzero.tasks.alpha import hash_text, split_text
from bitzero.tasks.kinds import (
    ABDUCTION,
    DEDUCTION,
    INDUCTION,
    MIN_HIDDEN,
    Task,
    record,
    solve_prompt,
    split_args,
)
from bitzero.tasks.levels import VOCABULARY_LEVEL, Facts, structure
from bitzero.tasks.probes import probes
from bitzero.tasks.tokens import encode
from bitzero.tasks.trivial import trivial_answers

# In order of precedence; the index is the code that travels.
GATES = (
    *("ok", "format", "syntax", "forbidden", "timeout", "memory", "exception", "nondeterministic", "oversize"),
    *("trivial", "duplicate", "heldout", "infra", "confidence"),
)
OK, DUPLICATE, INFRA = GATES.index("ok"), GATES.index("duplicate"), GATES.index("infra")
ROUNDS = 3  # of minimisation, one statement a round
MAX_ARGS = 4


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What a proposer emitted, cut at the tags; `code` None where the form was wrong."""

    kind: int
    code: str | None
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a proposal."""

    gate: int  # index into GATES; 0 is ok
    task: Task | None = None  # for ok
    program_hash: int = 0  # 64 bits of the alpha-canonical program, never 0 for ok
    task_hash: int = 0  # 64 bits of (kind, program, inputs), never 0 for ok
    confidence: float = 0.0  # 1 - chance that the gold is not the program's only value
    level: int = 0


@dataclass
class _Draft:
    """A proposal on its way through the gates."""

    proposal: Proposal
    gate: int = OK
    inputs: tuple[str, ...] = ()  # canonical
    probes: tuple[str, ...] = ()
    parsed: Parsed | None = None
    outcomes: list[Outcome] = field(default_factory=list)  # of inputs, then of probes
    task: Task | None = None
    confidence: float = 0.0

    def reject(self, gate: str) -> None:
        self.gate = GATES.index(gate)

    @property
    def program(self) -> Parsed:
        assert self.parsed is not None
        return self.parsed

    def given(self) -> list[Outcome]:
        return self.outcomes[: len(self.inputs)]


Stage = Callable[[Sandbox, list[_Draft], Config], None]


def validate(sandbox: Sandbox, proposals: Sequence[Proposal], cfg: Config) -> list[Verdict]:
    """One verdict per proposal, in order. Never raises for what a proposal does; sandbox faults are `infra`."""
    drafts = [_Draft(proposal) for proposal in proposals]
    stages: tuple[Stage, ...] = (_form, _parse, _literals, _execute, _minimise, _fit, _trivial, _novel, _confident)
    for stage in stages:
        alive = [draft for draft in drafts if draft.gate == OK]
        if alive:
            stage(sandbox, alive, cfg)
    return [_verdict(draft) for draft in drafts]


def _verdict(draft: _Draft) -> Verdict:
    if draft.gate != OK or draft.task is None:
        return Verdict(gate=draft.gate)
    return Verdict(
        gate=OK,
        task=draft.task,
        program_hash=hash64(draft.program.canonical),
        task_hash=_task_hash(draft),
        confidence=draft.confidence,
        level=draft.task.level,
    )


def hash64(text: str) -> int:
    """64 bits of a text, 0 excluded (the device's set of seen hashes has it for an empty slot)."""
    return hash_text(text) or 1


def _task_hash(draft: _Draft) -> int:
    return hash64("\0".join((str(draft.proposal.kind), draft.program.canonical, *draft.inputs)))


# ---- the stages ----


def _form(_: Sandbox, drafts: list[_Draft], cfg: Config) -> None:
    """Number of argument lists and arguments; induction inputs must differ."""
    for draft in drafts:
        proposal = draft.proposal
        lists = [split_args(given) for given in proposal.inputs]
        least = cfg.tasks.shown + MIN_HIDDEN if proposal.kind == INDUCTION else 1
        most = cfg.tasks.pairs if proposal.kind == INDUCTION else 1
        sizes = {len(pieces) if pieces else 0 for pieces in lists}
        if proposal.code is None or not least <= len(lists) <= most or len(sizes) != 1:
            draft.reject("format")
        elif not 1 <= sizes.pop() <= MAX_ARGS:
            draft.reject("format")


def _parse(sandbox: Sandbox, drafts: list[_Draft], _: Config) -> None:
    for draft, parsed in zip(drafts, sandbox.parse([str(d.proposal.code) for d in drafts]), strict=True):
        if isinstance(parsed, Parsed):
            draft.parsed = parsed
        else:
            draft.reject("syntax" if parsed.kind in ("ok", "exception") else parsed.kind)


def _literals(sandbox: Sandbox, drafts: list[_Draft], _: Config) -> None:
    """Canonical text of every argument; all of a batch go through one child, as no program runs there."""
    lists = [[split_args(given) or () for given in draft.proposal.inputs] for draft in drafts]
    texts = tuple(dict.fromkeys(piece for pieces in lists for args in pieces for piece in args))
    [outcomes] = sandbox.run([literal_job(0, texts)])
    found = dict(zip(texts, outcomes, strict=True))
    for draft, pieces in zip(drafts, lists, strict=True):
        worst = _worst([found[piece] for args in pieces for piece in args])
        if worst.kind != "ok":
            draft.reject("syntax" if worst.kind == "exception" else worst.kind)
            continue
        draft.inputs = tuple(", ".join(str(found[piece].value) for piece in args) for args in pieces)
        if len(set(draft.inputs)) < len(draft.inputs):
            draft.reject("format")
        elif draft.proposal.kind != INDUCTION:
            draft.probes = probes(draft.inputs[0], hash64(draft.program.canonical))


def _worst(outcomes: Sequence[Outcome]) -> Outcome:
    order = [*GATES[: GATES.index("trivial")], "infra"]
    return min(outcomes, key=lambda outcome: order.index(outcome.kind) if outcome.kind != "ok" else len(order))


def _execute(sandbox: Sandbox, drafts: list[_Draft], _: Config) -> None:
    """Every input under several hash seeds; the outputs become the gold."""
    jobs = [Job(id=i, code=d.program.source, inputs=d.inputs + d.probes) for i, d in enumerate(drafts)]
    for draft, outcomes in zip(drafts, sandbox.validate(jobs), strict=True):
        draft.outcomes = outcomes
        worst = _worst(draft.given())
        if worst.kind != "ok":
            draft.reject(worst.kind)
        draft.confidence = min(outcome.confidence for outcome in draft.given())


def _minimise(sandbox: Sandbox, drafts: list[_Draft], cfg: Config) -> None:
    """Removes statements whose absence no input or probe can tell; the program shown is the program that counts."""
    open_ = [draft for draft in drafts if draft.proposal.kind != INDUCTION]
    changed: list[_Draft] = []
    for _ in range(ROUNDS):
        open_ = _delete_one(sandbox, open_)
        changed += [draft for draft in open_ if draft not in changed]
    changed = [draft for draft in changed if draft.gate == OK]
    if changed:
        before = [draft.given()[0].value for draft in changed]
        _execute(sandbox, changed, cfg)
        for draft, value in zip(changed, before, strict=True):
            if draft.gate == OK and draft.given()[0].value != value:
                draft.reject("nondeterministic")


def _delete_one(sandbox: Sandbox, drafts: list[_Draft]) -> list[_Draft]:
    """One round; returns the drafts that became shorter."""
    candidates = [_deletions(draft) for draft in drafts]
    jobs = [
        Job(id=f"{i}:{j}", code=code, inputs=draft.inputs + draft.probes)
        for i, draft in enumerate(drafts)
        for j, code in enumerate(candidates[i])
    ]
    results = iter(sandbox.run(jobs)) if jobs else iter(())
    shorter: list[tuple[_Draft, str]] = []
    for draft, codes in zip(drafts, candidates, strict=True):
        same = [code for code in codes if _signature(next(results)) == _signature(draft.outcomes)]
        if same:
            shorter.append((draft, min(same, key=len)))
    parsed = sandbox.parse([code for _, code in shorter]) if shorter else []
    kept = []
    for (draft, _), found in zip(shorter, parsed, strict=True):
        if isinstance(found, Parsed):
            draft.parsed = found
            kept.append(draft)
    return kept


def _deletions(draft: _Draft) -> list[str]:
    """Candidates worth a run: without its last `return` a program that has a value certainly changes."""
    head, _, last = draft.program.source.rpartition("\n")
    ends = last.startswith("    return ") and draft.given()[0].value != "None"
    return [code for code in draft.program.deletions if not (ends and code == head)]


def _signature(outcomes: Sequence[Outcome]) -> list[tuple[str, str | None, str | None]]:
    return [(outcome.kind, outcome.value, outcome.exc) for outcome in outcomes]


def _fit(_: Sandbox, drafts: list[_Draft], cfg: Config) -> None:
    """Makes the task; its prompt, its answer and its record must fit their lengths."""
    for draft in drafts:
        kind = draft.proposal.kind
        task = Task(
            kind=kind,
            level=level_of(draft.program),
            code=draft.program.source,
            inputs=draft.inputs,
            outputs=tuple(str(outcome.value) for outcome in draft.given()),
            shown=cfg.tasks.shown if kind == INDUCTION else 1,
        )
        answer = {DEDUCTION: task.outputs[0], ABDUCTION: task.inputs[0], INDUCTION: task.code}[kind]
        sizes = (
            (len(solve_prompt(task, trace=True)), cfg.tasks.prompt),
            (len(encode(answer)) + 1, cfg.tasks.completion),
            (len(record(task)), cfg.tasks.record),
        )
        if any(size > limit for size, limit in sizes):
            draft.reject("oversize")
        draft.task = task


_OPERATION = re.compile(r"(?<=[\w\])}'])(?:[\[(.]| (?:[-+*/%<>=!&|^]+|and|or|in|is|not in|is not) )")
_LOOP = re.compile(r"^( *)(?:for|while) ", re.MULTILINE)
_VOCABULARY_1 = frozenset(("True", "False", "len", "max", "min", "range", "sorted", "sum", ".append", ".count"))
_VOCABULARY_2 = re.compile(r"//|%|\b(?:enumerate|zip|tuple|dict)\(|[{]")


def level_of(program: Parsed) -> int:
    """Level of a proposed program: the curriculum's structure rule and vocabulary, read off the text.

    Events are not measured (the sandbox reports fuel, not changes of variables), so long runs stay at their structure.
    """
    source = program.source
    indents = {match.group(1) for match in _LOOP.finditer(source)}
    facts = Facts(
        statements=max(0, program.statements - 1),
        operations=len(_OPERATION.findall(source.partition(":\n")[2])),
        vocabulary=1 if set(program.names) <= _VOCABULARY_1 and not _VOCABULARY_2.search(source) else 2,
        comprehensions=0,
        branches=program.branches,  # comprehensions are among them
        loops=program.loops,
        depth=len(indents),
        whiles=len(re.findall(r"^ *while ", source, re.MULTILINE)),
        builds=0,
        helpers=source.count("\ndef ") + source.startswith("def ") - 1,
        events=0,
    )
    return max(structure(facts), VOCABULARY_LEVEL[facts.vocabulary])


# ---- trivial ----

# Everything a trivial induction answer could return, at once; written here, so it needs no gate.
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


def _trivial(sandbox: Sandbox, drafts: list[_Draft], _: Config) -> None:
    jobs = []
    for i, draft in enumerate(drafts):
        if _trivial_text(draft):
            draft.reject("trivial")
        elif draft.proposal.kind == ABDUCTION:
            answers = tuple(dict.fromkeys(answer for answer in trivial_answers(_task(draft)) if answer))
            jobs.append(Job(id=i, code=draft.program.source, inputs=answers))
        elif draft.proposal.kind == INDUCTION:
            jobs.append(Job(id=i, code=_RULES, inputs=draft.inputs[_task(draft).shown :]))
    for job, outcomes in zip(jobs, sandbox.run(jobs) if jobs else [], strict=True):
        draft = drafts[int(job.id)]
        solved = _rule_solves if draft.proposal.kind == INDUCTION else _answer_solves
        if solved(_task(draft), outcomes):
            draft.reject("trivial")


def _task(draft: _Draft) -> Task:
    assert draft.task is not None
    return draft.task


def _answer_solves(task: Task, outcomes: Sequence[Outcome]) -> bool:
    return any(outcome.kind == "ok" and outcome.value == task.outputs[0] for outcome in outcomes)


def _rule_solves(task: Task, outcomes: Sequence[Outcome]) -> bool:
    """Whether one place of the rules' lists is the output of every hidden pair."""
    lists = [split_args(str(outcome.value)[1:-1]) or () for outcome in outcomes if outcome.kind == "ok"]
    hidden = task.outputs[task.shown :]
    if len(lists) < len(hidden):
        return False
    return any(place == hidden for place in zip(*lists, strict=False))


def _trivial_text(draft: _Draft) -> bool:
    """What the texts alone show: constant and identity programs, trivial deduction answers, guessable hidden pairs."""
    task = _task(draft)
    if task.kind == INDUCTION:
        hidden = set(task.outputs[task.shown :])
        return len(hidden) < 2 or hidden <= set(task.outputs[: task.shown])
    if task.kind == DEDUCTION and task.outputs[0] in trivial_answers(task):
        return True
    ran = [
        (given, str(outcome.value))
        for given, outcome in zip(draft.inputs + draft.probes, draft.outcomes, strict=True)
        if outcome.kind == "ok"
    ]
    values = tuple(value for _, value in ran)
    if len(ran) > 2 and len(set(values)) == 1 and len({given for given, _ in ran}) > 1:
        return True
    columns = zip(*((split_args(given) or ()) for given, _ in ran), strict=False)
    return any(column == values for column in columns)


# ---- novelty and confidence ----


def _novel(_: Sandbox, drafts: list[_Draft], __: Config) -> None:
    """No task twice in a batch (history is checked on the device), no program of the test or dev split."""
    seen: set[int] = set()
    for draft in drafts:
        key = _task_hash(draft)
        if key in seen:
            draft.reject("duplicate")
        elif split_text(draft.program.canonical) != "train":
            draft.reject("heldout")
        seen.add(key)


def _confident(_: Sandbox, drafts: list[_Draft], cfg: Config) -> None:
    for draft in drafts:
        if draft.confidence < cfg.selfplay.min_confidence:
            draft.reject("confidence")
