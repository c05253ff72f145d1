"""Productions: one template of Python source per operation, compiled once into the function that computes it.

A template is both the text that is printed and what is evaluated, so text and meaning cannot drift apart. Which
operands need parentheses is read off the template's syntax tree, by the rules of `ast.unparse`.

In a template, `{int}` is a slot for an operand of that type, `{idx}`, `{ch}` … one for an operand with a purpose
(`SLOT_TYPES`), and `{leaf_int}` one for a variable. `{x}` and `{y}` are names that the template itself binds, in a
lambda or a comprehension. Braces of the Python source are doubled.
"""

import ast
import builtins
import dataclasses
import re
from collections.abc import Callable
from typing import Any, Literal, get_args

# What generated source may call; nothing else exists for it.
BUILTINS = {
    name: getattr(builtins, name)
    for name in """abs all any bin bool chr dict divmod enumerate filter hex int isinstance len list map max min ord pow
    range reversed round set sorted str sum tuple zip ValueError IndexError KeyError ZeroDivisionError""".split()
}
ValueType = Literal[
    "int", "bool", "str", "list", "strs", "tup", "dict", "set", "rows"
]  # strs, rows: lists of str, list
TYPES: tuple[ValueType, ...] = get_args(ValueType)
SLOT = re.compile(r"\{(\w+)\}")
SLOT_TYPES: dict[str, ValueType] = {
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
_TYPE_OF_SLOT = SLOT_TYPES | {f"leaf_{name}": value_type for name, value_type in SLOT_TYPES.items()}
# Precedences as `ast.unparse` uses them; an operand with a lower one than its place asks for is put in parentheses.
TEST, OR, AND, NOT, CMP, BOR, BXOR, BAND, SHIFT, ARITH, TERM, FACTOR, POWER, ATOM = range(1, 15)
_BINARY = {
    ast.Add: ARITH, ast.Sub: ARITH, ast.Mult: TERM, ast.FloorDiv: TERM, ast.Mod: TERM, ast.Pow: POWER,
    ast.BitOr: BOR, ast.BitXor: BXOR, ast.BitAnd: BAND, ast.LShift: SHIFT, ast.RShift: SHIFT,
}  # fmt: skip


Texts = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Production:
    """One operation: the source around its operands, and the function of the operands' values.

    There is one object for each line of the tables, so two are equal only if they are the same.
    """

    number: int  # its place in the grammar's tables
    result: ValueType  # of the value; of the changed variable for a statement
    vocabulary: int  # 1…3, the first that holds it
    slots: tuple[str, ...]  # operands, left to right
    types: frozenset[ValueType]  # of the operands
    pieces: tuple[str, ...]  # source before, between and after the operands: len(slots) + 1 texts
    binders: int  # how many of {x} and {y} it binds
    conditional: bool  # x if c else y
    prec: int  # precedence of the whole
    operand_precs: tuple[int, ...]  # an operand of a lower precedence gets parentheses
    repeated: tuple[bool, ...]  # True: evaluated many times, inside a lambda or a comprehension
    call: Callable[..., Any]  # operand values → value

    @property
    def template(self) -> str:
        """The source with its slots in braces."""
        return _filled_in(self.pieces, [f"{{{slot}}}" for slot in self.slots])


def slot_type(slot: str) -> ValueType:
    """The type an operand in this slot has. Raises KeyError."""
    return _TYPE_OF_SLOT[slot]


def precedence_of(node: ast.expr) -> int:
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


def _operand_precedences(tree: ast.AST) -> dict[str, int]:
    """The precedence that each name of a template asks of what replaces it (rules of `ast.unparse`)."""
    needs: dict[str, int] = {}

    def require(node: ast.AST, prec: int) -> None:
        if isinstance(node, ast.Name):
            needs[node.id] = prec

    for node in ast.walk(tree):
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                prec, power = _BINARY[type(op)], isinstance(op, ast.Pow)
                require(left, prec + 1 if power else prec)
                require(right, prec if power else prec + 1)
            case ast.Compare(left=left, comparators=others):
                for operand in (left, *others):
                    require(operand, CMP + 1)
            case ast.BoolOp(op=op, values=values):
                for place, operand in enumerate(values, 1):
                    require(operand, (AND if isinstance(op, ast.And) else OR) + place)
            case ast.UnaryOp(op=op, operand=operand):
                require(operand, NOT if isinstance(op, ast.Not) else FACTOR)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                require(test, OR)
                require(body, OR)
                require(orelse, TEST)
            case ast.Subscript(value=value) | ast.Attribute(value=value):
                require(value, ATOM)
            case ast.Starred(value=value):
                require(value, BOR)
            case ast.comprehension(iter=iterable, ifs=ifs):
                for operand in (iterable, *ifs):
                    require(operand, OR)
            case ast.FormattedValue(value=value):
                require(value, OR)
    return needs


def _repeated_operands(tree: ast.AST, names: list[str]) -> tuple[bool, ...]:
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


def parse_expression(line: str, vocabulary: int, number: int) -> Production:
    """The production of one line of a table of expressions, `type  template`; `number` is its place in the tables."""
    result, template = _split_line(line)
    slots, pieces = _split_template(template)
    names = _placeholders(slots)
    body = ast.parse(_filled_in(pieces, names), mode="eval").body
    call = eval(f"lambda {', '.join(names)}: {_filled_in(pieces, names)}", {"__builtins__": BUILTINS})
    return _production(number, (result, vocabulary), (slots, pieces), precedence_of(body), body, call)


def parse_statement(line: str, vocabulary: int, number: int) -> Production:
    """The production of one line of a table of statements.

    Its `call` returns the changed value of the variable in the first slot and changes none of its operands.
    """
    result, template = _split_line(line)
    slots, pieces = _split_template(template)
    names = _placeholders(slots)
    tree = ast.parse(_filled_in(pieces, names))
    source = f"def change({', '.join(names)}):\n    s0_ = copy(s0_)\n    {_filled_in(pieces, names)}\n    return s0_\n"
    space: dict[str, Any] = {"__builtins__": BUILTINS, "copy": copy_value}
    exec(source, space)
    return _production(number, (result, vocabulary), (slots, pieces), TEST, tree, space["change"])


def _production(
    number: int, head: tuple[ValueType, int], template: tuple[Texts, Texts], prec: int, tree: ast.AST,
    call: Callable[..., Any],
) -> Production:  # fmt: skip
    """What is common to expressions and statements; ``head`` is type and vocabulary, ``template`` slots and pieces."""
    (result, vocabulary), (slots, pieces) = head, template
    needs, names, text = _operand_precedences(tree), _placeholders(slots), "".join(pieces)
    return Production(
        number=number,
        result=result,
        vocabulary=vocabulary,
        slots=slots,
        types=frozenset(map(slot_type, slots)),
        pieces=pieces,
        binders=("{x}" in text) + ("{y}" in text),
        conditional=" else " in text,
        prec=prec,
        operand_precs=tuple(needs.get(name, 0) for name in names),
        repeated=_repeated_operands(tree, names),
        call=call,
    )


def _placeholders(slots: Texts) -> list[str]:
    """Names that stand for the operands while a template is parsed and compiled."""
    return [f"s{i}_" for i in range(len(slots))]


def _split_line(line: str) -> tuple[ValueType, str]:
    """Type of the result, and template. Raises ValueError."""
    name, template = line.split(None, 1)
    for value_type in TYPES:
        if value_type == name:
            return value_type, template
    raise ValueError(f"no type {name!r} in {line!r}")


def _split_template(template: str) -> tuple[Texts, Texts]:
    """Slots, and the text around them: {{ and }} undoubled, binders left as {x} and {y}."""
    # Binders look like slots: control characters stand for them while the template is split.
    marked = template.replace("{x}", "\x01").replace("{y}", "\x02")
    # So do doubled braces. Three in a row are a doubled one outside and a slot's inside, as in {{{key}: {int}}}.
    marked = marked.replace("{{{", "\x03{").replace("}}}", "}\x04").replace("{{", "\x03").replace("}}", "\x04")
    # Splitting by a pattern with one group gives text, slot, text, …, text.
    parts = [_restore_braces(part) for part in SLOT.split(marked)]
    return tuple(parts[1::2]), tuple(parts[0::2])


def _restore_braces(part: str) -> str:
    """What the control characters of `_split_template` stand for."""
    for mark, text in (("\x01", "{x}"), ("\x02", "{y}"), ("\x03", "{"), ("\x04", "}")):
        part = part.replace(mark, text)
    return part


def _filled_in(pieces: tuple[str, ...], names: list[str]) -> str:
    """The template's source with these names as operands."""
    text = "".join(piece + name for piece, name in zip(pieces, [*names, ""], strict=True))
    return text.replace("{x}", "x_").replace("{y}", "y_")


def copy_value(value: Any) -> Any:
    """A copy that shares nothing mutable with `value` (the types of this grammar only)."""
    value_type = type(value)
    if value_type is list:
        return [copy_value(item) for item in value] if value and type(value[0]) is list else value[:]
    if value_type is dict or value_type is set:
        return value.copy()
    return value
