"""Statements: a candidate program as a small tree, drawn on a pool of inputs, from one return to loops and helpers."""

import dataclasses
import functools
import re
from typing import Literal

from bitzero.generator.expressions import (
    apply_production,
    draw_comprehension,
    draw_expression,
    draw_operands,
    productions_using,
    uses_name,
)
from bitzero.generator.grammar import EXPRESSIONS_BY_TYPE, STATEMENTS_BY_TYPE
from bitzero.generator.scope import DeadDraw, Expression, Scope, Variable
from bitzero.generator.templates import ATOM, TYPES, Production, ValueType

Form = Literal["return", "for", "while", "if", "plain"]
NAME_PATTERN = re.compile(r"_\d+")
# Productions of whole expressions by vocabulary. To choose one for its type and then one of that type is to choose
# among all. No bool: the constant True answers half of such a program's questions, so truth values are left to
# conditions and to the share of programs that may be trivial.
ROOTS = {
    vocabulary: tuple(item for value_type in TYPES if value_type != "bool" for item in table[value_type])
    for vocabulary, table in EXPRESSIONS_BY_TYPE.items()
}
ROOT_TYPES = {vocabulary: tuple(item.result for item in roots) for vocabulary, roots in ROOTS.items()}


@dataclasses.dataclass(slots=True, eq=False)
class Statement:
    """One statement; blocks hold their bodies. Names are written _1, _2 …"""

    text: str  # source without indentation; of a block: its head
    changed: tuple[str, ...] = ()  # variables it sets, reported after it ran; of `for`: the loop variables
    traced: str = ""  # of a return: source that reports its parts; of `if` and `while`: the condition, likewise
    body: list["Statement"] = dataclasses.field(default_factory=list)
    orelse: list["Statement"] = dataclasses.field(default_factory=list)
    vocabulary: int = 1  # the largest that one of its operations needs; blocks: of the head alone, as the next two
    ops: int = 0  # operations
    features: int = 0  # COMPREHENSION | CONDITIONAL
    changes_dict: bool = False  # a dict, in place
    productions: frozenset[int] = frozenset()  # numbers of those it is made of; blocks: of the head alone

    form: Form = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        match self.text.split(" ", 1)[0]:
            case "return" | "for" | "while" | "if" as word:
                self.form = word
            case _:
                self.form = "plain"


def statement_of(text: str, expression: Expression, *changed: str, traced: str = "") -> Statement:
    """A statement whose operations are those of one expression."""
    return Statement(
        text, changed, traced, vocabulary=expression.vocabulary, ops=expression.ops, features=expression.features,
        productions=expression.productions,
    )  # fmt: skip


@dataclasses.dataclass(slots=True)
class Helper:
    """A function that stands before f."""

    text: str  # source
    traced: str  # source that reports the parts of its returns


@dataclasses.dataclass(slots=True)
class Candidate:
    """A drawn program, not yet run."""

    helpers: list[Helper]
    args: list[Variable]
    body: list[Statement]


def mark_used(scope: Scope, text: str, changed: str = "") -> None:
    """Bookkeeping after a statement: what its text uses is no longer unused, what it changed is unused again."""
    for var in scope.variables:
        if var.name == changed:
            var.unused = True
        elif var.unused and uses_name(text, var.name):
            var.unused = False


def choose_type(scope: Scope, vocabulary: int, value_type: ValueType) -> ValueType:
    """`value_type`, unless only productions of other types can use an unused variable: then one of those types."""
    unused_types = frozenset(var.type for var in scope.variables if var.unused)
    if not unused_types:
        return value_type
    usable = roots_using(vocabulary, unused_types)
    fits = any(value_type == root.result for root in usable)
    return scope.choose(usable).result if usable and not fits else value_type


@functools.cache
def roots_using(vocabulary: int, types: frozenset[ValueType]) -> tuple[Production, ...]:
    """Root productions whose result type some production makes from an operand of `types`."""
    return tuple(root for root in ROOTS[vocabulary] if productions_using(vocabulary, root.result, types))


def draw_type(scope: Scope) -> ValueType:
    """The type of a whole expression."""
    return scope.choose(ROOTS[scope.vocabulary]).result


