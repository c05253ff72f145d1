"""Labels, traces and minimisation of a candidate, by hand and against Python's own tracing."""

import pytest

from bitzero.generator import execute
from bitzero.generator.execute import InstrumentedProgram, OutOfFuel, Rejected, minimise, source_of, trace_text
from bitzero.generator.scope import Variable
from bitzero.generator.statements import Candidate, Statement


def instrumented(*body, args=("_1",), fuel=50):
    return InstrumentedProgram(Candidate([], [Variable(name, "list", []) for name in args], list(body)), fuel)


def traced(program, *values):
    _, line_of = source_of(program.candidate)
    names = {report.name: report.name for report in program.reports}
    return trace_text(program, program.record_events(values), line_of, names)


def end(text, told=""):
    return Statement(f"return {text}", traced=f"return {told or text}")


def test_a_trace_holds_each_change_and_the_parts_of_the_return():
    program = instrumented(
        Statement("_2 = _1[1:]", ("_2",)), Statement("_2.append(7)", ("_2",)), end("sorted(_2)[0]", "E(sorted(_2))[0]")
    )
    assert program.run(([3, 9, 8],)) == 7
    assert traced(program, [3, 9, 8]) == "1:_2=[9, 8];2:_2=[9, 8, 7];[7, 8, 9]"


def test_a_loop_reports_its_variable_and_a_branch_only_what_it_does():
    inner = Statement("if _3 > 4:", traced="_3 > 4", body=[Statement("_2 += _3", ("_2",))])
    program = instrumented(Statement("_2 = 0", ("_2",)), Statement("for _3 in _1:", ("_3",), body=[inner]), end("_2"))
    assert traced(program, [3, 9]) == "1:_2=0;2:_3=3;2:_3=9;4:_2=9"
    assert program.num_changes() == 4


def test_a_run_leaves_the_input_alone():
    program = instrumented(Statement("_1.sort()", ("_1",)), end("_1"))
    given = [3, 1]
    assert program.run((given,)) == [1, 3]
    assert given == [3, 1]


def test_the_source_is_the_candidate_without_its_reports():
    block = Statement(
        "if _1:", traced="_1", body=[Statement("_1.pop()", ("_1",))], orelse=[Statement("_1 = [2]", ("_1",))]
    )
    program = instrumented(block, end("_1"))
    text, line_of = source_of(program.candidate)
    assert text == "def f(_1):\n    if _1:\n        _1.pop()\n    else:\n        _1 = [2]\n    return _1"
    assert line_of[id(block.orelse[0])] == 4


def test_fuel_ends_a_loop_that_would_not():
    program = instrumented(Statement("while _1:", traced="_1", body=[Statement("_2 = 1", ("_2",))]), end("_1"))
    with pytest.raises(OutOfFuel):
        program.run(([1],))
    assert program.output(([1],)) is None


@pytest.mark.parametrize("value", [10**5, "x" * 65, [0] * 65, [[10**6]], {"a": 10**6}, [["x" * 100]]])
def test_a_value_that_grows_ends_the_run(value):
    assert not execute.is_small(value)
    program = instrumented(Statement("_2 = _1", ("_2",)), end("1"))
    assert program.output((value,)) is None


def test_dead_statements_go_and_their_chain_with_them():
    program = instrumented(
        Statement("_2 = len(_1)", ("_2",)),  # only the dead statement below uses it
        Statement("_3 = _2 + 1", ("_3",)),
        Statement("_1.append(4)", ("_1",)),
        end("_1"),
    )
    inputs = [([],), ([1],)]
    assert minimise(program, inputs, ["[4]", "[1, 4]"])
    assert source_of(program.candidate)[0] == "def f(_1):\n    _1.append(4)\n    return _1"


def test_what_matters_on_one_input_stays():
    program = instrumented(Statement("_1.sort()", ("_1",)), end("_1"))
    assert not minimise(program, [([1, 2],), ([2, 1],)], ["[1, 2]", "[1, 2]"])


def test_a_block_that_matters_only_by_running_is_rejected():
    """The loop leaves its variable behind; without its body it has no source."""
    loop = Statement("for _2 in _1:", ("_2",), body=[Statement("_3 = _2", ("_3",))])
    program = instrumented(loop, end("_2"))
    with pytest.raises(Rejected):
        minimise(program, [([1, 5],)], ["5"])


def test_only_listed_names_exist_for_a_candidate():
    assert instrumented(end("open(_1)")).output(("x",)) is None
    with pytest.raises(NameError):
        instrumented(end("open(_1)")).run(("x",))
