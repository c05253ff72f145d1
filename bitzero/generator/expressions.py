"""Expressions, drawn so that they run: every operation is evaluated on all inputs as it is chosen.

An operation that fails, grows too large, changes nothing or is constant is dropped the moment it is drawn, not after a
whole program was built around it. The values only guide the draw; labels come from running the finished source
(`execute.py`).
"""

import functools
import itertools
from typing import Any, Literal

from bitzero.generator.grammar import EXPRESSIONS_BY_TYPE
from bitzero.generator.scope import CONTAINER_TYPE, POOL_SIZE, DeadDraw, Expression, Scope, Variable, draw_word
from bitzero.generator.templates import ATOM, FACTOR, Production, ValueType, slot_type

COMPREHENSION, CONDITIONAL = 1, 2  # what a level depends on besides operations; bits of `features`
LEAF_SLOTS = frozenset(("cons", "cnt", "pos", "key", *CONTAINER_TYPE))  # slots that hold no operation
INT_BOUNDS = ((-9, 99), (-999, 9_999), (-99_999, 99_999))  # by vocabulary
MAX_WIDTH = (24, 24, 40)  # characters of a value, by vocabulary
# What a comprehension runs over, and the type of an item; one that stands twice is drawn twice as often.
ITERABLES: tuple[tuple[ValueType | Literal["range"], ValueType], ...] = (
    *(("list", "int"), ("list", "int"), ("str", "str"), ("strs", "str"), ("range", "int")),
)


def draw_constant(scope: Scope, slot: str, value_type: ValueType) -> Expression:
    """A literal for the slot. Raises `DeadDraw` for a type without literals."""
    rng, size = scope.rng, len(scope.input_of) if scope.input_of is not None else POOL_SIZE
    value: Any
    if value_type == "int":
        if slot == "idx":
            value = rng.choice((0, 1, 1, 2, 2, 3, -1, -1, -2))
        elif slot == "cnt":
            value = rng.randint(2, 3)
        elif slot == "pos":
            value = rng.randint(2, 9)
        else:
            value = rng.randint(0, 9) if scope.vocabulary == 1 or rng.random() < 0.8 else rng.randint(-9, 99)
    elif value_type == "str":
        value = draw_word(scope, 1, 1 if slot in ("ch", "key") or rng.random() < 0.5 else 3)
    elif value_type == "list":
        value = [rng.randint(0, 9) for _ in range(rng.randint(1, 3))]
    else:
        raise DeadDraw
    prec = FACTOR if value_type == "int" and value < 0 else ATOM
    text = repr(value)
    return Expression(text, text, prec, [value] * size, constant=True)


def draw_leaf(scope: Scope, slot: str, may_be_constant: bool = True) -> Expression:
    """An operand without operations: a variable, a new argument or a literal. Raises `DeadDraw` if it may be none."""
    rng, value_type = scope.rng, slot_type(slot)
    needs_name = slot in CONTAINER_TYPE or slot.startswith("leaf_")
    may_be_literal = may_be_constant and value_type in ("int", "str", "list") and not needs_name
    if slot == "cons":
        return draw_constant(scope, slot, value_type)
    candidates = [var for var in scope.variables if var.type == value_type]
    unused = [var for var in candidates if var.unused]
    if unused and rng.random() < 0.8:
        return variable_expression(rng.choice(unused))
    share = (
        0.75 if slot in ("idx", "cnt", "pos", "key") else 0.5 if slot == "ch" else 0.35 if value_type == "int" else 0.12
    )
    if may_be_literal and rng.random() < share:
        return draw_constant(scope, slot, value_type)
    room = len(scope.args) < scope.max_args
    if candidates and (not room or rng.random() < (0.2 if slot in CONTAINER_TYPE else 0.5)):
        return variable_expression(rng.choice(candidates))
    if room:
        return variable_expression(scope.new_argument(slot))
    if may_be_literal:
        return draw_constant(scope, slot, value_type)
    raise DeadDraw


def variable_expression(var: Variable) -> Expression:
    """The variable as an expression."""
    return Expression(var.name, var.name, ATOM, var.vals)


