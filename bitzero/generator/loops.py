"""Loops: what they run over, what they accumulate, and the values they leave behind.

A loop's body is drawn on the values of its first round. The statements after it are drawn on what it really leaves: the
statements so far are run on the pool (`set_true_values`).

A loop's *source* says what it runs over: a list, text, list of texts, tuple or dict (by items), a range, the positions
of a list, a numbered list (`enumerate`), or pairs (`zip` of a list and a text).
"""

import typing
from collections.abc import Callable
from typing import Any, Literal

from bitzero.generator.execute import FAILURES, FUEL, InstrumentedProgram
from bitzero.generator.expressions import draw_leaf, uses_name, variable_expression
from bitzero.generator.scope import POOL_SIZE, DeadDraw, Scope, Variable
from bitzero.generator.statements import (
    Candidate,
    Helper,
    Statement,
    draw_change,
    draw_reassignment,
    draw_return,
    mark_used,
)
from bitzero.generator.templates import ValueType

Source = Literal["list", "str", "strs", "tup", "dict", "range", "positions", "numbered", "pairs"]
# Types of accumulators, with the texts and values they start from.
START_TEXTS: dict[ValueType, tuple[str, ...]] = {
    "int": ("0", "1"),
    "str": ("''",),
    "list": ("[]",),
    "strs": ("[]",),
    "dict": ("{}",),
    "set": ("set()",),
}
START_VALUES: dict[str, Any] = {"''": "", "[]": [], "{}": {}, "set()": set(), "0": 0, "1": 1}
# By vocabulary; a source that stands twice is drawn twice as often.
LOOP_SOURCES: dict[int, tuple[Source, ...]] = {
    2: ("list", "list", "str", "strs", "tup", "range", "positions", "numbered", "dict"),
    3: ("list", "list", "str", "str", "strs", "tup", "range", "positions", "numbered", "pairs", "dict"),
}
# What a loop over ints or texts may accumulate, by vocabulary.
COLLECTABLE_TYPES: dict[int, dict[str, tuple[ValueType, ...]]] = {
    2: {"int": ("int", "int", "list", "list"), "str": ("str", "str", "strs", "int")},
    3: {"int": ("int", "int", "list", "list", "str", "set"), "str": ("str", "str", "strs", "int")},
}


def set_true_values(scope: Scope, body: list[Statement], helpers: list[Helper] | None = None) -> None:
    """Sets every variable to its true values after `body`.

    Inputs that fail, or return before the end, get the values of another input. Raises `DeadDraw` if more than a third
    fail or fewer than a third come to the end.
    """
    names = ", ".join(var.name for var in scope.variables)
    end = f"return (None, {names})"  # None is no value of the grammar, so it marks the end
    program = InstrumentedProgram(Candidate(helpers or [], scope.args, [*body, Statement(end, traced=end)]), FUEL)
    ends, failures = [], 0
    for row in range(POOL_SIZE):
        try:
            result = program.run(tuple(arg.vals[row] for arg in scope.args))
        except FAILURES:
            failures += 1
            continue
        if type(result) is tuple and result[:1] == (None,):
            ends.append(result)
    if 3 * failures > POOL_SIZE or 3 * len(ends) < POOL_SIZE:
        raise DeadDraw
    for i, var in enumerate(scope.variables, 1):
        var.vals = [ends[row % len(ends)][i] for row in range(POOL_SIZE)]


def draw_start(scope: Scope, value_type: ValueType) -> Statement:
    """An accumulator's first assignment."""
    text = scope.rng.choice(START_TEXTS[value_type])
    var = Variable(scope.new_name(), value_type, [START_VALUES[text]] * POOL_SIZE, unused=True)
    scope.variables.append(var)
    vocabulary = 3 if value_type == "set" else 2 if value_type in ("strs", "dict") else 1
    return Statement(f"{var.name} = {text}", (var.name,), vocabulary=vocabulary)


def _draw_iterable(scope: Scope, source: Source) -> tuple[str, list[tuple[ValueType, list[Any]]]]:
    """What a `for` runs over: its text, and for each loop variable its type and, by input, its values in turn."""
    if source == "range":
        room = len(scope.args) < scope.max_args
        bound = variable_expression(scope.new_argument("cnt")) if room else draw_leaf(scope, "cnt", False)
        return f"range({bound.text})", [("int", [list(range(max(0, n))) for n in bound.vals])]
    iterable = draw_leaf(scope, "list" if source in ("positions", "numbered", "pairs") else source, False)
    positions = [list(range(len(value))) for value in iterable.vals]
    items = [list(value) for value in iterable.vals]
    match source:
        case "positions":
            return f"range(len({iterable.text}))", [("int", positions)]
        case "numbered":
            return f"enumerate({iterable.text})", [("int", positions), ("int", iterable.vals)]
        case "pairs":
            other = draw_leaf(scope, "str", False)
            both = [list(zip(*pair, strict=False)) for pair in zip(iterable.vals, other.vals, strict=True)]
            ints, texts = ([[pair[i] for pair in pairs] for pairs in both] for i in (0, 1))
            return f"zip({iterable.text}, {other.text})", [("int", ints), ("str", texts)]
        case "dict":
            return f"{iterable.text}.items()", [("str", items), ("int", [list(d.values()) for d in iterable.vals])]
        case "list" | "tup":
            return iterable.text, [("int", items)]
        case "str" | "strs":
            return iterable.text, [("str", items)]
    typing.assert_never(source)


