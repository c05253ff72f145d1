"""Argument lists are literals: nothing in them can run, close a bracket or name anything."""

from typing import Any

import pytest

from bitzero.sandbox.literals import arguments, single


@pytest.mark.parametrize(
    ("text", "positional", "keywords"),
    [
        ("", [], {}),
        ("1, 'b', k=[2.5]", [1, "b"], {"k": [2.5]}),
        ("-1, (2,), {3: None}, {4}, set(), True", [-1, (2,), {3: None}, {4}, set(), True], {}),
        ("b'\\x00', inf, -inf", [b"\x00", float("inf"), float("-inf")], {}),
        ("1,\n 2  # two", [1, 2], {}),
    ],
)
def test_argument_lists(text: str, positional: list[Any], keywords: dict[str, Any]) -> None:
    assert arguments(text) == (positional, keywords)


BROKEN = ["0) or (1", "1)(2", "1).x(2", "**{}", "a=1, a=2", "1 2", "(", "a=1, 2", "1); f(2"]
NO_LITERAL = [
    "*[1]",
    "x for x in y",
    "f(1)",
    "a",
    "1 + 1",
    "--1",
    "+1",
    "not 1",
    "[x for x in 'a']",
    "lambda: 0",
    "f'{1}'",
    "...",
    "1j",
    "-True",
]
NO_LITERAL += [
    "set([1])",
    "{[]: 1}",
    "{[1]}",
    "{**{}}",
    "[*[1]]",
    "a.b",
    "a[0]",
    "-'a'",
    "(x := 1)",
    "1 if 1 else 2",
    "1 < 2",
]


@pytest.mark.parametrize("text", BROKEN)
def test_not_an_argument_list(text: str) -> None:
    with pytest.raises(SyntaxError):
        arguments(text)


@pytest.mark.parametrize("text", NO_LITERAL)
def test_not_literals(text: str) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        arguments(text)


def test_exactly_one_literal() -> None:
    assert single("(1, 2)") == (1, 2)
    for text in ("1, 2", "x=1", "", "1) or (1"):
        with pytest.raises(SyntaxError):
            single(text)


def test_values_are_new_at_every_call() -> None:
    first, second = arguments("[1]")[0][0], arguments("[1]")[0][0]
    assert first == second and first is not second
