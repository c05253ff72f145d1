"""Lessons of a history: what Python told is right, run and traced in the sandbox; nothing else becomes one."""

import pytest

from bitzero.chat import judging, lessons
from bitzero.sandbox import Sandbox
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(judging.LIMITS, workers=2) as box:
        yield box


def definition(source, *names):
    return {"kind": "definition", "names": list(names), "source": source}


def question(kind, text, answer=None, right=False):
    return {"kind": kind, "question": text, "answer": answer, "right": right}


def test_a_call_becomes_pairs_and_traces_of_its_function(sandbox):
    source = "def g(a):\n    b = a - 3\n    return [b, a]"
    records = [definition(source, "g"), question("deduction", "g(10)", "[99, 10]")]
    [found] = lessons.lessons_of(records, sandbox)
    assert found.kind == DEDUCTION and found.code == source.replace("def g", "def f")
    assert found.inputs[0] == "10" and found.outputs[0] == "[7, 10]" and found.traces[0] == "1:b=7"
    assert len(found.inputs) == lessons.PAIRS == len(set(found.inputs))
    for given, value, trace in zip(found.inputs, found.outputs, found.traces, strict=True):
        assert value == f"[{int(given) - 3}, {given}]" and trace == f"1:b={int(given) - 3}"


def test_another_spelling_is_the_same_function_and_calls_of_one_come_together(sandbox):
    records = [
        question("deduction", "def f(a): return a + 1; f(3)"),
        question("deduction", "def h(x): return 1 + x; h(4)"),
        question("deduction", "def f(a): return a + 2; f(5)"),
        question("deduction", "def f(a): return a + 1; f(60)"),
    ]
    spelled, other, plain = lessons.lessons_of(records, sandbox)
    assert plain.inputs[:2] == ("3", "60") and plain.behaviour == spelled.behaviour != other.behaviour


def test_what_was_found_is_a_lesson_and_what_was_not_is_none(sandbox):
    records = [
        question("abduction", "def f(a): return a + 1; f(?) == 4", "3", True),
        question("abduction", "def f(a): return a * 5; f(?) == 4", "3", False),
        question("induction", "1 -> 2, 5 -> 6, 7 -> 8", "def f(a):\n    return a + 1", True),
        question("induction", "1 -> 2, 5 -> 9, 7 -> 8", "def f(a):\n    return a", False),
        question("expression", "1 + 1", "2", None),
        {"kind": "puzzle", "question": "def f(a): return a\nf(1) == ?", "answer": "1", "right": True},
    ]
    found = lessons.lessons_of(records, sandbox)
    assert [one.kind for one in found] == [ABDUCTION, INDUCTION]
    assert found[0].inputs[0] == "3" and found[0].outputs[0] == "4"
    assert found[1].inputs[:3] == ("1", "5", "7") and found[0].behaviour == found[1].behaviour


@pytest.mark.parametrize(
    "text",
    [
        "def f(a): return 1 // 0; f(3)",
        "def f(a):\n    while True: pass\nf(3)",
        "def f(a): return open('/etc/passwd').read(); f(3)",
        "gone(3)",
        "hello",
        "(" * 5000,
    ],
)
def test_what_has_no_value_makes_none(text, sandbox):
    assert lessons.lessons_of([question("deduction", text), {"kind": "deduction", "question": 7}], sandbox) == []


def test_a_definition_means_what_it_meant_when_it_was_asked(sandbox):
    records = [
        definition("def f(a): return a + 1", "f"), question("deduction", "f(3)"),
        definition("def f(a): return a - 1", "f"), question("deduction", "f(3)"),
    ]  # fmt: skip
    assert [one.outputs[0] for one in lessons.lessons_of(records, sandbox)] == ["4", "2"]
