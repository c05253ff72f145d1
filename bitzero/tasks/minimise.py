"""The program shown is the program that counts: statements whose absence no input or probe can tell are removed.

One statement a round, the one that leaves the shortest program, until nothing more can go: dead code would make a known
program look like a new one. Candidates run on the input alone first, the few that agree on the probes too, a few at
once; a program whose candidates take long is rejected as `timeout`, so one proposal cannot hold up a step.
"""

from collections.abc import Callable, Iterator, Sequence

from bitzero.sandbox import Job, Parsed, Sandbox
from bitzero.tasks.draft import Draft, alive, result_of

MAX_ROUNDS = 12  # a program that still shrinks then is mostly dead code
WAVE = 4  # candidates of a draft that run before its time is looked at
CPU_US = 1_000_000  # processor time that a draft's candidates may take


def minimise(sandbox: Sandbox, drafts: list[Draft]) -> list[Draft]:
    """Shortens programs to a fixed point; returns the drafts that changed and are still alive."""
    changed: list[Draft] = []
    spent = {id(draft): 0 for draft in drafts}
    shrinking = drafts
    for _ in range(MAX_ROUNDS):
        shrinking = _delete_one(sandbox, shrinking, spent)
        changed += [draft for draft in shrinking if draft not in changed]
        if not shrinking:
            break
    for draft in shrinking:
        draft.reject("trivial")
    return alive(changed)


def _delete_one(sandbox: Sandbox, drafts: list[Draft], spent: dict[int, int]) -> list[Draft]:
    """One round; returns the drafts that became shorter."""
    shorter: dict[int, str] = {}
    waiting = {i: _candidates(draft) for i, draft in enumerate(drafts)}
    while waiting := {i: codes for i, codes in waiting.items() if codes and drafts[i].gate == 0}:
        wave = [(i, code) for i, codes in waiting.items() for code in codes[:WAVE]]
        waiting = {i: codes[WAVE:] for i, codes in waiting.items()}
        own = _run(sandbox, drafts, wave, spent, lambda draft: draft.inputs)
        same = [pair for pair, results in own if results == [result_of(o) for o in drafts[pair[0]].given()]]
        probed = _run(sandbox, drafts, same, spent, lambda draft: tuple(probe.text for probe in draft.probes))
        for (i, code), results in probed:
            if results == [result_of(outcome) for _, outcome in drafts[i].probed()]:
                shorter[i] = min(shorter.get(i, code), code, key=len)
        for draft in alive(drafts):
            if spent[id(draft)] > CPU_US:
                draft.reject("timeout")
    found = [(drafts[i], code) for i, code in shorter.items() if drafts[i].gate == 0]
    parsed = sandbox.parse([code for _, code in found]) if found else []
    kept = []
    for (draft, _), program in zip(found, parsed, strict=True):
        if isinstance(program, Parsed):
            draft.parsed = program
            kept.append(draft)
    return kept


def _run(
    sandbox: Sandbox,
    drafts: Sequence[Draft],
    wave: list[tuple[int, str]],
    spent: dict[int, int],
    inputs_of: Callable[[Draft], tuple[str, ...]],
) -> Iterator[tuple[tuple[int, str], list[tuple[str, str | None, str | None]]]]:
    """Each candidate with its results; the processor time goes to its draft's account."""
    jobs = [Job(id=str(n), code=code, inputs=inputs_of(drafts[i]), owner=i) for n, (i, code) in enumerate(wave)]
    for pair, outcomes in zip(wave, sandbox.run(jobs) if jobs else [], strict=True):
        spent[id(drafts[pair[0]])] += sum(outcome.cpu_us for outcome in outcomes)
        yield pair, [result_of(outcome) for outcome in outcomes]


def _candidates(draft: Draft) -> list[str]:
    """Deletions worth a run: without its last `return` a program that has a value certainly changes."""
    head, _, last = draft.program.source.rpartition("\n")
    ends = last.startswith("    return ") and draft.given()[0].value != "None"
    return [code for code in draft.program.deletions if not (ends and code == head)]
