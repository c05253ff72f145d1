"""The productions programs are drawn from: one template of Python source per operation, by tier.

The tables follow Python's own reference (`dir(str)`, `dir(list)`, `dir(dict)`, the expression grammar). A template is
both the text that is printed and, compiled once, the function that computes it, so text and meaning cannot drift apart.
Tiers fix the vocabulary of a level: tier 1 for L0-L1, tiers 1-2 for L2-L3, all for L4-L5. No weights are stored here:
a production is chosen uniformly among those that fit.
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
}  # fmt: skip
TYPES = ("int", "bool", "str", "list", "strs", "tup", "dict", "set", "rows")

TIER_1 = """
int   {int} + {int}
int   {int} - {int}
int   {int} * {int}
int   -{int}
int   min({int}, {int})
int   max({int}, {int})
int   len({list})
int   len({str})
int   sum({list})
int   max({list})
int   min({list})
int   {list}[{idx}]
int   {list}.count({int})
int   {str}.count({ch})
bool  {int} < {int}
bool  {int} > {int}
bool  {int} <= {int}
bool  {int} >= {int}
bool  {int} == {int}
bool  {int} != {int}
bool  {int} in {list}
bool  {int} not in {list}
bool  {ch} in {str}
bool  {ch} not in {str}
bool  {str} == {str}
bool  {list} == {list}
bool  not {bool}
bool  {bool} and {bool}
bool  {bool} or {bool}
str   {str} + {str}
str   {str} * {cnt}
str   {str}[{idx}]
str   {str}[{idx}:]
str   {str}[:{idx}]
str   {str}[::-1]
str   min({str}, {str})
str   max({str}, {str})
list  {list} + {list}
list  {list} + [{int}]
list  [{int}] + {list}
list  [{int}, {int}]
list  [{int}] * {cnt}
list  {list} * {cnt}
list  {list}[{idx}:]
list  {list}[:{idx}]
list  {list}[::-1]
list  sorted({list})
"""

TIER_2 = """
int   {int} // {pos}
int   {int} % {pos}
int   abs({int})
int   {int} if {bool} else {int}
int   {str}.find({ch})
int   {str}.index({ch})
int   {list}.index({int})
int   len({strs})
int   len({dict})
int   len({tup})
int   {tup}[{idx}]
int   sum({tup})
int   max({tup})
int   {dict}[{key}]
int   {dict}.get({key}, {int})
int   sum({dict}.values())
int   max({dict}.values())
int   sum(range({leaf_int}))
int   len(set({list}))
int   len(set({str}))
bool  {str}.startswith({ch})
bool  {str}.endswith({ch})
bool  {key} in {dict}
bool  {str} in {strs}
bool  {int} in {tup}
bool  {str} < {str}
bool  {int} % 2 == 0
bool  {list} < {list}
str   {str}.upper()
str   {str}.capitalize()
str   {str}.title()
str   {str}.replace({ch}, {ch})
str   {str}.strip({ch})
str   {ch}.join({strs})
str   {str}[{idx}:{idx}]
str   {str}[::2]
str   str({int})
str   ''.join(sorted({str}))
str   ''.join(reversed({str}))
str   {strs}[{idx}]
str   max({strs})
str   min({strs})
str   max({str})
str   min({str})
str   {str} if {bool} else {str}
list  list(range({leaf_int}))
list  list(reversed({list}))
list  sorted({list}, reverse=True)
list  {list}[{idx}:{idx}]
list  {list}[::2]
list  list({tup})
list  list({dict}.values())
list  sorted({tup})
list  {list} if {bool} else {list}
strs  {str}.split({ch})
strs  list({str})
strs  sorted({strs})
strs  sorted({str})
strs  {strs} + [{str}]
strs  {strs}[::-1]
strs  {strs}[{idx}:]
strs  [{str}, {str}]
strs  list({dict})
strs  sorted({dict})
tup   ({int}, {int})
tup   {tup} + {tup}
tup   {tup}[::-1]
tup   {tup}[{idx}:]
tup   tuple({list})
dict  {{{key}: {int}, {key}: {int}}}
dict  dict(zip({str}, {list}))
dict  dict(zip({strs}, {list}))
"""

TIER_3 = """
int   {int} ** 2
int   {int} & {int}
int   {int} | {int}
int   {int} ^ {int}
int   {int} << {cnt}
int   {int} >> {cnt}
int   ~{int}
int   ord({str}[{idx}])
int   pow({int}, {cnt}, {pos})
int   {str}.rfind({ch})
int   len({set})
int   max({set})
int   sum({set})
int   len({rows})
int   len({rows}[{idx}])
int   {rows}[{idx}][{idx}]
int   int({str}.isalpha())
int   max({list}, key=lambda {x}: -{x})
int   max({list}, key=lambda {x}: {x} % {pos})
int   min({list}, key=lambda {x}: ({x} - {int}) ** 2)
bool  {int} < {int} < {int}
bool  {int} in {set}
bool  {set} <= {set}
bool  {str}.isalpha()
bool  {str}.islower()
bool  {str}.isdigit()
bool  bool({list})
str   {str}.swapcase()
str   {str}.center({pos}, '-')
str   {str}.ljust({pos}, '.')
str   {str}.rjust({pos}, '.')
str   {str}.zfill({pos})
str   {str}.lstrip({ch})
str   {str}.rstrip({ch})
str   {str}.removeprefix({ch})
str   {str}.removesuffix({ch})
str   {str}.partition({ch})[0]
str   {str}.partition({ch})[2]
str   {str}.rpartition({ch})[2]
str   {str}.replace({ch}, {ch}, 1)
str   chr(97 + {int} % 26)
str   bin({int})
str   hex({int})
str   max({strs}, key=len)
str   max({dict}, key={dict}.get)
str   f'{{{leaf_str}}}-{{{leaf_int}}}'
str   f'{{{leaf_int}}}:{{{leaf_int}}}'
str   f'{{{leaf_int}:03d}}{{{leaf_str}}}'
list  sorted({set})
list  {rows}[{idx}]
list  sum({rows}, [])
list  list(map(abs, {list}))
list  list(map(len, {strs}))
list  list(map(lambda {x}: {x} * {int}, {list}))
list  list(filter(lambda {x}: {x} > {int}, {list}))
list  sorted({list}, key=lambda {x}: -{x})
list  sorted({list}, key=lambda {x}: {x} % {pos})
list  sorted({list}, key=lambda {x}: abs({x} - {int}))
list  list(divmod({int}, {pos}))
list  [*{list}, *{tup}]
list  [{x} + {y} for {x}, {y} in zip({list}, {list})]
list  [{x} * {y} for {x}, {y} in enumerate({list})]
strs  {str}.rsplit({ch}, 1)
strs  sorted({strs}, key=len)
strs  sorted({strs}, key=lambda {x}: {x}[-1:])
strs  sorted({dict}, key=lambda {x}: {dict}[{x}])
strs  [{x} * {y} for {x}, {y} in zip({strs}, {list})]
strs  [{x} for {x}, {y} in {dict}.items() if {y} > {int}]
set   set({list})
set   {set} | {set}
set   {set} & {set}
set   {set} - {set}
set   {set} ^ {set}
dict  {dict} | {dict}
dict  dict(sorted({dict}.items()))
dict  {{{x}: len({x}) for {x} in {strs}}}
dict  {{{x}: {str}.count({x}) for {x} in {str}}}
dict  {{{x}: {y} + {int} for {x}, {y} in {dict}.items()}}
dict  {{{x}: {y} for {x}, {y} in {dict}.items() if {y} > {int}}}
rows  [{list}, {list}]
rows  {rows} + [{list}]
rows  {rows}[::-1]
rows  sorted({rows})
rows  [{x}[::-1] for {x} in {rows}]
rows  [list({x}) for {x} in zip({list}, {list})]
"""

# A statement changes the variable in its first slot, which is always a bare name.
STATEMENTS_1 = """
int   {int} += {int}
int   {int} -= {int}
int   {int} *= {int}
str   {str} += {str}
list  {list} += [{int}]
list  {list}.append({int})
list  {list}.reverse()
list  {list}.sort()
list  {list}[{idx}] = {int}
list  {list}[{idx}] += {int}
"""
STATEMENTS_2 = """
int   {int} //= {pos}
int   {int} %= {pos}
list  {list}.extend({list})
list  {list}.insert({idx}, {int})
list  {list}.remove({int})
list  {list}.pop({idx})
list  del {list}[{idx}]
strs  {strs}.append({str})
strs  {strs}[{idx}] = {str}
dict  {dict}[{key}] = {int}
"""
STATEMENTS_3 = """
int   {int} ^= {int}
list  {list}[{idx}:] = [{int}]
list  {list} *= {cnt}
list  {list}.sort(reverse=True)
list  {list}.sort(key=lambda {x}: -{x})
dict  {dict}.pop({key})
dict  {dict}.update({dict})
dict  {dict}.setdefault({key}, {int})
set   {set}.add({int})
set   {set}.discard({int})
set   {set}.update({list})
rows  {rows}.append({list})
"""

# Precedences as `ast.unparse` uses them; a child below what its place asks for is written in parentheses.
TEST, OR, AND, NOT, CMP, BOR, BXOR, BAND, SHIFT, ARITH, TERM, FACTOR, POWER, ATOM = range(1, 15)
_BINARY = {
    ast.Add: ARITH, ast.Sub: ARITH, ast.Mult: TERM, ast.FloorDiv: TERM, ast.Mod: TERM, ast.Pow: POWER,
    ast.BitOr: BOR, ast.BitXor: BXOR, ast.BitAnd: BAND, ast.LShift: SHIFT, ast.RShift: SHIFT,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Production:
    """One operation: `pieces` around the operands' texts, and the function of the operands' values."""

    result: str  # type of the value; of the changed variable for a statement
    tier: int  # 1…3
    slots: tuple[str, ...]  # operands, left to right
    types: frozenset[str]  # of the operands
    pieces: tuple[str, ...]  # len(slots) + 1 texts around them
    binders: int  # names the template binds itself (lambda, comprehension); they are written {x} and {y}
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
                put(test, OR), put(body, OR), put(orelse, TEST)
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
    slots, pieces, text = _cut(template)
    names = [f"s{i}_" for i in range(len(slots))]
    body = ast.parse(_fill(pieces, names), mode="eval").body
    need = _needs(body)
    call = eval(f"lambda {', '.join(names)}: {_fill(pieces, names)}", {"__builtins__": BUILTINS})
    return Production(
        result=result, tier=tier, slots=slots, types=frozenset(map(slot_type, slots)), pieces=pieces, binders=("{x}" in text) + ("{y}" in text),
        prec=own_prec(body), needs=tuple(need.get(name, 0) for name in names), inner=_inner(body, names), call=call,
    )  # fmt: skip


def statement(line: str, tier: int) -> Production:
    """Read one line of a table of statements; `call` returns the changed variable, leaving its operands alone."""
    result, template = line.split(None, 1)
    slots, pieces, text = _cut(template)
    names = [f"s{i}_" for i in range(len(slots))]
    tree = ast.parse(_fill(pieces, names))
    need = _needs(tree)
    source = f"def change({', '.join(names)}):\n    s0_ = copy(s0_)\n    {_fill(pieces, names)}\n    return s0_\n"
    space: dict[str, Any] = {"__builtins__": BUILTINS, "copy": fresh}
    exec(source, space)
    return Production(
        result=result, tier=tier, slots=slots, types=frozenset(map(slot_type, slots)), pieces=pieces, binders=("{x}" in text) + ("{y}" in text),
        prec=TEST, needs=tuple(need.get(name, 0) for name in names), inner=_inner(tree, names), call=space["change"],
    )  # fmt: skip


def _cut(template: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Slots, the text around them ({{ and }} undoubled, binders left as {x} and {y}), and the template."""
    marked = template.replace("{x}", "\x01").replace("{y}", "\x02")
    parts = SLOT.split(
        marked.replace("{{{", "\x03{").replace("}}}", "}\x04").replace("{{", "\x03").replace("}}", "\x04")
    )
    parts = [_unmark(part) for part in parts]
    return tuple(parts[1::2]), tuple(parts[0::2]), template


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


def _table(text: str, tier: int, read: Callable[[str, int], Production]) -> tuple[Production, ...]:
    return tuple(read(line, tier) for line in text.strip().splitlines())


EXPRESSIONS = _table(TIER_1, 1, production) + _table(TIER_2, 2, production) + _table(TIER_3, 3, production)
STATEMENTS = (
    _table(STATEMENTS_1, 1, statement) + _table(STATEMENTS_2, 2, statement) + _table(STATEMENTS_3, 3, statement)
)


def select(table: tuple[Production, ...], tier: int) -> dict[str, tuple[Production, ...]]:
    """The productions up to a tier, by type of their result."""
    chosen = [item for item in table if item.tier <= tier]
    return {kind: tuple(item for item in chosen if item.result == kind) for kind in TYPES}


BY_TYPE = {tier: select(EXPRESSIONS, tier) for tier in (1, 2, 3)}
CHANGES = {tier: select(STATEMENTS, tier) for tier in (1, 2, 3)}
