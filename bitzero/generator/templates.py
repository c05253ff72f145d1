"""Productions: one template of Python source per operation, compiled once into the function that computes it.

A template is both the text that is printed and what is evaluated, so text and meaning cannot drift apart. Where a child
needs parentheses is read off the template's syntax tree, by the rules of `ast.unparse`.
"""

import ast
import builtins
import dataclasses
import re
from collections.abc import Callable
from typing import Any

# What generated source may call; nothing else exists for it.
BUILTINS = {
    name: getattr(builtins, name)
    for name in """abs all any bin bool chr dict divmod enumerate filter hex int isinstance len list map max min ord pow
    range reversed round set sorted str sum tuple zip ValueError IndexError KeyError ZeroDivisionError""".split()
}
# A slot is written {name}: an operand of that type, or a constant drawn for that use.
SLOT = re.compile(r"\{(\w+)\}")
SLOT_TYPES = {
    "int": "int", "bool": "bool", "str": "str", "list": "list", "strs": "strs", "tup": "tup", "dict": "dict",
    "set": "set", "rows": "rows",
    "idx": "int",  # a position: small constants, also from the end
    "cnt": "int",  # a repetition: 2 or 3
    "pos": "int",  # a divisor or modulus: 2…9
    "cons": "int",  # always a constant
    "ch": "str",  # a text of one or two letters
    "key": "str",  # a dict key
    "item": "int",  # an element of a list that is an argument
    "part": "str",  # a part of a text that is an argument
    "have": "str",  # a key of a dict that is an argument
}  # fmt: skip
# Precedences as `ast.unparse` uses them; a child below what its place asks for is written in parentheses.
TEST, OR, AND, NOT, CMP, BOR, BXOR, BAND, SHIFT, ARITH, TERM, FACTOR, POWER, ATOM = range(1, 15)
_BINARY = {
    ast.Add: ARITH, ast.Sub: ARITH, ast.Mult: TERM, ast.FloorDiv: TERM, ast.Mod: TERM, ast.Pow: POWER,
    ast.BitOr: BOR, ast.BitXor: BXOR, ast.BitAnd: BAND, ast.LShift: SHIFT, ast.RShift: SHIFT,
}  # fmt: skip


Texts = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Production:
    """One operation: `pieces` around the operands' texts, and the function of the operands' values."""

    result: str  # type of the value; of the changed variable for a statement
    tier: int  # 1…3
    slots: tuple[str, ...]  # operands, left to right
    types: frozenset[str]  # of the operands
    pieces: tuple[str, ...]  # len(slots) + 1 texts around them
    binders: int  # names the template binds itself (lambda, comprehension); they are written {x} and {y}
    conditional: bool  # x if c else y
    prec: int  # of the whole
    needs: tuple[int, ...]  # precedence under which an operand gets parentheses
    inner: tuple[bool, ...]  # the operand is evaluated many times, inside a lambda or a comprehension
    call: Callable[..., Any]  # operand values → value


def slot_type(slot: str) -> str:
    """The type an operand in this slot has."""
    return SLOT_TYPES[slot.removeprefix("leaf_")]


def own_prec(node: ast.expr) -> int:
    """Precedence of an expression node, as `ast.unparse` ranks it."""
    match node:
        case ast.IfExp() | ast.Lambda():
            return TEST
        case ast.BoolOp(op=op):
            return AND if isinstance(op, ast.And) else OR
        case ast.Compare():
            return CMP
        case ast.BinOp(op=op):
            return _BINARY[type(op)]
        case ast.UnaryOp(op=op):
            return NOT if isinstance(op, ast.Not) else FACTOR
    return ATOM


def _needs(tree: ast.AST) -> dict[str, int]:
    """Precedence that each name of a template needs from what replaces it (rules of `ast.unparse`)."""
    need: dict[str, int] = {}

    def put(node: ast.AST, prec: int) -> None:
        if isinstance(node, ast.Name):
            need[node.id] = prec

    for node in ast.walk(tree):
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                prec, power = _BINARY[type(op)], isinstance(op, ast.Pow)
                put(left, prec + 1 if power else prec)
                put(right, prec if power else prec + 1)
            case ast.Compare(left=left, comparators=others):
                for operand in (left, *others):
                    put(operand, CMP + 1)
            case ast.BoolOp(op=op, values=values):
                for place, operand in enumerate(values, 1):
                    put(operand, (AND if isinstance(op, ast.And) else OR) + place)
            case ast.UnaryOp(op=op, operand=operand):
                put(operand, NOT if isinstance(op, ast.Not) else FACTOR)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                put(test, OR)
                put(body, OR)
                put(orelse, TEST)
            case ast.Subscript(value=value) | ast.Attribute(value=value):
                put(value, ATOM)
            case ast.Starred(value=value):
                put(value, BOR)
            case ast.comprehension(iter=iterable, ifs=ifs):
                for operand in (iterable, *ifs):
                    put(operand, OR)
            case ast.FormattedValue(value=value):
                put(value, OR)
    return need


