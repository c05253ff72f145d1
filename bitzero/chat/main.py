"""``--mode=chat``: a conversation with a packed model, at a terminal, from a pipe, or about one ``--prompt``.

python launch.py --mode=chat --model=runs/azr_small/packed.npz
python launch.py --mode=chat --model=FILE --prompt="def f(a): return a + 1; f(3)" --json
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import signal
import sys
import threading
import time
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
from bitzero.tasks.kinds import KINDS

OK, NO_ANSWER, STOPPED = 0, 3, 130
_PATIENCE = 1.0  # seconds of waiting for the compiler before it is said
_GLANCE = 0.2  # seconds between looks at Ctrl-C while it is waited for
_PRESSED = threading.Event()  # Ctrl-C in an answer; a signal is the process's, so this is too


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
    if order.prompt is None and sys.stdin is None:
        raise RunError("standard input is closed, so no question can come; ask one with --prompt, or open a pipe")
    screen: Screen = JsonScreen() if order.json else TextScreen()
    device.configure_jax(screen.line)
    asked = model.load(order.model, screen.line)
    cfg = read_packed_config(asked.solver.cfg, order.settings, group="")
    asked.solver = dataclasses.replace(asked.solver, cfg=cfg)
    profile = Profile(order.profile_dir or default_folder())
    ready: dict[model.Bits, threading.Event] = {bits: threading.Event() for bits in ("ternary", "all")}
    asked.wait = lambda bits: _wait(ready[bits], screen)
    warm = threading.Thread(target=_make_ready, args=(asked, ready), daemon=True)
    try:
        with Sandbox(judging.LIMITS, allow_unsafe=cfg.sandbox.allow_unsafe) as sandbox:
            warm.start()  # before the person's delta is there, which changes no shape
            session = open_session(asked, sandbox, profile)
            adapting.take_up(session)
            code = _converse(order, session, screen)
    except KeyboardInterrupt:  # between two questions, or before the first
        code = STOPPED
    if warm.is_alive():  # the compiler cannot be stopped, and a thread in it would be torn down under its feet
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # it was closed
                stream.flush()
        os._exit(code)
    return code


def _converse(order: ChatOrder, session: Session, screen: Screen) -> int:
    try:
        if order.prompt is not None:
            return _answer_all(iter([order.prompt]), session, screen)
        if order.json or not keyboard.is_terminal():  # a prompt would stand among the objects
            return _answer_all(keyboard.piped(sys.stdin.buffer.readline), session, screen)
        return _talk(session, screen)
    finally:
        if line := adapting.end(session):
            screen.line(line)


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
    with _ctrl_c():
        said = commands.run(session, text) if text.lstrip().startswith("/") else respond(session, text)
        try:
            code = _say_all(said, session, screen)
        except commands.Leave:
            raise
        except KeyboardInterrupt:
            screen.say(Answer(kind="error", question=text[:200], note="stopped"), session)
            code = STOPPED
        except Exception as error:  # a fault of this program's own ends a question, never the conversation
            reason = (str(error).splitlines() or [""])[0][:200]
            note = f"this could not be answered, by a fault in here: {type(error).__name__} {reason}"
            screen.say(Answer(kind="error", question=text[:200], note=note), session)
            code = NO_ANSWER
    _tell_notes(session, screen)
    return code


def _say_all(said: Iterator[Said], session: Session, screen: Screen) -> int:
    """Says every piece. Raises ``KeyboardInterrupt`` after Ctrl-C."""
    code = OK
    for piece in said:
        if _PRESSED.is_set():
            raise KeyboardInterrupt
        screen.say(piece, session)
        if isinstance(piece, Answer) and (piece.kind == "error" or (piece.kind in KINDS and piece.answer is None)):
            code = NO_ANSWER
    return code


def _make_ready(asked: model.AskedModel, ready: dict[model.Bits, threading.Event]) -> None:
    """In the background: ternary first, which is what an answer begins with."""
    for bits, event in ready.items():
        with contextlib.suppress(Exception):  # the answer meets a fault again, and says so in a line
            model.warm_up(asked, bits)
        event.set()


def _wait(ready: threading.Event, screen: Screen) -> None:
    """Until it is compiled. Raises ``KeyboardInterrupt`` after Ctrl-C."""
    told = time.monotonic() + _PATIENCE
    while not ready.wait(_GLANCE):
        if _PRESSED.is_set():
            raise KeyboardInterrupt
        if time.monotonic() > told:
            screen.line("making the model ready: the first start compiles it, later ones are quicker …")
            told = math.inf


def _tell_notes(session: Session, screen: Screen) -> None:
    for note in dict.fromkeys(session.notes):
        screen.line(note, "error")
    session.notes.clear()


@contextlib.contextmanager
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C sets the event and nothing else: an answer is left where nothing is half done."""
    _PRESSED.clear()

    def press(number: int, frame: types.FrameType | None) -> None:
        _PRESSED.set()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
