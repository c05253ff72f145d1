"""The words that begin with a slash: each a function from session and words to the lines it says."""

import difflib
import json
import pathlib
import platform
import resource
from collections.abc import Callable, Iterator
from typing import Any

from bitzero.chat import adapting, comparing, intent, persona
from bitzero.chat.adaptation import RESET
from bitzero.chat.answers import Answer
from bitzero.chat.persona import PersonaError
from bitzero.chat.profile import ProfileError
from bitzero.chat.session import DEFAULTS, Session, functions_in, pose_puzzle, score, setting_problem
from bitzero.chat.solving import Said
from bitzero.model import packing
from bitzero.run.workdir import RunError

EXAMPLES = (
    "def f(a): return a + 1; f(3)",
    "def f(t): return sorted(t)[::-1]; f([4, 1, 5])",
    "def f(a): return a + 1; f(?) == 4",
    "1 -> 2, 5 -> 6, 7 -> 8",
    "'ab' -> 'ba', 'xyz' -> 'zyx'",
    "sum([1, 2, 3]) * 2",
)
_SHOWN = 20  # records of a list
COMPARED = 10  # questions of /stats compare where no number is given
_TELLS_PROGRESS = ("/puzzle", "/stats")  # their texts are dots, not answers


class Leave(Exception):
    """The person is done."""


class CommandError(ValueError):
    """A command that says nothing; the message is one line."""


