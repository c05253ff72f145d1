"""The words with a slash, on a session whose model is not asked; a puzzle made by hand."""

import dataclasses
import json
import time

import pytest

from bitzero.chat import commands, judging, model
from bitzero.chat.profile import Profile
from bitzero.chat.puzzles import Puzzle
from bitzero.chat.session import DEFAULTS, open_session, respond
from bitzero.sandbox import Sandbox
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, Task

CODE = "def f(a):\n    return a * 2"
POSED = {
    "deduction": Task(kind=DEDUCTION, level=0, code=CODE, inputs=("4",), outputs=("8",), shown=1),
    "abduction": Task(kind=ABDUCTION, level=0, code=CODE, inputs=("4",), outputs=("8",), shown=1),
    "induction": Task(kind=INDUCTION, level=0, code=CODE, inputs=("1", "2", "5"), outputs=("2", "4", "10"), shown=2),
}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(judging.LIMITS, workers=2) as box:
        yield box


@pytest.fixture(scope="module")
def asked(model_file):
    return model.load(model_file, print)


@pytest.fixture
def session(asked, tmp_path, sandbox):
    return open_session(asked, sandbox, Profile(tmp_path / "profile"))


def said(session, text):
    answers = list(commands.run(session, text) if text.startswith("/") else respond(session, text))
    return answers[-1]


def line(session, text):
    answer = said(session, text)
    return answer.answer or answer.note


def pose(session, kind):
    session.puzzle = Puzzle(kind=kind, level=0, task=POSED[kind], proposals=8)


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "shown"),
    [
        ("deduction", "8", "9", "f(4) == ?\nWhat does it return?"),
        ("abduction", "f(4)", "5", "f(?) == 8\nWhich input does that? Any that works is right."),
        ("induction", "def g(x): return x + x", "def f(a): return 2 ** a", "  f(1) = 2\n  f(2) = 4\nWrite f:"),
    ],
)
def test_a_puzzle_is_judged_and_the_score_is_kept(session, kind, right, wrong, shown):
    pose(session, kind)
    assert shown in session.puzzle.text()
    assert said(session, wrong).right is False and session.puzzle is None
    pose(session, kind)
    assert said(session, right).right is True
    assert "puzzles  1 of 2 right" in line(session, "/stats")
    kept = session.profile.records()[0]
    assert [(record["about"], record["right"]) for record in kept] == [(kind, False), (kind, True)]


def test_hidden_pairs_count_too(session):
    pose(session, "induction")
    answer = said(session, "def f(a): return a * 2 if a < 3 else 0")
    assert answer.right is False and answer.python == "2 of 3 pairs come out, hidden ones among them"


def test_a_puzzle_is_posed_given_up_and_cleared(session, monkeypatch):
    found = Puzzle(kind="deduction", level=0, task=POSED["deduction"], proposals=16)
    monkeypatch.setattr("bitzero.chat.puzzles.propose", lambda asked, kind, level: iter([".", found]))
    assert line(session, "/puzzle 0").startswith("level 0 deduction, my own, one of 16 proposals:\ndef f(a):")
    assert line(session, "/puzzle give") == "one answer: 8" and session.puzzle is None
    assert "no puzzle to give up" in line(session, "/puzzle give")
    said(session, "/puzzle")
    said(session, "/clear")
    assert session.puzzle is None and said(session, "1 + 1").answer == "2"
    monkeypatch.setattr("bitzero.chat.puzzles.propose", lambda asked, kind, level: iter(["."]))
    assert "no proposal of mine passed every gate at level 5" in line(session, "/puzzle 5")


def test_a_session_is_saved_cleared_and_loaded(session, asked, sandbox):
    said(session, "def double(x): return x * 2")
    said(session, "/set tries 3")
    assert line(session, "/save mine").endswith("sessions/mine.json")
    said(session, "/clear")
    assert "double" not in session.functions and "not defined" in said(session, "double(2) + 0").note
    other = open_session(asked, sandbox, Profile(session.profile.folder))
    other.settings, other.functions = dict(DEFAULTS), {}
    assert line(other, "/load mine") == "mine is loaded: its settings and 1 function(s)"
    assert other.settings["tries"] == 3 and said(other, "double(2) + 0").answer == "4"
    assert "no session 'none' is saved; there are: mine" in line(other, "/load none")


