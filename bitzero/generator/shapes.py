"""The shape of a candidate by level: straight lines, a comprehension or `if`, loops, `while`, nesting, functions."""

from collections.abc import Callable

from bitzero.generator.expressions import draw_expression, draw_leaf, uses_name
from bitzero.generator.functions import with_helper
from bitzero.generator.loops import (
    LOOP_SOURCES,
    Source,
    draw_accumulation,
    draw_accumulators,
    draw_for_loop,
    draw_start,
    set_true_values,
    whole_text,
    with_return,
)
from bitzero.generator.scope import POOL_SIZE, DeadDraw, Scope, Variable
from bitzero.generator.statements import (
    Candidate,
    Helper,
    Statement,
    draw_branch,
    draw_condition,
    draw_line,
    if_statement,
    mark_used,
    one_branch,
    one_comprehension,
    statement_of,
    straight_lines,
)


def one_loop(scope: Scope) -> list[Statement]:
    """L3: a loop of one or two statements."""
    rng = scope.rng
    source = rng.choice(LOOP_SOURCES[scope.vocabulary])
    head = [draw_line(scope)] if rng.random() < 0.15 else []
    starts, accumulators = draw_accumulators(scope, source)
    head += starts
    block = draw_for_loop(
        scope,
        source,
        accumulators,
        lambda inner, loop_vars: [
            draw_accumulation(inner, accumulators, loop_vars) for _ in range(rng.choice((1, 1, 1, 2)))
        ],
    )
    return with_return(scope, [*head, block])


def loop_around_branch(scope: Scope) -> list[Statement]:
    """L4: a loop with an `if` in it, around a change, an early return, `break` or `continue`."""
    rng = scope.rng
    source = rng.choice(LOOP_SOURCES[scope.vocabulary])
    starts, accumulators = draw_accumulators(scope, source)
    shape = rng.choice(("branch", "branch", "branch", "skip", "return"))

    def draw_body(inner: Scope, loop_vars: list[Variable]) -> list[Statement]:
        block = if_statement(inner, draw_condition(inner))
        if shape == "branch":
            block.body = [draw_accumulation(inner, accumulators, loop_vars)]
            if rng.random() < 0.4:
                block.orelse = [draw_accumulation(inner, accumulators, loop_vars)]
            more = [draw_accumulation(inner, accumulators, loop_vars)] if rng.random() < 0.15 else []
            return [block, *more]
        accumulation = draw_accumulation(inner, accumulators, loop_vars)
        if shape == "skip":
            block.body = [Statement(rng.choice(("break", "continue")))]
            return [block, accumulation] if rng.random() < 0.7 else [accumulation, block]
        name = accumulators[0]
        value_type = next(var.type for var in inner.variables if var.name == name)
        early = draw_expression(inner, value_type, rng.choice((0, 1)), value_type)
        block.body = [statement_of(f"return {early.text}", early, traced=f"return {early.traced}")]
        return [block, accumulation] if rng.random() < 0.5 else [accumulation, block]

    return with_return(scope, [*starts, draw_for_loop(scope, source, accumulators, draw_body)])


def loop_and_branch(scope: Scope) -> list[Statement]:
    """L4: a loop, and an `if` before or after it."""
    rng = scope.rng
    source = rng.choice(LOOP_SOURCES[scope.vocabulary])
    starts, accumulators = draw_accumulators(scope, source)
    block = draw_for_loop(
        scope, source, accumulators, lambda inner, loop_vars: [draw_accumulation(inner, accumulators, loop_vars)]
    )
    body = [*starts, block]
    set_true_values(scope, body)
    body.append(draw_branch(scope))
    return with_return(scope, body)


def nested_loops(scope: Scope) -> list[Statement]:
    """L5: a loop in a loop."""
    rng = scope.rng
    source, inner_source = rng.choice(LOOP_SOURCES[scope.vocabulary]), rng.choice(LOOP_SOURCES[scope.vocabulary])
    starts, accumulators = draw_accumulators(scope, inner_source)

    def body_of_inner(inner: Scope, loop_vars: list[Variable]) -> list[Statement]:
        accumulation = draw_accumulation(inner, accumulators, loop_vars)
        if rng.random() < 0.4:
            return [if_statement(inner, draw_condition(inner), [accumulation])]
        return [accumulation]

    def body_of_outer(inner: Scope, loop_vars: list[Variable]) -> list[Statement]:
        body = [draw_for_loop(inner, inner_source, accumulators, body_of_inner)]
        if rng.random() < 0.2:
            body.append(draw_accumulation(inner, accumulators, loop_vars))
        return body

    return with_return(scope, [*starts, draw_for_loop(scope, source, accumulators, body_of_outer)])