def _inner(tree: ast.AST, names: list[str]) -> tuple[bool, ...]:
    """Which names stand in the body of a lambda, or in a comprehension outside its first iterable."""
    found: set[str] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST] = []
        match node:
            case ast.Lambda(body=body):
                parts = [body]
            case ast.ListComp(elt=elt, generators=loops) | ast.SetComp(elt=elt, generators=loops):
                parts = [elt, *loops[0].ifs]
            case ast.DictComp(key=key, value=value, generators=loops):
                parts = [key, value, *loops[0].ifs]
        found |= {item.id for part in parts for item in ast.walk(part) if isinstance(item, ast.Name)}
    return tuple(name in found for name in names)


def production(line: str, tier: int) -> Production:
    """Read one line of a table of expressions: `type  template`."""
    result, template = line.split(None, 1)
    slots, pieces = _cut(template)
    names = _names(slots)
    body = ast.parse(_fill(pieces, names), mode="eval").body
    call = eval(f"lambda {', '.join(names)}: {_fill(pieces, names)}", {"__builtins__": BUILTINS})
    return _made(result, tier, slots, pieces, own_prec(body), body, call)


def statement(line: str, tier: int) -> Production:
    """Read one line of a table of statements; `call` returns the changed variable, leaving its operands alone."""
    result, template = line.split(None, 1)
    slots, pieces = _cut(template)
    names = _names(slots)
    tree = ast.parse(_fill(pieces, names))
    source = f"def change({', '.join(names)}):\n    s0_ = copy(s0_)\n    {_fill(pieces, names)}\n    return s0_\n"
    space: dict[str, Any] = {"__builtins__": BUILTINS, "copy": fresh}
    exec(source, space)
    return _made(result, tier, slots, pieces, TEST, tree, space["change"])


def _made(
    result: str, tier: int, slots: Texts, pieces: Texts, prec: int, tree: ast.AST, call: Callable[..., Any]
) -> Production:
    need, names, text = _needs(tree), _names(slots), "".join(pieces)
    return Production(
        result=result,
        tier=tier,
        slots=slots,
        types=frozenset(map(slot_type, slots)),
        pieces=pieces,
        binders=("{x}" in text) + ("{y}" in text),
        conditional=" else " in text,
        prec=prec,
        needs=tuple(need.get(name, 0) for name in names),
        inner=_inner(tree, names),
        call=call,
    )


def _names(slots: Texts) -> list[str]:
    return [f"s{i}_" for i in range(len(slots))]


def _cut(template: str) -> tuple[Texts, Texts]:
    """Slots, and the text around them: {{ and }} undoubled, binders left as {x} and {y}."""
    marked = template.replace("{x}", "\x01").replace("{y}", "\x02")
    parts = SLOT.split(
        marked.replace("{{{", "\x03{").replace("}}}", "}\x04").replace("{{", "\x03").replace("}}", "\x04")
    )
    parts = [_unmark(part) for part in parts]
    return tuple(parts[1::2]), tuple(parts[0::2])


def _unmark(part: str) -> str:
    for mark, text in (("\x01", "{x}"), ("\x02", "{y}"), ("\x03", "{"), ("\x04", "}")):
        part = part.replace(mark, text)
    return part


def _fill(pieces: tuple[str, ...], names: list[str]) -> str:
    text = "".join(piece + name for piece, name in zip(pieces, [*names, ""], strict=True))
    return text.replace("{x}", "x_").replace("{y}", "y_")


def fresh(value: Any) -> Any:
    """A copy that shares nothing mutable with `value` (the types of this grammar only)."""
    kind = type(value)
    if kind is list:
        return [fresh(item) for item in value] if value and type(value[0]) is list else value[:]
    if kind is dict or kind is set:
        return value.copy()
    return value
