"""The variables of a candidate and the inputs it is drawn on.

A candidate carries a *pool* of inputs; every variable holds one value per input. The distribution of an argument is
drawn once, and some of its values repeat parts of earlier arguments, so that comparisons and look-ups succeed at times.
"""

import dataclasses
import random
from collections.abc import Callable
from typing import Any, TypeVar

from bitzero.generator.templates import fresh, slot_type

Drawn = TypeVar("Drawn")
POOL = 10  # inputs a candidate is drawn on; the kept program uses some of them


class Dead(Exception):
    """The draw led nowhere; the caller draws again."""


@dataclasses.dataclass(slots=True)
class Expr:
    """An expression and its value on every input of the scope."""

    text: str  # source; names are written _0, _1 …
    traced: str  # source that reports the values of its proper sub-expressions
    prec: int
    vals: list[Any]
    ops: int = 0
    tier: int = 1
    features: int = 0
    constant: bool = False


@dataclasses.dataclass(slots=True)
class Var:
    """A variable in scope."""

    name: str
    kind: str  # type
    vals: list[Any]
    pending: bool = False  # assigned and not used since
    fixed: bool = False  # not to be assigned (loop variables)


class Scope:
    """Variables visible at one place, and the argument list, which may still grow."""

    def __init__(self, rng: random.Random, tier: int, booleans: bool = False):
        self.rng = rng
        self.booleans = booleans  # the program may return a truth value
        self.tier = tier
        self.args: list[Var] = []
        self.vars: list[Var] = []
        self.count = 0  # names given out
        self.rows: list[int] | None = None  # input of each value, inside a comprehension or loop; None: one to one
        self.outer: Scope | None = None
        self.loop = False  # values are those of the first round, where 0 + x is x
        letters = rng.sample("abcdefghijklmnopqrstuvwxyz", rng.randint(3, 6))
        self.letters = letters
        self.least = rng.choice((0, 1, 1, 2, 3))  # shortest text or list among the inputs
        self.longest = 5  # longest list, and one below the longest text, among the inputs
        self.max_args = rng.choice((1, 2, 2, 3))

    def inside(self, rows: list[int]) -> "Scope":
        """The scope of a body that runs once for each entry of `rows` (the input it belongs to)."""
        inner = object.__new__(Scope)
        inner.rng, inner.tier, inner.args, inner.letters = self.rng, self.tier, self.args, self.letters
        inner.loop = self.loop
        inner.booleans, inner.longest = False, self.longest
        inner.least, inner.max_args, inner.count, inner.outer, inner.rows = self.least, self.max_args, 0, self, rows
        inner.vars = [dataclasses.replace(var, vals=[var.vals[i] for i in rows]) for var in self.vars]
        return inner

    def root(self) -> "Scope":
        """The scope of the function itself."""
        return self.outer.root() if self.outer else self

    def between(self, low: int, high: int) -> int:
        """An int from `low` to `high`, both included; three times as fast as `randint` and as even at these sizes."""
        return low + int(self.rng.random() * (high - low + 1))

    def mark(self) -> list[int]:
        """How many arguments and variables there are, here and in the scopes around."""
        sizes = [len(self.args)]
        scope: Scope | None = self
        while scope is not None:
            sizes.append(len(scope.vars))
            scope = scope.outer
        return sizes

    def forget(self, mark: list[int]) -> None:
        """Drop the arguments and variables made since `mark`: the draw that made them is dead."""
        del self.args[mark[0] :]
        scope: Scope | None = self
        for size in mark[1:]:
            assert scope is not None
            del scope.vars[size:]
            scope = scope.outer

    def again(self, tries: int, draw: Callable[[], Drawn]) -> Drawn:
        """The first of `tries` draws that is not dead; what a dead one changed is put back. Raises `Dead`."""
        for _ in range(tries):
            mark, before = self.mark(), [(var, var.vals, var.pending) for var in self.vars]
            try:
                return draw()
            except Dead:
                self.forget(mark)
                for var, vals, pending in before:
                    var.vals, var.pending = vals, pending
        raise Dead

    def name(self) -> str:
        """A name not used before."""
        root = self.root()
        root.count += 1
        return f"_{root.count}"

    def new_arg(self, slot: str) -> Var:
        """One more argument, of the slot's type."""
        if self.outer is not None:
            made = self.outer.new_arg(slot)
            assert self.rows is not None
            var = dataclasses.replace(made, vals=[made.vals[i] for i in self.rows])
        else:
            kind = slot_type(slot)
            var = Var(self.name(), kind, argument(self, slot, kind))
            self.args.append(dataclasses.replace(var))  # keeps the first values when the body assigns to the name
        self.vars.append(var)
        return var