def draw_assignment(scope: Scope, ops: int) -> Statement:
    """`v = expression` with `ops` operations, to a new variable or to one that the expression uses."""
    value_type = choose_type(scope, scope.vocabulary, draw_type(scope))
    expression = draw_expression(scope, value_type, ops)
    return assignment_of(scope, value_type, expression)


def assignment_of(scope: Scope, value_type: ValueType, expression: Expression) -> Statement:
    """The assignment of an expression to a new variable, or to one that it uses."""
    rng = scope.rng
    reusable = [
        v for v in scope.variables if v.type == value_type and not v.read_only and uses_name(expression.text, v.name)
    ]
    if reusable and rng.random() < 0.5:
        target = rng.choice(reusable)
        target.vals = expression.vals
    else:
        target = Variable(scope.new_name(), value_type, expression.vals)
        scope.variables.append(target)
    text = f"{target.name} = {expression.text}"
    mark_used(scope, expression.text, target.name)
    return statement_of(text, expression, target.name)


def draw_change(
    scope: Scope, value_types: tuple[ValueType, ...] = TYPES, ops: int = 0, target: Variable | None = None
) -> Statement:
    """A statement that changes a variable in place: augmented or item assignment, a mutating method.

    The variable is `target`, or one of `value_types`; `ops` operations are drawn for the other operands.
    """
    target = target or _choose_target(scope, value_types)
    production = scope.choose(STATEMENTS_BY_TYPE[scope.vocabulary][target.type])
    target_expression = Expression(target.name, target.name, ATOM, target.vals)
    expression = apply_production(scope, production, draw_operands(scope, production, ops, [target_expression]))
    target.vals = expression.vals
    mark_used(scope, expression.text, target.name)
    statement = statement_of(expression.text, expression, target.name)
    statement.changes_dict = target.type == "dict"
    return statement


def _choose_target(scope: Scope, value_types: tuple[ValueType, ...]) -> Variable:
    """A variable that a statement may change, more often an unused one; where there is none, a new argument."""
    rng, vocabulary = scope.rng, scope.vocabulary
    candidates = [
        var
        for var in scope.variables
        if not var.read_only and var.type in value_types and STATEMENTS_BY_TYPE[vocabulary][var.type]
    ]
    unused = [var for var in candidates if var.unused]
    if not candidates:
        if scope.outer is not None:
            raise DeadDraw
        value_type = rng.choice(
            [value_type for value_type in value_types if STATEMENTS_BY_TYPE[vocabulary][value_type]]
        )
        if len(scope.args) >= scope.max_args:
            raise DeadDraw
        candidates = [scope.new_argument(value_type)]
    return rng.choice(unused if unused and rng.random() < 0.8 else candidates)


def draw_line(scope: Scope, ops: int = 1) -> Statement:
    """One straight-line statement."""
    return scope.retry(4, lambda: draw_change(scope) if scope.rng.random() < 0.3 else draw_assignment(scope, ops))


def draw_return(scope: Scope, ops: int, value_types: tuple[ValueType, ...] | None = None) -> Statement:
    """`return expression`, which uses all variables that are still unused."""
    rng, vocabulary = scope.rng, scope.vocabulary
    if value_types is None and scope.may_return_bool and rng.random() < 0.7:
        value_types = ("bool",)
    unused = [var for var in scope.variables if var.unused]

    def draw() -> Expression:
        if ops == 0 and not unused:
            raise DeadDraw
        if ops == 0:
            expression = Expression(unused[-1].name, unused[-1].name, ATOM, unused[-1].vals)
        else:
            value_type = rng.choice(value_types) if value_types else draw_type(scope)
            expression = draw_expression(scope, choose_type(scope, vocabulary, value_type), ops)
        if not all(uses_name(expression.text, var.name) for var in unused):
            raise DeadDraw
        return expression

    expression = scope.retry(6, draw)
    return statement_of(f"return {expression.text}", expression, traced=f"return {expression.traced}")


def draw_condition(scope: Scope) -> Expression:
    """A comparison that is true on some inputs and false on others."""

    def draw() -> Expression:
        expression = draw_expression(scope, "bool", 1)
        if len(set(expression.vals)) < 2:
            raise DeadDraw
        return expression

    return scope.retry(6, draw)


