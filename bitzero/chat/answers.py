"""An answer and its steps, as they are shown, kept and written as JSON."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a trace, with Python's verdict."""

    text: str  # as the model wrote it
    right: bool | None  # None: not judged
    python: str | None = None  # what stands there in Python's trace, where the step is wrong


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of one question."""

    kind: str  # deduction, abduction, induction, expression, definition, puzzle, command; error for what had no answer
    question: str
    answer: str | None = None  # the model's, or Python's value of an expression
    right: bool | None = None  # Python's verdict on it; None where there is none
    python: str | None = None  # Python's own answer, in a few words
    steps: tuple[Step, ...] = ()
    votes: dict[str, float] = field(default_factory=dict)  # share of the samples by answer, most frequent first
    tries: int = 0  # answers that were judged
    confidence: float | None = None  # of an answer that verified
    bits: str | None = None  # ternary or all: the precision that answered
    note: str | None = None  # one line: why there is no answer, or what is to be known of it
    seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        """As plain JSON values, without what is empty."""
        found = dataclasses.asdict(self) | {"seconds": round(self.seconds, 3)}
        return {name: value for name, value in found.items() if value not in (None, (), {}, 0)} | {"right": self.right}
