"""Loops, helper functions and the shapes of candidates, before anything is chosen or minimised."""

import random

import pytest

from bitzero.generator import functions, loops, shapes
from bitzero.generator.execute import InstrumentedProgram, source_of
from bitzero.generator.scope import POOL_SIZE, DeadDraw, Scope, Variable
from bitzero.generator.statements import Statement
from bitzero.tasks.levels import VOCABULARIES


def drawn_candidates(level, shape, wanted=3):
    """The first candidates of a shape."""
    found = []
    for seed in range(400):
        scope = Scope(random.Random(seed), VOCABULARIES[level])
        try:
            found.append(shapes.draw_candidate(scope, level, shape))
        except DeadDraw:
            continue
        if len(found) == wanted:
            return found
    raise AssertionError("the shape does not come alive")


def scope_with(vals):
    scope = Scope(random.Random(0), 1)
    arg = Variable("_1", "list", vals)
    scope.args, scope.variables, scope.names_given = (
        [arg],
        [Variable("_1", "list", vals), Variable("_2", "int", [0] * POOL_SIZE)],
        3,
    )
    return scope


def summing():
    return [Statement("_2 = 0", ("_2",)), Statement("for _3 in _1:", ("_3",), body=[Statement("_2 += _3", ("_2",))])]


def test_after_a_loop_the_variables_have_their_true_values():
    scope = scope_with([[k, 2 * k] for k in range(POOL_SIZE)])
    loops.set_true_values(scope, summing())
    assert scope.variables[1].vals == [3 * k for k in range(POOL_SIZE)]


def test_a_few_failing_inputs_borrow_the_values_of_others_and_many_are_the_end():
    body = [Statement("_2 = 6 // _1[0]", ("_2",))]
    few = scope_with([[0], *[[k] for k in range(1, POOL_SIZE)]])
    loops.set_true_values(few, body)
    assert few.variables[1].vals == [6 // k for k in range(1, POOL_SIZE)] + [6]
    with pytest.raises(DeadDraw):
        loops.set_true_values(scope_with([[0]] * 5 + [[1]] * (POOL_SIZE - 5)), body)


def test_a_loop_that_never_ends_is_dead():
    scope = scope_with([[1]] * POOL_SIZE)
    with pytest.raises(DeadDraw):
        loops.set_true_values(scope, [Statement("while _1:", traced="_1", body=[Statement("_2 = 1", ("_2",))])])


@pytest.mark.parametrize("vocabulary", (1, 3))
def test_helper_functions_end_on_whatever_they_are_given(vocabulary):
    given = {"int": [-99, -1, 0, 1, 7, 99, 900], "str": ["", "a", "abcabc"], "list": [[], [3], [5, 2, 9, 9]]}
    num_helpers = 0
    for seed in range(60):
        scope = Scope(random.Random(seed), vocabulary)
        try:
            helper, param_type, _, function = functions.draw_helper(scope)
        except DeadDraw:
            continue
        num_helpers += 1
        for value in given[param_type]:
            try:
                function(value)
            except (IndexError, KeyError, ValueError, ZeroDivisionError, TypeError):
                continue  # a plain helper may refuse an input; RecursionError would fail the test
        assert helper.text.startswith("def _")
    assert num_helpers > 20


@pytest.mark.parametrize(
    ("level", "shape", "words"),
    [
        (2, shapes.one_comprehension, (" for ", "[")),
        (2, shapes.one_branch, ("if ",)),
        (3, shapes.one_loop, ("    for ",)),
        (4, shapes.loop_around_branch, ("    for ", "        if ")),
        (4, shapes.loop_and_branch, ("    for ", "    if ")),
        (5, shapes.nested_loops, ("    for ", "        for ")),
        (5, shapes.dict_building_loop, ("= {}", "    for ")),
        (5, shapes.while_loop, ("    while ",)),
    ],
)
def test_a_shape_holds_what_it_is_named_after(level, shape, words):
    for candidate in drawn_candidates(level, shapes.without_helpers(shape)):
        text, _ = source_of(candidate)
        assert all(word in text for word in words), text
        assert candidate.args


def test_a_program_with_a_helper_calls_it():
    for candidate in drawn_candidates(5, shapes.with_helper):
        name = candidate.helpers[0].text[4:].split("(")[0]
        text, _ = source_of(candidate)
        assert f"{name}(" in text.split("def f(")[1]


@pytest.mark.parametrize("level", range(6))
def test_candidates_run_on_most_of_their_pool(level):
    """Drawing on values is what makes a candidate worth compiling."""
    for shape in shapes.SHAPES[level]:
        for candidate in drawn_candidates(level, shape):
            program = InstrumentedProgram(candidate, 128)
            outputs = [program.output(tuple(arg.vals[row] for arg in candidate.args)) for row in range(POOL_SIZE)]
            assert sum(output is not None for output in outputs) >= POOL_SIZE // 2
