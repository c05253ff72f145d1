"""Candidates of every level: loops, `while`, nested loops, dicts built in loops and helper functions, and the choice of shape.

What a loop leaves behind is not guessed: the statements so far are run on the pool (`refresh`), so the statements after
it are drawn on true values.
"""

from collections.abc import Callable

from bitzero.tasks import grammar
from bitzero.tasks.build import (
    Candidate,
    Helper,
    Stmt,
    branch,
    branching,
    change,
    comprehending,
    condition,
    line,
    reassign,
    returned,
    settle,
    stmt,
    straight,
    update,
)
from bitzero.tasks.execute import FAILURES, Instrumented
from bitzero.tasks.sample import POOL, Dead, Expr, Scope, Var, expression, leaf, take, uses

GUIDE_FUEL = 128
START = {"int": ("0", "1"), "str": ("''",), "list": ("[]",), "strs": ("[]",), "dict": ("{}",), "set": ("set()",)}
EMPTY = {"'": "", "[": [], "{": {}, "s": set()}


def refresh(scope: Scope, body: list[Stmt], helpers: list[Helper] | None = None) -> None:
    """Set every variable to its true values after `body`.

    Inputs that fail, or return before the end, get the values of another input. Raises `Dead` if more than a third fail
    or fewer than a third come to the end.
    """
    names = ", ".join(var.name for var in scope.vars)
    end = f"return (None, {names})"  # None is no value of the grammar, so it marks the end
    program = Instrumented(Candidate(helpers or [], scope.args, [*body, Stmt(end, traced=end)]), GUIDE_FUEL)
    rows, failures = [], 0
    for place in range(POOL):
        try:
            result = program.call(tuple(arg.vals[place] for arg in scope.args))
        except FAILURES:
            failures += 1
            continue
        if type(result) is tuple and result[:1] == (None,):
            rows.append(result)
    if 3 * failures > POOL or 3 * len(rows) < POOL:
        raise Dead
    for i, var in enumerate(scope.vars, 1):
        var.vals = [rows[place % len(rows)][i] for place in range(POOL)]


def start(scope: Scope, kind: str) -> Stmt:
    """An accumulator's first assignment."""
    text = scope.rng.choice(START[kind])
    value = EMPTY.get(text[0], 0 if text == "0" else 1)
    var = Var(scope.name(), kind, [value] * POOL, pending=True)
    scope.vars.append(var)
    tier = 3 if kind == "set" else 2 if kind in ("strs", "dict") else 1
    return Stmt(f"{var.name} = {text}", (var.name,), tier=tier)


def _over(scope: Scope, source: str) -> tuple[str, list[tuple[str, list[list[object]]]]]:
    """What a `for` runs over: its text, and for each loop variable its type and its values by input."""
    if source == "range":
        room = len(scope.args) < scope.max_args
        bound = take(scope.new_arg("cnt")) if room else leaf(scope, "cnt", False)
        return f"range({bound.text})", [("int", [list(range(max(0, n))) for n in bound.vals])]
    over = leaf(scope, "list" if source in ("positions", "numbered", "pairs") else source, False)
    sizes = [list(range(len(value))) for value in over.vals]
    if source == "positions":
        return f"range(len({over.text}))", [("int", sizes)]
    if source == "numbered":
        return f"enumerate({over.text})", [("int", sizes), ("int", over.vals)]
    if source == "pairs":
        other = leaf(scope, "str", False)
        both = [list(zip(*pair, strict=False)) for pair in zip(over.vals, other.vals, strict=True)]
        return f"zip({over.text}, {other.text})", [
            (k, [[x[i] for x in v] for v in both]) for i, k in enumerate(("int", "str"))
        ]
    if source == "dict":
        return f"{over.text}.items()", [
            ("str", [list(d) for d in over.vals]),
            ("int", [list(d.values()) for d in over.vals]),
        ]
    return over.text, [("int" if source in ("list", "tup") else "str", [list(value) for value in over.vals])]


