"""Programs and answers that once were paid without being right, new or more than a constant: each is told now."""

import pytest

from bitzero.config import Config
from bitzero.generator import orders
from bitzero.tasks.gates import GATES, Proposal, validate
from bitzero.tasks.judge import judge
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, Task

CFG = Config()

CONSTANTS_IN_DISGUISE = [
    ("if a != 5:\n        return [][0]\n    return 77", "5"),
    ("return 77 // (a == 512)", "512"),
    ("assert a == 512\n    return 77", "512"),
    ("return {512: 77}[a]", "512"),
    ("return 77 if a == a else a", "5"),
    ("return 7 + 0 * len(a)", "[]"),
    ("return 7 + 0 * len(a)", "''"),
    ("return 7 + 0 * len(a)", "()"),
    ("return 7 + 0 * len(a)", "{}"),
    ("return 7 if a is None or a == a else 8", "None"),
    ("return 7 + 0 * int(a > 0)", "float('inf')"),
]


@pytest.mark.parametrize(("body", "given"), CONSTANTS_IN_DISGUISE)
def test_a_constant_falls_however_it_is_dressed(gate, body, given):
    assert gate(f"def f(a):\n    {body}", given) in ("trivial", "exception", "syntax")
    assert gate(f"def f(a):\n    {body}", given, ABDUCTION) in ("trivial", "exception", "syntax")


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("def f(a, b):\n    return a * 3 + 4", "5, 9"),
        ("def f(a, b):\n    return a * 3 + 4 + 0 * len(str(b))", "5, 'x'"),
        ("def f(a, b=2):\n    return [a, a + 1]", "5, 9"),
    ],
)
def test_an_argument_that_no_probe_can_tell_is_refused(gate, code, given):
    assert gate(code, given) == "trivial"


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("def f(a, i):\n    return a[i] * 2", "[4, 7, 1], 1"),
        ("def f(a, b):\n    return max(a, b) + 1", "3, 8"),
        ("def f(s):\n    return s.count('a') + len(s)", "'banana'"),
        ("def f(d, k):\n    return d[k] + 1", "{'a': 4, 'b': 6}, 'a'"),
        ("def f(a):\n    return sum(a) // len(a)", "[4, 9, 2]"),
    ],
)
def test_ordinary_programs_still_pass(gate, code, given):
    assert gate(code, given) == "ok"


SPELLINGS = [
    "def f(a, b):\n    return a[1:] + [b, b * 3]",
    "def f(a, b):\n    return a[1:] + [b + 0, b * 3 * 1]",
    "def f(x, y):\n    c = x[1:]\n    d = 5\n    e = d + 1\n    g = e\n    h = g\n    return c + [y, y * 3]",
    "def f(a: list, b: int) -> list:\n    c: list = a[1:]\n    return c + [b, b * 3]",
    "def f(a, b):\n    import math as m\n    return a[1:] + [int(b), m.prod([b, 3])]",
]


def test_spellings_of_one_function_are_one_program(box):
    proposals = [Proposal(kind=DEDUCTION, code=code, inputs=("[1, 2], 3",)) for code in SPELLINGS]
    alone = [validate(box, [proposal], CFG)[0] for proposal in proposals]
    assert {GATES[verdict.gate] for verdict in alone} == {"ok"}
    assert len({verdict.program_hash for verdict in alone}) == len({verdict.task_hash for verdict in alone}) == 1
    together = [GATES[verdict.gate] for verdict in validate(box, proposals, CFG)]
    assert together == ["ok", "duplicate", "duplicate", "duplicate", "duplicate"]
    [other] = validate(
        box, [Proposal(kind=DEDUCTION, code=SPELLINGS[0].replace("3]", "4]"), inputs=("[1, 2], 3",))], CFG
    )
    assert other.program_hash != alone[0].program_hash


def test_dead_statements_and_annotations_are_no_part_of_the_task(box):
    for code, lines in ((SPELLINGS[2], 3), (SPELLINGS[3], 3)):
        [verdict] = validate(box, [Proposal(kind=DEDUCTION, code=code, inputs=("[1, 2], 3",))], CFG)
        assert len(verdict.task.code.splitlines()) == lines and ": list" not in verdict.task.code


def respelt(code):
    """The program with its results passed through two variables and a list, four dead statements before them."""
    head, _, last = code.rpartition("    return ")
    return f"{head}    q1 = 1\n    q2 = q1 + 1\n    q3 = [{last}]\n    q4 = q3\n    q5 = 0\n    return q4[0]"


