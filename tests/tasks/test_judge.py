"""Gates and judge through the real sandbox: every gate is reachable, and none of AZR's executor defects exists."""

import dataclasses
import os

import pytest

from bitzero.config import Config
from bitzero.sandbox import Limits, Outcome, Sandbox
from bitzero.tasks import gates
from bitzero.tasks.alpha import split_of
from bitzero.tasks.gates import GATES, Proposal, validate
from bitzero.tasks.judge import OUTCOMES, judge
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, Task
from bitzero.tasks.probes import probes

CFG = Config()
LIMITS = Limits(cpu_s=0.3, memory_mb=128, value_bytes=512)


@pytest.fixture(scope="module")
def box():
    with Sandbox(LIMITS, workers=2) as sandbox:
        yield sandbox


def gate(box, code, given="[1, 2, 3], 4", kind=DEDUCTION, cfg=CFG):
    inputs = (given,) if isinstance(given, str) else given
    [verdict] = validate(box, [Proposal(kind=kind, code=code, inputs=inputs)], cfg)
    return GATES[verdict.gate]


def right(box, task, *answers):
    return [verdict.correct for verdict in judge(box, [task], [answers])[0]]


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


# ---- gates ----


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
        ("def f(a):\n    return a + id(a)", "1", "nondeterministic"),
        ("def f(a):\n    return [a] * 300", "1", "oversize"),  # over 512 characters
        ("def f(a):\n    return [a] * 100", "1", "oversize"),  # the answer would not fit a completion
        ("def f(a, b):\n    return b", "[1], 7", "trivial"),  # copies an argument
        ("def f(a):\n    return a > 2", "5", "trivial"),  # True is a constant that always gets guessed
        ("def f(a):\n    return 77", "5", "trivial"),
        ("def f(a):\n    return 77 + 0 * len(a)", "[5]", "trivial"),  # equal on every probe
    ],
)
def test_each_gate_of_a_deduction_proposal(box, code, given, name):
    assert gate(box, code, given) == name


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
def test_abduction_proposals_that_a_rule_solves_are_trivial(box, code, given, name):
    assert gate(box, code, given, ABDUCTION) == name


NUMBERS = ("4", "5", "6", "1", "2", "3")


@pytest.mark.parametrize(
    ("code", "inputs", "name"),
    [
        (SQUARES.code, NUMBERS, "ok"),
        (SQUARES.code, NUMBERS[:5], "ok"),
        (SQUARES.code, NUMBERS[:4], "format"),  # too few hidden pairs
        (SQUARES.code, ("4", "5", "6", "1", "2", "2"), "format"),  # equal inputs
        (SQUARES.code, ("4", "5", "6", "1", "2", "+2"), "syntax"),  # a sign is no part of a literal here
        (SQUARES.code, ("4", "5", "6", "1", "2", "3, 4"), "format"),  # another number of arguments
        ("def f(a):\n    return a // 9 + 8", NUMBERS, "trivial"),  # hidden outputs are equal
        ("def f(a):\n    return a % 2", NUMBERS, "trivial"),  # hidden outputs were all shown
        ("def f(a):\n    return a", NUMBERS, "trivial"),
        ("def f(a):\n    return sorted(a)", ("[1]", "[2]", "[3]", "[5, 4]", "[9, 8]"), "trivial"),
        ("def f(a):\n    return len(a)", ("[1]", "[2]", "[3]", "[5, 4]", "[9, 8, 1]"), "trivial"),
        ("def f(a):\n    return 7 // (a - 3)", NUMBERS, "exception"),
    ],
)
def test_each_gate_of_an_induction_proposal(box, code, inputs, name):
    assert gate(box, code, inputs, INDUCTION) == name


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


def test_low_confidence_is_rejected_and_counted(box):
    strict = dataclasses.replace(CFG, selfplay=dataclasses.replace(CFG.selfplay, min_confidence=0.999))
    code = "def f(a):\n    return len(set(a)) + 10"  # eight seeds agree: 0.995
    assert gate(box, code, "[1, 1, 2]", cfg=CFG) == "ok"
    assert gate(box, code, "[1, 1, 2]", cfg=strict) == "confidence"


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


def test_probes_are_like_the_input_and_fixed_by_the_seed():
    made = probes("[1, 20], 'abc', True", seed=7)
    assert made == probes("[1, 20], 'abc', True", seed=7)
    assert made != probes("[1, 20], 'abc', True", seed=8)
    for text in made:
        numbers, word, truth = eval(f"({text})")  # written by this test
        assert all(type(n) is int for n in numbers)
        assert type(word) is str
        assert type(truth) is bool


# ---- judge ----


def test_a_deduction_answer_is_compared_as_a_canonical_value(box):
    task = deduction("[1, 'b', (2,)]")
    assert right(box, task, "[1, 'b', (2,)]", '[1,"b",(2,)]', "[1, 'b', [2]]", "[1.0, 'b', (2,)]", "", None) == [
        True, True, False, False, False, False,
    ]  # fmt: skip


def test_abduction_accepts_every_pre_image(box):
    task = abduction("def f(a, b):\n    return a + b", "4, 5", "9")
    assert right(box, task, "4, 5", "9, 0", "10, -1", "4, 4", "9", "'x', 1") == [True, True, True, False, False, False]


def test_induction_is_judged_on_the_hidden_pairs(box):
    half = "def f(a):\n    return 4 if a == 1 else 0"
    verdicts = judge(box, [SQUARES], [[SQUARES.code, "def f(x): return x ** 2 + 3", half, "def f(", None]])[0]
    assert [verdict.correct for verdict in verdicts] == [True, True, False, False, False]
    assert [verdict.coverage for verdict in verdicts[:3]] == [3 / 4, 3 / 4, 2 / 4]  # (h + 1)/(H + 2), H = 2
    assert [verdict.outcome for verdict in verdicts] == ["ok", "ok", "ok", "exception", "format"]