def run(session: Session, text: str) -> Iterator[Said]:
    """What a command says, an ``Answer`` last. Raises ``Leave``."""
    name, *words = text.strip().split()
    if name not in COMMANDS:
        near = difflib.get_close_matches(name[:40], COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "/help shows all"
        yield Answer(kind="error", question=text[:200], note=f"no command {name[:40]}; {hint}")
        return
    try:
        for said in COMMANDS[name][0](session, words):
            yield (
                Answer(kind="command", question=text, answer=said)
                if isinstance(said, str) and name not in _TELLS_PROGRESS
                else said
            )
    except (CommandError, ProfileError, PersonaError, RunError) as error:
        yield Answer(kind="error", question=text, note=str(error))


def _help(session: Session, words: list[str]) -> Iterator[str]:
    yield "\n".join([
        "This model never read English: it knows short Python functions, and nothing else. Six questions that work:",
        *(f"  {example}" for example in EXAMPLES),
        "A function may take many lines; an empty line, or a call on a line of its own, ends it. Commands:",
        *(f"  {usage:<38} {what}" for _, usage, what in COMMANDS.values()),
        'Between """ and """ a question may have any lines. Ctrl-C stops an answer, Ctrl-D leaves.',
    ])  # fmt: skip


def _set(session: Session, words: list[str]) -> Iterator[str]:
    if len(words) != 2:
        raise CommandError(f"/set NAME VALUE; names are {', '.join(DEFAULTS)}; /show has their values")
    name, text = words
    value: Any = int(text) if text.isdecimal() and len(text) < 9 else text
    if problem := setting_problem(name, value):
        raise CommandError(problem)
    if name == "persona":
        persona.read(str(value), session.profile.folder)
    session.settings[name] = value
    session.keep_settings(name)
    if name == "verbosity":
        session.keep({"kind": "choice", "setting": name, "value": value})
    alone = name == "bits" and not session.model.has_tiers
    yield f"{name} is {value}" + ("; this model is ternary alone, so it changes nothing" if alone else "")


def _show(session: Session, words: list[str]) -> Iterator[str]:
    settings = [f"  {name:<10} {value}" for name, value in session.settings.items()]
    functions = ", ".join(session.functions) or "none"
    yield "\n".join([*settings, f"  functions  {functions}", f"  model      {session.model.path}"])


def _persona(session: Session, words: list[str]) -> Iterator[str]:
    match words:
        case [] | ["show"]:
            adapted, chosen = session.adapted(), session.persona()
            why = [f"  {reason}" for reason in adapted.reasons] or [
                "  nothing yet: it takes some questions and puzzles"
            ]
            yield "\n".join([
                f"persona {chosen.name}; answers are {session.verbosity()}, puzzles of level {adapted.level}, "
                f"{', '.join(adapted.puzzles)}",
                "adapted to you:", *why,
                f"there are {', '.join(persona.names(session.profile.folder))}",
            ])  # fmt: skip
        case ["reset"]:
            session.keep({"kind": RESET})
            session.settings["verbosity"] = session.settings["level"] = "auto"
            session.keep_settings("verbosity", "level")
            yield "what was adapted is undone; the history stays"
        case [name]:
            found = persona.read(name, session.profile.folder)
            session.settings["persona"] = name
            session.keep_settings("persona")
            yield f"{found.name}: {found.greeting}"
        case _:
            raise CommandError("/persona show, /persona reset, or /persona NAME")


def _memory(session: Session, words: list[str]) -> Iterator[str]:
    match words:
        case [] | ["list"]:
            yield _listed(list(enumerate(session.records, 1))[-_SHOWN:], len(session.records))
        case ["find", *rest] if rest:
            wanted = " ".join(rest)
            found = [(n, record) for n, record in enumerate(session.records, 1) if wanted in _line_of(record)]
            yield _listed(found[-_SHOWN:], len(found))
        case ["forget", what]:
            yield _forget(session, what)
        case ["export", file]:
            count = session.profile.export(pathlib.Path(file).expanduser())
            yield f"{count} records in {file}"
        case _:
            raise CommandError("/memory list, find TEXT, forget NUMBER or NAME or all, export FILE")


def _forget(session: Session, what: str) -> str:
    """Takes a record, a function or everything out of the history for good."""
    if what == "all":
        count = max(session.profile.clear(), len(session.records))
        session.records, session.transcript, session.functions = [], [], {}
        return f"forgotten: {count} record(s)"
    if what.isdecimal() and 0 < int(what) <= len(session.records):
        gone = [session.records[int(what) - 1]]
    else:
        gone = [r for r in session.records if r["kind"] == "definition" and what in (r.get("names") or ())]
    if not gone:
        raise CommandError(f"{what[:40]} is no number of a record and no function; /memory list shows them")
    unwanted = {_content(record) for record in gone}
    session.profile.remove(lambda record: _content(record) in unwanted)
    session.records = [record for record in session.records if _content(record) not in unwanted]
    session.transcript = [record for record in session.transcript if _content(record) not in unwanted]
    session.functions = functions_in(session.records)
    return f"forgotten: {len(gone)} record(s)"


def _content(record: dict[str, Any]) -> str:
    """What tells a record from others; one that is read back has the number of its format besides."""
    return json.dumps({**record, "v": 0}, sort_keys=True)


def _listed(rows: list[tuple[int, dict[str, Any]]], count: int) -> str:
    lines = [f"{number:>5}  {_line_of(record)[:100]}" for number, record in rows]
    more = [f"  … the last {len(rows)} of {count}"] if count > len(rows) else []
    return "\n".join([*more, *lines]) or "nothing is remembered"


def _line_of(record: dict[str, Any]) -> str:
    right = record.get("right")
    sign = "right" if right is True else "wrong" if right is False else ""
    text = record.get("source") or record.get("question") or record.get("of") or record.get("value") or ""
    return " ".join(f"{record['kind']} {sign} {text}".split())


def _history(session: Session, words: list[str]) -> Iterator[str]:
    questions = [record for record in session.records if isinstance(record.get("question"), str)]
    lines = [
        f"{' '.join(r['question'].split())[:70]}  →  {str(r.get('answer', '?'))[:40]}" for r in questions[-_SHOWN:]
    ]
    yield "\n".join(lines) or "nothing was asked yet"


def _save(session: Session, words: list[str]) -> Iterator[str]:
    if len(words) != 1:
        raise CommandError("/save NAME")
    functions = {name: session.functions[name] for name in session.open_functions if name in session.functions}
    content = {"settings": session.settings, "functions": functions, "transcript": session.transcript}
    yield f"saved as {session.profile.save_session(words[0], content)}"


def _load(session: Session, words: list[str]) -> Iterator[str]:
    if len(words) != 1:
        raise CommandError(f"/load NAME; saved are {', '.join(session.profile.sessions()) or 'none'}")
    found = session.profile.load_session(words[0])
    settings, functions = found.get("settings"), found.get("functions")
    if isinstance(settings, dict):
        session.settings |= {k: v for k, v in settings.items() if k in DEFAULTS and setting_problem(k, v) is None}
    count = 0
    for name, source in functions.items() if isinstance(functions, dict) else ():
        asked = intent.understand(source) if isinstance(source, str) else None
        if isinstance(asked, intent.Definition) and name in asked.names:
            session.remember(source, asked.names)
            count += 1
    yield f"{words[0]} is loaded: its settings and {count} function(s)"


def _clear(session: Session, words: list[str]) -> Iterator[str]:
    session.puzzle = None
    for name in session.open_functions:
        session.functions.pop(name, None)
    session.open_functions, session.transcript = [], []
    yield "this conversation is cleared: its puzzle and its functions; /memory keeps what was remembered"


def _reset(session: Session, words: list[str]) -> Iterator[str]:
    session.settings = dict(DEFAULTS)
    session.keep_settings(*DEFAULTS)
    yield "all settings are as at first"


def _stats(session: Session, words: list[str]) -> Iterator[Said]:
    match words:
        case []:
            pass
        case ["compare"]:
            yield from _compare(session, COMPARED)
        case ["compare", count] if count.isdecimal() and 1 <= int(count[:4]) <= comparing.MOST:
            yield from _compare(session, int(count))
        case _:
            raise CommandError(f"/stats, or /stats compare N with N from 1 to {comparing.MOST}")
    text = "\n".join([*_figures(session), *_bits_against_samples(session)])
    yield Answer(kind="command", question=" ".join(["/stats", *words]), answer=text)


def _figures(session: Session) -> list[str]:
    """Speed, bits, memory and score."""
    model = session.model
    speed = f"{model.tokens / model.seconds:,.0f} tokens/s" if model.seconds else "nothing drawn yet"
    matrices, rest = packing.weight_bytes(model.weights["all"])
    unit = 1 << 20 if platform.system() == "Darwin" else 1 << 10  # of what getrusage counts in, to a MiB
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    right, answered = score(session.records)
    tiers = f"; ternary alone {packing.stored_bits(model.weights['ternary']):.2f}" if model.has_tiers else ""
    return [
        f"  speed    {speed} over {model.tokens:,} tokens of all rows",
        f"  weights  {packing.stored_bits(model.weights['all']):.2f} stored bits a weight{tiers}; "
        f"{matrices / 1e6:.2f} MB of packed matrices, {rest / 1e6:.2f} MB of embedding and gains",
        f"  memory   {memory:,.0f} MiB at most, the sandbox apart",
        *_by_bits(session),
        f"  puzzles  {right} of {answered} right",
    ]


def _compare(session: Session, most: int) -> Iterator[str]:
    """Asks the last questions again, those that were not yet; dots while it does.

    What is done is kept at once: Ctrl-C loses the question in hand alone.
    """
    if not session.model.has_tiers:
        return
    asked = session.asked()
    found = comparing.candidates(session.records, asked, most)
    if not found:
        raise CommandError("nothing to compare yet: ask what a call returns, f(?) == 4, or 1 -> 2, 5 -> 6 first")
    kept = {record["key"] for record in comparing.known(session.records, asked.model)}
    for candidate in found:
        if candidate.key not in kept:
            for said in comparing.compare(candidate, asked):
                if isinstance(said, str):
                    yield said
                else:
                    session.keep(said)


def _bits_against_samples(session: Session) -> list[str]:
    if not session.model.has_tiers:
        return ["  bits     this model is ternary alone: there are no other bits to compare more samples with"]
    kept = comparing.known(session.records, session.model)
    if not kept:
        return ["  bits     /stats compare asks the last questions again, with bits and with more samples instead"]
    return comparing.table(kept)


def _by_bits(session: Session) -> list[str]:
    """What each precision answered rightly, of the questions of the history that it answered."""
    lines = []
    for bits in ("ternary", "all") if session.model.has_tiers else ():
        found = [record for record in session.records if record.get("bits") == bits]
        tries = sum(record.get("tries", 1) for record in found if isinstance(record.get("tries", 1), int))
        right = sum(record.get("right") is True for record in found)
        lines.append(f"  {bits:<8} {right} of {len(found)} answers right, {tries} tries")
    return lines


def _puzzle(session: Session, words: list[str]) -> Iterator[Said]:
    match words:
        case ["give"] if session.puzzle is not None:
            solution, session.puzzle = session.puzzle.solution(), None
            yield Answer(kind="command", question="/puzzle give", answer=f"one answer: {solution}")
        case []:
            yield from pose_puzzle(session, None)
        case [level] if level.isdecimal() and int(level) <= 5:
            yield from pose_puzzle(session, int(level))
        case ["give"]:
            raise CommandError("there is no puzzle to give up; /puzzle proposes one")
        case _:
            raise CommandError("/puzzle, /puzzle LEVEL with a level from 0 to 5, or /puzzle give")


def _bye(session: Session, words: list[str]) -> Iterator[str]:
    raise Leave
    yield ""


COMMANDS: dict[str, tuple[Callable[[Session, list[str]], Iterator[Any]], str, str]] = {
    "/help": (_help, "/help", "this"),
    "/set": (
        _set,
        "/set NAME VALUE",
        "tries (at each precision), bits (auto, ternary, all), verbosity, level, persona",
    ),
    "/show": (_show, "/show", "the settings and the functions that can be called by name"),
    "/persona": (
        _persona,
        "/persona [NAME | show | reset]",
        "how answers are put, and what was adapted to you and why",
    ),
    "/memory": (_memory, "/memory [list | find | forget | export]", "what is remembered of you, on this machine alone"),
    "/history": (_history, "/history", "the last questions and answers"),
    "/save": (_save, "/save NAME", "keeps this conversation's settings and functions"),
    "/load": (_load, "/load NAME", "brings them back"),
    "/clear": (_clear, "/clear", "forgets this conversation, not what is remembered"),
    "/reset": (_reset, "/reset", "all settings as at first"),
    "/stats": (
        _stats,
        "/stats [compare [N]]",
        "speed, bits, memory, score; bits against more samples",
    ),
    "/puzzle": (_puzzle, "/puzzle [LEVEL | give]", "a puzzle of the model's own making for you"),
    "/adapt": (
        adapting.command,
        "/adapt [MINUTES | show | undo | redo]",
        "learns from your tasks, in the background",
    ),
    "/bye": (_bye, "/bye", "leaves"),
}
