"""Bits against samples: the last questions asked again, as many samples each way, and what Python verified of them.

Four batches a question answer it four ways: ``few`` ternary samples alone, ``auto`` with as many at all bits after
them, and in place of these two as many at all bits alone (``all``) or ternary alone (``ternary``). The ways share
batches, so that they differ by what is compared and by little chance. What was found out is kept in the history.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitzero.chat import intent
from bitzero.chat.model import ROWS, AskedModel, Bits
from bitzero.chat.programs import ProgramError
from bitzero.chat.solving import Asked, Posed, confidences, posed, sample_answers, too_long
from bitzero.model import packing
from bitzero.sandbox import Parsed
from bitzero.tasks.kinds import KINDS
from bitzero.tasks.levels import level_of_text

KIND = "comparison"  # of its records
MOST = 20  # questions of one comparison
BATCHES: tuple[tuple[Bits, bool], ...] = (("ternary", True), ("all", True), ("ternary", False), ("all", False))
WAYS: dict[str, tuple[int, ...]] = {"few": (0,), "auto": (0, 1), "all": (1, 3), "ternary": (0, 2)}  # → of the batches
NO_LEVEL = "examples"  # the row of questions that show no program


@dataclass(frozen=True, kw_only=True)
class RepeatedQuestion:
    """A question of the history that can be asked again."""

    text: str
    posed: Posed
    key: str  # of the question as it is judged
    model: str  # `model_digest` of the one that answers


def candidates(records: Sequence[Mapping[str, Any]], asked: Asked, most: int) -> list[RepeatedQuestion]:
    """The last different questions whose answers Python can verify, the latest first.

    Left out are those that the model cannot read, and calls of which Python has no value.
    """
    found: dict[str, RepeatedQuestion] = {}
    digest = model_digest(asked.model)
    for record in reversed(records):
        if len(found) == most:
            break
        text = record.get("question")
        if record.get("kind") not in KINDS or not isinstance(text, str):
            continue
        if question := _posed_again(text, asked):
            key = _key(question)
            found.setdefault(key, RepeatedQuestion(text=text, posed=question, key=key, model=digest))
    return list(found.values())


def _posed_again(text: str, asked: Asked) -> Posed | None:
    question = intent.understand(text)
    if not isinstance(question, intent.CallQuestion | intent.InputQuestion | intent.PairsQuestion):
        return None
    try:
        again = posed(question, asked)
    except (ProgramError, RecursionError):
        return None
    known = again.truth is None or again.truth.kind == "ok"
    return again if known and too_long(again.prompt(asked), asked) is None else None


def compare(candidate: RepeatedQuestion, asked: Asked) -> Iterator[str | dict[str, Any]]:
    """A dot after each batch, then the record of what verified."""
    hits = []
    for bits, greedy in BATCHES:
        answers = sample_answers(candidate.posed, asked, bits, greedy=greedy)
        verdicts = confidences(answers, candidate.posed.judge)
        hits.append(any(confidence is not None for confidence in verdicts.values()))
        yield "."
    yield {
        "kind": KIND, "of": candidate.text[:500], "key": candidate.key, "model": candidate.model,
        "about": candidate.posed.kind,
        "level": _level(candidate.posed, asked), "samples": 2 * ROWS, "verified": verified_by(hits),
    }  # fmt: skip


def verified_by(hits: Sequence[bool]) -> dict[str, bool]:
    """Way → whether one of its batches verified; ``hits`` are those of ``BATCHES``."""
    return {way: any(hits[batch] for batch in batches) for way, batches in WAYS.items()}


def _level(question: Posed, asked: Asked) -> int | None:
    """The level of the question's program, read off its text; None where it shows none."""
    if not question.task.code:
        return None
    [parsed] = asked.sandbox.parse([question.task.code])
    return level_of_text(parsed) if isinstance(parsed, Parsed) else None


def known(records: Sequence[Mapping[str, Any]], model: AskedModel) -> list[Mapping[str, Any]]:
    """The comparisons of this model in a history, the last of each question; damaged records are left out."""
    digest = model_digest(model)
    found = [
        record
        for record in records
        if record.get("kind") == KIND and record.get("model") == digest and _is_whole(record)
    ]
    return list({record["key"]: record for record in found}.values())


def _is_whole(record: Mapping[str, Any]) -> bool:
    level, verified = record.get("level"), record.get("verified")
    right = isinstance(verified, dict) and all(isinstance(verified.get(way), bool) for way in WAYS)
    return right and isinstance(record.get("key"), str) and (level is None or type(level) is int)


def table(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines: by level of the program, how many questions each way verified; and what came of those left open."""
    width = {"asked": 7, "few": 11, "auto": 19, "all": 12, "ternary": 12}
    heads = {
        "asked": "asked", "few": f"{ROWS} ternary", "auto": f"{ROWS} ternary + {ROWS} all", "all": f"{2 * ROWS} all",
        "ternary": f"{2 * ROWS} ternary",
    }  # fmt: skip
    line = lambda name, cells: f"    {name:<9}" + "".join(f"{cells[key]:>{n}}" for key, n in width.items())
    of_level = _by(records, lambda record: NO_LEVEL if record["level"] is None else f"level {record['level']}")
    rows = [line(name, counts) for name, counts in sorted(of_level.items(), key=lambda row: (row[0] == NO_LEVEL, row))]
    total = _by(records, lambda record: "together")
    left = [record["verified"] for record in records if not record["verified"]["few"]]
    won = {way: sum(verified[way] for verified in left) for way in WAYS}
    return [
        "  bits against samples: questions of which a sample verified, by what was sampled",
        line("", heads), *rows, *(line(*row) for row in total.items()),
        f"    of {len(left)} that {ROWS} ternary samples left open, {ROWS} more at all bits verified {won['auto']}; "
        f"{2 * ROWS} at all bits and none ternary {won['all']}, {ROWS} more ternary ones {won['ternary']}",
    ]  # fmt: skip


def _by(records: Sequence[Mapping[str, Any]], name_of: Callable[[Mapping[str, Any]], str]) -> dict[str, dict[str, int]]:
    """Name → questions asked, and verified each way."""
    found: dict[str, dict[str, int]] = {}
    for record in records:
        row = found.setdefault(name_of(record), {"asked": 0} | dict.fromkeys(WAYS, 0))
        row["asked"] += 1
        for way in WAYS:
            row[way] += record["verified"][way]
    return found


def model_digest(model: AskedModel) -> str:
    """A hash of the weights: a comparison is of one model."""
    arrays, _ = packing.flatten(model.weights["all"])
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _key(question: Posed) -> str:
    task = question.task
    text = repr((question.kind, task.code, task.inputs, task.outputs))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
