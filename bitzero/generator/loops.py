"""Loops: what they run over, what they collect, and the true values they leave behind.

What a loop leaves is not guessed: the statements so far are run on the pool (`refresh`), so the statements after it are
drawn on true values.
"""

from collections.abc import Callable
from typing import Any

from bitzero.generator.execute import FAILURES, Instrumented
from bitzero.generator.expressions import leaf, take, uses
from bitzero.generator.scope import POOL, Dead, Scope, Var
from bitzero.generator.statements import Candidate, Helper, Stmt, change, reassign, returned, settle

GUIDE_FUEL = 128
START = {"int": ("0", "1"), "str": ("''",), "list": ("[]",), "strs": ("[]",), "dict": ("{}",), "set": ("set()",)}
EMPTY: dict[str, Any] = {"'": "", "[": [], "{": {}, "s": set()}
SOURCES = {
    2: ("list", "list", "str", "strs", "tup", "range", "positions", "numbered", "dict"),
    3: ("list", "list", "str", "str", "strs", "tup", "range", "positions", "numbered", "pairs", "dict"),
}
# What a loop over such values may collect, by tier.
COLLECTS: dict[int, dict[str, tuple[str, ...]]] = {
    2: {"int": ("int", "int", "list", "list"), "str": ("str", "str", "strs", "int")},
    3: {"int": ("int", "int", "list", "list", "str", "set"), "str": ("str", "str", "strs", "int")},
}


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


def _over(scope: Scope, source: str) -> tuple[str, list[tuple[str, list[Any]]]]:
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


def collected(scope: Scope, source: str) -> tuple[str, ...]:
    """Types that a loop over this source may collect."""
    kinds = COLLECTS[scope.tier]
    if source in ("pairs", "dict"):
        return kinds["int"] + kinds["str"]
    return kinds["str" if source in ("str", "strs") else "int"]


def loop(scope: Scope, source: str, kept: tuple[str, ...], fill: Callable[[Scope, list[Var]], list[Stmt]]) -> Stmt:
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


def gather(inner: Scope, kept: tuple[str, ...], items: list[Var]) -> Stmt:
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


def accumulators(scope: Scope, source: str) -> tuple[list[Stmt], tuple[str, ...]]:
    """What a loop over the source changes: one or two new variables, or one that exists."""
    rng, kinds = scope.rng, collected(scope, source)
    if rng.random() < 0.2:
        kind = rng.choice(("int", "str", "list"))
        known = [var for var in scope.vars if var.kind == kind]
        if known or len(scope.args) < scope.max_args:
            return [], ((rng.choice(known) if known else scope.new_arg(kind)).name,)
    made = [start(scope, rng.choice(kinds))]
    if rng.random() < 0.15:
        made.append(start(scope, "int"))
    return made, tuple(item.names[0] for item in made)


def finish(scope: Scope, body: list[Stmt], helpers: list[Helper] | None = None) -> list[Stmt]:
    """The return, on true values."""
    refresh(scope, body, helpers)
    rng = scope.rng
    waiting = [var for var in scope.vars if var.pending]
    return [*body, returned(scope, 1 if len(waiting) > 1 else rng.choice((0, 0, 0, 1, 1)))]
