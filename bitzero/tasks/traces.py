"""A trace as text: what a run did, item by item, before its answer.

An item is `line:var=value` for a statement that changed a variable, or the value of a part of the return expression in
the order of evaluation; items are joined by `;`. Lines count from 0 at the first line of the program, values are
canonical. This is the one place that knows the form: whoever writes a trace or reads one asks here, and the tokenizer
takes only the atoms ``STARTS``, ``ASSIGN`` and ``END`` from it.
"""

from collections.abc import Iterable

from bitzero.tasks.cutting import cut_outside

END = ";"  # between two items
ASSIGN = "="  # between the variable and its value
STARTS = tuple(f"{line}:" for line in range(1, 10))  # how an item starts; each costs one token


def change(line: int, name: str, value: str) -> str:
    """The item of a statement on ``line`` that set ``name``."""
    return f"{line}:{name}{ASSIGN}{value}"


def join(items: Iterable[str]) -> str:
    """The trace of some items; '' where nothing is to be told."""
    return END.join(items)


def items_of(trace: str) -> list[str]:
    """The items of a trace. A `;` inside quotes is part of a value. Raises ValueError for a text with open quotes."""
    items = cut_outside(trace, END)
    if items is None:
        raise ValueError(f"brackets or quotes of a trace do not match: {trace!r}")
    return items if trace else []


def line_of(item: str) -> int | None:
    """The line of the statement that an item tells of; None for a part of the return expression."""
    line, colon, _ = item.partition(":")
    return int(line) if colon and line.isdecimal() else None


def shown_item(item: str) -> str:
    """An item of a trace as a person reads it."""
    line = line_of(item)
    if line is None:
        return item
    name, equals, value = item.partition(":")[2].partition(ASSIGN)
    return f"line {line + 1}: {name} = {value}" if equals else item


def split_items(text: str) -> tuple[list[str], str]:
    """Complete items of a trace that is still being written, and the text after the last of them."""
    pieces = cut_outside(text, END)
    if pieces is None:  # inside brackets or quotes: the last complete item ends before them
        head, _, tail = text.rpartition(END)
        pieces = cut_outside(head, END) if head else None
        return (pieces, tail) if pieces is not None else ([], text)
    return pieces[:-1], pieces[-1]
