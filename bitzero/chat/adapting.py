"""``/adapt``: learning from the person's tasks in a process of its own, and which delta the chat asks under.

The process is ``launch.py --mode=adapt`` with this chat's model and profile, niced so that answers stay quick. It ends
with the chat. What it kept is taken up at the next turn.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from bitzero.chat import model
from bitzero.chat.session import Session
from bitzero.run import deltas, workdir
from bitzero.run.deltas import Deltas
from bitzero.run.workdir import RunError

_LAUNCH = pathlib.Path(__file__).parents[2] / "launch.py"
_NICE = 10
_LOG = "adapt.{}.log"  # by the chat's process: two chats of one profile have a log each
_PATIENCE = 20  # seconds that an ending process is given


@dataclass(frozen=True, kw_only=True)
class Background:
    """A learning process that was started."""

    process: subprocess.Popen[bytes]
    log: pathlib.Path

    def last_line(self) -> str:
        """What it said last."""
        try:
            lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        except OSError as error:  # the profile may be deleted meanwhile
            return f"what it said cannot be read: {error.strerror}"
        return lines[-1].removeprefix("launch.py: ") if lines else "it has said nothing yet"


def folder_of(session: Session) -> pathlib.Path:
    """Where the profile keeps deltas."""
    return session.profile.folder / "deltas"


def take_up(session: Session) -> None:
    """Asks the model under the profile's delta from now on; where that cannot be, alone, with a note."""
    try:
        store = Deltas(folder_of(session), session.model.path)
        delta = store.load(session.model.base["all"])
        if not store.entries() and store.others():
            session.notes.append("what was learned from your tasks is another model's; this one is asked as it is")
    except RunError as error:
        session.notes.append(f"the model is asked as it is: {error}")
        delta = None
    model.use_delta(session.model, delta)


def look(session: Session) -> None:
    """At the start of a turn: takes up what a process that has ended since has kept, with a note."""
    running = session.learning
    if running is None or running.process.poll() is None:
        return
    session.learning = None
    session.notes.append(f"/adapt: {running.last_line()}")
    if running.process.returncode == 0:  # of a fault all that was said stays
        with contextlib.suppress(OSError):
            running.log.unlink()
    take_up(session)


def end(session: Session) -> str | None:
    """Ends the process with the chat; a line where there was one at work."""
    running, session.learning = session.learning, None
    if running is None or running.process.poll() is not None:
        return None
    running.process.send_signal(signal.SIGTERM)
    try:
        running.process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()
    return "/adapt was still learning and was ended; nothing of it is kept"


def command(session: Session, words: list[str]) -> Iterator[str]:
    """What ``/adapt`` says. Raises ``RunError``."""
    match words:
        case []:
            yield start(session, 0)
        case [minutes] if minutes.isdecimal() and 0 < int(minutes) <= 600:
            yield start(session, int(minutes))
        case ["show"]:
            yield _shown(session)
        case ["undo"]:
            yield _moved(session, -1, "there is nothing to undo: the model is asked as it came")
        case ["redo"]:
            yield _moved(session, 1, "there is nothing to redo")
        case _:
            raise RunError("/adapt, /adapt MINUTES, /adapt show, /adapt undo or /adapt redo")


def start(session: Session, minutes: int) -> str:
    """Starts learning in the background. Raises ``RunError`` where it is at work already or cannot be started."""
    if session.learning is not None:
        raise RunError(f"/adapt is at work already: {session.learning.last_line()}")
    log = folder_of(session) / _LOG.format(os.getpid())
    order = [
        sys.executable, str(_LAUNCH), "--mode=adapt", f"--model={session.model.path.absolute()}",
        f"--profile_dir={session.profile.folder.absolute()}", f"--config.run.nice={_NICE}",
        f"--config.run.minutes={minutes}",
        f"--config.sandbox.allow_unsafe={session.model.solver.cfg.sandbox.allow_unsafe}",
    ]  # fmt: skip
    try:
        workdir.make_private(log.parent)
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as out:
            process = subprocess.Popen(
                order, cwd=_LAUNCH.parent, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
    except OSError as error:
        raise RunError(f"/adapt could not be started: {error.strerror}; {log.parent} must be writable") from None
    session.learning = Background(process=process, log=log)
    return "learning from your tasks in the background; /adapt show says how far it is, and a turn says what came of it"


def _shown(session: Session) -> str:
    store = Deltas(folder_of(session), session.model.path)
    at = store.current()
    lines = [f"  {'*' if at == 0 else ' '} 0  the model as it came"]
    for number, entry in enumerate(store.entries(), 1):
        lines.append(f"  {'*' if at == number else ' '} {number}  {entry.get('at', '')}  {deltas.told(entry)}")
    working = [f"at work: {session.learning.last_line()}"] if session.learning else []
    return "\n".join([*lines, *working, "* is in use; /adapt undo and /adapt redo change it"])


def _moved(session: Session, steps: int, nothing: str) -> str:
    store = Deltas(folder_of(session), session.model.path)
    if not store.move(steps):
        raise RunError(nothing)
    take_up(session)
    at = store.current()
    return f"the model is asked {f'under delta {at}' if at else 'as it came'} now"
