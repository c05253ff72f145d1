"""The live line: every known figure, one line, quiet in a log."""

import io

import pytest
import rich.console

from bitzero.run.progress import Progress, Status, clock_text

STATUS = Status(
    phase="self-play",
    step=40,
    total=160,
    tokens_s=12345.6,
    loss=1.23456,
    accuracy={0: 0.71, 1: 0.5},
    valid=0.5,
    left_s=75.0,
)


def test_the_line_holds_everything_known():
    assert STATUS.line() == (
        "self-play · step 40/160 · 12,346 tokens/s · loss 1.235 · dev L0 71% L1 50% · valid proposals 50% · 1:15 left"
    )
    waits = {"generator": 0.031, "sandbox": 0.0}
    assert Status(phase="warm-up", step=1, total=9, waits=waits).line() == (
        "warm-up · step 1/9 · waiting for generator 3%"
    )
    assert Status(phase="warm-up", step=0, total=9, tokens_s=0.0).line() == "warm-up · step 0/9 · 0 tokens/s"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (67, "1:07"), (3723, "1:02:03")])
def test_clock(seconds, text):
    assert clock_text(seconds) == text


def test_a_log_gets_a_line_now_and_then_and_at_each_phase():
    out = io.StringIO()
    with Progress(rich.console.Console(file=out, width=200)) as progress:
        for step in range(5):
            progress.show(Status(phase="warm-up", step=step, total=5, tokens_s=1.0))
        progress.show(STATUS)
        progress.say("[saved]")
    lines = out.getvalue().splitlines()
    assert [line.split(" · ")[:2] for line in lines[:2]] == [["warm-up", "step 0/5"], ["self-play", "step 40/160"]]
    assert lines[2:] == ["[saved]"]


def test_what_is_waited_for_is_counted_and_a_log_says_it_once():
    out = io.StringIO()
    with Progress(rich.console.Console(file=out, width=200)) as progress:
        for done in range(0, 1600, 16):
            progress.count("tasks to begin with", done, 1600)
        progress.show(STATUS)
    assert [line.split(" · ")[0] for line in out.getvalue().splitlines()] == ["tasks to begin with", "self-play"]
    assert out.getvalue().startswith("tasks to begin with · 0/1,600\n")


def test_a_terminal_gets_one_changing_line():
    out = io.StringIO()
    console = rich.console.Console(file=out, width=40, force_terminal=True)
    with Progress(console) as progress:
        progress.show(STATUS)
        progress.say("saved")
    assert "\x1b[2K" in out.getvalue()  # the line is erased and drawn again
    assert "saved" in out.getvalue()
