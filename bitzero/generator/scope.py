"""The variables of a candidate, and the pool of inputs it is drawn on.

While a candidate is drawn, every variable holds its value on each input of a pool. A new argument draws a distribution
once and a value of it for each input; some values repeat parts of earlier arguments, so that comparisons and look-ups
succeed at times.
"""

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable
from typing import Any, TypeVar

from bitzero.generator.templates import Production, ValueType, copy_value, slot_type

Drawn = TypeVar("Drawn")
POOL_SIZE = 10  # inputs a candidate is drawn on; the program keeps some of them
Weights = tuple[int, ...]  # of each production, by number: how often it is chosen among others that fit


class DeadDraw(Exception):
    """What was being drawn cannot be completed, or would be pointless; the caller draws again."""


@dataclasses.dataclass(slots=True)
class Expression:
    """An expression and its values."""

    text: str  # source; names are written _1, _2 …
    traced: str  # source that reports the values of its proper sub-expressions
    prec: int  # precedence
    vals: list[Any]  # one for each input; inside a loop or comprehension one for each iteration
    ops: int = 0  # operations
    vocabulary: int = 1  # the largest that one of its operations needs
    features: int = 0  # expressions.COMPREHENSION | CONDITIONAL
    constant: bool = False  # a literal
    productions: frozenset[int] = frozenset()  # numbers of those it is made of


@dataclasses.dataclass(slots=True)
class Variable:
    """A variable in scope."""

    name: str
    type: ValueType
    vals: list[Any]  # as those of an expression
    unused: bool = False  # assigned and not used since: what is drawn next had better use it
    read_only: bool = False  # not to be assigned: loop variables, and in a loop all that it does not accumulate

    def with_values(self, vals: list[Any]) -> "Variable":
        """The same variable, a copy, with these values."""
        return Variable(self.name, self.type, vals, self.unused, self.read_only)


class _Sums:
    """The cumulated weights of what is chosen among; the same few tuples of productions come again and again."""

    def __init__(self, weights: Weights):
        self.weights = weights
        self.known: dict[tuple[Production, ...], list[int]] = {}

    def up_to(self, productions: tuple[Production, ...]) -> list[int]:
        """Of each of the productions the weights up to its own."""
        found = self.known.get(productions)
        if found is None:
            found = list(itertools.accumulate(self.weights[production.number] for production in productions))
            self.known[productions] = found
        return found


_sums_of = functools.lru_cache(maxsize=8)(_Sums)


