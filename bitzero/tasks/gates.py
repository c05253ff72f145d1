"""Which proposals become tasks: one gate after another, each rejection counted, everything hostile run in the sandbox.

The host sees proposals as text only. Parsing, alpha-normalising, deleting statements and running happen in sandbox
children; what travels back is canonical text. AZR's seven executor defects (inert determinism check, corrupt golds,
truncation, spliced answers, evaluation in the trainer, missing bans, leaking state) are regressions in the tests.
"""

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from bitzero.config import Config
from bitzero.sandbox import Job, Outcome, Parsed, Sandbox, literal_job, loosely_equal
from bitzero.tasks import behaviour
from bitzero.tasks.alpha import hash_text, split_text
from bitzero.tasks.draft import DUPLICATE, GATES, HELDOUT, INFRA, OK, OWNERS, Draft, Proposal, alive
from bitzero.tasks.kinds import TASK_KINDS, Kinds, Task, coverage_of, split_args
from bitzero.tasks.kinds.task import write_record
from bitzero.tasks.levels import level_of_text as level_of
from bitzero.tasks.minimise import minimise
from bitzero.tasks.probes import draw_probes
from bitzero.tasks.running import run_surely
from bitzero.tasks.telling import check_probes
from bitzero.tasks.tokens import encode

__all__ = [
    "DUPLICATE", "GATES", "HELDOUT", "INFRA", "MAX_ARGS", "OK", "Proposal", "Verdict", "hash64", "level_of",
    "task_hash", "validate",
]  # fmt: skip

