"""Right answers by kind of task: each point beside the one that others are compared with, paired item by item.

Runs of one seed are asked the same questions, so a pair is one item answered by two models. The interval is over items,
of all seeds together; the change of each seed stands beside it, because items say nothing of how training varies.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from bitzero.evaluation.statistics import paired_gain
from bitzero.run.workdir import RunError
from bitzero.sweep.results import Row

TOGETHER = ("abduction", "induction")  # what self-play is asked for most, as one figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """What a point answers right beyond the reference, as a share of the items."""

    name: str
    kinds: tuple[str, ...]
    gain: float
    low: float
    high: float
    items: int
    by_seed: tuple[float, ...]

    @property
    def shown(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def has_answers(table: Sequence[Row]) -> bool:
    """Whether any run was asked the questions of the held-out table."""
    return any(row.get("answers") for row in table)


def kinds_asked(table: Sequence[Row]) -> tuple[str, ...]:
    """The kinds of task that any run was asked, in the order of their rows."""
    titles = (title for row in table for title in row.get("answers") or {})
    return tuple(dict.fromkeys(title.split()[-1] for title in titles))


def right_by_kind(table: Sequence[Row], name: str) -> dict[str, float]:
    """Kind → share of the items of all seeds and levels that the point answers right; kinds not asked are left out."""
    found = {kind: [_digits(row, (kind,)) for row in table if row["name"] == name] for kind in kinds_asked(table)}
    return {kind: float(np.concatenate(of).mean()) for kind, of in found.items() if of and np.concatenate(of).size}


def change(table: Sequence[Row], name: str, reference: str, kinds: tuple[str, ...]) -> Change | None:
    """The paired change of a point; None where no seed has both, or nothing of these kinds was asked.

    Raises ``RunError`` where the two runs of a seed were not asked equally many questions.
    """
    digits = {(row["name"], row["seed"]): _digits(row, kinds) for row in table if row.get("answers")}
    runs = {run: right for run, right in digits.items() if right.size}
    pairs = [
        (runs[reference, seed], right) for (of, seed), right in runs.items() if of == name and (reference, seed) in runs
    ]
    if not pairs:
        return None
    if any(then.size != now.size for then, now in pairs):
        raise RunError(f"{name} and {reference} were not asked the same questions; remove one and run it again")
    then, now = (np.concatenate(side) for side in zip(*pairs, strict=True))
    gain, low, high = paired_gain(then, now)
    by_seed = tuple(float(now.mean() - then.mean()) for then, now in pairs)
    return Change(name=name, kinds=kinds, gain=gain, low=low, high=high, items=now.size, by_seed=by_seed)


def sentences(table: Sequence[Row], reference: str) -> list[str]:
    """For every other point: the reference's paired gain over it, and whether it is shown."""
    lines = []
    for name in dict.fromkeys(row["name"] for row in table if row["name"] != reference):
        for kinds in (TOGETHER, ("deduction",)):
            if found := change(table, reference, name, kinds):
                lines.append(_sentence(found, name))
    return lines


def _sentence(found: Change, other: str) -> str:
    seeds = ", ".join(f"{100 * gain:+.1f}" for gain in found.by_seed)
    verdict = "shown" if found.shown else "not shown"
    return (
        f"{found.name} over {other}, {' and '.join(found.kinds)}: {100 * found.gain:+.1f} points "
        f"({100 * found.low:+.1f} to {100 * found.high:+.1f}, {found.items:,} items; by seed {seeds}): {verdict}."
    )


def _digits(row: Row, kinds: Sequence[str]) -> Bool[np.ndarray, " n"]:
    """Whether each item of these kinds was answered right, levels and items in their fixed order."""
    answers = row.get("answers") or {}
    digits = "".join(answers[title] for title in sorted(answers) if title.split()[-1] in kinds)
    return np.array([digit == "1" for digit in digits], dtype=bool)
