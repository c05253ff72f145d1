"""The gates through the real sandbox: every one is reachable, and what passes is minimal, whole and new."""

import pytest

from bitzero.config import Config
from bitzero.sandbox import Outcome
from bitzero.tasks import gates
from bitzero.tasks.alpha import split_of
from bitzero.tasks.gates import GATES, Proposal, validate
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION

CFG = Config()
SQUARES = "def f(a):\n    return a * a + 3"


@pytest.mark.parametrize(
    ("code", "given", "name"),
    [
        ("def f(a, b):\n    return a + [b]", "[1, 2, 3], 4", "ok"),
        (None, "1", "format"),
        ("def f(a):\n    return a", "", "format"),
        ("def f(a):\n    return a", "0) or (1", "format"),
        ("def f(a:\n    return a", "1", "syntax"),
        ("x = 1", "1", "syntax"),
        ("def f(a):\n    return a\nprint(1)", "1", "syntax"),
        ("def f(a):\n    return a + 1", "g(1)", "syntax"),  # an argument that is no literal
        ("def f(a):\n    return a + 1", "a=1", "syntax"),
        ("def f(a):\n    return open(a)", "'x'", "forbidden"),
        ("def f(a):\n    while True:\n        a += 1", "1", "timeout"),
        ("def f(a):\n    return len([0] * 10 ** a)", "9", "memory"),
        ("def f(a):\n    return a + 1", "'x'", "exception"),
        ("def f(a):\n    return a + id(a)", "1", "forbidden"),
        ("def f(a):\n    return [a, *{'p', 'q', 'r', 's', 't'}]", "1", "nondeterministic"),
        ("def f(a):\n    return [a] * 300", "1", "oversize"),  # over 512 characters
        ("def f(a):\n    return [a] * 100", "1", "oversize"),  # the answer would not fit a completion
        ("def f(a, b):\n    return b", "[1], 7", "trivial"),  # copies an argument
        ("def f(a):\n    return a > 2", "5", "trivial"),  # True is a constant that always gets guessed
        ("def f(a):\n    return 77", "5", "trivial"),
        ("def f(a):\n    return 77 + 0 * len(a)", "[5]", "trivial"),  # equal on every probe
    ],
)
def test_each_gate_of_a_deduction_proposal(gate, code, given, name):
    assert gate(code, given) == name


@pytest.mark.parametrize(
    ("code", "given", "name"),
    [
        ("def f(a, b):\n    return a * b + 3", "4, 5", "ok"),
        ("def f(a, b):\n    return a + b", "4, 5", "trivial"),  # solved by (9, 0)
        ("def f(a):\n    return sorted(a)", "[2, 1]", "trivial"),  # solved by its own output
        ("def f(a):\n    return len(a) + 2", "[]", "trivial"),  # an empty value has the output of the input
        ("def f(a):\n    return len(a) + 2", "[7, 7]", "ok"),
    ],
)
def test_abduction_proposals_that_a_rule_solves_are_trivial(gate, code, given, name):
    assert gate(code, given, ABDUCTION) == name


NUMBERS = ("4", "5", "6", "1", "2", "3")


@pytest.mark.parametrize(
    ("code", "inputs", "name"),
    [
        (SQUARES, NUMBERS, "ok"),
        (SQUARES, NUMBERS[:5], "ok"),
        (SQUARES, NUMBERS[:4], "format"),  # too few hidden pairs
        (SQUARES, ("4", "5", "6", "1", "2", "2"), "format"),  # equal inputs
        (SQUARES, ("4", "5", "6", "1", "2", "+2"), "syntax"),  # a sign is no part of a literal here
        (SQUARES, ("4", "5", "6", "1", "2", "3, 4"), "format"),  # another number of arguments
        ("def f(a):\n    return a // 9 + 8", NUMBERS, "trivial"),  # hidden outputs are equal
        ("def f(a):\n    return a % 2", NUMBERS, "trivial"),  # hidden outputs were all shown
        ("def f(a):\n    return a", NUMBERS, "trivial"),
        ("def f(a):\n    return sorted(a)", ("[1]", "[2]", "[3]", "[5, 4]", "[9, 8]"), "trivial"),
        ("def f(a):\n    return len(a)", ("[1]", "[2]", "[3]", "[5, 4]", "[9, 8, 1]"), "trivial"),
        ("def f(a):\n    return 7 // (a - 3)", NUMBERS, "exception"),
    ],
)
def test_each_gate_of_an_induction_proposal(gate, code, inputs, name):
    assert gate(code, inputs, INDUCTION) == name