SOURCES = {
    2: ("list", "list", "str", "strs", "tup", "range", "positions", "numbered", "dict"),
    3: ("list", "list", "str", "str", "strs", "tup", "range", "positions", "numbered", "pairs", "dict"),
}
# What a loop over such values may collect, by tier.
COLLECTS = {
    2: {"int": ("int", "int", "list", "list"), "str": ("str", "str", "strs", "int")},
    3: {"int": ("int", "int", "list", "list", "str", "set"), "str": ("str", "str", "strs", "int")},
}


def collected(scope: Scope, source: str) -> tuple[str, ...]:
    """Types that a loop over this source may collect."""
    kinds = COLLECTS[scope.tier]
    if source in ("pairs", "dict"):
        return kinds["int"] + kinds["str"]
    return kinds["str" if source in ("str", "strs") else "int"]


def loop(scope: Scope, source: str, kept: set[str], fill: Callable[[Scope, list[Var]], list[Stmt]]) -> Stmt:
    """`for`, its body drawn by `fill` in a scope that has one entry per iteration; `kept` names what it may change."""
    known = scope.vars
    scope.vars = [var for var in known if var.name not in kept]  # not over what it changes
    count = len(scope.vars)
    text, items = _over(scope, source)
    scope.vars = known + scope.vars[count:]
    rows = [i for i, values in enumerate(items[0][1]) for _ in values]
    if len(rows) < POOL // 2 or max(len(values) for values in items[0][1]) > 8:
        raise Dead
    inner = scope.inside(rows)
    inner.loop = True
    for var in inner.vars:
        var.fixed = var.name not in kept
    made = [Var(scope.name(), kind, [x for value in vals for x in value], True, True) for kind, vals in items]
    inner.vars += made
    names = tuple(var.name for var in made)
    block = Stmt(f"for {', '.join(names)} in {text}:", names, tier=2)
    block.body = fill(inner, made)
    whole = spelled(block)
    if not any(uses(whole.split("\n", 1)[1], name) for name in names):
        raise Dead
    settle(scope, whole)
    for var in scope.vars:
        var.pending |= var.name in kept
    return block


def spelled(item: Stmt) -> str:
    """All text of a statement, blocks included, without indentation."""
    return "\n".join([item.text, *map(spelled, item.body), *map(spelled, item.orelse)])


def gather(inner: Scope, kept: set[str], items: list[Var]) -> Stmt:
    """One change of an accumulator that uses a loop variable, in place or by assignment."""
    rng = inner.rng

    def draw() -> Stmt:
        target = rng.choice([var for var in inner.vars if var.name in kept])
        if target.kind == "dict" and rng.random() < 0.6:
            made = count(inner, target)
        elif target.kind in ("dict", "set", "strs", "list") or rng.random() < 0.6:
            made = change(inner, (target.kind,), rng.choice((0, 1, 1)), target)
        else:
            made = reassign(inner, target, rng.choice((1, 1, 2)), True)
        if items and not any(uses(made.text, var.name) for var in items):
            raise Dead
        return made

    return inner.again(8, draw)


def count(inner: Scope, target: Var) -> Stmt:
    """`d[k] = d.get(k, start) + step`."""
    key = leaf(inner, "key", False)
    step = leaf(inner, "int")
    first = inner.rng.choice((0, 0, 1))
    text = f"{target.name}[{key.text}] = {target.name}.get({key.text}, {first}) + {step.text if step.vals else 1}"
    settle(inner, text, target.name)
    return Stmt(text, (target.name,), tier=2, ops=3, marks=("builds",))


def accumulators(scope: Scope, source: str) -> tuple[list[Stmt], set[str]]:
    """What a loop over the source changes: one or two new variables, or one that exists."""
    rng, kinds = scope.rng, collected(scope, source)
    if rng.random() < 0.2:
        kind = rng.choice(("int", "str", "list"))
        known = [var for var in scope.vars if var.kind == kind]
        if known or len(scope.args) < scope.max_args:
            return [], {(rng.choice(known) if known else scope.new_arg(kind)).name}
    made = [start(scope, rng.choice(kinds))]
    if rng.random() < 0.15:
        made.append(start(scope, "int"))
    return made, {item.names[0] for item in made}


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


