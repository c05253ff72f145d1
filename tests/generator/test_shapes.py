"""Loops, helper functions and the shapes of candidates, before anything is chosen or minimised."""

import random

import pytest

from bitzero.generator import functions, loops, shapes
from bitzero.generator.execute import Instrumented, source
from bitzero.generator.scope import POOL, Dead, Scope, Var
from bitzero.generator.statements import Stmt
from bitzero.tasks.levels import TIERS


def drawn(level, shape, wanted=3):
    """The first candidates of a shape."""
    found = []
    for seed in range(400):
        scope = Scope(random.Random(seed), TIERS[level])
        try:
            found.append(shapes.candidate(scope, level, shape))
        except Dead:
            continue
        if len(found) == wanted:
            return found
    raise AssertionError("the shape does not come alive")


def scope_with(vals):
    scope = Scope(random.Random(0), 1)
    arg = Var("_1", "list", vals)
    scope.args, scope.vars, scope.count = [arg], [Var("_1", "list", vals), Var("_2", "int", [0] * POOL)], 3
    return scope


def summing():
    return [Stmt("_2 = 0", ("_2",)), Stmt("for _3 in _1:", ("_3",), body=[Stmt("_2 += _3", ("_2",))])]


def test_after_a_loop_the_variables_have_their_true_values():
    scope = scope_with([[k, 2 * k] for k in range(POOL)])
    loops.refresh(scope, summing())
    assert scope.vars[1].vals == [3 * k for k in range(POOL)]


def test_a_few_failing_inputs_borrow_the_values_of_others_and_many_are_the_end():
    body = [Stmt("_2 = 6 // _1[0]", ("_2",))]
    few = scope_with([[0], *[[k] for k in range(1, POOL)]])
    loops.refresh(few, body)
    assert few.vars[1].vals == [6 // k for k in range(1, POOL)] + [6]
    with pytest.raises(Dead):
        loops.refresh(scope_with([[0]] * 5 + [[1]] * (POOL - 5)), body)


def test_a_loop_that_never_ends_is_dead():
    scope = scope_with([[1]] * POOL)
    with pytest.raises(Dead):
        loops.refresh(scope, [Stmt("while _1:", traced="_1", body=[Stmt("_2 = 1", ("_2",))])])


@pytest.mark.parametrize("tier", (1, 3))
def test_helper_functions_end_on_whatever_they_are_given(tier):
    given = {"int": [-99, -1, 0, 1, 7, 99, 900], "str": ["", "a", "abcabc"], "list": [[], [3], [5, 2, 9, 9]]}
    made = 0
    for seed in range(60):
        scope = Scope(random.Random(seed), tier)
        try:
            helper, takes, _, function = functions.helper(scope)
        except Dead:
            continue
        made += 1
        for value in given[takes]:
            try:
                function(value)
            except (IndexError, KeyError, ValueError, ZeroDivisionError, TypeError):
                continue  # a plain helper may refuse an input; RecursionError would fail the test
        assert helper.text.startswith("def _")
    assert made > 20


@pytest.mark.parametrize(
    ("level", "shape", "words"),
    [
        (2, shapes.comprehending, (" for ", "[")),
        (2, shapes.branching, ("if ",)),
        (3, shapes.single, ("    for ",)),
        (4, shapes.selective, ("    for ", "        if ")),
        (4, shapes.followed, ("    for ", "    if ")),
        (5, shapes.nested, ("    for ", "        for ")),
        (5, shapes.building, ("= {}", "    for ")),
        (5, shapes.repeating, ("    while ",)),
    ],
)
def test_a_shape_holds_what_it_is_named_after(level, shape, words):
    for made in drawn(level, shapes.alone(shape)):
        text, _ = source(made)
        assert all(word in text for word in words), text
        assert made.args


def test_a_program_with_a_helper_calls_it():
    for made in drawn(5, shapes.helped):
        name = made.helpers[0].text[4:].split("(")[0]
        text, _ = source(made)
        assert f"{name}(" in text.split("def f(")[1]


@pytest.mark.parametrize("level", range(6))
def test_candidates_run_on_most_of_their_pool(level):
    """Drawing on values is what makes a candidate worth compiling."""
    for shape in shapes.SHAPES[level]:
        for made in drawn(level, shape):
            program = Instrumented(made, 128)
            outputs = [program.output(tuple(arg.vals[row] for arg in made.args)) for row in range(POOL)]
            assert sum(output is not None for output in outputs) >= POOL // 2
