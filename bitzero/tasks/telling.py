"""Whether probes can tell a program from a constant and each of its arguments from nothing.

A probe whose outcome is no value tells nothing about the value, so enough of them must succeed; and no program may
behave on a probe as it must not on its input.
"""

from bitzero.sandbox import Job, Sandbox
from bitzero.tasks.draft import OWNERS, Draft, alive, result_of
from bitzero.tasks.probes import Probe, more_probes
from bitzero.tasks.running import run_surely

MIN_VALUES = 2  # distinct probes, other than the input, that must give a value
_ROUNDS = 2  # of further probes for a program with fewer
_MORE = 4  # probes of a round


def check_probes(sandbox: Sandbox, drafts: list[Draft], seeds: list[int]) -> None:
    """Rejects drafts by their probes: nondeterminism, too few values (`exception`), an unused argument (`trivial`).

    ``seeds`` fix the further probes of each draft.
    """
    for turn in range(_ROUNDS):
        few = [
            (draft, more_probes(draft.inputs[0], seed + turn, draft.probes[0].changed, _MORE))
            for draft, seed in zip(drafts, seeds, strict=True)
            if draft.gate == 0 and _distinct_values(draft) < MIN_VALUES
        ]
        _run_more(sandbox, few)
    for draft in alive(drafts):
        if any(outcome.kind == "nondeterministic" for _, outcome in draft.probed()):
            draft.reject("nondeterministic")
        elif _distinct_values(draft) < MIN_VALUES:
            draft.reject("exception")
    idle = [
        (draft, tuple(p for k in _untold(draft) for p in more_probes(draft.inputs[0], seed, (k,), _MORE)))
        for draft, seed in zip(drafts, seeds, strict=True)
        if draft.gate == 0 and _untold(draft)
    ]
    _run_more(sandbox, idle)
    for draft, _ in idle:
        if draft.gate == 0 and _untold(draft):
            draft.reject("trivial")


def _run_more(sandbox: Sandbox, wanted: list[tuple[Draft, tuple[Probe, ...]]]) -> None:
    """Runs further probes of some drafts and adds them to the drafts' own."""
    jobs = [
        Job(id=i, code=draft.program.source, inputs=tuple(probe.text for probe in probes), owner=i % OWNERS)
        for i, (draft, probes) in enumerate(wanted)
    ]
    for (draft, probes), outcomes in zip(wanted, run_surely(sandbox, jobs), strict=True):
        draft.probes += probes
        draft.outcomes += outcomes


def _distinct_values(draft: Draft) -> int:
    return len({probe.text for probe, outcome in draft.probed() if outcome.kind == "ok"} - {draft.inputs[0]})


def _untold(draft: Draft) -> list[int]:
    """Arguments that made no difference in any run where they alone differ from the input."""
    own = result_of(draft.outcomes[0])
    told = {
        probe.changed[0] for probe, outcome in draft.probed() if len(probe.changed) == 1 and result_of(outcome) != own
    }
    return [k for k in draft.probes[0].changed if k not in told]
