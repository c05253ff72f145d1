"""Errors by operation: names in evaluation order, where an answer first goes wrong, and the rows of a few answers."""

import numpy as np
import pytest

from bitzero.evaluation import operations, table
from bitzero.generator.programs import Program, generate
from bitzero.tasks.tokens import ANS, EOS, encode


def program(code, given, value, trace):
    return Program(code=code, inputs=(given,), outputs=(value,), traces=(trace,), level=1, split="dev", hash=1)


COUNTED = program(
    "def f(a, b):\n    c = a[:2] + b\n    c[0] = -3\n    return [len(c) - 1, c]",
    "[1, 2, 3], [4]", "[2, [-3, 2, 4]]", "1:c=[1, 2, 4];2:c=[-3, 2, 4];3;2",
)  # fmt: skip


def completion(trace, value):
    return [*encode(trace), ANS, *encode(value), EOS]


@pytest.mark.parametrize(
    "expression, names",
    [
        ("sum(a[1:]) + b", ["[i:]", "sum", "+"]),
        ("a[::-1].count(b[0])", ["[::-1]", "[i]", ".count"]),
        ("-3 if not a in b else [x for x in a]", ["in", "not", "comprehension", "if else"]),
        ("(a, -b)", ["-x", "(…)"]),
        ("[1, 2]", []),
        ("g(a[:2], a[1:3], a[::2])", ["[:i]", "[i:j]", "[::k]", "helper()"]),
    ],
)
def test_names_in_the_order_of_evaluation(expression, names):
    assert operations.operations_of(f"def f(a, b):\n    return {expression}") == names


def test_statements_are_lines_without_their_blocks():
    code = "def f(a):\n    t = 0\n    for x in reversed(a):\n        if x > 2:\n            t += x\n    return t"
    lines = operations.lines_of(code)
    assert {line: found.operations for line, found in lines.items()} == {
        1: (), 2: ("for", "reversed"), 3: ("if", ">"), 4: ("+=",), 5: ()
    }  # fmt: skip
    assert [line for line, found in lines.items() if found.returns] == [5]


def test_where_an_answer_goes_wrong():
    """At the first wrong item's line; a part of the return is of the operations inside, its value of the outermost."""
    steps = [("[:i]", "+"), ("[i] =",), ("len", "-"), ("len", "-"), ("[…]",)]
    at = lambda trace, value: operations.read_answer(COUNTED, completion(trace, value))
    right = at(COUNTED.traces[0], COUNTED.outputs[0])
    assert right.right and right.steps == [(names, True) for names in steps]
    early = at("1:c=[1, 2];2:c=[-3, 2, 4];3;2", COUNTED.outputs[0])
    assert early.right and early.steps == [(steps[0], False)]  # a right answer after a wrong trace
    inside = at("1:c=[1, 2, 4];2:c=[-3, 2, 4];4;2", "[3, [-3, 2, 4]]")
    assert not inside.right and inside.steps == [*((names, True) for names in steps[:2]), (steps[2], False)]
    last = at(COUNTED.traces[0], "[2, [3, 2, 4]]")
    assert last.steps == [*((names, True) for names in steps[:4]), (steps[4], False)]
    cut = operations.read_answer(COUNTED, encode("1:c='"))
    assert not cut.right and cut.steps == [(steps[0], False)]


def test_the_rows_of_two_answers():
    right = operations.read_answer(COUNTED, completion(COUNTED.traces[0], COUNTED.outputs[0]))
    wrong = operations.read_answer(COUNTED, completion("1:c=[1, 2, 4];2:c=[3, 2, 4]", "[2, [3, 2, 4]]"))
    rows = {row["operation"]: row for row in operations.rows_of([(COUNTED, right), (COUNTED, wrong)], [COUNTED])}
    assert rows["[:i]"] == {
        "operation": "[:i]", "programs": 2, "right": 0.5, "items": 2, "items_right": 2, "first_wrong": 0, "seen": 1.0
    }  # fmt: skip
    assert (rows["[i] ="]["items"], rows["[i] ="]["first_wrong"]) == (2, 1)
    assert (rows["len"]["items"], rows["len"]["items_right"]) == (2, 2)  # both parts of one answer, none of the other


def test_gold_traces_go_wrong_nowhere():
    """At every level, the generator's own traces and values hold, and every item finds the line it tells of."""
    for level in range(6):
        for index in range(8):
            made = generate(0, 0, index, level)
            reading = operations.read_answer(made, completion(made.traces[0], made.outputs[0]))
            assert reading.right and all(holds for _, holds in reading.steps), made.code


def test_a_majority_is_of_texts():
    drawn = [["1", "2", "2"], [None, None, "3"], ["4", "5", "4"], [None, None, None]]
    right = np.array([[True, False, False], [False, False, True], [True, False, True], [False] * 3])
    assert table.majority_right(drawn, right).tolist() == [False, True, True, False]
