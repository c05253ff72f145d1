"""The tables programs are drawn from: every operation of the grammar, in three vocabularies.

They follow Python's own reference (`dir(str)`, `dir(list)`, `dir(dict)`, the expression grammar). A vocabulary holds
those below it; L0-L1 have the first, L2-L3 the second, L4-L5 the third (`levels.VOCABULARIES`). No weights are stored:
a production is chosen uniformly among those that fit, or by the weights that a training batch is ordered with. How a
line is read stands in `templates.py`.
"""

from collections.abc import Callable

from bitzero.config import NUM_PRODUCTIONS
from bitzero.generator.templates import TYPES, Production, ValueType, parse_expression, parse_statement

EXPRESSIONS_1 = """
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
EXPRESSIONS_2 = """
int   {int} // {pos}
int   {int} % {pos}
int   abs({int})
int   {int} if {bool} else {int}
int   {str}.find({ch})
int   {str}.index({part})
int   {list}.index({item})
int   len({strs})
int   len({dict})
int   len({tup})
int   {tup}[{idx}]
int   sum({tup})
int   max({tup})
int   {dict}[{have}]
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
EXPRESSIONS_3 = """
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
list  {list}.remove({item})
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
dict  {dict}.pop({have})
dict  {dict}.update({dict})
dict  {dict}.setdefault({key}, {int})
set   {set}.add({int})
set   {set}.discard({int})
set   {set}.update({list})
rows  {rows}.append({list})
"""


Parse = Callable[[str, int, int], Production]  # line, vocabulary, number


def _read_tables(texts: tuple[str, ...], parse: Parse, first: int) -> tuple[Production, ...]:
    """The productions of the three vocabularies' tables, one a line, numbered from `first`."""
    lines = [(line, i) for i, text in enumerate(texts, 1) for line in text.strip().splitlines()]
    return tuple(parse(*line, number) for number, line in enumerate(lines, first))


EXPRESSIONS = _read_tables((EXPRESSIONS_1, EXPRESSIONS_2, EXPRESSIONS_3), parse_expression, 0)
STATEMENTS = _read_tables((STATEMENTS_1, STATEMENTS_2, STATEMENTS_3), parse_statement, len(EXPRESSIONS))
assert len(EXPRESSIONS) + len(STATEMENTS) == NUM_PRODUCTIONS
PRODUCTION_NAMES = tuple(f"{item.result}: {item.template}" for item in (*EXPRESSIONS, *STATEMENTS))  # by number


def by_result_type(table: tuple[Production, ...], vocabulary: int) -> dict[ValueType, tuple[Production, ...]]:
    """The productions of a vocabulary, by type of their result."""
    known = [production for production in table if production.vocabulary <= vocabulary]
    return {
        value_type: tuple(production for production in known if production.result == value_type) for value_type in TYPES
    }


EXPRESSIONS_BY_TYPE = {vocabulary: by_result_type(EXPRESSIONS, vocabulary) for vocabulary in (1, 2, 3)}
STATEMENTS_BY_TYPE = {vocabulary: by_result_type(STATEMENTS, vocabulary) for vocabulary in (1, 2, 3)}
