"""Canonical values: one text per value, equal exactly when type and content are equal.

The text reads as Python's own ``repr``: ``[1, 'b', (2,)]``, ``set()``, ``{'a': 1}``; strings are ``ascii()``, set
elements and dict items are sorted by their text, so insertion and hash order are no part of a value. ``True``, ``1``
and ``1.0`` differ, ``-0.0`` differs from ``0.0``, ``nan`` equals itself. Only exact built-in types have a text: a
subclass could carry its own ``__eq__`` or ``__repr__``, so nothing a program defines is ever called here.

``canonical`` runs in the child beside the program; ``read`` runs on the host and checks what a child wrote.
"""

import re
from typing import Any

MAX_BITS = 14_000  # a larger int has no text: stays below Python's 4,300-digit limit of int ↔ str
_SCALARS = (type(None), bool)


class Unsupported(Exception):
    """The value holds a type that has no canonical text; ``args[0]`` is a fixed word, never program text."""


class Oversize(Exception):
    """The canonical text would pass the byte, depth or digit limit."""


class Malformed(ValueError):
    """A text is not the canonical text of any value."""


def canonical(value: Any, max_bytes: int = 8192, max_depth: int = 32) -> str:
    """Text of ``value`` in at most ``max_bytes`` ASCII characters and ``max_depth`` nested containers.

    Both limits are checked while walking, which also ends cyclic values and shared-reference bombs.
    Raises ``Unsupported`` for any type but None, bool, int, float, str, bytes, list, tuple, dict, set; ``Oversize``.
    """
    return _Writer(max_bytes, max_depth).text(value, 0)


class _Writer:
    """Depth-first writer with one budget of characters for the whole value."""

    def __init__(self, max_bytes: int, max_depth: int) -> None:
        self.left = max_bytes
        self.max_depth = max_depth

    def spend(self, text: str) -> str:
        self.left -= len(text)
        if self.left < 0:
            raise Oversize("bytes")
        return text

    def text(self, value: Any, depth: int) -> str:
        kind = type(value)
        if kind in _SCALARS or kind is float:
            return self.spend(repr(value))
        if kind is int:
            if value.bit_length() > MAX_BITS:
                raise Oversize("digits")
            return self.spend(repr(value))
        if kind is str or kind is bytes:
            if len(value) > self.left:
                raise Oversize("bytes")
            return self.spend(ascii(value))
        if kind is list or kind is tuple or kind is set or kind is dict:
            if depth >= self.max_depth:
                raise Oversize("depth")
            return self.container(value, kind, depth + 1)
        raise Unsupported("unsupported_type")

    def container(self, value: Any, kind: type, depth: int) -> str:
        if not value:
            return self.spend("set()" if kind is set else repr(value))
        items: list[Any] = []
        if kind is dict:
            for key, item in value.items():
                self.spend("{: ,")  # brackets and separators of n pairs: 4 n
                items.append((self.text(key, depth), self.text(item, depth)))
            return "{" + ", ".join(f"{key}: {item}" for key, item in sorted(items)) + "}"
        for item in value:
            self.spend(", ")  # brackets and separators of n elements: 2 n
            items.append(self.text(item, depth))
        if kind is list:
            return "[" + ", ".join(items) + "]"
        if kind is set:
            return "{" + ", ".join(sorted(items)) + "}"
        return "(" + ", ".join(items) + ")" if len(items) > 1 else f"({items[0]}{self.spend(',')})"


_TOKEN = re.compile(
    r"(?P<word>None|True|False|nan|-?inf|set\(\))"
    r"|(?P<float>-?\d{1,17}(?:\.\d{1,21}(?:e[+-]\d{1,3})?|e[+-]\d{1,3}))"
    r"|(?P<int>-?\d{1,4299})"
    r"|(?P<bytes>b(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"))"
    r"|(?P<str>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<mark>, |: |[\[\](){},])"
)
_WORDS: dict[str, Any] = {"None": None, "True": True, "False": False}
_CLOSES = {"[": "]", "(": ")", "{": "}"}


def read(text: str, max_bytes: int = 8192, max_depth: int = 32) -> Any:
    """The value whose canonical text is ``text``: plain built-in objects, made without any evaluation.

    ``canonical(read(text)) == text`` is checked, so a forged, unsorted or doubly-written text raises ``Malformed``.
    """
    if len(text) > max_bytes or not text.isascii():
        raise Malformed("length or alphabet")
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Malformed("token")
        tokens.append((str(match.lastgroup), match.group()))
        position = match.end()
    value, end = _value(tokens, 0, max_depth)
    if end != len(tokens):
        raise Malformed("trailing text")
    try:
        if canonical(value, max_bytes, max_depth) != text:
            raise Malformed("not canonical")
    except Oversize as error:
        raise Malformed("oversize") from error
    return value


def _value(tokens: list[tuple[str, str]], at: int, depth: int) -> tuple[Any, int]:
    if at >= len(tokens):
        raise Malformed("ends early")
    group, text = tokens[at]
    if group == "mark":
        if text not in _CLOSES or depth <= 0:
            raise Malformed("bracket")
        return _container(tokens, at + 1, text, depth - 1)
    return _scalar(group, text), at + 1


def _scalar(group: str, text: str) -> Any:
    try:
        if group == "word":
            if text == "set()":
                return set()
            return _WORDS[text] if text in _WORDS else float(text)
        if group == "float":
            return float(text)
        if group == "int":
            return int(text)
        if group == "bytes":
            return text[2:-1].encode("ascii").decode("unicode_escape").encode("latin-1")
        return text[1:-1].encode("ascii").decode("unicode_escape")
    except (ValueError, UnicodeError) as error:
        raise Malformed(group) from error


def _container(tokens: list[tuple[str, str]], at: int, opening: str, depth: int) -> tuple[Any, int]:
    closing = _CLOSES[opening]
    keys: list[Any] = []
    items: list[Any] = []
    while True:
        if at >= len(tokens):
            raise Malformed("ends early")
        if tokens[at][1] == closing and tokens[at][0] == "mark":
            break
        value, at = _value(tokens, at, depth)
        if at < len(tokens) and tokens[at] == ("mark", ": "):
            keys.append(value)
            value, at = _value(tokens, at + 1, depth)
        items.append(value)
        if at < len(tokens) and tokens[at][0] == "mark" and tokens[at][1] in (", ", ","):
            at += 1
    return _build(opening, keys, items), at + 1


def _build(opening: str, keys: list[Any], items: list[Any]) -> Any:
    if keys and (opening != "{" or len(keys) != len(items)):
        raise Malformed("colon")
    if opening == "[":
        return items
    if opening == "(":
        return tuple(items)
    try:
        return dict(zip(keys, items, strict=True)) if keys or not items else set(items)
    except TypeError as error:
        raise Malformed("unhashable") from error


def loosely_equal(a: str, b: str) -> bool:
    """Whether two canonical texts are equal under Python's ``==`` (``1 == True == 1.0``); False if either is malformed.

    Logged apart, never a reward: strict equality of the texts is the verdict.
    """
    try:
        return bool(read(a) == read(b))
    except Malformed:
        return False