class Scope:
    """Variables visible at one place, and the argument list, which may still grow."""

    def __init__(
        self, rng: random.Random, vocabulary: int, may_return_bool: bool = False, weights: Weights | None = None
    ):
        self.rng = rng
        self.weights = weights
        self.sums = None if weights is None else _sums_of(weights)
        self.may_return_bool = may_return_bool
        self.vocabulary = vocabulary
        self.args: list[Variable] = []
        self.variables: list[Variable] = []  # arguments among them
        self.names_given = 0
        self.input_of: list[int] | None = None  # in a body: the input that each value belongs to
        self.outer: Scope | None = None  # of a body: the scope around it
        # In a loop the values are those of its first round, where an accumulator is still 0 or empty and 0 + x is x: an
        # operation that changes nothing there may well change something later.
        self.in_loop = False
        letters = rng.sample("abcdefghijklmnopqrstuvwxyz", rng.randint(3, 6))
        self.letters = letters
        self.min_size = rng.choice((0, 1, 1, 2, 3))  # shortest text or list among the inputs
        self.max_size = 5  # longest list, and one below the longest text, among the inputs
        self.max_args = rng.choice((1, 2, 2, 3))

    def body_scope(self, input_of: list[int]) -> "Scope":
        """The scope of a loop's or comprehension's body: one value for each iteration, given the input of each."""
        inner = object.__new__(Scope)  # not by __init__, which would draw
        inner.rng, inner.vocabulary, inner.args, inner.letters = self.rng, self.vocabulary, self.args, self.letters
        inner.weights, inner.sums = self.weights, self.sums
        inner.in_loop = self.in_loop
        inner.may_return_bool, inner.max_size = False, self.max_size
        inner.min_size, inner.max_args = self.min_size, self.max_args
        inner.names_given, inner.outer, inner.input_of = 0, self, input_of
        inner.variables = [var.with_values([var.vals[i] for i in input_of]) for var in self.variables]
        return inner

    def root(self) -> "Scope":
        """The scope of the function itself."""
        return self.outer.root() if self.outer else self

    def random_int(self, low: int, high: int) -> int:
        """An int from `low` to `high`, both included; three times as fast as `randint` and as even at these sizes."""
        return low + int(self.rng.random() * (high - low + 1))

    def choose(self, productions: tuple[Production, ...]) -> Production:
        """One of the productions, by the weights, or evenly without any. Raises IndexError where there is none."""
        if self.sums is None:
            return self.rng.choice(productions)
        return self.rng.choices(productions, cum_weights=self.sums.up_to(productions))[0]

    def sizes(self) -> list[int]:
        """How many arguments and variables there are, here and in the scopes around."""
        counts = [len(self.args)]
        scope: Scope | None = self
        while scope is not None:
            counts.append(len(scope.variables))
            scope = scope.outer
        return counts

    def roll_back(self, sizes_before: list[int]) -> None:
        """Drop the arguments and variables that were added since `sizes` gave these numbers."""
        del self.args[sizes_before[0] :]
        scope: Scope | None = self
        for size in sizes_before[1:]:
            assert scope is not None
            del scope.variables[size:]
            scope = scope.outer

    def retry(self, tries: int, draw: Callable[[], Drawn]) -> Drawn:
        """The first of `tries` draws that succeeds; what failed ones changed is put back. Raises `DeadDraw`."""
        for _ in range(tries):
            sizes, values_before = self.sizes(), [(var, var.vals, var.unused) for var in self.variables]
            try:
                return draw()
            except DeadDraw:
                self.roll_back(sizes)
                for var, vals, unused in values_before:
                    var.vals, var.unused = vals, unused
        raise DeadDraw

    def new_name(self) -> str:
        """A name not used before."""
        root = self.root()
        root.names_given += 1
        return f"_{root.names_given}"

    def new_argument(self, slot: str) -> Variable:
        """One more argument of the function, of the slot's type, visible in this scope and those around it."""
        if self.outer is not None:
            outer = self.outer.new_argument(slot)
            assert self.input_of is not None
            var = outer.with_values([outer.vals[i] for i in self.input_of])
        else:
            value_type = slot_type(slot)
            var = Variable(self.new_name(), value_type, draw_argument(self, slot, value_type))
            self.args.append(var.with_values(var.vals))  # a copy: the body may assign other values to the name
        self.variables.append(var)
        return var


def draw_word(scope: Scope, low: int, high: int) -> str:
    """A lower-case text over the program's few letters."""
    draw, letters = scope.rng.random, scope.letters  # what `choices` does, without its checks
    return "".join([letters[int(draw() * len(letters))] for _ in range(scope.random_int(low, high))])


def _int_drawer(scope: Scope, slot: str) -> Callable[[], int]:
    """A function that draws one int for the slot; its range is drawn here."""
    rng = scope.rng
    if slot in ("idx", "cnt"):
        return _ints(rng, 0, 3)
    if slot == "pos":
        return _ints(rng, 2, 9)
    low, high = rng.choice(((0, 9), (0, 9), (1, 20), (-9, 99), (-9, 9)))
    if scope.vocabulary > 1 and rng.random() < 0.2:
        low, high = rng.choice(((-99, 99), (0, 999)))
    return _ints(rng, low, high)


def _ints(rng: random.Random, low: int, high: int) -> Callable[[], int]:
    """A function that draws one int from `low` to `high` as `Scope.random_int` does."""
    draw, count = rng.random, high - low + 1
    return lambda: low + int(draw() * count)