def word(scope: Scope, low: int, high: int) -> str:
    """A lower-case text over the program's few letters."""
    return "".join(scope.rng.choices(scope.letters, k=scope.between(low, high)))


def _int(scope: Scope, slot: str) -> Any:
    rng = scope.rng
    if slot in ("idx", "cnt"):
        return lambda: scope.between(0, 3)
    if slot == "pos":
        return lambda: scope.between(2, 9)
    low, high = rng.choice(((0, 9), (0, 9), (1, 20), (-9, 99), (-9, 9)))
    if scope.tier > 1 and rng.random() < 0.2:
        low, high = rng.choice(((-99, 99), (0, 999)))
    return lambda: scope.between(low, high)


def _values(scope: Scope, slot: str, kind: str) -> Any:
    """A function that draws one value of the type; its distribution is drawn here, once per argument."""
    rng, least = scope.rng, scope.least
    if kind == "int":
        return _int(scope, slot)
    if kind == "bool":
        return lambda: rng.random() < 0.5
    if kind == "str":
        low, high = (1, 2) if slot in ("ch", "key") else (least, scope.longest + 1)
        return lambda: word(scope, low, high)
    digit = _int(scope, "int") if scope.tier > 1 and rng.random() < 0.3 else lambda: scope.between(0, 9)
    if kind == "list":
        return lambda: [digit() for _ in range(scope.between(least, scope.longest))]
    if kind == "tup":
        return lambda: tuple(digit() for _ in range(scope.between(max(least, 2), 4)))
    if kind == "set":
        return lambda: {digit() for _ in range(scope.between(1, 4))}
    if kind == "strs":
        return lambda: [word(scope, 1, 3) for _ in range(scope.between(max(least, 1), 3))]
    if kind == "rows":
        return lambda: [[scope.between(0, 9) for _ in range(scope.between(1, 3))] for _ in range(scope.between(1, 3))]
    return lambda: _dict(scope, scope.between(max(least, 1), 3))


def _dict(scope: Scope, size: int) -> dict[str, int]:
    """Keys in the order of the canonical text, so that reading the text gives the same dict, order included."""
    return dict(sorted((word(scope, 1, 2), scope.between(0, 9)) for _ in range(size)))


def _related(scope: Scope, kind: str) -> list[list[Any]]:
    """Values of earlier arguments that the new one may repeat, so that comparisons and look-ups succeed at times."""
    found = []
    for var in scope.args:
        if var.kind == kind:
            found.append([[value] for value in var.vals])
        elif (kind, var.kind) in (("int", "list"), ("int", "tup"), ("int", "set"), ("str", "strs"), ("str", "dict")):
            found.append([list(value) for value in var.vals])
    return found


FOUND_IN = {"item": "list", "part": "str", "have": "dict"}  # slots whose value another argument must hold


def _found(scope: Scope, kind: str) -> list[Any]:
    """Something each value of an argument of that type holds; raises `Dead` if there is none, or one is empty."""
    holders = [var for var in scope.args if var.kind == kind]
    if not holders:
        raise Dead
    rng, vals = scope.rng, scope.rng.choice(holders).vals
    if not all(vals):
        raise Dead
    if kind == "str":
        starts = [scope.between(0, len(text) - 1) for text in vals]
        return [text[start : start + scope.between(1, 2)] for text, start in zip(vals, starts, strict=True)]
    return [rng.choice(list(value)) for value in vals]


def argument(scope: Scope, slot: str, kind: str) -> list[Any]:
    """Values of a new argument on every input of the pool."""
    rng = scope.rng
    draw = _values(scope, slot, kind)
    vals = [draw() for _ in range(POOL)]
    if slot in ("idx", "cnt", "pos"):
        return vals
    if slot in FOUND_IN:
        return _found(scope, FOUND_IN[slot])
    if slot in ("ch", "key") or (kind == "str" and rng.random() < 0.3):
        for var in scope.args:  # parts of an earlier text
            if var.kind == "str":
                for i, text in enumerate(var.vals):
                    if text and rng.random() < 0.6:
                        start = scope.between(0, len(text) - 1)
                        vals[i] = text[start : start + scope.between(1, 2)]
    for sources in _related(scope, kind):
        for i, source in enumerate(sources):
            if source and rng.random() < 0.25:
                vals[i] = fresh(rng.choice(source))
    return vals
