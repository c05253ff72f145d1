"""Which programs can leave nothing behind: a look at the tree that passes only what is listed here.

All inputs of a pure program may be run in one child, one after the other, and one hash seed speaks for all. The proof
is by what the program can name. Everything that outlives a run (built-ins, modules, classes of the library) is
changed by an attribute, an import, a class, or a function that takes a name; none of these is here. What is here are
the program's own variables, made anew for every input with its globals, functions and constants, and built-ins that
keep nothing. No set comes to be, so no order follows from a hash; ``is`` compares with ``None``, ``True`` and ``False``
alone, so no identity of equal objects is seen; no handler and no ``finally`` can swallow a ``MemoryError``, which tells
what earlier runs left of the process.

The look is of the program as it was written, before the rewriting. What is not listed is not impure, it only has a
child for every input.
"""

import ast
from collections.abc import Callable
from typing import Any

from bitzero.sandbox import language
from bitzero.sandbox.screen import Look

NODES: frozenset[type[ast.AST]] = frozenset(
    getattr(ast, name)
    for name in (
        "Module FunctionDef Return Delete Assign AugAssign AnnAssign For While If Raise Try Assert Expr Pass Break "
        "Continue BoolOp NamedExpr BinOp UnaryOp Lambda IfExp Dict ListComp DictComp GeneratorExp Compare Call "
        "FormattedValue JoinedStr Constant Attribute Subscript Starred Name List Tuple Slice Load Store Del And Or Add "
        "Sub Mult Div Mod Pow LShift RShift BitOr BitXor BitAnd FloorDiv Invert Not UAdd USub Eq NotEq Lt LtE Gt GtE "
        "Is IsNot In NotIn comprehension ExceptHandler arguments arg keyword"
    ).split()
)
EXCEPTIONS = frozenset(
    "ArithmeticError AssertionError AttributeError IndexError KeyError LookupError OverflowError RecursionError "
    "RuntimeError StopIteration TypeError ValueError ZeroDivisionError".split()
)
WIDE = frozenset(("Exception", "MemoryError"))  # caught only where the first handler passes a MemoryError on
BUILTINS = (
    EXCEPTIONS
    | WIDE
    | frozenset(
        "abs all any bin bool chr dict divmod enumerate filter float hex int isinstance iter len list map max min next "
        "oct ord pow range repr reversed round slice sorted str sum tuple zip".split()
    )
)
METHODS = frozenset(
    "append bit_count bit_length capitalize casefold center clear copy count endswith expandtabs extend find get index "
    "insert is_integer isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace "
    "istitle isupper items join keys ljust lower lstrip partition pop popitem remove removeprefix removesuffix replace "
    "reverse rfind rindex rjust rpartition rsplit rstrip setdefault sort split splitlines startswith strip swapcase "
    "title update upper values zfill".split()
)
_CONSTANTS = (type(None), bool, int, float, str, bytes)


def is_pure(nodes: list[ast.AST], found: Look) -> bool:
    """Whether the program of these ``nodes``, of which ``screen.look`` has ``found`` nothing to refuse, is pure."""
    known = found.bound.isdisjoint(EXCEPTIONS | WIDE)  # else a handler would not catch what it names
    return known and not found.ordered and found.refusal is None and all(map(_listed, nodes))


def _listed(node: ast.AST) -> bool:
    kind = type(node)
    if kind not in NODES:
        return False
    return kind not in _LOOKS or _LOOKS[kind](node)


def _name(node: ast.Name) -> bool:
    """A name that is bound somewhere may still find the built-in of that name elsewhere, so being bound helps none."""
    name = node.id
    return name in BUILTINS or not (name in language.BUILTINS or name[:2] == "__" or not name.isidentifier())


def _attribute(node: ast.Attribute) -> bool:
    return node.attr in METHODS and type(node.ctx) is ast.Load


def _function(node: ast.FunctionDef) -> bool:
    return not node.decorator_list and node.name[:2] != "__"


def _compare(node: ast.Compare) -> bool:
    identity = any(type(operator) in (ast.Is, ast.IsNot) for operator in node.ops)
    return not identity or (len(node.ops) == 1 and _singleton(node.comparators[0]))


def _singleton(node: ast.expr) -> bool:
    return type(node) is ast.Constant and (node.value is None or type(node.value) is bool)


def _try(node: ast.Try) -> bool:
    if node.finalbody or any(handler.name for handler in node.handlers):
        return False
    caught = [_caught(handler) for handler in node.handlers]
    first = node.handlers[0].body[0]
    passed_on = caught[0] == {"MemoryError"} and type(first) is ast.Raise and first.exc is None
    allowed = EXCEPTIONS | {"Exception"} if passed_on else EXCEPTIONS
    return all(names <= allowed for names in caught[passed_on:])


def _caught(handler: ast.ExceptHandler) -> set[str]:
    """Names of what it catches; '' for anything but a name."""
    kinds = handler.type.elts if type(handler.type) is ast.Tuple else [handler.type]
    return {kind.id if type(kind) is ast.Name else "" for kind in kinds}


def _constant(node: ast.Constant) -> bool:
    return type(node.value) in _CONSTANTS


_LOOKS: dict[type[ast.AST], Callable[[Any], bool]] = {
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.FunctionDef: _function,
    ast.Compare: _compare,
    ast.Try: _try,
    ast.Constant: _constant,
}