def collectable_types(scope: Scope, source: Source) -> tuple[ValueType, ...]:
    """Types of accumulators for a loop over this source."""
    value_types = COLLECTABLE_TYPES[scope.vocabulary]
    match source:
        case "pairs" | "dict":
            return value_types["int"] + value_types["str"]
        case "str" | "strs":
            return value_types["str"]
        case "list" | "tup" | "range" | "positions" | "numbered":
            return value_types["int"]
    typing.assert_never(source)


def draw_for_loop(
    scope: Scope,
    source: Source,
    accumulators: tuple[str, ...],
    draw_body: Callable[[Scope, list[Variable]], list[Statement]],
) -> Statement:
    """`for` over a source, changing the accumulators (names); `draw_body` gets the body's scope and loop variables.

    Raises `DeadDraw`.
    """
    # The iterable is drawn from the variables that the loop does not change.
    visible = scope.variables
    scope.variables = [var for var in visible if var.name not in accumulators]
    num_visible = len(scope.variables)
    text, items = _draw_iterable(scope, source)
    scope.variables = visible + scope.variables[num_visible:]
    # The body is drawn with a value for each iteration of all inputs.
    input_of = [i for i, values in enumerate(items[0][1]) for _ in values]
    if len(input_of) < POOL_SIZE // 2 or max(len(values) for values in items[0][1]) > 8:
        raise DeadDraw
    inner = scope.body_scope(input_of)
    inner.in_loop = True
    for var in inner.variables:
        var.read_only = var.name not in accumulators
    loop_vars = [
        Variable(scope.new_name(), value_type, [x for value in vals for x in value], True, True)
        for value_type, vals in items
    ]
    inner.variables += loop_vars
    loop_names = tuple(var.name for var in loop_vars)
    block = Statement(f"for {', '.join(loop_names)} in {text}:", loop_names, vocabulary=2)
    block.body = draw_body(inner, loop_vars)
    # What the whole loop uses is used, and what it accumulates is unused.
    whole = whole_text(block)
    if not any(uses_name(whole.split("\n", 1)[1], name) for name in loop_names):
        raise DeadDraw
    mark_used(scope, whole)
    for var in scope.variables:
        var.unused |= var.name in accumulators
    return block


def whole_text(statement: Statement) -> str:
    """All text of a statement, blocks included, without indentation."""
    return "\n".join([statement.text, *map(whole_text, statement.body), *map(whole_text, statement.orelse)])


def draw_accumulation(inner: Scope, accumulators: tuple[str, ...], loop_vars: list[Variable]) -> Statement:
    """One change of an accumulator, in place or by assignment, that uses a loop variable. Raises `DeadDraw`."""
    rng = inner.rng

    def draw() -> Statement:
        target = rng.choice([var for var in inner.variables if var.name in accumulators])
        if target.type == "dict" and rng.random() < 0.6:
            statement = draw_counting(inner, target)
        elif target.type in ("dict", "set", "strs", "list") or rng.random() < 0.6:
            statement = draw_change(inner, (target.type,), rng.choice((0, 1, 1)), target)
        else:
            statement = draw_reassignment(inner, target, rng.choice((1, 1, 2)), True)
        if loop_vars and not any(uses_name(statement.text, var.name) for var in loop_vars):
            raise DeadDraw
        return statement

    return inner.retry(8, draw)


def draw_counting(inner: Scope, target: Variable) -> Statement:
    """`d[k] = d.get(k, start) + step`."""
    key = draw_leaf(inner, "key", False)
    step = draw_leaf(inner, "int")
    first = inner.rng.choice((0, 0, 1))
    text = f"{target.name}[{key.text}] = {target.name}.get({key.text}, {first}) + {step.text if step.vals else 1}"
    mark_used(inner, text, target.name)
    return Statement(text, (target.name,), vocabulary=2, ops=3, changes_dict=True)


def draw_accumulators(scope: Scope, source: Source) -> tuple[list[Statement], tuple[str, ...]]:
    """Assignments before a loop over the source, and the names that it accumulates.

    One or two new variables, or one that exists and needs no assignment.
    """
    rng, value_types = scope.rng, collectable_types(scope, source)
    if rng.random() < 0.2:
        value_type = rng.choice(("int", "str", "list"))
        existing = [var for var in scope.variables if var.type == value_type]
        if existing or len(scope.args) < scope.max_args:
            return [], ((rng.choice(existing) if existing else scope.new_argument(value_type)).name,)
    starts = [draw_start(scope, rng.choice(value_types))]
    if rng.random() < 0.15:
        starts.append(draw_start(scope, "int"))
    return starts, tuple(statement.changed[0] for statement in starts)


def with_return(scope: Scope, body: list[Statement], helpers: list[Helper] | None = None) -> list[Statement]:
    """The body with a return, drawn on true values. Raises `DeadDraw`."""
    set_true_values(scope, body, helpers)
    rng = scope.rng
    unused = [var for var in scope.variables if var.unused]
    return [*body, draw_return(scope, 1 if len(unused) > 1 else rng.choice((0, 0, 0, 1, 1)))]