def if_statement(scope: Scope, test: Expression, body: list[Statement] | None = None) -> Statement:
    """`if` with this condition; a body that is not given is set later."""
    mark_used(scope, test.text)
    head = f"if {test.text}:"
    block = statement_of(head, test, traced=test.text)
    block.body = body or []
    return block


def draw_branch(scope: Scope, lines: int = 1) -> Statement:
    """`if`, with or without `else`, changing variables that exist before it."""
    rng = scope.rng
    test = draw_condition(scope)
    block = if_statement(scope, test)
    before = {var.name: var.vals for var in scope.variables}
    known = scope.variables[:]
    # The body is drawn as if every input took it.
    block.body = [draw_update(scope) for _ in range(lines)]
    after_body = {var.name: var.vals for var in known}
    # So is `else`, on the values from before the body.
    for var in known:
        var.vals = before[var.name]
    if rng.random() < 0.4:
        block.orelse = [draw_update(scope)]
    # Behind the block each input has the values of the way it takes.
    for var in known:
        if var.vals is not after_body[var.name]:
            ways = zip(test.vals, after_body[var.name], var.vals, strict=True)
            var.vals = [yes if flag else no for flag, yes, no in ways]
    return block


def draw_update(scope: Scope) -> Statement:
    """A statement inside a branch: it changes a variable that already exists."""
    return scope.retry(4, lambda: draw_change(scope) if scope.rng.random() < 0.6 else _draw_any_reassignment(scope))


def _draw_any_reassignment(scope: Scope) -> Statement:
    """`v = expression` for one of the variables, an unused one first."""
    rng = scope.rng
    targets = [var for var in scope.variables if not var.read_only and var.type in ROOT_TYPES[scope.vocabulary]]
    if not targets:
        raise DeadDraw
    return draw_reassignment(scope, rng.choice([var for var in targets if var.unused] or targets), 1)


def draw_reassignment(scope: Scope, target: Variable, ops: int, use_itself: bool = False) -> Statement:
    """`v = expression` for a variable that exists; with `use_itself` the expression uses it."""
    expression = draw_expression(scope, target.type, ops)
    if use_itself and not uses_name(expression.text, target.name):
        raise DeadDraw
    target.vals = expression.vals
    mark_used(scope, expression.text, target.name)
    return statement_of(f"{target.name} = {expression.text}", expression, target.name)


def straight_lines(scope: Scope, lines: int) -> list[Statement]:
    """`lines` statements and a return."""
    rng = scope.rng
    body = [draw_line(scope, 1 if rng.random() < 0.75 else 2) for _ in range(lines)]
    body.append(draw_return(scope, rng.choice((0, 1, 1, 2)) if lines else rng.choice((1, 2, 2, 2))))
    return body


def one_branch(scope: Scope) -> list[Statement]:
    """Up to one statement, one `if` around an early return or around changes, a return."""
    rng = scope.rng
    body = [draw_line(scope) for _ in range(rng.randint(0, 1))]
    if rng.random() < 0.4:
        block = if_statement(scope, draw_condition(scope))
        value_type = draw_type(scope)
        early = draw_expression(scope, value_type, rng.choice((1, 1, 2)))
        mark_used(scope, early.text)
        block.body = [statement_of(f"return {early.text}", early, traced=f"return {early.traced}")]
        body.append(block)
        body.append(draw_return(scope, 1, (value_type,)))
        return body
    body.append(draw_branch(scope, rng.choice((1, 1, 2))))
    body.append(draw_return(scope, rng.choice((0, 0, 1))))
    return body


def one_comprehension(scope: Scope) -> list[Statement]:
    """One comprehension, in a statement or in the return, with up to one statement beside it."""
    rng = scope.rng
    body = [draw_line(scope) for _ in range(rng.choice((0, 0, 1)))]
    expression = scope.retry(6, lambda: draw_comprehension(scope))
    if rng.random() < 0.4 and not any(v.unused and not uses_name(expression.text, v.name) for v in scope.variables):
        body.append(statement_of(f"return {expression.text}", expression, traced=f"return {expression.traced}"))
        return body
    value_type: ValueType = "strs" if any(v and type(v[0]) is str for v in expression.vals) else "list"
    body.append(assignment_of(scope, value_type, expression))
    body.append(draw_return(scope, rng.choice((1, 1, 2))))
    return body