def test_a_mixed_batch_keeps_its_order(box):
    tasks = [SQUARES, deduction("3"), abduction("def f(a):\n    return a * 2", "2", "4")]
    verdicts = judge(box, tasks, [["def f(x): return 0"] * 2, ["3", "4"], ["1", "2"]])
    assert [[verdict.correct for verdict in row] for row in verdicts] == [[False, False], [True, False], [False, True]]
    assert {verdict.outcome for row in verdicts for verdict in row} <= set(OUTCOMES)


# ---- AZR's defects 1 to 7 ----


@pytest.mark.parametrize(
    "code",
    [
        "def f(a):\n    return [x for x in {'p', 'q', 'r', 's', a}]",  # set order
        "def f(a):\n    return a + hash('x')",
        "def f(a):\n    return str(f) + a",  # an address
    ],
)
def test_defect_1_nondeterminism_is_rejected(box, code):
    assert gate(box, code, "'t'" if "'s'" in code or "str" in code else "1") in ("nondeterministic", "forbidden")


@pytest.mark.parametrize("error", ["Exception('Non-deterministic code')", "StopIteration", "SystemExit", "ValueError"])
def test_defect_1_every_exception_is_an_exception(box, error):
    assert gate(box, f"def f(a):\n    raise {error}", "1") == "exception"


def test_defect_1_counters_do_not_survive_a_call(box):
    code = "def f(a, n=[0]):\n    n[0] += 1\n    return a * 5 + n[0]"
    [verdict] = validate(box, [Proposal(kind=DEDUCTION, code=code, inputs=("2",))], CFG)
    assert verdict.task.outputs == ("11",)
    assert right(box, dataclasses.replace(verdict.task, kind=ABDUCTION), "2", "2, [0]", "1", "1, [5]") == [
        True, True, False, True,
    ]  # fmt: skip


def test_defect_2_golds_are_whole_or_the_task_does_not_exist(box):
    [verdict] = validate(
        box, [Proposal(kind=ABDUCTION, code="def f(a):\n    return 'ab' * a + 'c'", inputs=("14",))], CFG
    )
    assert verdict.task.outputs == (repr("ab" * 14 + "c"),)
    assert gate(box, "def f(a):\n    return 'ab' * a + 'c'", "400", ABDUCTION) == "oversize"
    assert gate(box, "def f(a):\n    return print", "1") in ("forbidden", "exception")  # no value, so no gold


def test_defect_3_a_long_true_answer_is_right(box):
    gold = repr(list(range(110)))
    assert 400 < len(gold) < LIMITS.value_bytes
    assert right(box, deduction(gold), gold.replace(" ", ""), gold[:400]) == [True, False]


def test_defect_4_answers_cannot_be_forged(box):
    task = abduction("def f(a):\n    return a - 1", "4", "3")
    assert right(box, task, "0) or (1", "4) == 3 or (1", "*[4]", "(lambda: 4)()", "f(5)") == [False] * 5
    always = "def f(a):\n    class Same:\n        def __eq__(self, other):\n            return True\n    return Same()"
    liar = "def f(a):\n    class Seven(int):\n        def __repr__(self):\n            return '7'\n    return Seven(4)"
    assert right(box, SQUARES, always, liar) == [False, False]
    assert right(box, deduction("'f(4)'"), "f(4)", "'f(4)'") == [False, True]


def test_defect_5_answers_never_run_in_this_process(box, tmp_path):
    mark = tmp_path / "mark"
    text = f"__import__('os').environ.__setitem__('BITZERO_DEFECT_5', '1') or open({str(mark)!r}, 'w')"
    assert right(box, deduction("1"), text) == [False]
    assert right(box, abduction("def f(a):\n    return a", "1", "1"), text) == [False]
    assert right(box, SQUARES, f"def f(a):\n    {text}\n    return a * a + 3") == [False]
    assert "BITZERO_DEFECT_5" not in os.environ
    assert not mark.exists()


@pytest.mark.parametrize("module", ["os", "os.path", "sys", "socket", "ctypes", "shutil", "uuid", "random", "time"])
def test_defect_6_no_way_out_by_import(box, module):
    assert gate(box, f"def f(a):\n    import {module}\n    return a + 1", "1") == "forbidden"


@pytest.mark.parametrize("body", ["__import__('random').random()", "open('/etc/passwd').read()", "exec('a = 2')"])
def test_defect_6_no_way_out_by_name(box, body):
    assert gate(box, f"def f(a):\n    return {body}", "1") == "forbidden"


def test_defect_6_addresses_are_not_deterministic(box):
    assert gate(box, "def f(a):\n    return id(a) + 1", "[1]") == "nondeterministic"


def test_defect_7_nothing_leaks_into_a_later_task(box):
    root = "def f(a):\n    import math\n    return math.sqrt(a) + 0.25"
    poison = [
        "def f(a):\n    import math\n    math.sqrt = lambda x: 42\n    return a + 1",
        "def f(a):\n    import builtins\n    builtins.len = None\n    return a + 1",
        "def f(a):\n    __builtins__['len'] = None\n    return a + 1",
    ]
    for code in poison:
        gate(box, code, "3")
    [verdict] = validate(box, [Proposal(kind=DEDUCTION, code=root, inputs=("16",))], CFG)
    assert verdict.task.outputs == ("4.25",)
    assert gate(box, "def f(a):\n    return len(a) + 30", "[1, 2]") == "ok"