def within_bounds(value_type: ValueType, vals: list[Any], vocabulary: int) -> bool:
    """Whether the values stay inside the vocabulary's sizes."""
    low, high = INT_BOUNDS[vocabulary - 1]
    if value_type == "int":
        return min(vals, default=0) >= low and max(vals, default=0) <= high
    if value_type == "bool":
        return True
    width = MAX_WIDTH[vocabulary - 1]
    if value_type == "list":
        flat = [*itertools.chain.from_iterable(vals)]
        if flat and (min(flat) < low or max(flat) > high):
            return False
        return all(len(value) <= 8 and (vocabulary == 1 or len(repr(value)) <= width) for value in vals)
    if value_type == "str":
        return all(len(value) <= width - 2 for value in vals)
    return all(len(repr(value)) <= width for value in vals)


def apply_production(scope: Scope, production: Production, operands: list[Expression]) -> Expression:
    """The operation on these operands. Raises `DeadDraw` where it fails, overflows, is constant or changes nothing."""
    # Its values, if they are worth having.
    try:
        vals = list(map(production.call, *(operand.vals for operand in operands)))
    except (ValueError, IndexError, KeyError, TypeError, ZeroDivisionError, OverflowError):
        raise DeadDraw from None
    if not within_bounds(production.result, vals, scope.vocabulary):
        raise DeadDraw
    if (not vals or vals.count(vals[0]) == len(vals)) and scope.rng.random() < 0.95:
        raise DeadDraw
    if production.result == "bool" and not 2 <= sum(vals) <= len(vals) - 2 and scope.input_of is None:
        raise DeadDraw
    if not scope.in_loop:
        for operand in operands:
            if operand.vals == vals and not operand.constant:
                raise DeadDraw
    # Its source, with parentheses where an operand needs them. An operand that is evaluated many times is not reported:
    # its values would not stand in the order of the text.
    text, traced = production.pieces[0], production.pieces[0]
    features, ops, vocabulary, made_of = 0, 1, production.vocabulary, {production.number}
    for operand, piece, need, repeated in zip(
        operands, production.pieces[1:], production.operand_precs, production.repeated, strict=True
    ):
        plain = operand.text if operand.prec >= need else f"({operand.text})"
        text += plain + piece
        traced += (f"E({operand.traced})" if operand.ops and not repeated else plain) + piece
        features |= operand.features
        ops += operand.ops
        vocabulary = max(vocabulary, operand.vocabulary)
        made_of |= operand.productions
    if production.binders:
        text, traced, features = _name_binders(scope, text, traced, features)
    if production.conditional:
        features |= CONDITIONAL
    return Expression(text, traced, production.prec, vals, ops, vocabulary, features, productions=frozenset(made_of))


def _name_binders(scope: Scope, text: str, traced: str, features: int) -> tuple[str, str, int]:
    """Both sources with new names for {x} and {y}, and the features, a comprehension added if there is one."""
    for mark in ("{x}", "{y}"):
        if mark in text:
            name = scope.new_name()
            text, traced = text.replace(mark, name), traced.replace(mark, name)
    return text, traced, features | (COMPREHENSION if " for " in text else 0)


def draw_expression(scope: Scope, value_type: ValueType, ops: int, slot: str = "") -> Expression:
    """An expression of the type with exactly `ops` operations; without any, one for the slot. Raises `DeadDraw`."""
    if ops == 0:
        return draw_leaf(scope, slot or value_type)
    choices = EXPRESSIONS_BY_TYPE[scope.vocabulary][value_type]
    unused_types = frozenset(var.type for var in scope.variables if var.unused)
    if unused_types and scope.rng.random() < 0.6:
        choices = productions_using(scope.vocabulary, value_type, unused_types) or choices
    if not choices:
        raise DeadDraw
    for _ in range(3):
        production, sizes = scope.choose(choices), scope.sizes()
        try:
            return apply_production(scope, production, draw_operands(scope, production, ops - 1))
        except DeadDraw:
            scope.roll_back(sizes)
    raise DeadDraw


@functools.cache
def productions_using(vocabulary: int, value_type: ValueType, types: frozenset[ValueType]) -> tuple[Production, ...]:
    """The productions with a result of `value_type` that take an operand of one of `types`."""
    return tuple(production for production in EXPRESSIONS_BY_TYPE[vocabulary][value_type] if production.types & types)


