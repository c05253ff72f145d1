"""The shape of a candidate by level: straight lines, a comprehension or `if`, loops, `while`, nesting, functions."""

from collections.abc import Callable

from bitzero.generator.expressions import expression, leaf, uses
from bitzero.generator.functions import helped
from bitzero.generator.loops import SOURCES, accumulators, finish, gather, loop, refresh, spelled, start
from bitzero.generator.scope import POOL, Dead, Scope, Var
from bitzero.generator.statements import (
    Candidate,
    Helper,
    Stmt,
    branch,
    branching,
    comprehending,
    condition,
    guarded,
    line,
    settle,
    stmt,
    straight,
)


def single(scope: Scope) -> list[Stmt]:
    """L3: a loop of one or two statements."""
    rng = scope.rng
    source = rng.choice(SOURCES[scope.tier])
    head = [line(scope)] if rng.random() < 0.15 else []
    begun, kept = accumulators(scope, source)
    head += begun
    block = loop(
        scope, source, kept, lambda inner, items: [gather(inner, kept, items) for _ in range(rng.choice((1, 1, 1, 2)))]
    )
    return finish(scope, [*head, block])


def selective(scope: Scope) -> list[Stmt]:
    """L4: a loop with an `if` in it, around a change, an early return, `break` or `continue`."""
    rng = scope.rng
    source = rng.choice(SOURCES[scope.tier])
    begun, kept = accumulators(scope, source)
    shape = rng.choice(("branch", "branch", "branch", "skip", "return"))

    def fill(inner: Scope, items: list[Var]) -> list[Stmt]:
        block = guarded(inner, condition(inner))
        if shape == "branch":
            block.body = [gather(inner, kept, items)]
            if rng.random() < 0.4:
                block.orelse = [gather(inner, kept, items)]
            more = [gather(inner, kept, items)] if rng.random() < 0.15 else []
            return [block, *more]
        change_ = gather(inner, kept, items)
        if shape == "skip":
            block.body = [Stmt(rng.choice(("break", "continue")))]
            return [block, change_] if rng.random() < 0.7 else [change_, block]
        name = kept[0]
        kind = next(var.kind for var in inner.vars if var.name == name)
        early = expression(inner, kind, rng.choice((0, 1)), kind)
        block.body = [stmt(f"return {early.text}", early, traced=f"return {early.traced}")]
        return [block, change_] if rng.random() < 0.5 else [change_, block]

    return finish(scope, [*begun, loop(scope, source, kept, fill)])


def followed(scope: Scope) -> list[Stmt]:
    """L4: a loop, and an `if` before or after it."""
    rng = scope.rng
    source = rng.choice(SOURCES[scope.tier])
    begun, kept = accumulators(scope, source)
    block = loop(scope, source, kept, lambda inner, items: [gather(inner, kept, items)])
    body = [*begun, block]
    refresh(scope, body)
    body.append(branch(scope))
    return finish(scope, body)


def nested(scope: Scope) -> list[Stmt]:
    """L5: a loop in a loop."""
    rng = scope.rng
    source, within = rng.choice(SOURCES[scope.tier]), rng.choice(SOURCES[scope.tier])
    begun, kept = accumulators(scope, within)

    def deepest(inner: Scope, items: list[Var]) -> list[Stmt]:
        done = gather(inner, kept, items)
        if rng.random() < 0.4:
            return [guarded(inner, condition(inner), [done])]
        return [done]

    def outer(inner: Scope, items: list[Var]) -> list[Stmt]:
        body = [loop(inner, within, kept, deepest)]
        if rng.random() < 0.2:
            body.append(gather(inner, kept, items))
        return body

    return finish(scope, [*begun, loop(scope, source, kept, outer)])


def building(scope: Scope) -> list[Stmt]:
    """L5: a dict filled by a loop."""
    rng = scope.rng
    begun = [start(scope, "dict")]
    kept = begun[0].names

    def fill(inner: Scope, items: list[Var]) -> list[Stmt]:
        done = gather(inner, kept, items)
        if rng.random() < 0.4:
            return [guarded(inner, condition(inner), [done])]
        return [done]

    source = rng.choice(("str", "str", "strs", "list", "pairs"))
    return finish(scope, [*begun, loop(scope, source, kept, fill)])


def repeating(scope: Scope) -> list[Stmt]:
    """L5: `while`, driven by a number that shrinks or a text or list that is used up; fuel ends the others."""
    rng = scope.rng
    driver = leaf(scope, rng.choice(("int", "int", "list", "str")), False)
    kind = next(var.kind for var in scope.vars if var.name == driver.text)
    begun, kept = accumulators(scope, rng.choice(("list", "str")))
    if driver.text in kept:
        raise Dead
    name, limit = driver.text, rng.randint(0, 3)
    if kind == "int":
        test, step = (
            f"{name} > {limit}",
            rng.choice((f"{name} //= {rng.randint(2, 4)}", f"{name} -= {rng.randint(2, 9)}")),
        )
    else:
        test = rng.choice((f"len({name}) > {limit}", name if limit < 2 else f"len({name}) > {limit}"))
        step = f"{name} = {rng.choice((f'{name}[1:]', f'{name}[:-1]', f'{name}[2:]'))}"
    inner = scope.inside(list(range(POOL)))
    inner.loop = True
    for var in inner.vars:
        var.fixed = var.name not in kept
        var.pending = var.name == name
    body = [gather(inner, kept, []) for _ in range(rng.choice((1, 1, 2)))]
    body.insert(rng.choice((len(body), len(body), 0)), Stmt(step, (name,), tier=2, ops=1))
    block = Stmt(f"while {test}:", traced=test, body=body, ops=1)
    settle(scope, spelled(block))
    for var in scope.vars:
        var.pending |= var.name in kept
    return finish(scope, [*begun, block])


def short(scope: Scope) -> list[Stmt]:
    """L2 by its vocabulary: at most two statements."""
    return straight(scope, scope.rng.randint(0, 2))


def long(scope: Scope) -> list[Stmt]:
    """L2 by its length: three or four statements."""
    return straight(scope, scope.rng.randint(3, 4))


Shape = Callable[[Scope], tuple[list[Helper], list[Stmt]]]


def alone(body: Callable[[Scope], list[Stmt]]) -> Shape:
    """A shape without helper functions."""
    return lambda scope: ([], body(scope))


SHAPES: tuple[tuple[Shape, ...], ...] = (
    (alone(lambda scope: straight(scope, 0)),),
    (alone(lambda scope: straight(scope, scope.rng.randint(1, 2))),),
    (
        alone(lambda scope: straight(scope, scope.rng.randint(3, 4))),
        alone(short),
        alone(comprehending),
        alone(branching),
    ),
    (alone(single),),
    (alone(selective), alone(selective), alone(followed)),
    (alone(nested), alone(building), alone(repeating), helped),
)
LONGEST = (5, 5, 5, 3, 4, 4)  # longest list among the inputs, by level: loops must stay within the level's events


def candidate(scope: Scope, level: int, shape: Shape) -> Candidate:
    """Draw a program of one of the level's `SHAPES`; its real level is measured after it ran. Raises `Dead`."""
    scope.longest = LONGEST[level]
    if level > 2:
        scope.least = min(max(1, scope.least), 2)
    helpers, body = shape(scope)
    text = "\n".join(map(spelled, body))
    args = [arg for arg in scope.args if uses(text, arg.name)]
    if not args:
        raise Dead
    return Candidate(helpers, args, body)
