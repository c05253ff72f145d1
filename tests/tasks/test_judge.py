"""The judge through the real sandbox: right is what the executor says, by value and by execution."""

from bitzero.tasks.judge import OUTCOMES, judge
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, Task


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


def test_a_deduction_answer_is_compared_as_a_canonical_value(right):
    task = deduction("[1, 'b', (2,)]")
    assert right(task, "[1, 'b', (2,)]", '[1,"b",(2,)]', "[1, 'b', [2]]", "[1.0, 'b', (2,)]", "", None) == [
        True, True, False, False, False, False,
    ]  # fmt: skip


def test_abduction_accepts_every_pre_image(right):
    task = abduction("def f(a, b):\n    return a + b", "4, 5", "9")
    assert right(task, "4, 5", "9, 0", "10, -1", "4, 4", "9", "'x', 1") == [True, True, True, False, False, False]


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


def test_python_equality_is_counted_apart_and_not_rewarded(box):
    task = Task(kind=DEDUCTION, level=0, code="def f(a):\n    return a > 1", inputs=("2",), outputs=("True",), shown=1)
    [[loose, wrong, right]] = judge(box, [task], [["1", "0", "True"]])
    assert (loose.correct, loose.loose) == (False, True)
    assert (wrong.correct, wrong.loose) == (False, False)
    assert (right.correct, right.loose) == (True, False)


def test_an_answer_never_shares_a_call_with_a_program_of_a_task(box, monkeypatch):
    """One zygote holds the texts of one call; a task's program may be the gold of another task in the batch."""
    calls, run = [], box.run
    monkeypatch.setattr(box, "run", lambda jobs: calls.append({job.code for job in jobs}) or run(jobs))
    tasks = [SQUARES, abduction(SQUARES.code, "4", "19"), deduction("3")]
    [[answer], [given], [value]] = judge(box, tasks, [["def f(x): return x * x + 3"], ["-4"], ["4"]])
    assert (answer.correct, given.correct, value.correct) == (True, True, False)
    assert not [codes for codes in calls if SQUARES.code in codes and "def f(x): return x * x + 3" in codes]
    assert sum("def f(x): return x * x + 3" in codes for codes in calls) == 1
    assert not [codes for codes in calls if set(SQUARES.outputs) & codes]
