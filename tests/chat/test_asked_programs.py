"""A person's functions as one program, and the trace that a run of it tells."""

import ast

import pytest

from bitzero.chat import judging, programs
from bitzero.chat.programs import ProgramError
from bitzero.sandbox import Outcome, Sandbox
from bitzero.tasks import traces


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(judging.LIMITS, workers=2) as box:
        yield box


def test_what_is_called_comes_along_and_the_asked_function_is_f():
    known = {"double": "def double(x):\n    return x * 2", "f": "def f(a): return a"}
    found = programs.program_of('def g(u: int) -> int:\n    """Says."""\n    return f(double(u))', "g", known)
    assert [node.name for node in ast.parse(found).body] == ["double", "f1", "f"]
    assert found.endswith("def f(u):\n    return f1(double(u))")


def test_a_function_that_is_nowhere_is_said_to_be():
    with pytest.raises(ProgramError, match=r"h is not defined: .* remembered are double"):
        programs.program_of("", "h", {"double": "def double(x): return x"})


@pytest.mark.parametrize(
    ("code", "args", "items"),
    [
        ("def f(t):\n    t += [8]\n    m = sorted(t)\n    return m[-2:]", "[3]", ["1:t=[3, 8]", "2:m=[3, 8]"]),
        ("def f(t):\n    return sorted(t)[::-1]", "[1, 2]", ["[1, 2]"]),
        (
            "def f(r):\n    o = []\n    for m in r:\n        o.append(m)\n    return o",
            "[5]",
            ["1:o=[]", "2:m=5", "3:o=[5]"],
        ),
        ("def f(a):\n    a -= 1\n    return 1 // a", "1", ["1:a=0"]),
        ("def f(a):\n    while a > 3:\n        a -= 1\n    return a", "5", ["2:a=4", "2:a=3"]),
    ],
)
def test_python_tells_the_trace_in_the_form_of_the_models(sandbox, code, args, items):
    assert judging.trace_of(sandbox, code, args) == items


def test_what_attacks_the_sandbox_is_a_verdict(sandbox):
    for body in ("__import__('os').system('true')", "open('/etc/passwd').read()", "a.__class__.__bases__"):
        code = programs.program_of(f"def f(a): return {body}", "f", {})
        assert judging.explained(judging.value_of(sandbox, code, "1")).startswith("is refused by the sandbox")
    endless = programs.program_of("def f(a):\n    while True:\n        a += 1\n    return a", "f", {})
    assert judging.explained(judging.value_of(sandbox, endless, "1")) == "does not end"


def test_steps_are_judged_up_to_the_first_that_is_wrong():
    python = ["1:b=5", "7", "2:c=6"]
    assert judging.right_steps(["1:b=5", "2:c=6"], python) == [(True, None), (True, None)]
    assert judging.right_steps(["1:b=4", "2:c=6"], python) == [(False, "1:b=5"), (None, None)]
    assert judging.right_steps(["2:c=6"], python) == [(False, "1:b=5")]
    assert judging.right_steps(["1:b=5"], None) == [(None, None)]


def test_steps_are_cut_as_they_are_written():
    assert traces.split_items("1:t=[3") == ([], "1:t=[3")
    assert traces.split_items("1:t='a;b';2:m") == (["1:t='a;b'"], "2:m")


def test_names_of_the_person_do_not_meet_those_of_the_reports(sandbox):
    for name in ("reported", "report_change", "woven", "woven_told", "deepcopy"):
        code = f"def {name}(x):\n    return [x]\ndef f(a):\n    b = {name}(a)\n    return b"
        assert judging.trace_of(sandbox, code, "3") == ["3:b=[3]"]
    assert judging.trace_of(sandbox, "def f(reported):\n    reported = 4\n    return reported", "3") == ["1:reported=4"]


def test_what_is_no_report_is_no_trace():
    for value in ("[1, 2]", "[('x', 'b', 3)]", "[(1, 2)]", "(5,)"):
        assert judging._items(Outcome(kind="ok", value=value)) is None


def test_a_number_that_python_cannot_write_is_a_line():
    with pytest.raises(ProgramError, match="too many digits"):
        programs.program_of(f"def f(a): return 0x{'f' * 5000}", "f", {})