def dict_building_loop(scope: Scope) -> list[Statement]:
    """L5: a dict filled by a loop."""
    rng = scope.rng
    starts = [draw_start(scope, "dict")]
    accumulators = starts[0].changed

    def draw_body(inner: Scope, loop_vars: list[Variable]) -> list[Statement]:
        accumulation = draw_accumulation(inner, accumulators, loop_vars)
        if rng.random() < 0.4:
            return [if_statement(inner, draw_condition(inner), [accumulation])]
        return [accumulation]

    source: Source = rng.choice(("str", "str", "strs", "list", "pairs"))
    return with_return(scope, [*starts, draw_for_loop(scope, source, accumulators, draw_body)])


def while_loop(scope: Scope) -> list[Statement]:
    """L5: `while`, driven by a number that shrinks or a text or list that gets shorter; fuel ends the rest."""
    rng = scope.rng
    # The driver, and what the loop accumulates beside it.
    driver = draw_leaf(scope, rng.choice(("int", "int", "list", "str")), False)
    value_type = next(var.type for var in scope.variables if var.name == driver.text)
    starts, accumulators = draw_accumulators(scope, rng.choice(("list", "str")))
    if driver.text in accumulators:
        raise DeadDraw
    # The test, and the step that brings the driver nearer to its end.
    name, limit = driver.text, rng.randint(0, 3)
    if value_type == "int":
        test = f"{name} > {limit}"
        step = rng.choice((f"{name} //= {rng.randint(2, 4)}", f"{name} -= {rng.randint(2, 9)}"))
    else:
        test = rng.choice((f"len({name}) > {limit}", name if limit < 2 else f"len({name}) > {limit}"))
        step = f"{name} = {rng.choice((f'{name}[1:]', f'{name}[:-1]', f'{name}[2:]'))}"
    # The body: one or two accumulations and the step.
    inner = scope.body_scope(list(range(POOL_SIZE)))
    inner.in_loop = True
    for var in inner.variables:
        var.read_only = var.name not in accumulators
        var.unused = var.name == name
    body = [draw_accumulation(inner, accumulators, []) for _ in range(rng.choice((1, 1, 2)))]
    body.insert(rng.choice((len(body), len(body), 0)), Statement(step, (name,), vocabulary=2, ops=1))
    block = Statement(f"while {test}:", traced=test, body=body, ops=1)
    mark_used(scope, whole_text(block))
    for var in scope.variables:
        var.unused |= var.name in accumulators
    return with_return(scope, [*starts, block])


def one_return(scope: Scope) -> list[Statement]:
    """L0: nothing but a return."""
    return straight_lines(scope, 0)


def one_or_two_lines(scope: Scope) -> list[Statement]:
    """L1: one or two statements and a return."""
    return straight_lines(scope, scope.rng.randint(1, 2))


def few_lines(scope: Scope) -> list[Statement]:
    """L2 by its vocabulary: at most two statements and a return."""
    return straight_lines(scope, scope.rng.randint(0, 2))


def many_lines(scope: Scope) -> list[Statement]:
    """L2 by its length: three or four statements and a return."""
    return straight_lines(scope, scope.rng.randint(3, 4))


Shape = Callable[[Scope], tuple[list[Helper], list[Statement]]]


def without_helpers(body: Callable[[Scope], list[Statement]]) -> Shape:
    """A shape without helper functions."""
    return lambda scope: ([], body(scope))


# By level; a shape that stands twice is drawn twice as often.
SHAPES: tuple[tuple[Shape, ...], ...] = (
    (without_helpers(one_return),),
    (without_helpers(one_or_two_lines),),
    (
        without_helpers(many_lines),
        without_helpers(few_lines),
        without_helpers(one_comprehension),
        without_helpers(one_branch),
    ),
    (without_helpers(one_loop),),
    (without_helpers(loop_around_branch), without_helpers(loop_around_branch), without_helpers(loop_and_branch)),
    (without_helpers(nested_loops), without_helpers(dict_building_loop), without_helpers(while_loop), with_helper),
)
LONGEST_INPUT = (5, 5, 5, 3, 4, 4)  # items of a list among the inputs, by level: a loop must keep to the level's events


def draw_candidate(scope: Scope, level: int, shape: Shape) -> Candidate:
    """A program of one of the level's `SHAPES`; its level is measured only once it ran. Raises `DeadDraw`."""
    scope.max_size = LONGEST_INPUT[level]
    if level > 2:
        scope.min_size = min(max(1, scope.min_size), 2)
    helpers, body = shape(scope)
    text = "\n".join(map(whole_text, body))
    args = [arg for arg in scope.args if uses_name(text, arg.name)]
    if not args:
        raise DeadDraw
    return Candidate(helpers, args, body)