def draw_operands(
    scope: Scope, production: Production, ops: int, given: list[Expression] | None = None
) -> list[Expression]:
    """Operands of a production that hold `ops` operations together, `given` being the first of them.

    At least one is not a literal. Raises `DeadDraw`.
    """
    rng = scope.rng
    operands = given or []
    slots = production.slots[len(operands) :]
    shares = [0] * len(slots)
    if ops:
        growing = [i for i, slot in enumerate(slots) if slot not in LEAF_SLOTS and slot[:5] != "leaf_"]
        if not growing:
            raise DeadDraw
        for _ in range(ops):
            shares[rng.choice(growing)] += 1
    any_variable = any(not operand.constant for operand in operands)
    for i, (slot, share) in enumerate(zip(slots, shares, strict=True)):
        last_chance = i == len(slots) - 1 and not any_variable
        operand = (
            draw_expression(scope, slot_type(slot), share, slot) if share else draw_leaf(scope, slot, not last_chance)
        )
        any_variable |= not operand.constant
        operands.append(operand)
    if not any_variable:
        raise DeadDraw
    return operands


def draw_comprehension(scope: Scope) -> Expression:
    """A list comprehension over a list, a text, a list of texts or a range, with or without a condition.

    Raises `DeadDraw`.
    """
    rng = scope.rng
    source, item_type = rng.choice(ITERABLES)
    if source == "range":
        bound = draw_leaf(scope, "int", False)
        iterable = Expression(
            f"range({bound.text})", f"range({bound.text})", ATOM, [range(max(0, n)) for n in bound.vals], 1, 2
        )
    else:
        iterable = draw_leaf(scope, source, False)
    # The body is drawn in a scope with a value for each item of all inputs.
    if max(map(len, iterable.vals)) > 9:
        raise DeadDraw
    input_of = [i for i, value in enumerate(iterable.vals) for _ in value]
    if len(input_of) < POOL_SIZE // 2:
        raise DeadDraw
    inner = scope.body_scope(input_of)
    item = Variable(scope.new_name(), item_type, [x for value in iterable.vals for x in value], read_only=True)
    inner.variables.append(item)
    shape = rng.choice(("map", "filter", "both"))
    result = variable_expression(item) if shape == "filter" else _draw_element(inner, item)
    condition = None if shape == "map" else _draw_filter(inner, item)
    return _comprehension_of(scope, iterable, item, result, condition, input_of)


def _draw_element(inner: Scope, item: Variable) -> Expression:
    """What a comprehension collects: an operation on the item."""
    value_types: tuple[ValueType, ...] = ("int", "str") if item.type == "str" else ("int",)
    element = draw_expression(inner, inner.rng.choice(value_types), 1)
    if not uses_name(element.text, item.name):
        raise DeadDraw
    return element


def _draw_filter(inner: Scope, item: Variable) -> Expression:
    """The condition of a comprehension on its item, true for some items and false for others."""
    condition = draw_expression(inner, "bool", 1)
    if not uses_name(condition.text, item.name) or len(set(condition.vals)) < 2:
        raise DeadDraw
    return condition


def uses_name(text: str, name: str) -> bool:
    """Whether the source names this variable."""
    start = text.find(name)
    while start >= 0:
        after = text[start + len(name) : start + len(name) + 1]
        if not after.isdigit():
            return True
        start = text.find(name, start + 1)
    return False


def _comprehension_of(
    scope: Scope,
    source: Expression,
    item: Variable,
    result: Expression,
    condition: Expression | None,
    input_of: list[int],
) -> Expression:
    """`[result for item in source if condition]`; `input_of` is the input of each item. Raises `DeadDraw`."""
    vals: list[list[Any]] = [[] for _ in source.vals]
    for place, owner in enumerate(input_of):
        if condition is None or condition.vals[place]:
            vals[owner].append(result.vals[place])
    value_type: ValueType = "strs" if result.vals and type(result.vals[0]) is str else "list"
    if (
        not within_bounds(value_type, vals, scope.vocabulary)
        or all(value == vals[0] for value in vals)
        or vals == source.vals
    ):
        raise DeadDraw
    test = f" if {condition.text}" if condition else ""
    text = f"[{result.text} for {item.name} in {source.text}{test}]"
    vocabulary = max(2, result.vocabulary, source.vocabulary, condition.vocabulary if condition else 1)
    ops = 1 + result.ops + (condition.ops if condition else 0)
    features = COMPREHENSION | result.features | (condition.features if condition else 0)
    made_of = frozenset[int]().union(*(part.productions for part in (source, result, condition) if part))
    return Expression(text, text, ATOM, vals, ops, vocabulary, features, productions=made_of)
