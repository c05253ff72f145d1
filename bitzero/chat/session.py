"""One conversation: what is known of the person, and from a text to what is said in return."""

import datetime
import pathlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args, runtime_checkable

from bitzero.chat import intent, judging, persona, programs, puzzles
from bitzero.chat.adaptation import Adapted, adapt
from bitzero.chat.answers import Answer
from bitzero.chat.model import AskedModel, Wanted
from bitzero.chat.persona import Persona, PersonaError
from bitzero.chat.profile import Profile, ProfileError
from bitzero.chat.programs import ProgramError
from bitzero.chat.puzzles import Puzzle
from bitzero.chat.solving import TOO_DEEP, TRIES, Asked, Said, answer_to
from bitzero.config import NUM_LEVELS
from bitzero.sandbox import Sandbox

BITS: tuple[str, ...] = get_args(Wanted)
MOST_TRIES = 256
DEFAULTS: dict[str, Any] = {
    "tries": TRIES,
    "bits": "auto",
    "verbosity": "auto",
    "level": "auto",
    "persona": persona.DEFAULT,
}


@runtime_checkable
class Learning(Protocol):
    """A process that learns from the person's tasks (``adapting``)."""

    @property
    def process(self) -> subprocess.Popen[bytes]: ...

    @property
    def log(self) -> pathlib.Path: ...

    def last_line(self) -> str:
        """What it said last."""
        ...


