"""What a conversation says and returns when something goes wrong inside it, without the program around it."""

import json
import threading
import time

import pytest

from bitzero.chat import commands, judging, main, model
from bitzero.chat.answers import Answer
from bitzero.chat.profile import Profile
from bitzero.chat.screen import JsonScreen, TextScreen
from bitzero.chat.session import open_session
from bitzero.sandbox import Sandbox


@pytest.fixture(scope="module")
def session(model_file, tmp_path_factory):
    with Sandbox(judging.LIMITS, workers=2) as sandbox:
        profile = Profile(tmp_path_factory.mktemp("profile"))
        yield open_session(model.load(model_file, print), sandbox, profile)


def answering(monkeypatch, *pieces):
    """Makes every question lead to these pieces; an exception among them is raised."""

    def respond(session, text):
        for piece in pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    monkeypatch.setattr(main, "respond", respond)


@pytest.mark.parametrize(
    ("fault", "note", "code"),
    [
        (ValueError("odd"), "this could not be answered, by a fault in here: ValueError odd", 3),
        (KeyboardInterrupt(), "stopped", 130),
    ],
)
def test_what_goes_wrong_in_a_question_is_its_one_object(session, monkeypatch, capsys, fault, note, code):
    answering(monkeypatch, ".", fault)
    assert main._answer("1 + 1", session, JsonScreen()) == code
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"kind": "error", "question": "1 + 1", "note": note, "right": None}


def test_a_persona_that_fails_does_not_fail_what_is_said_of_it(session, monkeypatch, capsys):
    answering(monkeypatch, Answer(kind="expression", question="", answer="2"))
    monkeypatch.setattr(type(session), "persona", lambda self: {}["gone"])
    assert main._answer("1 + 1", session, TextScreen()) == 3
    assert "by a fault in here: KeyError 'gone'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(kind="deduction", question="", python="4", note="the question takes 99 tokens"), 3),
        (Answer(kind="abduction", question="", note="the question takes 99 tokens"), 3),
        (Answer(kind="deduction", question="", answer="5", right=False, python="4"), 0),
        (Answer(kind="expression", question="", python="raises ZeroDivisionError"), 0),
        (Answer(kind="error", question="", note="nothing was asked"), 3),
    ],
)
def test_exit_codes_say_whether_there_was_an_answer(session, monkeypatch, answer, code):
    answering(monkeypatch, answer)
    assert main._answer("x", session, JsonScreen()) == code


def test_ctrl_c_ends_the_wait_for_the_compiler(session, monkeypatch):
    ready, pressed = threading.Event(), threading.Event()
    monkeypatch.setattr(main, "_PRESSED", pressed)
    threading.Timer(0.3, pressed.set).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        main._wait(ready, JsonScreen())
    assert time.monotonic() - started < 20
    ready.set()
    main._wait(ready, JsonScreen())


def test_leaving_is_no_fault(session):
    with pytest.raises(commands.Leave):
        main._answer("/bye", session, JsonScreen())
