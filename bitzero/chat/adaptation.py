"""What a person's history says about how they want to be answered; pure, and every change has its reason.

Only what came after the last `/persona reset` counts.
"""

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitzero.chat.persona import VERBOSITIES, Persona
from bitzero.config import NUM_LEVELS
from bitzero.tasks.kinds import KINDS

RESET = "persona reset"
_IN_A_ROW = 2  # puzzles right, or wrong, that change the level
_CHOICES = 2  # times that a verbosity is chosen before it is the usual one
_RECENT = 50  # questions that preferences are read off
_LEAST = 5  # questions before there is a preference


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """How this person is answered."""

    level: int  # of the next puzzle
    verbosity: str
    puzzles: tuple[str, ...]  # kinds, the preferred one first
    reasons: tuple[str, ...]  # one line for each thing that differs from the persona


def adapt(persona: Persona, records: Sequence[Mapping[str, Any]]) -> Adapted:
    """The persona as this history has changed it."""
    resets = [place for place, record in enumerate(records) if record.get("kind") == RESET]
    since = records[resets[-1] + 1 :] if resets else records
    level, of_level = _level(since)
    verbosity, of_verbosity = _verbosity(persona, since)
    puzzles, of_puzzles = _puzzles(persona, since)
    reasons = tuple(reason for reason in (of_level, of_verbosity, of_puzzles) if reason)
    return Adapted(level=level, verbosity=verbosity, puzzles=puzzles, reasons=reasons)


def _level(records: Sequence[Mapping[str, Any]]) -> tuple[int, str | None]:
    """Up a level after so many right in a row at it or above, down after so many wrong."""
    level, right, wrong, solved, asked = 0, 0, 0, 0, 0
    for record in records:
        if record.get("kind") != "puzzle" or not isinstance(record.get("right"), bool):
            continue
        asked, solved = asked + 1, solved + record["right"]
        right, wrong = (right + 1, 0) if record["right"] else (0, wrong + 1)
        if right >= _IN_A_ROW:
            level, right = min(level + 1, NUM_LEVELS - 1), 0
        elif wrong >= _IN_A_ROW:
            level, wrong = max(level - 1, 0), 0
    return level, f"puzzles are of level {level}: {solved} of {asked} were right" if asked else None


def _verbosity(persona: Persona, records: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    """The one that was chosen by hand last, once it was chosen often enough."""
    asked = [r.get("value") for r in records if r.get("kind") == "choice" and r.get("setting") == "verbosity"]
    chosen = [str(value) for value in asked if value in VERBOSITIES]
    if not chosen or chosen.count(chosen[-1]) < _CHOICES or chosen[-1] == persona.verbosity:
        return persona.verbosity, None
    times = chosen.count(chosen[-1])
    return chosen[-1], f"answers are {chosen[-1]}: you chose that {times} times"


def _puzzles(persona: Persona, records: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], str | None]:
    """The kinds that the person asks most come first."""
    asked = [record["kind"] for record in records if record.get("kind") in KINDS][-_RECENT:]
    counted = collections.Counter(asked).most_common()
    if len(asked) < _LEAST or counted[0][0] == persona.puzzles[0]:
        return persona.puzzles, None
    favourite, times = counted[0]
    order = (favourite, *(kind for kind in persona.puzzles if kind != favourite))
    return order, f"{favourite} puzzles come first: {times} of your last {len(asked)} questions were of that kind"
