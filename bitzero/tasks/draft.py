"""A proposal on its way through the gates: what it said, what became of it, and what the sandbox has said of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bitzero.sandbox import Outcome, Parsed
from bitzero.tasks.kinds import Ran, Task, TaskKind
from bitzero.tasks.probes import Probe

# In order of precedence; the index is the code that travels.
GATES = (
    *("ok", "format", "syntax", "forbidden", "timeout", "memory", "exception", "nondeterministic", "oversize"),
    *("trivial", "duplicate", "heldout", "infra", "confidence"),
)
OWNERS = 2  # proposals whose processor time is on nobody's account are run as those of so many (``Job.owner``)
OK, DUPLICATE, HELDOUT, INFRA = (GATES.index(name) for name in ("ok", "duplicate", "heldout", "infra"))


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What a proposer emitted, cut at the tags; `code` None where the form was wrong."""

    kind: int
    code: str | None
    inputs: tuple[str, ...] = ()


@dataclass
class Draft:
    """A proposal between two gates."""

    proposal: Proposal
    kind: TaskKind
    gate: int = OK
    inputs: tuple[str, ...] = ()  # canonical
    probes: tuple[Probe, ...] = ()
    parsed: Parsed | None = None
    outcomes: list[Outcome] = field(default_factory=list)  # of inputs, then of probes
    task: Task | None = None
    behaviour: int = 0  # 64 bits of what the program does on fixed inputs
    confidence: float = 0.0

    def reject(self, gate: str) -> None:
        """Rejects the draft at ``gate``, one of ``GATES``."""
        self.gate = GATES.index(gate)

    @property
    def program(self) -> Parsed:
        """The program as the sandbox parsed it, minimised so far."""
        assert self.parsed is not None
        return self.parsed

    @property
    def made_task(self) -> Task:
        """The task it became."""
        assert self.task is not None
        return self.task

    @property
    def texts(self) -> tuple[str, ...]:
        """All argument lists that its program was run on."""
        return self.inputs + tuple(probe.text for probe in self.probes)

    def given(self) -> list[Outcome]:
        """Outcomes of the proposed inputs."""
        return self.outcomes[: len(self.inputs)]

    def probed(self) -> list[tuple[Probe, Outcome]]:
        """The probes and their outcomes."""
        return list(zip(self.probes, self.outcomes[len(self.inputs) :], strict=True))

    def ran(self) -> list[Ran]:
        """Every run that gave a value, on inputs and probes."""
        return [
            Ran(given, str(outcome.value))
            for given, outcome in zip(self.texts, self.outcomes, strict=True)
            if outcome.kind == "ok"
        ]


def alive(drafts: Sequence[Draft]) -> list[Draft]:
    """Those that no gate has rejected."""
    return [draft for draft in drafts if draft.gate == OK]


def result_of(outcome: Outcome) -> tuple[str, str | None, str | None]:
    """What two runs must share to count as the same."""
    return outcome.kind, outcome.value, outcome.exc