def _value_drawer(scope: Scope, slot: str, value_type: ValueType) -> Callable[[], Any]:
    """A function that draws one value of the type; its distribution is drawn here. Raises ValueError."""
    rng, min_size = scope.rng, scope.min_size
    if value_type == "int":
        return _int_drawer(scope, slot)
    if value_type == "bool":
        return lambda: rng.random() < 0.5
    if value_type == "str":
        low, high = (1, 2) if slot in ("ch", "key") else (min_size, scope.max_size + 1)
        return lambda: draw_word(scope, low, high)
    digit = _int_drawer(scope, "int") if scope.vocabulary > 1 and rng.random() < 0.3 else _ints(rng, 0, 9)
    if value_type == "list":
        size = _ints(rng, min_size, scope.max_size)
        return lambda: [digit() for _ in range(size())]
    if value_type == "tup":
        return lambda: tuple(digit() for _ in range(scope.random_int(max(min_size, 2), 4)))
    if value_type == "set":
        return lambda: {digit() for _ in range(scope.random_int(1, 4))}
    if value_type == "strs":
        return lambda: [draw_word(scope, 1, 3) for _ in range(scope.random_int(max(min_size, 1), 3))]
    if value_type == "rows":
        return lambda: [
            [scope.random_int(0, 9) for _ in range(scope.random_int(1, 3))] for _ in range(scope.random_int(1, 3))
        ]
    if value_type == "dict":
        return lambda: _draw_dict(scope, scope.random_int(max(min_size, 1), 3))
    raise ValueError(f"no type {value_type!r}")


def _draw_dict(scope: Scope, size: int) -> dict[str, int]:
    """Up to `size` items, keys in the order of the canonical text: reading that text gives the same order again."""
    return dict(sorted((draw_word(scope, 1, 2), scope.random_int(0, 9)) for _ in range(size)))


def _values_to_repeat(scope: Scope, value_type: ValueType) -> list[list[Any]]:
    """What a new argument of the type may repeat: for each related argument, on each input, its value or elements."""
    sources = []
    for var in scope.args:
        if var.type == value_type:
            sources.append([[value] for value in var.vals])
        elif (value_type, var.type) in (
            ("int", "list"),
            ("int", "tup"),
            ("int", "set"),
            ("str", "strs"),
            ("str", "dict"),
        ):
            sources.append([list(value) for value in var.vals])
    return sources


CONTAINER_TYPE: dict[str, ValueType] = {
    "item": "list",
    "part": "str",
    "have": "dict",
}  # slot → type of the argument that holds its value


def _parts_of_an_argument(scope: Scope, value_type: ValueType) -> list[Any]:
    """For each input an element of an argument of the type. Raises `DeadDraw` without one, or if a value is empty."""
    holders = [var for var in scope.args if var.type == value_type]
    if not holders:
        raise DeadDraw
    rng, vals = scope.rng, scope.rng.choice(holders).vals
    if not all(vals):
        raise DeadDraw
    if value_type == "str":
        starts = [scope.random_int(0, len(text) - 1) for text in vals]
        return [text[start : start + scope.random_int(1, 2)] for text, start in zip(vals, starts, strict=True)]
    return [rng.choice(list(value)) for value in vals]


def draw_argument(scope: Scope, slot: str, value_type: ValueType) -> list[Any]:
    """Values of a new argument on every input of the pool."""
    rng = scope.rng
    draw = _value_drawer(scope, slot, value_type)
    vals = [draw() for _ in range(POOL_SIZE)]
    if slot in ("idx", "cnt", "pos"):
        return vals
    if slot in CONTAINER_TYPE:
        return _parts_of_an_argument(scope, CONTAINER_TYPE[slot])
    if slot in ("ch", "key") or (value_type == "str" and rng.random() < 0.3):
        for var in scope.args:  # some of the values become parts of an earlier text
            if var.type == "str":
                for i, text in enumerate(var.vals):
                    if text and rng.random() < 0.6:
                        start = scope.random_int(0, len(text) - 1)
                        vals[i] = text[start : start + scope.random_int(1, 2)]
    for sources in _values_to_repeat(scope, value_type):
        for i, source in enumerate(sources):
            if source and rng.random() < 0.25:
                vals[i] = copy_value(rng.choice(source))
    return vals
