"""``/adapt``: which delta the chat asks under, and the learning process that it starts and ends."""

import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from bitzero.chat import adapting, commands, judging, model
from bitzero.chat.profile import Profile
from bitzero.chat.session import Session
from bitzero.model import delta as deltas
from bitzero.run.deltas import Deltas
from bitzero.sandbox import Sandbox
from tests.chat.terminal import ROOT, Terminal


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(judging.LIMITS, workers=2) as box:
        yield box


@pytest.fixture
def session(model_file, tmp_path, sandbox):
    return Session(model=model.load(model_file, print), sandbox=sandbox, profile=Profile(tmp_path / "profile"))


@pytest.fixture
def kept(session):
    """A delta of 0.5 for every number, in the profile."""
    store = Deltas(adapting.folder_of(session), session.model.path)
    store.folder.mkdir(parents=True)
    delta = {path: leaf + 0.5 for path, leaf in deltas.zero(session.model.base["all"]).items()}
    store.keep(delta, {"at": "2026-01-01T00:00:00+00:00"})
    return store


def said(session, text):
    return "\n".join(answer.answer or answer.note for answer in commands.run(session, text))


def scale_ratio(session, bits):
    leaf = lambda trees: np.asarray(trees[bits]["layers"]["qkv"]["kernel"].scale)
    return float((leaf(session.model.weights) / leaf(session.model.base)).mean())


def test_the_delta_of_the_profile_is_asked_under_at_every_precision(session, kept):
    adapting.take_up(session)
    assert not session.notes
    for bits in ("ternary", "all"):
        assert scale_ratio(session, bits) == pytest.approx(1.5)
    codes = lambda trees: trees["all"]["layers"]["qkv"]["kernel"].codes
    np.testing.assert_array_equal(codes(session.model.weights), codes(session.model.base))


def test_undo_redo_and_show(session, kept):
    adapting.take_up(session)
    assert "* 1  2026-01-01" in said(session, "/adapt show")
    assert said(session, "/adapt undo") == "the model is asked as it came now"
    assert session.model.weights is session.model.base
    assert "nothing to undo" in said(session, "/adapt undo")
    assert said(session, "/adapt redo") == "the model is asked under delta 1 now" and scale_ratio(session, "all") > 1
    assert "nothing to redo" in said(session, "/adapt redo")
    assert "/adapt MINUTES" in said(session, "/adapt nonsense")


def test_a_delta_of_another_model_is_refused_with_a_line(session, kept, tmp_path):
    other = tmp_path / "other.npz"
    other.write_bytes(session.model.path.read_bytes() + b" ")
    session.model.path = other
    adapting.take_up(session)
    assert session.notes == ["what was learned from your tasks is another model's; this one is asked as it is"]
    assert session.model.weights is session.model.base


def test_a_broken_delta_is_a_line_and_the_model_is_asked_as_it_is(session, kept):
    adapting.take_up(session)
    (kept.folder / "0001.npz").write_bytes(b"broken")
    adapting.take_up(session)
    [note] = session.notes
    assert note.startswith("the model is asked as it is: ") and "0001.npz" in note
    assert session.model.weights is session.model.base


def process(tmp_path, code):
    log = tmp_path / "log"
    with open(log, "wb") as out:
        return adapting.Background(process=subprocess.Popen([sys.executable, "-c", code], stdout=out), log=log)


def test_a_turn_says_what_came_of_it_and_takes_it_up(session, kept, tmp_path):
    session.learning = process(tmp_path, "print('step 1'); print('kept: better')")
    session.learning.process.wait()
    adapting.look(session)
    assert session.notes == ["/adapt: kept: better"] and session.learning is None and not (tmp_path / "log").exists()
    assert scale_ratio(session, "all") == pytest.approx(1.5)


def test_one_at_a_time_and_none_outlives_the_chat(session, tmp_path):
    running = process(tmp_path, "print('step 1', flush=True); import time; time.sleep(100)")
    session.learning = running
    adapting.look(session)
    assert session.learning is running and not session.notes
    assert "at work already" in said(session, "/adapt")
    assert adapting.end(session) == "/adapt was still learning and was ended; nothing of it is kept"
    assert running.process.poll() is not None and adapting.end(session) is None


def test_a_log_that_is_gone_is_a_line(session, tmp_path):
    session.learning = process(tmp_path, "pass")
    session.learning.process.wait()
    session.learning.log.unlink()
    adapting.look(session)
    assert session.notes == ["/adapt: what it said cannot be read: No such file or directory"]


def test_each_chat_has_a_log_of_its_own(session, monkeypatch):
    monkeypatch.setattr(adapting.os, "getpid", lambda: 4711)
    monkeypatch.setattr(adapting, "_LAUNCH", ROOT / "no-such-launch.py")
    assert "learning from your tasks" in said(session, "/adapt")
    assert session.learning.log == adapting.folder_of(session) / "adapt.4711.log" and session.learning.log.exists()
    assert stat.S_IMODE(session.profile.folder.stat().st_mode) == 0o700
    session.learning.process.wait()


def test_a_profile_that_cannot_be_entered_is_a_note(session, tmp_path):
    session.profile = Profile(tmp_path / ("x" * 300))
    adapting.take_up(session)
    [note] = session.notes
    assert note.startswith("the model is asked as it is: cannot read ") and note.endswith(": File name too long")


def test_the_mode_refuses_in_one_line(model_file, tmp_path):
    """No task is there to learn from, and a setting of the base's own."""
    command = [sys.executable, "launch.py", "--mode=adapt", f"--model={model_file}", f"--profile_dir={tmp_path / 'p'}"]
    done = subprocess.run([*command, "--config.tasks.workers=1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "0 of 4 functions to train on and 0 of 2 held back" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    for place in (tmp_path / "p").rglob("*"):
        assert stat.S_IMODE(place.stat().st_mode) == (0o700 if place.is_dir() else 0o600), place
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o700
    done = subprocess.run([*command, "--config.model.width=64"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "is the base model's own" in done.stderr


def test_the_mode_says_when_it_is_the_shipped_model_and_that_a_profile_cannot_be_written(model_file):
    command = [sys.executable, "launch.py", "--mode=adapt", "--profile_dir=/proc/bitzero"]
    for model_flag, shipped in (([], True), ([f"--model={model_file}"], False)):
        done = subprocess.run([*command, *model_flag], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("launch.py: cannot write to /proc/bitzero/deltas/")
        assert done.stderr.endswith("; --profile_dir names another\n")
        assert ("the model that comes with BitZero (model.npz, see MODEL.md beside it)" in done.stdout) is shipped


def test_at_a_terminal_a_turn_later_says_what_came_of_it(model_file, tmp_path):
    terminal = Terminal(model_file, tmp_path / "profile")
    try:
        terminal.ask("/adapt 1", "learning from your tasks in the background")
        end = time.monotonic() + 150
        while "/adapt: too little to learn from: 0 of 4" not in terminal.text():
            assert time.monotonic() < end, terminal.text()[-500:]
            terminal.ask("1 + 1", "Python: 2")
            time.sleep(0.5)
        assert terminal.leave() == 0
    finally:
        terminal.kill()