def test_history_shows_questions_and_answers(session):
    assert line(session, "/history") == "nothing was asked yet"
    said(session, "2 ** 5")
    assert line(session, "/history") == "2 ** 5  →  32"


def test_a_persona_is_reset_and_only_later_puzzles_count(session):
    for _ in range(2):
        pose(session, "deduction")
        said(session, "8")
    said(session, "/set level 3")
    assert "puzzles are of level 1: 2 of 2 were right" in line(session, "/persona show")
    assert line(session, "/persona reset") == "what was adapted is undone; the history stays"
    assert "nothing yet" in line(session, "/persona show") and session.settings["level"] == "auto"
    assert session.profile.settings() == {} and len(session.records) == 3


def test_what_is_forgotten_is_in_no_later_save(session):
    for question in ("1 + 1", "2 + 2", "def double(x): return x * 2"):
        said(session, question)
    assert line(session, "/memory forget 1") == "forgotten: 1 record(s)"
    assert line(session, "/memory forget double") == "forgotten: 1 record(s)" and not session.functions
    said(session, "/save mine")
    saved = (session.profile.folder / "sessions" / "mine.json").read_text()
    assert "2 + 2" in saved and "1 + 1" not in saved and "double" not in saved
    assert [record["question"] for record in session.profile.records()[0]] == ["2 + 2"]
    assert "is no number of a record" in line(session, "/memory forget 9")


def test_forget_all_takes_other_chats_lines_and_damaged_ones(session):
    said(session, "1 + 1")
    Profile(session.profile.folder).append({"kind": "expression", "question": "from another chat"})
    with open(session.profile.history, "ab") as file:
        file.write(b"damaged\n")
    assert line(session, "/memory forget all") == "forgotten: 3 record(s)"
    assert session.profile.history.read_bytes() == b"" and not session.records and not session.transcript
    assert line(session, "/memory") == "nothing is remembered"


def test_forgetting_many_takes_no_longer_than_a_look_at_each(session):
    records = [{"kind": "expression", "question": f"{number} + 0"} for number in range(20_000)]
    records += [{"kind": "definition", "names": ["g"], "source": f"def g(a): return {n}"} for n in range(2_000)]
    session.profile.folder.mkdir(parents=True)
    session.profile.history.write_text("".join(json.dumps(record) + "\n" for record in records))
    session.records = list(records)
    started = time.monotonic()
    assert line(session, "/memory forget g") == "forgotten: 2000 record(s)"
    assert len(session.profile.records()[0]) == 20_000 and time.monotonic() - started < 10


def test_records_are_exported(session, tmp_path):
    said(session, "1 + 1")
    assert line(session, f"/memory export {tmp_path / 'out.jsonl'}") == f"1 records in {tmp_path / 'out.jsonl'}"
    assert json.loads((tmp_path / "out.jsonl").read_text())["answer"] == "2"


def test_two_chats_change_their_own_settings_alone(session, asked, sandbox):
    other = open_session(asked, sandbox, Profile(session.profile.folder))
    said(session, "/set tries 3")
    said(other, "/set verbosity short")
    said(other, "/persona terse")
    assert session.profile.settings() == {"tries": 3, "verbosity": "short", "persona": "terse"}
    said(session, "/set verbosity auto")
    assert session.profile.settings() == {"tries": 3, "persona": "terse"}
    said(other, "/reset")
    assert session.profile.settings() == {}


def test_a_question_too_long_for_the_model_says_so(session):
    short = dataclasses.replace(session.model.solver.cfg.tasks, prompt=4)
    cfg = dataclasses.replace(session.model.solver.cfg, tasks=short)
    session.model = dataclasses.replace(session.model, solver=dataclasses.replace(session.model.solver, cfg=cfg))
    for question, python in (("def f(a): return a + 1; f(3)", "4"), ("1 -> 2, 2 -> 3", None)):
        answer = said(session, question)
        assert answer.answer is None and answer.python == python and "tokens and the model reads 4" in answer.note


def test_a_broken_persona_of_the_default_ones_name_is_a_note(session):
    own = session.profile.folder / "personas"
    own.mkdir(parents=True)
    (own / "tutor.toml").write_text("a =")
    assert session.persona().name == "tutor" and "tutor.toml is not TOML" in session.notes[0]