@dataclass
class Session:
    """The state of a conversation."""

    model: AskedModel
    sandbox: Sandbox
    profile: Profile
    settings: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))
    records: list[dict[str, Any]] = field(default_factory=list)  # of the profile, and of this session
    functions: dict[str, str] = field(default_factory=dict)  # name → source, the latest last
    puzzle: Puzzle | None = None
    notes: list[str] = field(default_factory=list)  # lines to be told once
    transcript: list[dict[str, Any]] = field(default_factory=list)  # records of this session
    open_functions: list[str] = field(default_factory=list)  # names defined in this session
    learning: Learning | None = None  # from the person's tasks, in the background

    def persona(self) -> Persona:
        """The persona in force; the default one where the chosen one cannot be used any more."""
        try:
            return persona.read(self.settings["persona"], self.profile.folder)
        except PersonaError as error:
            self.notes.append(str(error))
            self.settings["persona"] = persona.DEFAULT
            return persona.usual()  # the person's own of that name may be what is broken

    def adapted(self) -> Adapted:
        """The persona as history has changed it."""
        return adapt(self.persona(), self.records)

    def verbosity(self) -> str:
        """How much is said: as set, or as adapted."""
        chosen = self.settings["verbosity"]
        return self.adapted().verbosity if chosen == "auto" else chosen

    def asked(self) -> Asked:
        """What the next question is answered with."""
        return Asked(
            model=self.model, sandbox=self.sandbox, known=self.functions, tries=self.settings["tries"],
            bits=self.settings["bits"],
        )  # fmt: skip

    def keep(self, record: dict[str, Any]) -> None:
        """Adds to the history; where the profile cannot be written it is kept for this session, with a note once."""
        record = record | {"at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
        self.records.append(record)
        self.transcript.append(record)
        try:
            self.profile.append(record)
        except ProfileError as error:
            if str(error) not in self.notes:
                self.notes.append(str(error))

    def keep_settings(self, *names: str) -> None:
        """Writes these settings; what is as at first leaves the file."""
        now = {name: self.settings[name] for name in names}
        try:
            self.profile.keep_settings({name: None if now[name] == DEFAULTS[name] else now[name] for name in names})
        except ProfileError as error:
            self.notes.append(str(error))

    def remember(self, source: str, names: tuple[str, ...]) -> None:
        """Makes functions usable by name."""
        new = {name: source for name in names if self.functions.get(name) != source}
        self.functions = {name: text for name, text in self.functions.items() if name not in names}
        self.functions |= dict.fromkeys(names, source)
        self.open_functions += [name for name in names if name not in self.open_functions]
        if new:
            self.keep({"kind": "definition", "names": list(names), "source": source})


def open_session(model: AskedModel, sandbox: Sandbox, profile: Profile) -> Session:
    """A session from the profile; invalid settings and damaged records are left out."""
    session = Session(model=model, sandbox=sandbox, profile=profile)
    session.records, broken = profile.records()
    if broken:
        session.notes.append(
            f"{profile.history}: {broken} line(s) are damaged and were left out; the others are all there"
        )
    if trouble := profile.trouble():
        session.notes.append(trouble)
    for name, value in profile.settings().items():
        if name in DEFAULTS and setting_problem(name, value) is None:
            session.settings[name] = value
    session.functions = functions_in(session.records)
    return session


def functions_in(records: list[dict[str, Any]]) -> dict[str, str]:
    """The functions of a history by name, the latest last."""
    found: dict[str, str] = {}
    for record in records:
        names, source = record.get("names"), record.get("source")
        if record["kind"] == "definition" and isinstance(names, list) and isinstance(source, str):
            for name in names:
                if isinstance(name, str) and name in _names_in(source):
                    found.pop(name, None)
                    found[name] = source
    return found


def _names_in(source: str) -> tuple[str, ...]:
    asked = intent.understand(source)
    return asked.names if isinstance(asked, intent.Definition) else ()


def setting_problem(name: str, value: Any) -> str | None:
    """Why a setting cannot have that value; None where it can."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    match name:
        case "tries":
            fits = whole and 1 <= value <= MOST_TRIES
            return None if fits else f"tries must be from 1 to {MOST_TRIES}"
        case "level":
            fits = value == "auto" or (whole and 0 <= value < NUM_LEVELS)
            return None if fits else f"level must be auto or from 0 to {NUM_LEVELS - 1}"
        case "bits":
            return None if value in BITS else f"bits must be one of {', '.join(BITS)}"
        case "verbosity":
            choices = ("auto", *persona.VERBOSITIES)
            return None if value in choices else f"verbosity must be one of {', '.join(choices)}"
        case "persona":
            return None if isinstance(value, str) else "persona must be a name"
    return f"there is no setting {name}; there are {', '.join(DEFAULTS)}"


# ---- from a text to what is said ----


def respond(session: Session, text: str) -> Iterator[Said]:
    """What is said to a question, piece by piece, an ``Answer`` last; it is kept in the history."""
    text = without_quotes(text)
    if session.puzzle is not None:
        yield _judge_puzzle(session, session.puzzle, text)
        return
    question = intent.understand(text)
    if isinstance(question, intent.NotUnderstood):
        yield Answer(kind="error", question=text[:200], note=question.hint)
        return
    source = getattr(question, "source", "")
    if source:
        session.remember(source, programs.names_defined(source))
    if isinstance(question, intent.Definition):
        yield Answer(kind="definition", question=text, answer=", ".join(question.names))
        return
    if isinstance(question, intent.ValueQuestion):
        answers: Iterator[Said] = iter([_value_of(session, question, text)])
    else:
        answers = answer_to(question, session.asked(), text)
    for said in answers:
        if isinstance(said, Answer) and said.kind != "error":
            kept = said.record()
            session.keep(
                {key: kept[key] for key in ("kind", "question", "answer", "right", "tries", "bits") if key in kept}
            )
        yield said


def without_quotes(text: str) -> str:
    """The text between the triple quotes that many lines may be typed in."""
    match = re.fullmatch(r'\s*"""(.*)"""\s*', text, re.DOTALL)
    return match[1] if match else text


def _value_of(session: Session, question: intent.ValueQuestion, text: str) -> Answer:
    try:
        code = programs.expression_program(question.text, session.functions)
    except (ProgramError, SyntaxError) as error:
        return Answer(kind="error", question=text, note=str(error))
    except RecursionError:
        return Answer(kind="error", question=text, note=TOO_DEEP)
    outcome = judging.value_of(session.sandbox, code, "")
    if outcome.exc == "NameError":
        known = f"; functions known by name: {', '.join(session.functions)}" if session.functions else ""
        return Answer(kind="error", question=text, note=f"a name in it is not defined{known}; /help shows what works")
    fine = outcome.kind == "ok"
    value = judging.explained(outcome)
    return Answer(kind="expression", question=text, answer=value if fine else None, python=value)


def _judge_puzzle(session: Session, puzzle: Puzzle, text: str) -> Answer:
    try:
        right, python = puzzle.judged(session.sandbox, text)
    except (ProgramError, RecursionError) as error:
        note = TOO_DEEP if isinstance(error, RecursionError) else str(error)
        return Answer(kind="error", question=text, note=note)
    session.puzzle = None
    session.keep({
        "kind": "puzzle", "about": puzzle.kind, "level": puzzle.level, "question": puzzle.text(), "answer": text[:500],
        "right": right,
    })  # fmt: skip
    return Answer(kind="puzzle", question=puzzle.text(), answer=text, right=right, python=python)


def pose_puzzle(session: Session, level: int | None) -> Iterator[Said]:
    """Proposes a puzzle and makes it the one that the next text answers."""
    adapted = session.adapted()
    set_level = session.settings["level"]
    wanted = level if level is not None else adapted.level if set_level == "auto" else set_level
    for kind in adapted.puzzles:
        for said in puzzles.propose(session.asked(), kind, wanted):
            if isinstance(said, Puzzle):
                session.puzzle = said
                note = f"level {said.level} {said.kind}, my own, one of {said.proposals} proposals:"
                yield Answer(kind="command", question="/puzzle", answer=f"{note}\n{said.text()}")
                return
            yield said
    note = f"no proposal of mine passed every gate at level {wanted}; ask again, or /puzzle 0"
    yield Answer(kind="error", question="/puzzle", note=note)


def score(records: list[dict[str, Any]]) -> tuple[int, int]:
    """Puzzles that were right, and all that were answered."""
    found = [
        record["right"] for record in records if record["kind"] == "puzzle" and isinstance(record.get("right"), bool)
    ]
    return sum(found), len(found)
