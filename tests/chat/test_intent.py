"""The grammar: what each text asks for, and what is said to a text that asks for nothing."""

import io
import re
import time

import pytest

from bitzero.chat import intent, keyboard
from bitzero.chat.intent import (
    CallQuestion,
    Definition,
    InputQuestion,
    NotUnderstood,
    PairsQuestion,
    ValueQuestion,
    understand,
)

LINE = "def f(a): return a + 1"
LONG = "def f(a):\n    b = a\n    return b"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (f"{LINE}\nf(3)", CallQuestion(source=LINE, name="f", args="3")),
        (f"{LINE}; f(3)", CallQuestion(source=LINE, name="f", args="3")),
        (f"{LONG}\n\nprint(f([1], k='x'))", CallQuestion(source=LONG, name="f", args="[1], k='x'")),
        (f"{LONG}\r\nf(3) == ?", CallQuestion(source=LONG, name="f", args="3")),
        ("double(4)", CallQuestion(source="", name="double", args="4")),
        (f"{LONG}\nf(?) == 4", InputQuestion(source=LONG, name="f", value="4")),
        (f"{LINE}; -> [1, 2]", InputQuestion(source=LINE, name="f", value="[1, 2]")),
        (f"{LINE}\n'ab'", InputQuestion(source=LINE, name="f", value="'ab'")),
        ("4 == double(?)", InputQuestion(source="", name="double", value="4")),
        ("1 -> 2, 5 -> 10", PairsQuestion(inputs=("1", "5"), outputs=("2", "10"))),
        ("1, 2 -> 3; 5, 1 => 6", PairsQuestion(inputs=("1, 2", "5, 1"), outputs=("3", "6"))),
        ("[1, 2] -> 'a;b'\n[] → ''", PairsQuestion(inputs=("[1, 2]", "[]"), outputs=("'a;b'", "''"))),
        ("f(1) -> 2, f(2) -> 3", PairsQuestion(inputs=("1", "2"), outputs=("2", "3"))),
        (LINE, Definition(source=LINE, names=("f",))),
        ("sum([1, 2]) * 2", ValueQuestion(text="sum([1, 2]) * 2")),
        ("len([1])", ValueQuestion(text="len([1])")),
        ("f(1) + 1", ValueQuestion(text="f(1) + 1")),
    ],
)
def test_a_question_is_understood(text, question):
    assert understand(text) == question


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "nothing was asked"),
        ("hello, how are you?", "never read English"),
        ("what do you know", "never read English"),
        ("x = 3", "write it as a function"),
        ("1 -> 2", "two or more"),
        ("1 -> 2, 1 -> 3", "no function does both"),
        ("1 -> 2; 1, 2 -> 3", "different numbers of inputs"),
        ("1 -> abc, 2 -> 3", "is no example"),
        ("'a -> 2, 5 -> 3", "do not match"),
        ("def f(a) return a", "not Python: expected ':'"),
        ("import os", "statements stand in a function"),
        ("f(?) == x", "not a plain value"),
        (f"import os\n{LINE}", "only functions"),
        (f"{LINE}\ng(3)", "g is not defined here"),
        (f"{LINE}\na b", "this is not Python"),
        ("f(?)", r"\? stands for"),
        ("a\x1b[31m", "control character '\\\\x1b'"),
        ("\udcff", "no UTF-8"),
        ("(" * 500, "nested"),
        ("-" * 9000 + "1", "nested|Python"),
        (f"1 -> 0x{'f' * 5000}, 2 -> 3", "too many digits"),
        (f"{LINE}\nf(0x{'f' * 5000})", "too many digits"),
        ("1" * 1_000_000, "1,000,000 characters are too many"),
    ],
)
def test_a_near_miss_gets_a_correction_of_one_line(text, hint):
    found = understand(text)
    assert isinstance(found, NotUnderstood) and "\n" not in found.hint

    assert re.search(hint, found.hint)


@pytest.mark.parametrize(
    ("lines", "complete"),
    [
        (LINE, True),
        ("def f(a):", False),
        ("def f(a):\n    return a", False),
        ("def f(a):\n    return a\n", True),
        (f"{LONG}\nf(3)", True),
        ("[1,", False),
        ('"""', False),
        ('"""\n1 -> 2\n5 -> 6\n"""', True),
        ("/help", True),
        ("1 -> 2, 5 -> 10", True),
    ],
)
def test_enter_ends_a_text_only_where_it_is_whole(lines, complete):
    assert keyboard.is_complete(lines) is complete


def test_no_text_runs(tmp_path):
    mark = tmp_path / "ran"
    for text in (f"open({str(mark)!r}, 'w')", f"def f(a=open({str(mark)!r}, 'w')): return a\nf(1)"):
        intent.understand(text)
    assert not mark.exists()


def test_a_pipe_joins_lines_to_questions():
    lines = [LONG, "f(3)", "", "1 + 1", "[1,", "2]", '"""', "1 -> 2", "", '3 -> 4"""', "def g(a):", "    return a"]
    found = list(keyboard.piped(io.BytesIO("\n".join(lines).encode()).readline))
    assert found == [f"{LONG}\nf(3)", "1 + 1", "[1,\n2]", '"""\n1 -> 2\n\n3 -> 4"""', "def g(a):\n    return a"]


@pytest.mark.parametrize(
    ("begin", "line", "end"),
    [("(", "1,", ""), ("def f(a):", "    a += 1", ""), ('"""', "1 +", '"""'), ("", "1 + " * 250_000 + "1", "")],
)
def test_a_megabyte_of_lines_is_one_question_that_is_too_long_and_soon_read(begin, line, end):
    text = "\n".join([begin, *[line] * max(1, 1_000_000 // len(line)), end, "2 + 2"])
    started = time.monotonic()
    long, after = keyboard.piped(io.BytesIO(text.encode()).readline)
    assert time.monotonic() - started < 20 and after == "2 + 2"
    assert "characters are too many" in understand(long).hint
