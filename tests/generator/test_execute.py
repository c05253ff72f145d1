"""Labels, traces and minimisation of a candidate, by hand and against Python's own tracing."""

import pytest

from bitzero.generator import execute
from bitzero.generator.execute import Instrumented, OutOfFuel, Rejected, minimise, source, trace_text
from bitzero.generator.scope import Var
from bitzero.generator.statements import Candidate, Stmt


def program(*body, args=("_1",), fuel=50):
    return Instrumented(Candidate([], [Var(name, "list", []) for name in args], list(body)), fuel)


def traced(made, *values):
    _, places = source(made.made)
    names = {report.name: report.name for report in made.reports}
    return trace_text(made, made.record(values), places, names)


def end(text, told=""):
    return Stmt(f"return {text}", traced=f"return {told or text}")


def test_a_trace_holds_each_change_and_the_parts_of_the_return():
    made = program(
        Stmt("_2 = _1[1:]", ("_2",)), Stmt("_2.append(7)", ("_2",)), end("sorted(_2)[0]", "E(sorted(_2))[0]")
    )
    assert made.call(([3, 9, 8],)) == 7
    assert traced(made, [3, 9, 8]) == "1:_2=[9, 8];2:_2=[9, 8, 7];[7, 8, 9]"


def test_a_loop_reports_its_variable_and_a_branch_only_what_it_does():
    inner = Stmt("if _3 > 4:", traced="_3 > 4", body=[Stmt("_2 += _3", ("_2",))])
    made = program(Stmt("_2 = 0", ("_2",)), Stmt("for _3 in _1:", ("_3",), body=[inner]), end("_2"))
    assert traced(made, [3, 9]) == "1:_2=0;2:_3=3;2:_3=9;4:_2=9"
    assert made.changes() == 4


def test_a_run_leaves_the_input_alone():
    made = program(Stmt("_1.sort()", ("_1",)), end("_1"))
    given = [3, 1]
    assert made.call((given,)) == [1, 3]
    assert given == [3, 1]


def test_the_source_is_the_candidate_without_its_reports():
    block = Stmt("if _1:", traced="_1", body=[Stmt("_1.pop()", ("_1",))], orelse=[Stmt("_1 = [2]", ("_1",))])
    made = program(block, end("_1"))
    text, places = source(made.made)
    assert text == "def f(_1):\n    if _1:\n        _1.pop()\n    else:\n        _1 = [2]\n    return _1"
    assert places[id(block.orelse[0])] == 4


def test_fuel_ends_a_loop_that_would_not():
    made = program(Stmt("while _1:", traced="_1", body=[Stmt("_2 = 1", ("_2",))]), end("_1"))
    with pytest.raises(OutOfFuel):
        made.call(([1],))
    assert made.output(([1],)) is None


@pytest.mark.parametrize("value", [10**5, "x" * 65, [0] * 65, [[10**6]], {"a": 10**6}, [["x" * 100]]])
def test_a_value_that_grows_ends_the_run(value):
    assert not execute.small(value)
    made = program(Stmt("_2 = _1", ("_2",)), end("1"))
    assert made.output((value,)) is None


def test_dead_statements_go_and_their_chain_with_them():
    made = program(
        Stmt("_2 = len(_1)", ("_2",)),  # only the dead statement below uses it
        Stmt("_3 = _2 + 1", ("_3",)),
        Stmt("_1.append(4)", ("_1",)),
        end("_1"),
    )
    inputs = [([],), ([1],)]
    assert minimise(made, inputs, ["[4]", "[1, 4]"])
    assert source(made.made)[0] == "def f(_1):\n    _1.append(4)\n    return _1"


def test_what_matters_on_one_input_stays():
    made = program(Stmt("_1.sort()", ("_1",)), end("_1"))
    assert not minimise(made, [([1, 2],), ([2, 1],)], ["[1, 2]", "[1, 2]"])


def test_a_block_that_matters_only_by_running_is_rejected():
    """The loop leaves its variable behind; without its body it has no source."""
    loop = Stmt("for _2 in _1:", ("_2",), body=[Stmt("_3 = _2", ("_3",))])
    made = program(loop, end("_2"))
    with pytest.raises(Rejected):
        minimise(made, [([1, 5],)], ["5"])


def test_only_listed_names_exist_for_a_candidate():
    assert program(end("open(_1)")).output(("x",)) is None
    with pytest.raises(NameError):
        program(end("open(_1)")).call(("x",))
