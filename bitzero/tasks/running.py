"""Runs a program once, and again under several hash seeds only if an order may matter."""

from collections.abc import Sequence

from bitzero.sandbox import Job, Outcome, Sandbox


def run_surely(sandbox: Sandbox, jobs: Sequence[Job]) -> list[list[Outcome]]:
    """One outcome per input of every job; `nondeterministic` where seeds disagree.

    In the sandbox's language a value can depend on the seed only where a set may come to be, which the sandbox says by
    a confidence below 1 (``Sandbox.run``). All other programs need no second run.
    """
    found = sandbox.run(jobs) if jobs else []
    unsure = [place for place, runs in enumerate(found) if any(run.confidence < 1.0 for run in runs)]
    again = sandbox.validate([jobs[place] for place in unsure]) if unsure else []
    for place, outcomes in zip(unsure, again, strict=True):
        found[place] = outcomes
    return found
