"""The executor defects 1 to 7 of Absolute Zero's code, found by running it: none may exist in gates and judge."""

import dataclasses
import os

import pytest

from bitzero.config import Config
from bitzero.tasks.gates import Proposal, validate
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, Task

CFG = Config()


def deduction(output, code="def f(a):\n    return a", given="1"):
    return Task(kind=DEDUCTION, level=0, code=code, inputs=(given,), outputs=(output,), shown=1)


def abduction(code, given, output):
    return Task(kind=ABDUCTION, level=0, code=code, inputs=(given,), outputs=(output,), shown=1)


SQUARES = Task(
    kind=INDUCTION,
    level=0,
    code="def f(a):\n    return a * a + 3",
    inputs=("4", "5", "6", "1", "2"),
    outputs=("19", "28", "39", "4", "7"),
    shown=3,
)


@pytest.mark.parametrize(
    "code",
    [
        "def f(a):\n    return [x for x in {'p', 'q', 'r', 's', a}]",  # set order
        "def f(a):\n    return a + hash('x')",
        "def f(a):\n    return str(f) + a",  # an address
    ],
)
def test_defect_1_nondeterminism_is_rejected(gate, code):
    assert gate(code, "'t'" if "'s'" in code or "str" in code else "1") in ("nondeterministic", "forbidden")


@pytest.mark.parametrize("error", ["Exception('Non-deterministic code')", "StopIteration", "SystemExit", "ValueError"])
def test_defect_1_every_exception_is_an_exception(gate, error):
    assert gate(f"def f(a):\n    raise {error}", "1") == "exception"


def test_defect_1_counters_do_not_survive_a_call(box, right):
    code = "def f(a, n=[0]):\n    n[0] += 1\n    return a * 5 + n[0]"
    [verdict] = validate(box, [Proposal(kind=DEDUCTION, code=code, inputs=("2",))], CFG)
    assert verdict.task.outputs == ("11",)
    assert right(dataclasses.replace(verdict.task, kind=ABDUCTION), "2", "2, [0]", "1", "1, [5]") == [
        True, True, False, True,
    ]  # fmt: skip


def test_defect_2_golds_are_whole_or_the_task_does_not_exist(box, gate):
    [verdict] = validate(
        box, [Proposal(kind=ABDUCTION, code="def f(a):\n    return 'ab' * a + 'c'", inputs=("14",))], CFG
    )
    assert verdict.task.outputs == (repr("ab" * 14 + "c"),)
    assert gate("def f(a):\n    return 'ab' * a + 'c'", "400", ABDUCTION) == "oversize"
    assert gate("def f(a):\n    return print", "1") in ("forbidden", "exception")  # no value, so no gold


def test_defect_3_a_long_true_answer_is_right(box, right):
    gold = repr(list(range(110)))
    assert 400 < len(gold) < box.limits.value_bytes
    assert right(deduction(gold), gold.replace(" ", ""), gold[:400]) == [True, False]


def test_defect_4_answers_cannot_be_forged(right):
    task = abduction("def f(a):\n    return a - 1", "4", "3")
    assert right(task, "0) or (1", "4) == 3 or (1", "*[4]", "(lambda: 4)()", "f(5)") == [False] * 5
    always = "def f(a):\n    class Same:\n        def __eq__(self, other):\n            return True\n    return Same()"
    liar = "def f(a):\n    class Seven(int):\n        def __repr__(self):\n            return '7'\n    return Seven(4)"
    assert right(SQUARES, always, liar) == [False, False]
    assert right(deduction("'f(4)'"), "f(4)", "'f(4)'") == [False, True]


def test_defect_5_answers_never_run_in_this_process(right, tmp_path):
    mark = tmp_path / "mark"
    text = f"__import__('os').environ.__setitem__('BITZERO_DEFECT_5', '1') or open({str(mark)!r}, 'w')"
    assert right(deduction("1"), text) == [False]
    assert right(abduction("def f(a):\n    return a", "1", "1"), text) == [False]
    assert right(SQUARES, f"def f(a):\n    {text}\n    return a * a + 3") == [False]
    assert "BITZERO_DEFECT_5" not in os.environ
    assert not mark.exists()


@pytest.mark.parametrize("module", ["os", "os.path", "sys", "socket", "ctypes", "shutil", "uuid", "random", "time"])
def test_defect_6_no_way_out_by_import(gate, module):
    assert gate(f"def f(a):\n    import {module}\n    return a + 1", "1") == "forbidden"


@pytest.mark.parametrize("body", ["__import__('random').random()", "open('/etc/passwd').read()", "exec('a = 2')"])
def test_defect_6_no_way_out_by_name(gate, body):
    assert gate(f"def f(a):\n    return {body}", "1") == "forbidden"


def test_defect_6_addresses_are_not_deterministic(gate):
    assert gate("def f(a):\n    return id(a) + 1", "[1]") == "forbidden"
    assert gate("def f(a):\n    return str(f) + a", "'x'") == "forbidden"


def test_defect_7_nothing_leaks_into_a_later_task(box, gate):
    root = "def f(a):\n    import math\n    return math.sqrt(a) + 0.25"
    poison = [
        "def f(a):\n    import math\n    math.sqrt = lambda x: 42\n    return a + 1",
        "def f(a):\n    import builtins\n    builtins.len = None\n    return a + 1",
        "def f(a):\n    __builtins__['len'] = None\n    return a + 1",
    ]
    for code in poison:
        gate(code, "3")
    [verdict] = validate(box, [Proposal(kind=DEDUCTION, code=root, inputs=("16",))], CFG)
    assert verdict.task.outputs == ("4.25",)
    assert gate("def f(a):\n    return len(a) + 30", "[1, 2]") == "ok"
