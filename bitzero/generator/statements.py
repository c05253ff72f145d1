"""Statements: a candidate program as a small tree, drawn on a pool of inputs, from one return to loops and helpers."""

import dataclasses
import functools
import re

from bitzero.generator.expressions import apply, comprehension, expression, operands_of, taking, uses
from bitzero.generator.grammar import BY_TYPE, CHANGES, TYPES
from bitzero.generator.scope import Dead, Expr, Scope, Var
from bitzero.generator.templates import ATOM

NAME = re.compile(r"_\d+")
# Types of whole expressions, each as often as it has productions, so that a production is drawn uniformly among all of
# a tier. Truth values are answered by the constants True and False: they are left to conditions and the trivial share.
ROOT_TYPES = {
    tier: tuple(item.result for kind in TYPES if kind != "bool" for item in table[kind])
    for tier, table in BY_TYPE.items()
}


@dataclasses.dataclass(slots=True, eq=False)
class Stmt:
    """One statement; blocks hold their bodies. Names are written _1, _2 …"""

    text: str  # source without indentation; of a block: its head
    names: tuple[str, ...] = ()  # variables it changes, reported after it ran; of `for`: the loop variables
    traced: str = ""  # instrumented source where it differs: returns and conditions
    body: list["Stmt"] = dataclasses.field(default_factory=list)
    orelse: list["Stmt"] = dataclasses.field(default_factory=list)
    tier: int = 1
    ops: int = 0
    features: int = 0
    marks: tuple[str, ...] = ()  # "builds": sets a dict item

    kind: str = dataclasses.field(init=False)  # return · for · while · if · plain

    def __post_init__(self) -> None:
        word = self.text.split(" ", 1)[0]
        self.kind = word if word in ("return", "for", "while", "if") else "plain"


def stmt(text: str, made: Expr, *names: str, traced: str = "") -> Stmt:
    """A statement around one expression."""
    return Stmt(text, names, traced, tier=made.tier, ops=made.ops, features=made.features)


@dataclasses.dataclass(slots=True)
class Helper:
    """A function before f."""

    text: str  # source
    traced: str  # source that reports the parts of its returns


@dataclasses.dataclass(slots=True)
class Candidate:
    """A drawn program, not yet run."""

    helpers: list[Helper]
    args: list[Var]
    body: list[Stmt]


def settle(scope: Scope, text: str, changed: str = "") -> None:
    """Mark the variables that a statement used as used, and the one it changed as waiting for its use."""
    for var in scope.vars:
        if var.name == changed:
            var.pending = True
        elif var.pending and uses(text, var.name):
            var.pending = False


def wanted(scope: Scope, tier: int, kind: str) -> str:
    """A type for the next expression: one that some production reaches from a variable that waits, if any waits."""
    waiting = frozenset(var.kind for var in scope.vars if var.pending)
    if not waiting:
        return kind
    able = reachable(tier, waiting)
    return scope.rng.choice(able) if able and kind not in able else kind


@functools.cache
def reachable(tier: int, waiting: frozenset[str]) -> tuple[str, ...]:
    """Types of whole expressions that a production makes from one of the types that wait."""
    return tuple(kind for kind in ROOT_TYPES[tier] if taking(tier, kind, waiting))


def assign(scope: Scope, ops: int) -> Stmt:
    """`v = expression`, to a new variable or to one the expression uses."""
    rng, tier = scope.rng, scope.tier
    kind = wanted(scope, tier, rng.choice(ROOT_TYPES[tier]))
    made = expression(scope, kind, ops)
    return bound(scope, kind, made)


def bound(scope: Scope, kind: str, made: Expr) -> Stmt:
    """The assignment of an expression to a variable."""
    rng = scope.rng
    again = [v for v in scope.vars if v.kind == kind and not v.fixed and uses(made.text, v.name)]
    if again and rng.random() < 0.5:
        target = rng.choice(again)
        target.vals = made.vals
    else:
        target = Var(scope.name(), kind, made.vals)
        scope.vars.append(target)
    text = f"{target.name} = {made.text}"
    settle(scope, made.text, target.name)
    return stmt(text, made, target.name)


def change(scope: Scope, kinds: tuple[str, ...] = TYPES, ops: int = 0, target: Var | None = None) -> Stmt:
    """A statement that changes a variable in place: augmented or item assignment, a mutating method."""
    rng, tier = scope.rng, scope.tier
    target = target or _target(scope, kinds)
    item = rng.choice(CHANGES[tier][target.kind])
    first = Expr(target.name, target.name, ATOM, target.vals)
    made = apply(scope, item, operands_of(scope, item, ops, [first]))
    target.vals = made.vals
    settle(scope, made.text, target.name)
    done = stmt(made.text, made, target.name)
    done.marks = ("builds",) if target.kind == "dict" else ()
    return done


def _target(scope: Scope, kinds: tuple[str, ...]) -> Var:
    """A variable that a statement may change, one that waits first; else a new argument."""
    rng, tier = scope.rng, scope.tier
    known = [var for var in scope.vars if not var.fixed and var.kind in kinds and CHANGES[tier][var.kind]]
    waiting = [var for var in known if var.pending]
    if not known:
        if scope.outer is not None:
            raise Dead
        kind = rng.choice([kind for kind in kinds if CHANGES[tier][kind]])
        if len(scope.args) >= scope.max_args:
            raise Dead
        known = [scope.new_arg(kind)]
    return rng.choice(waiting if waiting and rng.random() < 0.8 else known)


