"""Productions and the expressions made of them: what is printed is what was computed."""

import ast
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitzero.generator import expressions, grammar, templates
from bitzero.generator.grammar import BY_TYPE, CHANGES, EXPRESSIONS, STATEMENTS
from bitzero.generator.scope import POOL, Dead, Expr, Scope, Var
from bitzero.generator.templates import fresh, production, statement


def evaluated(text, scope, row):
    """The source's value on one input, by Python itself."""
    names = {arg.name: fresh(arg.vals[row]) for arg in scope.args}
    return eval(text, {"__builtins__": templates.BUILTINS, **names})


def test_tier_one_has_at_least_25_operations():
    assert len({item.pieces for item in EXPRESSIONS if item.tier == 1}) >= 25


def test_a_template_is_read_into_slots_pieces_and_needs():
    item = production("int   {int} - {list}[{idx}]", 1)
    assert item.slots == ("int", "list", "idx")
    assert item.pieces == ("", " - ", "[", "]")
    assert item.needs == (templates.ARITH, templates.ATOM, templates.TEST - 1)
    assert item.call(7, [1, 2, 3], -1) == 4


def test_braces_are_undoubled_and_binders_left_open():
    item = production("dict  {{{x}: {y} + {int} for {x}, {y} in {dict}.items()}}", 3)
    assert item.pieces == ("{{x}: {y} + ", " for {x}, {y} in ", ".items()}")
    assert item.inner == (True, False)
    assert item.call(2, {"a": 1}) == {"a": 3}


def test_a_statement_leaves_its_operands_alone():
    item = statement("list  {list}.append({int})", 1)
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
    scope.loop = True  # keep operations that change nothing
    kind = inner.split()[0]
    vals = [bool(i % 3) if kind == "bool" else i for i in range(POOL)]
    leaf = Expr("_1", "_1", templates.ATOM, vals)
    operator = production(inner, 1)
    operand = expressions.apply(scope, operator, [leaf] * len(operator.slots))
    whole = production(outer, 1)
    made = operand
    for _ in range(50):  # a constant result is dropped nearly always
        try:
            made = expressions.apply(scope, whole, [operand] * len(whole.slots))
            break
        except Dead:
            continue
    assert made.text == text
    assert ast.unparse(ast.parse(text)) == text


@given(
    seed=st.integers(0, 10**9),
    tier=st.sampled_from((1, 2, 3)),
    kind=st.sampled_from(grammar.TYPES),
    ops=st.integers(1, 3),
)
def test_an_expression_prints_what_it_computes(seed, tier, kind, ops):
    scope = Scope(random.Random(seed), tier)
    try:
        made = expressions.expression(scope, kind, ops)
    except Dead:
        return
    assert ast.unparse(ast.parse(made.text)) == made.text
    assert made.ops == ops
    for row in range(POOL):
        assert evaluated(made.text, scope, row) == made.vals[row]


@given(seed=st.integers(0, 10**9))
def test_a_comprehension_prints_what_it_computes(seed):
    scope = Scope(random.Random(seed), 2)
    try:
        made = expressions.comprehension(scope)
    except Dead:
        return
    assert ast.unparse(ast.parse(made.text)) == made.text
    assert [evaluated(made.text, scope, row) for row in range(POOL)] == made.vals


@pytest.mark.parametrize("item", EXPRESSIONS, ids=lambda item: "{}".join(item.pieces))
def test_every_production_can_be_drawn(item):
    """A line of a table that never comes alive would be a hole in the vocabulary."""
    for seed in range(600):
        scope = Scope(random.Random(seed), 3)
        try:
            made = expressions.apply(scope, item, expressions.operands_of(scope, item, 0))
        except Dead:
            continue
        assert made.tier >= item.tier
        return
    pytest.fail("600 draws, none alive")


@pytest.mark.parametrize("item", STATEMENTS, ids=lambda item: "{}".join(item.pieces))
def test_every_changing_statement_can_be_drawn(item):
    for seed in range(300):
        scope = Scope(random.Random(seed), 3)
        target = scope.new_arg(item.result)
        first = Expr(target.name, target.name, templates.ATOM, target.vals)
        try:
            made = expressions.apply(scope, item, expressions.operands_of(scope, item, 0, [first]))
        except Dead:
            continue
        assert made.vals != target.vals
        return
    pytest.fail("300 draws, none alive")


def test_a_level_has_the_vocabulary_of_its_tier_and_no_more():
    for tier in (1, 2, 3):
        for table in (BY_TYPE, CHANGES):
            assert {item.tier for items in table[tier].values() for item in items} == set(range(1, tier + 1))


def test_a_dead_draw_leaves_nothing_behind():
    scope = Scope(random.Random(1), 1)
    var = scope.new_arg("int")

    def dies():
        scope.new_arg("list")
        scope.vars.append(Var("_9", "int", [0] * POOL))
        var.vals, var.pending = [], True
        raise Dead

    kept = scope.vars[0]
    before = (kept.vals, kept.pending)
    with pytest.raises(Dead):
        scope.again(2, dies)
    assert (len(scope.args), len(scope.vars)) == (1, 1)
    kept = scope.vars[0]
    assert (kept.vals, kept.pending) == before
