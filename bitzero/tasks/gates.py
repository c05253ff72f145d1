"""Which proposals become tasks: one gate after another, each rejection counted, everything hostile run in the sandbox.

The host sees proposals as text only. Parsing, alpha-normalising, deleting statements and running happen in sandbox
children; what travels back is canonical text. AZR's seven executor defects (inert determinism check, corrupt golds,
truncation, spliced answers, evaluation in the trainer, missing bans, leaking state) are regressions in the tests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bitzero.config import Config
from bitzero.sandbox import Job, Outcome, Parsed, Sandbox, literal_job
from bitzero.tasks.alpha import hash_text, split_text
from bitzero.tasks.kinds import TASK_KINDS, Kinds, Ran, Task, TaskKind, split_args
from bitzero.tasks.kinds.task import write_record
from bitzero.tasks.levels import level_of_text as level_of
from bitzero.tasks.probes import draw_probes
from bitzero.tasks.tokens import encode

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
    kind: TaskKind
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

    @property
    def made_task(self) -> Task:
        assert self.task is not None
        return self.task

    def given(self) -> list[Outcome]:
        return self.outcomes[: len(self.inputs)]

    def ran(self) -> list[Ran]:
        """Every run that gave a value, on inputs and probes."""
        return [
            Ran(given, str(outcome.value))
            for given, outcome in zip(self.inputs + self.probes, self.outcomes, strict=True)
            if outcome.kind == "ok"
        ]


Stage = Callable[[Sandbox, list[_Draft], Config], None]


def validate(sandbox: Sandbox, proposals: Sequence[Proposal], cfg: Config, kinds: Kinds = TASK_KINDS) -> list[Verdict]:
    """One verdict per proposal, in order. Never raises for what a proposal does; sandbox faults are `infra`."""
    drafts = [_Draft(proposal, kinds[proposal.kind]) for proposal in proposals]
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
        least, most = draft.kind.pairs_wanted(cfg)
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
        elif draft.kind.writes_program:
            draft.probes = draw_probes(draft.inputs[0], hash64(draft.program.canonical))


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
    open_ = [draft for draft in drafts if draft.kind.writes_program]
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
    """One round; returns the drafts that became shorter. Most candidates fall on the given input already."""
    candidates = [(draft, code) for draft in drafts for code in _deletions(draft)]
    candidates = _unchanged(sandbox, candidates, lambda draft: (draft.inputs, draft.given()))
    candidates = _unchanged(sandbox, candidates, lambda draft: (draft.probes, draft.outcomes[len(draft.inputs) :]))
    shorter: list[tuple[_Draft, str]] = []
    for draft in drafts:
        same = [code for owner, code in candidates if owner is draft]
        if same:
            shorter.append((draft, min(same, key=len)))
    parsed = sandbox.parse([code for _, code in shorter]) if shorter else []
    kept = []
    for (draft, _), found in zip(shorter, parsed, strict=True):
        if isinstance(found, Parsed):
            draft.parsed = found
            kept.append(draft)
    return kept


def _unchanged(
    sandbox: Sandbox,
    candidates: list[tuple[_Draft, str]],
    pairs: Callable[[_Draft], tuple[tuple[str, ...], list[Outcome]]],
) -> list[tuple[_Draft, str]]:
    """Those whose outcomes on the inputs that ``pairs`` gives are the ones it gives."""
    asked = [pairs(draft) for draft, _ in candidates]
    jobs = [Job(id=i, code=code, inputs=asked[i][0]) for i, (_, code) in enumerate(candidates)]
    results = sandbox.run(jobs) if jobs else []
    return [
        candidate
        for candidate, (_, wanted), outcomes in zip(candidates, asked, results, strict=True)
        if _signature(outcomes) == _signature(wanted)
    ]


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
        outputs = tuple(str(outcome.value) for outcome in draft.given())
        code = draft.program.source
        task = draft.kind.task_of_pairs(level_of(draft.program), code, draft.inputs, outputs, cfg)
        sizes = (
            (len(draft.kind.solver_prompt(task, trace=True)), cfg.tasks.prompt),
            (len(encode(draft.kind.gold(task))) + 1, cfg.tasks.completion),
            (len(write_record(task, draft.kind.tag)), cfg.tasks.record),
        )
        if any(size > limit for size, limit in sizes):
            draft.reject("oversize")
        draft.task = task


def _trivial(sandbox: Sandbox, drafts: list[_Draft], _: Config) -> None:
    """No task that a trivial answer solves, by its texts and runs or by running the trivial answers."""
    jobs = []
    for i, draft in enumerate(drafts):
        check = draft.kind.trivial_check(draft.made_task)
        if draft.kind.trivial_by_runs(draft.made_task, draft.ran()):
            draft.reject("trivial")
        elif check is not None:
            jobs.append(Job(id=i, code=str(check.code), inputs=check.inputs))
    for job, outcomes in zip(jobs, sandbox.run(jobs) if jobs else [], strict=True):
        draft = drafts[int(job.id)]
        if draft.kind.solved_trivially(draft.made_task, outcomes):
            draft.reject("trivial")


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