def finish(scope: Scope, body: list[Stmt], helpers: list[Helper] | None = None) -> list[Stmt]:
    """The return, on true values."""
    refresh(scope, body, helpers)
    rng = scope.rng
    waiting = [var for var in scope.vars if var.pending]
    return [*body, returned(scope, 1 if len(waiting) > 1 else rng.choice((0, 0, 0, 1, 1)))]


def selective(scope: Scope) -> list[Stmt]:
    """L4: a loop with an `if` in it, around a change, an early return, `break` or `continue`."""
    rng = scope.rng
    source = rng.choice(SOURCES[scope.tier])
    begun, kept = accumulators(scope, source)
    shape = rng.choice(("branch", "branch", "branch", "skip", "return"))

    def fill(inner: Scope, items: list[Var]) -> list[Stmt]:
        test = condition(inner)
        settle(inner, test.text)
        block = Stmt(f"if {test.text}:", traced=test.text, tier=test.tier, ops=test.ops, features=test.features)
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
        name = next(iter(kept))
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
            test = condition(inner)
            settle(inner, test.text)
            return [Stmt(f"if {test.text}:", traced=test.text, tier=test.tier, ops=test.ops, body=[done])]
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
    kept = {begun[0].names[0]}

    def fill(inner: Scope, items: list[Var]) -> list[Stmt]:
        done = gather(inner, kept, items)
        if rng.random() < 0.4:
            test = condition(inner)
            settle(inner, test.text)
            return [Stmt(f"if {test.text}:", traced=test.text, tier=test.tier, ops=test.ops, body=[done])]
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


def helper(scope: Scope) -> tuple[Helper, str, str, Callable[..., object]]:
    """A function before f: its source, the types it takes and gives, and the function itself."""
    rng = scope.rng
    name, kind = scope.name(), rng.choice(("int", "list", "str"))
    own = Scope(rng, scope.tier)
    own.outer, own.rows, own.max_args = None, None, 0
    own.count = scope.root().count
    param = own_param(own, kind)
    scope.root().count = own.count
    gives = kind if kind != "list" else rng.choice(("int", "list"))
    if rng.random() < 0.6:
        lines = recursive(own, name, param, gives)
    else:
        made = expression(own, gives, rng.choice((1, 2)))
        if not uses(made.text, param.name):
            raise Dead
        lines = [f"    return {made.text}"], [f"    return {made.traced}"]
    scope.root().count = own.count
    head = f"def {name}({param.name}):"
    text, traced = ("\n".join([head, *part]) for part in lines)
    space: dict[str, Callable[..., object]] = {}
    exec(compile(text, "<helper>", "exec"), {"__builtins__": grammar.BUILTINS}, space)
    made_function = space[name]
    made_function.__globals__[name] = made_function  # type: ignore[attr-defined]
    return Helper(text, traced), kind, gives, made_function


def own_param(own: Scope, kind: str) -> Var:
    """The single parameter of a helper."""
    own.max_args = 1
    var = own.new_arg(kind)
    own.max_args = 0
    return var