def test_a_program_of_the_test_or_dev_split_is_held_out(box):
    codes = [f"def f(a):\n    return a * 3 + {k}" for k in range(60)]
    held = [code for code in codes if split_of(code) != "train"]
    assert 0 < len(held) < 30
    verdicts = validate(box, [Proposal(kind=DEDUCTION, code=code, inputs=("5",)) for code in codes], CFG)
    assert [GATES[v.gate] == "heldout" for v in verdicts] == [code in held for code in codes]


def test_the_same_task_twice_in_a_batch_is_a_duplicate_under_any_name(box):
    codes = ("def f(a):\n    return a * 5 + 1", "def f(xs):\n    # other\n    return xs*5 + 1")
    verdicts = validate(box, [Proposal(kind=DEDUCTION, code=code, inputs=("5",)) for code in codes], CFG)
    assert [GATES[verdict.gate] for verdict in verdicts] == ["ok", "duplicate"]
    kinds = [Proposal(kind=kind, code=codes[0], inputs=("5",)) for kind in (DEDUCTION, DEDUCTION)]
    assert validate(box, kinds, CFG)[0].program_hash == verdicts[0].program_hash != 0


def test_low_confidence_is_rejected_and_counted(gate):
    code = "def f(a):\n    return len(set(a)) + 10"  # eight seeds agree: 0.8
    assert gate(code, "[1, 1, 2]") == "ok"
    assert gate(code, "[1, 1, 2]", min_confidence=0.999) == "confidence"


def test_dead_statements_are_removed_from_the_task(box):
    code = (
        "def f(a, b):\n    '''doc'''\n    d = 5\n    c = a[1:] + [b]\n    if b > 1000000:\n        c = 0\n    return c"
    )
    [verdict] = validate(box, [Proposal(kind=DEDUCTION, code=code, inputs=("[1,2], 9",))], CFG)
    assert verdict.task.code == "def f(a, b):\n    c = a[1:] + [b]\n    return c"
    assert verdict.task.inputs == ("[1, 2], 9",)  # canonical
    assert verdict.task.outputs == ("[2, 9]",)
    assert verdict.level == 1


def test_a_batch_keeps_its_order(box):
    batch = [
        Proposal(kind=DEDUCTION, code=None),
        Proposal(kind=DEDUCTION, code="def f(a):\n    return a + [9]", inputs=("[1]",)),
        Proposal(kind=DEDUCTION, code="def", inputs=("1",)),
    ]
    assert [GATES[verdict.gate] for verdict in validate(box, batch, CFG)] == ["format", "ok", "syntax"]
    assert validate(box, [], CFG) == []


def test_infra_outranks_no_other_verdict_but_never_passes():
    kinds = [Outcome(kind="ok", value="1"), Outcome(kind="infra"), Outcome(kind="exception")]
    assert gates._worst(kinds).kind == "exception"
    assert gates._worst(kinds[:2]).kind == "infra"


@pytest.mark.parametrize(
    ("code", "level"),
    [
        ("def f(a):\n    return a + 1", 0),
        ("def f(a):\n    b = a + [1]\n    return b[0] + len(b)", 1),
        ("def f(a):\n    b = a + [1]\n    c = b + a\n    b.append(3)\n    return c + b", 2),
        ("def f(a):\n    return [x + 1 for x in a]", 2),
        ("def f(a):\n    s = 0\n    for x in a:\n        s += x * 2\n    return s", 3),
        ("def f(a):\n    s = 0\n    for x in a:\n        if x > 1:\n            s += x * 2\n    return s", 4),
        ("def f(a):\n    s = 0\n    while s < a:\n        s += 3\n    return s", 5),
    ],
)
def test_levels_of_proposals(box, code, level):
    [parsed] = box.parse([code])
    assert gates.level_of(parsed) == level
