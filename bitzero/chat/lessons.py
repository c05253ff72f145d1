"""From a person's history to lessons: the functions asked about, labelled in the sandbox; nothing else is read.

A question counts where Python told what is right: a call that has a value, an input that was found to lead there, a
function that was found to have the pairs. Each function is run again on what was asked and on further inputs of the
same types, and woven to tell its trace, as an answer in the chat is judged.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bitzero.chat import intent, judging, programs
from bitzero.chat.programs import ProgramError
from bitzero.sandbox import Job, Sandbox
from bitzero.tasks import behaviour, probes, traces
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, KINDS, TASK_KINDS, split_args
from bitzero.tasks.lessons import Lesson
from bitzero.tasks.running import run_surely

PAIRS = 8  # of a lesson at most, those that were asked first
MOST = 200  # lessons, the latest
_DRAWN = 3 * PAIRS  # inputs tried beside those asked; of some a function raises

Asked = dict[tuple[int, str], list[str]]  # (kind, code) → argument lists


def lessons_of(records: Sequence[Mapping[str, Any]], sandbox: Sandbox) -> list[Lesson]:
    """The lessons of a history, the latest last; a function that gives no value on any input makes none."""
    asked: Asked = {}
    for kind, code, inputs in _verified(records):
        earlier = asked.pop((kind, code), [])
        asked[kind, code] = [*earlier, *(given for given in inputs if given not in earlier)]
    found = [_lesson(kind, code, given, sandbox) for (kind, code), given in list(asked.items())[-MOST:]]
    return [lesson for lesson in found if lesson is not None]


def _verified(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Kind, code and argument lists of every question whose right answer is known, in their order."""
    known: dict[str, str] = {}
    for record in records:
        source, question, answer = (record.get(name) for name in ("source", "question", "answer"))
        if record["kind"] == "definition" and isinstance(source, str):
            defined = intent.understand(source)
            names = defined.names if isinstance(defined, intent.Definition) else ()
            known = {name: text for name, text in known.items() if name not in names} | dict.fromkeys(names, source)
        elif isinstance(question, str) and record["kind"] in KINDS:
            try:
                found = _asked(intent.understand(question), answer if record.get("right") is True else None, known)
            except (ProgramError, RecursionError, SyntaxError):
                continue  # of another program, or of functions that were forgotten
            if found is not None:
                yield found


def _asked(question: object, answer: Any, known: Mapping[str, str]) -> tuple[int, str, tuple[str, ...]] | None:
    """What a question says of a function; ``answer`` is one that Python found right. Raises ``ProgramError``."""
    match question:
        case intent.CallQuestion(source=source, name=name, args=args):
            return DEDUCTION, programs.program_of(source, name, known), (args,)
        case intent.InputQuestion(source=source, name=name) if isinstance(answer, str):
            name = name or (list(known)[-1] if known else "")
            return ABDUCTION, programs.program_of(source, name, known), (answer,)
        case intent.PairsQuestion(inputs=inputs) if isinstance(answer, str):
            return INDUCTION, answer, inputs
    return None


def _lesson(kind: int, code: str, asked: Sequence[str], sandbox: Sandbox) -> Lesson | None:
    """The lesson of one function; the sandbox alone runs it."""
    given = list(dict.fromkeys([*asked, *_further(asked, zlib.crc32(code.encode()))]))
    owner = judging.MODEL if TASK_KINDS[kind].answers_with_program else judging.PERSON
    [outcomes] = run_surely(sandbox, [Job(id=0, code=code, inputs=tuple(given), owner=owner)])
    pairs = [(text, run.value) for text, run in zip(given, outcomes, strict=True) if run.kind == "ok" and run.value]
    pairs = pairs[:PAIRS]
    if not pairs:
        return None
    told: list[list[str] | None] = [[] for _ in pairs]
    if TASK_KINDS[kind].traced:
        told = judging.traces_of(sandbox, code, [text for text, _ in pairs])
    kept = [(*pair, traces.join(items)) for pair, items in zip(pairs, told, strict=True) if items is not None]
    if not kept:
        return None
    inputs, outputs, trace = zip(*kept, strict=True)
    return Lesson(
        kind=kind, code=code, inputs=inputs, outputs=outputs, traces=trace,
        behaviour=_behaviour(code, inputs[0], owner, sandbox),
    )  # fmt: skip


def _further(asked: Sequence[str], seed: int) -> list[str]:
    """Other argument lists of the types of those asked."""
    if not asked:
        return []
    each = -(-_DRAWN // len(asked))
    places = [tuple(range(len(split_args(text) or ()))) for text in asked]
    drawn = [probes.more_probes(text, seed, whole, each) for text, whole in zip(asked, places, strict=True)]
    return [probe.text for some in drawn for probe in some]


def _behaviour(code: str, given: str, owner: int, sandbox: Sandbox) -> int:
    """What the function does on the fixed inputs of its types, as one number."""
    signature = behaviour.signature_of(given)
    job = Job(id=0, code=behaviour.rows_program(code), inputs=behaviour.fixed_inputs(signature), owner=owner)
    [outcomes] = sandbox.run([job])
    parts = [(run.kind, run.value or "") for run in outcomes]
    return behaviour.behaviour_hash(signature, parts, code)
