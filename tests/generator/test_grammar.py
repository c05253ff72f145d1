"""Productions and the expressions made of them: what is printed is what was computed."""

import ast
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitzero.generator import expressions, grammar, templates
from bitzero.generator.grammar import EXPRESSIONS, EXPRESSIONS_BY_TYPE, STATEMENTS, STATEMENTS_BY_TYPE
from bitzero.generator.scope import POOL_SIZE, DeadDraw, Expression, Scope, Variable
from bitzero.generator.templates import copy_value, parse_expression, parse_statement


def evaluated(text, scope, row):
    """The source's value on one input, by Python itself."""
    names = {arg.name: copy_value(arg.vals[row]) for arg in scope.args}
    return eval(text, {"__builtins__": templates.BUILTINS, **names})


def test_the_first_vocabulary_has_at_least_25_operations():
    assert len({item.pieces for item in EXPRESSIONS if item.vocabulary == 1}) >= 25


def test_a_template_is_read_into_slots_pieces_and_needs():
    item = parse_expression("int   {int} - {list}[{idx}]", 1, 0)
    assert item.slots == ("int", "list", "idx")
    assert item.pieces == ("", " - ", "[", "]")
    assert item.operand_precs == (templates.ARITH, templates.ATOM, templates.TEST - 1)
    assert item.call(7, [1, 2, 3], -1) == 4


def test_braces_are_undoubled_and_binders_left_open():
    item = parse_expression("dict  {{{x}: {y} + {int} for {x}, {y} in {dict}.items()}}", 3, 0)
    assert item.pieces == ("{{x}: {y} + ", " for {x}, {y} in ", ".items()}")
    assert item.repeated == (True, False)
    assert item.call(2, {"a": 1}) == {"a": 3}


def test_a_statement_leaves_its_operands_alone():
    item = parse_statement("list  {list}.append({int})", 1, 0)
    given_list = [1]
    assert item.call(given_list, 2) == [1, 2]
    assert given_list == [1]


@pytest.mark.parametrize(
    ("outer", "inner", "text"),
    [
        ("int  {int} * {int}", "int  {int} + {int}", "(_1 + _1) * (_1 + _1)"),
        ("int  {int} + {int}", "int  {int} * {int}", "_1 * _1 + _1 * _1"),
        ("int  {int} - {int}", "int  {int} - {int}", "_1 - _1 - (_1 - _1)"),
        ("int  -{int}", "int  {int} ** 2", "-_1 ** 2"),
        ("int  {int} ** 2", "int  -{int}", "(-_1) ** 2"),
        ("bool  {bool} and {bool}", "bool  not {bool}", "not _1 and (not _1)"),
    ],
)
def test_parentheses_are_those_of_ast_unparse(outer, inner, text):
    scope = Scope(random.Random(0), 3)
    scope.in_loop = True  # keep operations that change nothing
    value_type = inner.split()[0]
    vals = [bool(i % 3) if value_type == "bool" else i for i in range(POOL_SIZE)]
    leaf = Expression("_1", "_1", templates.ATOM, vals)
    operator = parse_expression(inner, 1, 0)
    operand = expressions.apply_production(scope, operator, [leaf] * len(operator.slots))
    whole = parse_expression(outer, 1, 0)
    expression = operand
    for _ in range(50):  # a constant result is dropped nearly always
        try:
            expression = expressions.apply_production(scope, whole, [operand] * len(whole.slots))
            break
        except DeadDraw:
            continue
    assert expression.text == text
    assert ast.unparse(ast.parse(text)) == text


@given(
    seed=st.integers(0, 10**9),
    vocabulary=st.sampled_from((1, 2, 3)),
    value_type=st.sampled_from(grammar.TYPES),
    ops=st.integers(1, 3),
)
def test_an_expression_prints_what_it_computes(seed, vocabulary, value_type, ops):
    scope = Scope(random.Random(seed), vocabulary)
    try:
        expression = expressions.draw_expression(scope, value_type, ops)
    except DeadDraw:
        return
    assert ast.unparse(ast.parse(expression.text)) == expression.text
    assert expression.ops == ops
    for row in range(POOL_SIZE):
        assert evaluated(expression.text, scope, row) == expression.vals[row]


@given(seed=st.integers(0, 10**9))
def test_a_comprehension_prints_what_it_computes(seed):
    scope = Scope(random.Random(seed), 2)
    try:
        expression = expressions.draw_comprehension(scope)
    except DeadDraw:
        return
    assert ast.unparse(ast.parse(expression.text)) == expression.text
    assert [evaluated(expression.text, scope, row) for row in range(POOL_SIZE)] == expression.vals


@pytest.mark.parametrize("item", EXPRESSIONS, ids=lambda item: "{}".join(item.pieces))
def test_every_production_can_be_drawn(item):
    """A line of a table that never comes alive would be a hole in the vocabulary."""
    for seed in range(600):
        scope = Scope(random.Random(seed), 3)
        try:
            expression = expressions.apply_production(scope, item, expressions.draw_operands(scope, item, 0))
        except DeadDraw:
            continue
        assert expression.vocabulary >= item.vocabulary
        return
    pytest.fail("600 draws, none alive")


@pytest.mark.parametrize("item", STATEMENTS, ids=lambda item: "{}".join(item.pieces))
def test_every_changing_statement_can_be_drawn(item):
    for seed in range(300):
        scope = Scope(random.Random(seed), 3)
        target = scope.new_argument(item.result)
        first = Expression(target.name, target.name, templates.ATOM, target.vals)
        try:
            expression = expressions.apply_production(scope, item, expressions.draw_operands(scope, item, 0, [first]))
        except DeadDraw:
            continue
        assert expression.vals != target.vals
        return
    pytest.fail("300 draws, none alive")


def test_a_vocabulary_holds_those_below_it_and_no_more():
    for vocabulary in (1, 2, 3):
        for table in (EXPRESSIONS_BY_TYPE, STATEMENTS_BY_TYPE):
            assert {item.vocabulary for items in table[vocabulary].values() for item in items} == set(
                range(1, vocabulary + 1)
            )


def test_a_dead_draw_leaves_nothing_behind():
    scope = Scope(random.Random(1), 1)
    var = scope.new_argument("int")

    def dies():
        scope.new_argument("list")
        scope.variables.append(Variable("_9", "int", [0] * POOL_SIZE))
        var.vals, var.unused = [], True
        raise DeadDraw

    kept = scope.variables[0]
    before = (kept.vals, kept.unused)
    with pytest.raises(DeadDraw):
        scope.retry(2, dies)
    assert (len(scope.args), len(scope.variables)) == (1, 1)
    kept = scope.variables[0]
    assert (kept.vals, kept.unused) == before
