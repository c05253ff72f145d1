"""The static look and the fuel: what a program may name, and how its work is counted."""

import ast
from typing import Any

import pytest

from bitzero.sandbox import fuel, screen


def refusal(code: str) -> str | None:
    return screen.refusal(screen.walk(ast.parse(code)))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os", "import os"),
        ("import math, sys", "import sys"),
        ("from math import _x", "import _x"),
        ("from . import math", "import None"),
        ("().__class__", "attribute __class__"),
        ("a._private", "attribute _private"),
        ("g.gi_frame", "attribute gi_frame"),
        ("open('x')", "name open"),
        ("del exec", "name exec"),
        ("__builtins__", "name __builtins__"),
        ("def f(__import__): return __import__", "name __import__"),
        ("match a:\n case object(__class__=b): pass", "attribute __class__"),
        ("async def f(): pass", "async"),
        ("x." + "_" + "y" * 100, "attribute _" + "y" * 49),
    ],
)
def test_refused(code: str, reason: str) -> None:
    assert refusal(code) == reason


@pytest.mark.parametrize(
    "code",
    [
        "import math, re\nfrom collections import Counter, abc\nfrom collections.abc import Iterable",
        "def f(input, open=1): return input + open",
        "for dir in []: print(dir)",
        "def help(): pass\nhelp()",
        "class A:\n    def __init__(self): self.x = 1\n    def __eq__(self, o): return self.x == o.x",
        "class B(A):\n    def __init__(self): super().__init__()",
        "id(1), hash(2), getattr(a, 'b'), type(1), sorted([])",
    ],
)
def test_allowed(code: str) -> None:
    assert refusal(code) is None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("{1, 2}", True),
        ("{x for x in y}", True),
        ("set(a)", True),
        ("frozenset", True),
        ("hash(a)", True),
        ("id(a)", True),
        ("a.keys() | b", True),
        ("b - a.items()", True),
        ("k = a.keys()\nk & b", True),
        ("sorted([f, g], key=repr)", True),
        ("{1: 2}", False),
        ("{x: 1 for x in y}", False),
        ("a.keys()", False),
        ("a | b", False),
    ],
)
def test_order_sensitive(code: str, expected: bool) -> None:
    assert screen.order_sensitive(screen.walk(ast.parse(code))) is expected


def ticks(code: str, *args: Any) -> int:
    """Ticks of ``f(*args)``."""
    tree = ast.parse(code)
    fuel.instrument(screen.walk(tree))
    counted = [0]

    def tick() -> bool:
        counted[0] += 1
        return True

    names: dict[str, Any] = {fuel.TICK: tick}
    exec(compile(tree, "<test>", "exec"), names)
    counted[0] = 0
    names["f"](*args)
    return counted[0]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(n): return n", 1),
        ("def f(n):\n for i in range(n): pass", 1 + 5),
        ("def f(n):\n while n: n -= 1", 1 + 5),
        ("def f(n): return [i for i in range(n)]", 1 + 5),
        ("def f(n): return [i for i in range(n) if i > 9]", 1 + 5),
        ("def f(n): return {i: j for i in range(n) for j in range(n)}", 1 + 5 + 25),
        ("def f(n): return sum(i for i in range(n))", 1 + 5),
        ("def f(n): return list(map(lambda i: i, range(n)))", 1 + 5),
        ("def f(n): return f(n - 1) if n else 0", 6),
        ("def f(n):\n def g(): pass\n for i in range(n): g()", 1 + 5 + 5),
        ("class A:\n def __len__(self): return 1\ndef f(n): return len(A())", 2),
        ("def f(n):\n for i in range(n): continue\n else: pass", 1 + 5),
        ("def f(n):\n def g():\n  for i in range(n): yield i\n return list(g())", 1 + 1 + 5),
    ],
)
def test_ticks_by_hand(code: str, expected: int) -> None:
    assert ticks(code, 5) == expected


def test_instrumented_programs_give_the_same_values() -> None:
    code = "def f(n):\n 'doc'\n g = lambda x: x or 3\n return [g(i) for i in range(n) if i % 2 == 0], f.__doc__ is None"
    tree = ast.parse(code)
    plain: dict[str, Any] = {}
    exec(code, plain)
    fuel.instrument(screen.walk(tree))
    names: dict[str, Any] = {fuel.TICK: lambda: True}
    exec(compile(tree, "<test>", "exec"), names)
    assert names["f"](6)[0] == plain["f"](6)[0] == [3, 2, 4]
