"""``--mode=chat``: a conversation with a packed model, at a terminal, from a pipe, or about one ``--prompt``.

python launch.py --mode=chat --model=runs/azr_small/packed.npz
python launch.py --mode=chat --model=FILE --prompt="def f(a): return a + 1; f(3)" --json
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass

from bitzero.chat import adapting, commands, judging, keyboard, model
from bitzero.chat.answers import Answer
from bitzero.chat.profile import Profile, default_folder
from bitzero.chat.screen import JsonScreen, Screen, TextScreen
from bitzero.chat.session import Session, open_session, respond
from bitzero.chat.solving import Said
from bitzero.run import device
from bitzero.run.experiment import read_packed_config
from bitzero.run.workdir import RunError
from bitzero.sandbox import Sandbox, SandboxUnavailable

OK, NOT_UNDERSTOOD, STOPPED = 0, 3, 130
_PATIENCE = 1.0  # seconds of waiting for the compiler before it is said


@dataclass(frozen=True, kw_only=True)
class ChatOrder:
    """What the command line asks for."""

    model: pathlib.Path
    profile_dir: pathlib.Path | None = None
    prompt: str | None = None
    json: bool = False
    settings: tuple[tuple[str, str], ...] = ()  # dotted key and text: ``sandbox.allow_unsafe`` or none


def main(order: ChatOrder) -> int:
    """Talks until the person leaves; the value is the exit code: 0, 3 where a question of a pipe or prompt had no
    answer, 130 where one was stopped. Raises ``RunError`` for a model or a machine that will not do, ``ConfigError``
    for a setting.
    """
    try:
        return _hold_conversation(order)
    except SandboxUnavailable as error:
        raise RunError(str(error)) from None


def _hold_conversation(order: ChatOrder) -> int:
    """From the model's file to the person's leave."""
    screen: Screen = JsonScreen() if order.json else TextScreen()
    device.configure_jax(screen.line)
    asked = model.load(order.model, screen.line)
    cfg = read_packed_config(asked.solver.cfg, order.settings, group="")
    asked.solver = dataclasses.replace(asked.solver, cfg=cfg)
    profile = Profile(order.profile_dir or default_folder())
    ready: dict[model.Bits, threading.Event] = {bits: threading.Event() for bits in ("ternary", "all")}
    asked.wait = lambda bits: _wait(ready[bits], screen)
    warm = threading.Thread(target=_make_ready, args=(asked, ready), daemon=True)
    with Sandbox(judging.LIMITS, allow_unsafe=cfg.sandbox.allow_unsafe) as sandbox:
        warm.start()  # before the person's delta is there, which changes no shape
        session = open_session(asked, sandbox, profile)
        adapting.take_up(session)
        try:
            code = _converse(order, session, screen)
        finally:
            if line := adapting.end(session):
                screen.line(line)
    if warm.is_alive():  # the compiler cannot be stopped, and a thread in it would be torn down under its feet
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _converse(order: ChatOrder, session: Session, screen: Screen) -> int:
    if order.prompt is not None:
        return _answer_all(iter([order.prompt]), session, screen)
    if not keyboard.is_terminal():
        return _answer_all(keyboard.piped(sys.stdin.buffer.readline), session, screen)
    return _talk(session, screen)


def _answer_all(questions: Iterator[str], session: Session, screen: Screen) -> int:
    """Every question in its turn; the worst of their exit codes."""
    code = OK
    for text in questions:
        try:
            result = _answer(text, session, screen)
        except commands.Leave:
            return code
        if result == STOPPED:
            return STOPPED
        code = max(code, result)
    return code


def _talk(session: Session, screen: Screen) -> int:
    screen.line(session.persona().greeting, "plain")
    screen.line("I never read English; /help shows what I can be asked. Ctrl-D leaves.")
    earlier = [text for record in session.records if isinstance(text := record.get("question"), str)]
    read = keyboard.typed(lambda: earlier[-500:], lambda: [*commands.COMMANDS, *session.functions])
    _tell_notes(session, screen)
    while True:
        try:
            text = read()
            if text.strip():
                _answer(text, session, screen)
        except KeyboardInterrupt:
            continue  # Ctrl-C at the prompt drops what was typed
        except (EOFError, commands.Leave):
            return OK


def _answer(text: str, session: Session, screen: Screen) -> int:
    """Says what there is to say to one text; Ctrl-C ends it between two pieces."""
    code = OK
    adapting.look(session)
    _tell_notes(session, screen)
    with _ctrl_c() as pressed:
        said = commands.run(session, text) if text.lstrip().startswith("/") else respond(session, text)
        try:
            code = _say_all(said, session, screen, pressed)
        except commands.Leave:
            raise
        except Exception as error:  # a fault of this program's own ends a question, never the conversation
            reason = (str(error).splitlines() or [""])[0][:200]
            screen.line(f"this could not be answered, by a fault in here: {type(error).__name__} {reason}", "error")
            code = NOT_UNDERSTOOD
    _tell_notes(session, screen)
    return code


def _say_all(said: Iterator[Said], session: Session, screen: Screen, pressed: threading.Event) -> int:
    code = OK
    for piece in said:
        if pressed.is_set():
            screen.line("stopped", "error")
            return STOPPED
        screen.say(piece, session)
        if isinstance(piece, Answer) and piece.kind == "error":
            code = NOT_UNDERSTOOD
    return code


def _make_ready(asked: model.AskedModel, ready: dict[model.Bits, threading.Event]) -> None:
    """In the background: ternary first, which is what an answer begins with."""
    for bits, event in ready.items():
        with contextlib.suppress(Exception):  # the answer meets a fault again, and says so in a line
            model.warm_up(asked, bits)
        event.set()


def _wait(ready: threading.Event, screen: Screen) -> None:
    if not ready.wait(_PATIENCE):
        screen.line("making the model ready: the first start compiles it, later ones are quicker …")
        ready.wait()


def _tell_notes(session: Session, screen: Screen) -> None:
    for note in dict.fromkeys(session.notes):
        screen.line(note, "error")
    session.notes.clear()


@contextlib.contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Ctrl-C sets the event and nothing else: an answer is left where nothing is half done."""
    pressed = threading.Event()

    def press(number: int, frame: types.FrameType | None) -> None:
        pressed.set()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
