"""Expressions, drawn so that they run: every operand is evaluated on all inputs as it is chosen.

An operation that fails, grows too large, changes nothing or is constant is dropped the moment it is drawn instead of
after a whole program was built. These values guide only; labels come from running the finished source (`execute.py`).
"""

import functools
from typing import Any

from bitzero.generator.grammar import BY_TYPE
from bitzero.generator.scope import FOUND_IN, POOL, Dead, Expr, Scope, Var, word
from bitzero.generator.templates import ATOM, FACTOR, Production, slot_type

COMPREHENSION, CONDITIONAL = 1, 2  # features that an expression's level depends on
LEAVES = frozenset(("cons", "cnt", "pos", "key", *FOUND_IN))  # slots that hold no operation
INT_BOUNDS = ((-9, 99), (-999, 9_999), (-99_999, 99_999))  # by tier
WIDTH = (24, 24, 40)  # characters of a value, by tier


def constant(scope: Scope, slot: str, kind: str) -> Expr:
    """A literal for the slot."""
    rng, size = scope.rng, len(scope.rows) if scope.rows is not None else POOL
    value: Any
    if kind == "int":
        if slot == "idx":
            value = rng.choice((0, 1, 1, 2, 2, 3, -1, -1, -2))
        elif slot == "cnt":
            value = rng.randint(2, 3)
        elif slot == "pos":
            value = rng.randint(2, 9)
        else:
            value = rng.randint(0, 9) if scope.tier == 1 or rng.random() < 0.8 else rng.randint(-9, 99)
    elif kind == "str":
        value = word(scope, 1, 1 if slot in ("ch", "key") or rng.random() < 0.5 else 3)
    elif kind == "list":
        value = [rng.randint(0, 9) for _ in range(rng.randint(1, 3))]
    else:
        raise Dead
    prec = FACTOR if kind == "int" and value < 0 else ATOM
    text = repr(value)
    return Expr(text, text, prec, [value] * size, constant=True)


def leaf(scope: Scope, slot: str, may_be_constant: bool = True) -> Expr:
    """A variable (one that still waits for its use first), a new argument, or a literal."""
    rng, kind = scope.rng, slot_type(slot)
    bare = slot in FOUND_IN or slot.startswith("leaf_")
    literal = may_be_constant and kind in ("int", "str", "list") and not bare
    if slot == "cons":
        return constant(scope, slot, kind)
    known = [var for var in scope.vars if var.kind == kind]
    waiting = [var for var in known if var.pending]
    if waiting and rng.random() < 0.8:
        return take(rng.choice(waiting))
    share = 0.75 if slot in ("idx", "cnt", "pos", "key") else 0.5 if slot == "ch" else 0.35 if kind == "int" else 0.12
    if literal and rng.random() < share:
        return constant(scope, slot, kind)
    room = len(scope.args) < scope.max_args
    if known and (not room or rng.random() < (0.2 if slot in FOUND_IN else 0.5)):
        return take(rng.choice(known))
    if room:
        return take(scope.new_arg(slot))
    if literal:
        return constant(scope, slot, kind)
    raise Dead


def take(var: Var) -> Expr:
    """The variable as an expression."""
    return Expr(var.name, var.name, ATOM, var.vals)


def fits(kind: str, vals: list[Any], tier: int) -> bool:
    """Whether the values stay inside the tier's sizes."""
    low, high = INT_BOUNDS[tier - 1]
    if kind == "int":
        return min(vals, default=0) >= low and max(vals, default=0) <= high
    if kind == "bool":
        return True
    width = WIDTH[tier - 1]
    if kind == "list":
        flat = [item for value in vals for item in value]
        if flat and (min(flat) < low or max(flat) > high):
            return False
        return all(len(value) <= 8 and (tier == 1 or len(repr(value)) <= width) for value in vals)
    if kind == "str":
        return all(len(value) <= width - 2 for value in vals)
    return all(len(repr(value)) <= width for value in vals)


def apply(scope: Scope, item: Production, operands: list[Expr]) -> Expr:
    """The operation on these operands; `Dead` where it fails, overflows, is constant or changes nothing."""
    try:
        vals = list(map(item.call, *(operand.vals for operand in operands)))
    except (ValueError, IndexError, KeyError, TypeError, ZeroDivisionError, OverflowError):
        raise Dead from None
    if not fits(item.result, vals, scope.tier):
        raise Dead
    first = vals[0] if vals else None
    if all(value == first for value in vals) and scope.rng.random() < 0.95:
        raise Dead
    if item.result == "bool" and not 2 <= sum(vals) <= len(vals) - 2 and scope.rows is None:
        raise Dead
    if not scope.loop and any(operand.vals == vals for operand in operands if not operand.constant):
        raise Dead
    text, traced = item.pieces[0], item.pieces[0]
    features = 0
    for operand, piece, need, inner in zip(operands, item.pieces[1:], item.needs, item.inner, strict=True):
        plain = operand.text if operand.prec >= need else f"({operand.text})"
        text += plain + piece
        traced += (f"E({operand.traced})" if operand.ops and not inner else plain) + piece
        features |= operand.features
    if item.binders:
        text, traced, features = _bind(scope, text, traced, features)
    if item.conditional:
        features |= CONDITIONAL
    tier = max(item.tier, *(operand.tier for operand in operands))
    return Expr(text, traced, item.prec, vals, 1 + sum(o.ops for o in operands), tier, features)