# JAX warns of forks in a process with threads; these run nothing of it, and in a worker there is none.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_programs_of_the_held_out_sets_do_not_come_back(box):
    programs = [p for level in range(3) for p in orders.heldout_candidates(CFG, "dev", level, 0, 8)]
    slices = [orders.heldout_slice(CFG, "dev", level, 0, 8)["behaviours"] for level in range(3)]
    guarded = frozenset(b for behaviours in slices for of_program in behaviours for b in of_program)
    proposals = [
        Proposal(kind=DEDUCTION, code=respelt(program.code), inputs=program.inputs[:1])
        for program in programs
        if program.code.count("    return ") == 1
    ]
    loose = [GATES[verdict.gate] for verdict in validate(box, proposals, CFG)]
    strict = [GATES[verdict.gate] for verdict in validate(box, proposals, CFG, heldout=guarded)]
    assert loose.count("ok") > 8, "the split by text does not see them"
    assert "ok" not in strict


def test_inputs_that_are_equal_are_one_input(gate):
    code = "def f(n):\n    return n * n + 3"
    assert gate(code, ("4", "5", "6", "1", "4.0", "2"), INDUCTION) == "format"
    assert gate(code, ("4", "5", "6", "1", "True", "2"), INDUCTION) == "format"


def test_a_trivial_answer_that_does_not_end_rejects_the_task(gate):
    code = "def f(a):\n    while a < 2:\n        a -= 1\n    return a * 3 + 1"
    assert gate(code, "9", ABDUCTION) == "trivial"


def test_a_right_answer_between_endless_ones_is_right(box):
    code = "def f(a):\n    while a < 0:\n        a -= 1\n    return a * 2"
    task = Task(kind=ABDUCTION, level=5, code=code, inputs=("4",), outputs=("8",), shown=1)
    [verdicts] = judge(box, [task], [["-1", "-2", "-3", "4.0", "4", "-4", "-5", "3"]])
    assert [verdict.correct for verdict in verdicts] == [False] * 4 + [True] + [False] * 3
    assert [verdict.outcome for verdict in verdicts[:3]] == ["timeout"] * 3


def test_a_group_of_answers_has_a_bound_and_what_is_cut_is_no_verdict(box):
    code = "def f(a):\n    return sum(range(a)) % 7"
    task = Task(kind=ABDUCTION, level=5, code=code, inputs=("4",), outputs=("6",), shown=1)
    [verdicts] = judge(box, [task], [[str(10**9 + k) for k in range(24)] + ["4"]])
    outcomes = [verdict.outcome for verdict in verdicts]
    assert outcomes[:4] == ["timeout"] * 4 and "infra" in outcomes and outcomes.count("timeout") < 20
    assert verdicts[-1].correct  # the gold's own text needs no run


def test_an_order_that_comes_out_right_once_is_not_right(box):
    code = "def f(a):\n    return list(set(a))[0]"
    inputs, outputs = ("['x', 'y']",) * 3 + ("['p', 'q']", "['s', 't']"), ("'x'",) * 3 + ("'p'", "'s'")
    task = Task(kind=INDUCTION, level=0, code="def f(a):\n    return a[0]", inputs=inputs, outputs=outputs, shown=3)
    [[verdict]] = judge(box, [task], [[code]])
    assert not verdict.correct


def test_confidence_counts_hidden_pairs_and_gates_on_both_sides(box):
    code, numbers = "def f(a):\n    return a * a + 3", ("4", "5", "6", "1", "2", "3")
    six, five = (Proposal(kind=INDUCTION, code=code, inputs=numbers[:n]) for n in (6, 5))
    verdicts = [validate(box, [proposal], CFG)[0] for proposal in (six, five)]
    assert [verdict.confidence for verdict in verdicts] == pytest.approx([4 / 5, 3 / 4])
    words = tuple(f"['{a}', '{b}', '{a}']" for a, b in ("ab", "cd", "ef", "gh", "ij"))
    ordered = Proposal(kind=INDUCTION, code="def f(a):\n    return [len(set(a)), a[1] + a[2]]", inputs=words)
    once = Proposal(kind=DEDUCTION, code=ordered.code, inputs=words[:1])
    verdicts = [validate(box, [proposal], CFG)[0] for proposal in (once, ordered)]  # 1 − 0.2, and that times 3/4
    assert [GATES[verdict.gate] for verdict in verdicts] == ["ok", "confidence"]
    assert verdicts[0].confidence == pytest.approx(0.8)