def line(scope: Scope, ops: int = 1) -> Stmt:
    """One straight-line statement."""
    return scope.again(4, lambda: change(scope) if scope.rng.random() < 0.3 else assign(scope, ops))


def returned(scope: Scope, ops: int, kinds: tuple[str, ...] | None = None) -> Stmt:
    """`return expression`, using what still waits."""
    rng, tier = scope.rng, scope.tier
    if kinds is None:
        kinds = ("bool",) if scope.booleans and rng.random() < 0.7 else ROOT_TYPES[tier]
    waiting = [var for var in scope.vars if var.pending]

    def draw() -> Expr:
        if ops == 0 and not waiting:
            raise Dead
        if ops == 0:
            made = Expr(waiting[-1].name, waiting[-1].name, ATOM, waiting[-1].vals)
        else:
            made = expression(scope, wanted(scope, tier, rng.choice(kinds)), ops)
        if not all(uses(made.text, var.name) for var in waiting):
            raise Dead
        return made

    made = scope.again(6, draw)
    return stmt(f"return {made.text}", made, traced=f"return {made.traced}")


def condition(scope: Scope) -> Expr:
    """A comparison that is true on some inputs and false on others."""

    def draw() -> Expr:
        made = expression(scope, "bool", 1)
        if len(set(made.vals)) < 2:
            raise Dead
        return made

    return scope.again(6, draw)


def guarded(scope: Scope, test: Expr, body: list[Stmt] | None = None) -> Stmt:
    """`if` with this condition; the body may be filled in later."""
    settle(scope, test.text)
    head = f"if {test.text}:"
    return Stmt(head, (), test.text, body or [], tier=test.tier, ops=test.ops, features=test.features)


def branch(scope: Scope, lines: int = 1) -> Stmt:
    """`if`, with or without `else`, changing variables that exist before it."""
    rng = scope.rng
    test = condition(scope)
    made = guarded(scope, test)
    before = {var.name: var.vals for var in scope.vars}
    count = len(scope.vars)
    made.body = [update(scope) for _ in range(lines)]
    after = {var.name: var.vals for var in scope.vars[:count]}
    for var in scope.vars[:count]:
        var.vals = before[var.name]
    if rng.random() < 0.4:
        made.orelse = [update(scope)]
    for var in scope.vars[:count]:
        if var.vals is not after[var.name]:
            both = zip(test.vals, after[var.name], var.vals, strict=True)
            var.vals = [yes if flag else no for flag, yes, no in both]
    return made


def update(scope: Scope) -> Stmt:
    """A statement inside a branch: it changes a variable that already exists."""
    return scope.again(4, lambda: change(scope) if scope.rng.random() < 0.6 else _reassigned(scope))


def _reassigned(scope: Scope) -> Stmt:
    rng = scope.rng
    targets = [var for var in scope.vars if not var.fixed and var.kind in ROOT_TYPES[scope.tier]]
    if not targets:
        raise Dead
    return reassign(scope, rng.choice([var for var in targets if var.pending] or targets), 1)


def reassign(scope: Scope, target: Var, ops: int, itself: bool = False) -> Stmt:
    """`v = expression` for a variable that exists; with `itself` the expression uses it."""
    made = expression(scope, target.kind, ops)
    if itself and not uses(made.text, target.name):
        raise Dead
    target.vals = made.vals
    settle(scope, made.text, target.name)
    return stmt(f"{target.name} = {made.text}", made, target.name)


def straight(scope: Scope, lines: int) -> list[Stmt]:
    """`lines` statements and a return."""
    rng = scope.rng
    body = [line(scope, 1 if rng.random() < 0.75 else 2) for _ in range(lines)]
    body.append(returned(scope, rng.choice((0, 1, 1, 2)) if lines else rng.choice((1, 2, 2, 2))))
    return body


def branching(scope: Scope) -> list[Stmt]:
    """Up to two statements, one `if` (which may return early), a return."""
    rng = scope.rng
    body = [line(scope) for _ in range(rng.randint(0, 1))]
    if rng.random() < 0.4:
        block = guarded(scope, condition(scope))
        kind = rng.choice(ROOT_TYPES[scope.tier])
        early = expression(scope, kind, rng.choice((1, 1, 2)))
        settle(scope, early.text)
        block.body = [stmt(f"return {early.text}", early, traced=f"return {early.traced}")]
        body.append(block)
        body.append(returned(scope, 1, (kind,)))
        return body
    body.append(branch(scope, rng.choice((1, 1, 2))))
    body.append(returned(scope, rng.choice((0, 0, 1))))
    return body


def comprehending(scope: Scope) -> list[Stmt]:
    """One comprehension, in a statement or in the return, with up to one statement beside it."""
    rng = scope.rng
    body = [line(scope) for _ in range(rng.choice((0, 0, 1)))]
    made = scope.again(6, lambda: comprehension(scope))
    if rng.random() < 0.4 and not any(v.pending and not uses(made.text, v.name) for v in scope.vars):
        body.append(stmt(f"return {made.text}", made, traced=f"return {made.traced}"))
        return body
    kind = "strs" if any(v and type(v[0]) is str for v in made.vals) else "list"
    body.append(bound(scope, kind, made))
    body.append(returned(scope, rng.choice((1, 1, 2))))
    return body