MAX_ARGS = 4


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a proposal."""

    gate: int  # index into GATES; 0 is ok
    task: Task | None = None  # for ok
    program_hash: int = 0  # 64 bits of what the program does (``behaviour``), never 0 for ok
    task_hash: int = 0  # 64 bits of (kind, behaviour, inputs), never 0 for ok
    confidence: float = 0.0  # (1 − chance that runs hid nondeterminism) × coverage of the hidden pairs
    level: int = 0


Stage = Callable[[Sandbox, list[Draft], Config], None]


def validate(
    sandbox: Sandbox,
    proposals: Sequence[Proposal],
    cfg: Config,
    kinds: Kinds = TASK_KINDS,
    heldout: Collection[int] = frozenset(),
) -> list[Verdict]:
    """One verdict per proposal, in order. Never raises for what a proposal does; sandbox faults are `infra`.

    ``heldout`` are the behaviours (``behaviour_hash``) of programs that no proposal may have.
    """
    drafts = [Draft(proposal, kinds[proposal.kind]) for proposal in proposals]
    known = functools.partial(_novel, heldout=heldout)
    stages: tuple[Stage, ...] = (
        *(_form, _parse, _literals, _execute, _probe, _minimise, _fit, _trivial, _behave, known, _confident),
    )
    for stage in stages:
        if left := alive(drafts):
            stage(sandbox, left, cfg)
    return [_verdict(draft) for draft in drafts]


def _verdict(draft: Draft) -> Verdict:
    if draft.gate != OK or draft.task is None:
        return Verdict(gate=draft.gate)
    return Verdict(
        gate=OK,
        task=draft.task,
        program_hash=draft.behaviour,
        task_hash=_hash_of(draft),
        confidence=draft.confidence,
        level=draft.task.level,
    )


def hash64(text: str) -> int:
    """64 bits of a text, 0 excluded (the device's set of seen hashes has it for an empty slot)."""
    return hash_text(text) or 1


def task_hash(kind: int, done: int, inputs: Sequence[str]) -> int:
    """64 bits of a task: its kind, what its program does (a behaviour hash), the inputs it is about."""
    return hash64("\0".join((str(kind), f"{done:x}", *inputs)))


def _hash_of(draft: Draft) -> int:
    return task_hash(draft.proposal.kind, draft.behaviour, draft.inputs)


# ---- the stages ----


def _form(_: Sandbox, drafts: list[Draft], cfg: Config) -> None:
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


def _parse(sandbox: Sandbox, drafts: list[Draft], _: Config) -> None:
    for draft, parsed in zip(drafts, sandbox.parse([str(d.proposal.code) for d in drafts]), strict=True):
        if isinstance(parsed, Parsed):
            draft.parsed = parsed
        else:
            draft.reject("syntax" if parsed.kind in ("ok", "exception") else parsed.kind)


def _literals(sandbox: Sandbox, drafts: list[Draft], _: Config) -> None:
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
        if _repeats(draft.inputs):
            draft.reject("format")
        elif draft.kind.writes_program:
            draft.probes = draw_probes(draft.inputs[0], hash64(draft.program.canonical))


def _worst(outcomes: Sequence[Outcome]) -> Outcome:
    order = [*GATES[: GATES.index("trivial")], "infra"]
    return min(outcomes, key=lambda outcome: order.index(outcome.kind) if outcome.kind != "ok" else len(order))


def _execute(sandbox: Sandbox, drafts: list[Draft], _: Config) -> None:
    """Every input under several hash seeds, its output is the gold; every probe once, unless an order is at work."""
    _run_given(sandbox, drafts)
    left = [draft for draft in alive(drafts) if draft.probes]
    jobs = [
        Job(id=i, code=draft.program.source, inputs=tuple(probe.text for probe in draft.probes), owner=i % OWNERS)
        for i, draft in enumerate(left)
    ]
    for draft, outcomes in zip(left, run_surely(sandbox, jobs), strict=True):
        draft.outcomes += outcomes


def _run_given(sandbox: Sandbox, drafts: list[Draft]) -> None:
    jobs = [
        Job(id=i, code=draft.program.source, inputs=draft.inputs, owner=i % OWNERS) for i, draft in enumerate(drafts)
    ]
    for draft, outcomes in zip(drafts, sandbox.validate(jobs) if jobs else [], strict=True):
        draft.outcomes[: len(draft.inputs)] = outcomes
        worst = _worst(outcomes)
        if worst.kind != "ok":
            draft.reject(worst.kind)
        draft.confidence = min(outcome.confidence for outcome in outcomes)


def _repeats(inputs: Sequence[str]) -> bool:
    """Whether two argument lists are one input to a program: equal under Python's ==, as 4 and 4.0 are."""
    lists = [f"[{given}]" for given in inputs]
    return any(loosely_equal(a, b) for i, a in enumerate(lists) for b in lists[:i])


def _probe(sandbox: Sandbox, drafts: list[Draft], _: Config) -> None:
    """No constant in disguise, no argument that does nothing."""
    probed = [draft for draft in drafts if draft.kind.writes_program]
    check_probes(sandbox, probed, [hash64(draft.program.canonical) for draft in probed])


def _minimise(sandbox: Sandbox, drafts: list[Draft], cfg: Config) -> None:
    """Statements that do nothing go; what is left must give the same value under every seed again."""
    changed = minimise(sandbox, [draft for draft in drafts if draft.kind.writes_program])
    before = [draft.given()[0].value for draft in changed]
    _run_given(sandbox, changed)
    for draft, value in zip(changed, before, strict=True):
        if draft.gate == OK and draft.given()[0].value != value:
            draft.reject("nondeterministic")


def _fit(_: Sandbox, drafts: list[Draft], cfg: Config) -> None:
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


def _trivial(sandbox: Sandbox, drafts: list[Draft], _: Config) -> None:
    """No task that a trivial answer solves, by its texts and runs or by running the trivial answers."""
    jobs = []
    for i, draft in enumerate(drafts):
        check = draft.kind.trivial_check(draft.made_task)
        if draft.kind.trivial_by_runs(draft.made_task, draft.ran()):
            draft.reject("trivial")
        elif check is not None:
            jobs.append(Job(id=i, code=str(check.code), inputs=check.inputs, owner=i % OWNERS))
    for job, outcomes in zip(jobs, sandbox.run(jobs) if jobs else [], strict=True):
        draft = drafts[int(job.id)]
        if any(outcome.kind in ("timeout", "infra") for outcome in outcomes) or draft.kind.solved_trivially(
            draft.made_task, outcomes
        ):  # one that did not end could be the one that solves it
            draft.reject("trivial")


# ---- novelty and confidence ----


def _behave(sandbox: Sandbox, drafts: list[Draft], _: Config) -> None:
    """What each program does on fixed inputs of its arguments' types."""
    signatures = [behaviour.signature_of(draft.inputs[0]) for draft in drafts]
    jobs = [
        Job(
            id=i,
            code=behaviour.rows_program(draft.program.source),
            inputs=behaviour.fixed_inputs(signature),
            owner=i % OWNERS,
        )
        for i, (draft, signature) in enumerate(zip(drafts, signatures, strict=True))
    ]
    for draft, signature, outcomes in zip(drafts, signatures, sandbox.run(jobs), strict=True):
        parts = [(outcome.kind, outcome.value or "") for outcome in outcomes]
        draft.behaviour = behaviour.behaviour_hash(signature, parts, draft.program.canonical)


def _novel(_: Sandbox, drafts: list[Draft], __: Config, heldout: Collection[int]) -> None:
    """No task twice in a batch (history is checked on the device), nothing of the test or dev split, however spelt."""
    seen: set[int] = set()
    for draft in drafts:
        key = _hash_of(draft)
        if key in seen:
            draft.reject("duplicate")
        elif split_text(draft.program.canonical) != "train" or draft.behaviour in heldout:
            draft.reject("heldout")
        seen.add(key)


def _confident(_: Sandbox, drafts: list[Draft], cfg: Config) -> None:
    """How sure the gold is: agreeing runs may hide an order, and few hidden pairs may be met by another program."""
    for draft in drafts:
        hidden = len(draft.made_task.hidden_outputs)
        draft.confidence *= coverage_of(hidden, hidden) if draft.kind.answers_with_program else 1.0
        if draft.confidence < cfg.selfplay.min_confidence:
            draft.reject("confidence")