def _bind(scope: Scope, text: str, traced: str, features: int) -> tuple[str, str, int]:
    for mark in ("{x}", "{y}"):
        if mark in text:
            name = scope.name()
            text, traced = text.replace(mark, name), traced.replace(mark, name)
    return text, traced, features | (COMPREHENSION if " for " in text else 0)


def expression(scope: Scope, kind: str, ops: int, slot: str = "") -> Expr:
    """An expression of the type with exactly `ops` operations, or `Dead`."""
    if ops == 0:
        return leaf(scope, slot or kind)
    choices = BY_TYPE[scope.tier][kind]
    waiting = frozenset(var.kind for var in scope.vars if var.pending)
    if waiting and scope.rng.random() < 0.6:
        choices = taking(scope.tier, kind, waiting) or choices
    if not choices:
        raise Dead
    for _ in range(3):
        item, mark = scope.rng.choice(choices), scope.mark()
        try:
            return apply(scope, item, operands_of(scope, item, ops - 1))
        except Dead:
            scope.forget(mark)
    raise Dead


@functools.cache
def taking(tier: int, kind: str, waiting: frozenset[str]) -> tuple[Production, ...]:
    """The productions of a type that take an operand of a type that waits."""
    return tuple(item for item in BY_TYPE[tier][kind] if item.types & waiting)


def operands_of(scope: Scope, item: Production, ops: int, done: list[Expr] | None = None) -> list[Expr]:
    """Operands of a production that hold `ops` operations together; at least one is not a literal."""
    rng = scope.rng
    found = done or []
    slots = item.slots[len(found) :]
    shares = [0] * len(slots)
    if ops:
        wide = [i for i, slot in enumerate(slots) if slot not in LEAVES and slot[:5] != "leaf_"]
        if not wide:
            raise Dead
        for _ in range(ops):
            shares[rng.choice(wide)] += 1
    moving = any(not operand.constant for operand in found)
    for i, (slot, share) in enumerate(zip(slots, shares, strict=True)):
        last_chance = i == len(slots) - 1 and not moving
        operand = expression(scope, slot_type(slot), share, slot) if share else leaf(scope, slot, not last_chance)
        moving |= not operand.constant
        found.append(operand)
    if not moving:
        raise Dead
    return found


def comprehension(scope: Scope) -> Expr:
    """A list comprehension over a list, a text, a list of texts or a range, with or without a condition."""
    rng = scope.rng
    source, element = rng.choice((("list", "int"), ("list", "int"), ("str", "str"), ("strs", "str"), ("range", "int")))
    if source == "range":
        bound = leaf(scope, "int", False)
        iterable = Expr(
            f"range({bound.text})", f"range({bound.text})", ATOM, [range(max(0, n)) for n in bound.vals], 1, 2
        )
    else:
        iterable = leaf(scope, source, False)
    if max(map(len, iterable.vals)) > 9:
        raise Dead
    rows = [i for i, value in enumerate(iterable.vals) for _ in value]
    if len(rows) < POOL // 2:
        raise Dead
    inner = scope.inside(rows)
    item = Var(scope.name(), element, [x for value in iterable.vals for x in value], fixed=True)
    inner.vars.append(item)
    shape = rng.choice(("map", "filter", "both"))
    result = take(item) if shape == "filter" else _element(inner, item)
    condition = None if shape == "map" else _condition(inner, item)
    return _collect(scope, iterable, item, result, condition, rows)


def _element(inner: Scope, item: Var) -> Expr:
    """What a comprehension collects: an operation on the item."""
    made = expression(inner, inner.rng.choice(("int", "str") if item.kind == "str" else ("int",)), 1)
    if not uses(made.text, item.name):
        raise Dead
    return made


def _condition(inner: Scope, item: Var) -> Expr:
    """What a comprehension asks of the item; true for some and false for some."""
    made = expression(inner, "bool", 1)
    if not uses(made.text, item.name) or len(set(made.vals)) < 2:
        raise Dead
    return made


def uses(text: str, name: str) -> bool:
    """Whether the source names this variable."""
    start = text.find(name)
    while start >= 0:
        after = text[start + len(name) : start + len(name) + 1]
        if not after.isdigit():
            return True
        start = text.find(name, start + 1)
    return False


def _collect(scope: Scope, source: Expr, item: Var, result: Expr, condition: Expr | None, rows: list[int]) -> Expr:
    vals: list[list[Any]] = [[] for _ in source.vals]
    for place, row in enumerate(rows):
        if condition is None or condition.vals[place]:
            vals[row].append(result.vals[place])
    kind = "strs" if result.vals and type(result.vals[0]) is str else "list"
    if not fits(kind, vals, scope.tier) or all(value == vals[0] for value in vals) or vals == source.vals:
        raise Dead
    test = f" if {condition.text}" if condition else ""
    text = f"[{result.text} for {item.name} in {source.text}{test}]"
    tier = max(2, result.tier, source.tier, condition.tier if condition else 1)
    ops = 1 + result.ops + (condition.ops if condition else 0)
    features = COMPREHENSION | result.features | (condition.features if condition else 0)
    return Expr(text, text, ATOM, vals, ops, tier, features)
