"""What a program wrote to a terminal, as the rows that a person read; and a small program that is talked to."""

import sys

import pytest

from benchmarks import chat_screen
from benchmarks.chat_screen import Conversation, Terminal


def screen_of(*pieces):
    screen = Terminal()
    for piece in pieces:
        screen.feed(piece)
    return screen


@pytest.mark.parametrize(
    ("pieces", "rows"),
    [
        (("one\r\ntwo\r\n",), ["one", "two", ""]),
        (("half a tok\r\x1b[K", "whole\r\n"), ["whole", ""]),
        (("abc\x1b[2Dx\r\n\n\n\x1b[2A>>>",), ["axc", ">>>", "", ""]),
        (("gone\r\ngone\x1b[A\r\x1b[J>>> ",), [">>>"]),
        (
            (
                "a\x1b[3",
                "1mb\x1b]0;title\x07c\x1b[?2004h\x1b(B\x1b=d\x1b[5Ge",
            ),
            ["abcde"],
        ),
        (("ab\b\x1b[Cc\x00\x7f",), ["abc\x7f"]),
    ],
)
def test_rows_are_what_stays(pieces, rows):
    screen = screen_of(*pieces)
    assert screen.lines(0, len(screen.rows)) == rows


def test_colours_are_kept_for_the_picture():
    screen = screen_of("\x1b[32mgood\x1b[0m \x1b[0;31mbad\x1b[m\r\n<a>&\r\n")
    assert screen.ansi(0, 1) == "\x1b[0;32mgood\x1b[0m \x1b[0;31mbad"
    svg = chat_screen.picture(screen, 2, "a title").replace("&#160;", " ")
    assert "good" in svg and "&lt;a&gt;&amp;" in svg and "a title" in svg
    assert "font-face" not in svg and len(svg) < 20_000
    assert svg == chat_screen.picture(screen, 2, "a title").replace("&#160;", " ")


PROGRAM = """
import signal, sys, termios, time, tty
before = termios.tcgetattr(0)
stopped = []
signal.signal(signal.SIGINT, lambda *_: stopped.append(1))
while True:
    print(">>> ", end="", flush=True)
    tty.setcbreak(0)
    text = ""
    while (char := sys.stdin.read(1)) not in "\\n\\x04":
        print(char, end="", flush=True)
        text += char
    termios.tcsetattr(0, termios.TCSANOW, before)
    print()
    if char == "\\x04":
        break
    if text == "die":
        sys.exit(3)
    if text == "slow":
        print("please wait", flush=True)
        time.sleep(0.3)
    if text == "wait":
        print(".", end="", flush=True)
        while not stopped:
            time.sleep(0.01)
        print("\\r\\x1b[Kstopped")
    else:
        time.sleep(0.2)
        print(text.upper())
"""


def test_a_program_is_talked_to(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    talk = Conversation([sys.executable, "program.py"], cwd=tmp_path, settings={}, aside="please")
    try:
        said = [talk.ask("hello"), talk.ask("wait\x03"), talk.ask("slow")]
        assert [talk.screen.lines(one.start, one.end) for one in said] == [
            [">>> hello", "HELLO"],
            [">>> wait", "stopped"],
            [">>> slow", "please wait", "SLOW"],
        ]
        assert said[2].first >= 0.5  # not the line beside the answer
        assert 0.2 <= said[0].first <= said[0].seconds < 60 and talk.prompt_after > 0 and talk.peak_memory_mib() > 1
        with pytest.raises(TimeoutError, match=r"no .*'die': it ended with 3 after .*die"):
            talk.ask("die")
    finally:
        talk.kill()


def test_it_leaves(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    talk = Conversation([sys.executable, "program.py"], cwd=tmp_path, settings={})
    talk.leave()
    assert talk.process.returncode == 0
    talk.kill()
