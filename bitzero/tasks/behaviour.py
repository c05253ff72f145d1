"""What a program does on fixed inputs, as one number: two texts of the same function have the same one.

Neither `+ 0`, nor an alias, nor an unused variable changes it, so it tells a new program from a new spelling, and a
program of the held-out sets from one that may be trained on. The inputs follow from the types of the arguments alone:
``PARTS`` lists of ``ROWS`` argument tuples. A part is one run of one program (``rows_program``); its value must fit the
limit of a value.

The given arguments are text that a model wrote, canonical by now: it is cut at brackets, commas and quotes.
"""

import functools
import random
from collections.abc import Sequence

from bitzero.tasks.alpha import hash_text
from bitzero.tasks.kinds.task import split_args

PARTS, ROWS = 2, 10
_LETTERS = "aabcdexyz"


def signature_of(given: str) -> str:
    """The types of an argument list in canonical text: ``list[int], str``. An empty container is taken to hold ints.

    >>> signature_of("[1, 2], 'ab', ()")
    "list[int], str, tuple[]"
    """
    return ", ".join(_type_of(text) for text in split_args(given) or ())


def _type_of(text: str) -> str:
    if text in ("True", "False"):
        return "bool"
    if text == "None":
        return "None"
    if text[0] in "'\"":
        return "str"
    if text[0] == "[":
        items = split_args(text[1:-1]) or ("0",)
        return f"list[{_type_of(items[0])}]"
    if text[0] == "(":
        return f"tuple[{', '.join(map(_type_of, split_args(text[1:-1].removesuffix(',')) or ()))}]"
    if text[0] == "{":
        key, _, value = _first_item(text[1:-1])
        return f"dict[{_type_of(key)}, {_type_of(value)}]" if value else f"set[{_type_of(key)}]"
    if text == "set()":
        return "set[int]"
    return "int" if text.lstrip("-").isdigit() else "float"


def _first_item(inside: str) -> tuple[str, str, str]:
    """Key and value of a dict's first item, or a set's first element and ''."""
    first = (split_args(inside) or ("0: 0",))[0]
    for at, char in enumerate(first):
        if char == ":" and split_args(first[:at]) is not None:
            return first[:at].strip(), ":", first[at + 1 :].strip()
    return first, "", ""


@functools.lru_cache(maxsize=256)
def fixed_inputs(signature: str) -> tuple[str, ...]:
    """The argument list of each part: one literal, a list of ``ROWS`` tuples of values of the signature's types."""
    rng = random.Random(f"behaviour/{signature}")
    types = split_args(signature) or ()
    rows = [f"({', '.join(_value(text, rng) for text in types)},)" for _ in range(PARTS * ROWS)]
    return tuple("[" + ", ".join(rows[at : at + ROWS]) + "]" for at in range(0, len(rows), ROWS))


def _value(kind: str, rng: random.Random) -> str:
    head, _, inside = kind.partition("[")
    within = split_args(inside[:-1]) or ()
    size = rng.choice((0, 1, 2, 3, 3, 4, 5, 6))
    match head:
        case "int":
            return str(rng.choice((rng.randint(-9, 9), rng.randint(0, 9), rng.randint(0, 99))))
        case "float":
            return repr(rng.randint(-99, 99) / 4)
        case "bool":
            return str(rng.random() < 0.5)
        case "None":
            return "None"
        case "str":
            return repr("".join(rng.choices(_LETTERS, k=size)))
        case "tuple":
            items = [_value(text, rng) for text in within]
            return f"({', '.join(items)}{',' * (len(items) == 1)})"
        case "list":
            return "[" + ", ".join(_value(within[0], rng) for _ in range(size)) + "]"
        case "set":
            return "{" + ", ".join(_value(within[0], rng) for _ in range(max(size, 1))) + "}"
        case "dict":
            return "{" + ", ".join(f"{_value(within[0], rng)}: {_value(within[1], rng)}" for _ in range(size)) + "}"
        case _:
            raise ValueError(f"no value of type {kind}")


def rows_program(source: str) -> str:
    """A program whose ``f`` runs the ``f`` of ``source`` on every tuple of its argument.

    Its value is a list of (True, value) or (False, None); a ``MemoryError`` ends it. The whole source stands inside the
    new ``f``, so that a recursive call means what it meant.
    """
    body = "".join(f"    {line}\n" for line in source.splitlines())
    return f"def f(rows):\n{body}{_EACH_ROW}"


_EACH_ROW = """    found = []
    for row in rows:
        try:
            found.append((True, f(*row)))
        except MemoryError:
            raise
        except Exception:
            found.append((False, None))
    return found
"""


def behaviour_hash(signature: str, parts: Sequence[tuple[str, str]], canonical: str) -> int:
    """64 bits, never 0, of what ``rows_program`` gave on each of ``fixed_inputs``: outcome and value.

    A program that never gave a value is told by its ``canonical`` source, for all of them fail alike.
    """
    if not any("(True, " in value for outcome, value in parts if outcome == "ok"):
        return hash_text(canonical) or 1
    return hash_text("\0".join((signature, *(f"{outcome} {value}" for outcome, value in parts)))) or 1