def recursive(own: Scope, name: str, param: Var, gives: str) -> tuple[list[str], list[str]]:
    """A base case, and one call on a smaller argument combined with the present one; always ends."""
    rng, p = own.rng, param.name
    if param.kind == "int":
        limit = rng.randint(1, 3)
        test, part = f"{p} < {limit}", rng.choice((p, f"{p} % {rng.randint(2, 5)}", str(rng.randint(1, 3))))
        smaller = rng.choice((f"{p} // {rng.randint(2, 4)}", f"{p} - {rng.randint(3, 9)}"))
        base = rng.choice((p, "0", "1"))
        join = rng.choice(("{a} + {b}", "{b} - {a}", "{b} * 2 + {a}"))
    elif param.kind == "str":
        test, part, base = f"len({p}) < {rng.randint(1, 2)}", rng.choice((f"{p}[0]", f"{p}[-1]", f"{p}[::2]")), p
        smaller, join = rng.choice((f"{p}[1:]", f"{p}[2:]", f"{p}[:-1]")), rng.choice(("{a} + {b}", "{b} + {a}"))
    else:
        test, smaller = f"not {p}", rng.choice((f"{p}[1:]", f"{p}[2:]", f"{p}[:-1]"))
        part, base = (rng.choice((f"{p}[0]", f"{p}[-1]")), "0") if gives == "int" else (f"[{p}[-1]]", "[]")
        join = rng.choice(
            ("{a} + {b}", "{b} + {a}") if gives == "list" else ("{a} + {b}", "{a} - {b}", "max({a}, {b})")
        )
    heads = [f"    if {test}:", f"        return {base}"]
    simple = part if part.isalnum() or part == p else f"E({part})"
    plain = join.format(a=part, b=f"{name}({smaller})")
    told = join.format(a=simple, b=f"E({name}(E({smaller})))")
    return [*heads, f"    return {plain}"], [*heads, f"    return {told}"]


def helped(scope: Scope) -> tuple[list[Helper], list[Stmt]]:
    """L5: a helper, recursive or not, called by f."""
    rng = scope.rng
    made, takes, gives, function = helper(scope)
    name = made.text[4 : made.text.index("(")]
    given = leaf(scope, takes, False) if rng.random() < 0.7 else expression(scope, takes, 1)
    try:
        vals = [function(value) for value in given.vals]
    except FAILURES:
        raise Dead from None
    if all(value == vals[0] for value in vals) or vals == given.vals:
        raise Dead
    passed = f"E({given.traced})" if given.ops else given.text
    call = Expr(f"{name}({given.text})", f"{name}({passed})", grammar.ATOM, vals, given.ops + 1, 3)
    shape = rng.random()
    if shape < 0.25:
        return [made], [stmt(f"return {call.text}", call, traced=f"return {call.traced}")]
    var = Var(scope.name(), gives, vals, pending=True)
    scope.vars.append(var)
    body = [stmt(f"{var.name} = {call.text}", call, var.name)]
    settle(scope, call.text, var.name)
    if shape < 0.6:
        body.append(update(scope))
    return [made], finish(scope, body, [made])


LONGEST = (
    5,
    5,
    5,
    3,
    4,
    4,
)  # longest list among the inputs, by level: what a loop runs over must stay within its events


def candidate(scope: Scope, level: int) -> Candidate:
    """Draw a program meant for a level; its real level is measured after it ran. Raises `Dead`."""
    rng = scope.rng
    scope.longest = LONGEST[level]
    if level > 2:
        scope.least = min(max(1, scope.least), 2)
    helpers: list[Helper] = []
    if level == 0:
        body = straight(scope, 0)
    elif level == 1:
        body = straight(scope, rng.randint(1, 2))
    elif level == 2:
        shape = rng.choice(("straight", "comprehending", "branching"))
        body = straight(scope, rng.randint(0, 4)) if shape == "straight" else SHAPES[shape](scope)
    elif level == 3:
        body = single(scope)
    elif level == 4:
        body = rng.choice((selective, selective, followed))(scope)
    else:
        shape = rng.choice(("nested", "building", "repeating", "helped"))
        if shape == "helped":
            helpers, body = helped(scope)
        else:
            body = SHAPES[shape](scope)
    text = "\n".join(map(spelled, body))
    args = [arg for arg in scope.args if uses(text, arg.name)]
    if not args:
        raise Dead
    return Candidate(helpers, args, body)


SHAPES: dict[str, Callable[[Scope], list[Stmt]]] = {
    "comprehending": comprehending, "branching": branching, "nested": nested, "building": building,
    "repeating": repeating,
}  # fmt: skip
