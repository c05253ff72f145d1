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
        ("from math import tan as a, sys", "import sys"),
        ("from . import math", "import None"),
        ("from collections.abc import sys", "import sys"),
        ("import functools\nfunctools.singledispatch", "attribute singledispatch"),
        ("().__class__", "attribute __class__"),
        ("a._private", "attribute _private"),
        ("g.gi_frame", "attribute gi_frame"),
        ("class A: gi_frame = 1\ng.gi_frame", "attribute gi_frame"),
        ("f.x = 1\nf.tb_frame = f.x", "attribute tb_frame"),
        ("f.__doc__ = 'x'", "attribute __doc__"),
        ("a.__name__ += 'x'", "attribute __name__"),
        ("open('x')", "name open"),
        ("del exec", "name exec"),
        ("hash(1)", "name hash"),
        ("[id]", "name id"),
        ("__builtins__", "name __builtins__"),
        ("__builtins__ += R()", "name __builtins__"),
        ("__builtins__ |= R()", "name __builtins__"),
        ("del __builtins__", "name __builtins__"),
        ("for __builtins__ in a: pass", "name __builtins__"),
        ("for a.__dict__ in b: pass", "attribute __dict__"),
        ("with a as __builtins__: pass", "name __builtins__"),
        ("with a as b.__class__: pass", "attribute __class__"),
        ("try: pass\nexcept E as __builtins__: pass", "name __builtins__"),
        ("import math as __builtins__", "name __builtins__"),
        ("from math import tan as __import__", "name __import__"),
        ("(__builtins__ := 1)", "name __builtins__"),
        ("def f():\n global __builtins__", "name __builtins__"),
        ("def f():\n nonlocal __class__", "name __class__"),
        ("match a:\n case __builtins__: pass", "name __builtins__"),
        ("match a:\n case [*__builtins__]: pass", "name __builtins__"),
        ("match a:\n case {**__builtins__}: pass", "name __builtins__"),
        ("match a:\n case object(__class__=b): pass", "attribute __class__"),
        ("match a:\n case str(format=b): pass", "attribute format"),
        ("match a:\n case P(gi_frame=b): pass", "attribute gi_frame"),
        ("s.format += R()", "attribute format"),
        ("def f(__import__): return __import__", "name __import__"),
        ("lambda __x__: 1", "name __x__"),
        ("def __getattr__(name): pass", "name __getattr__"),
        ("class A:\n def f(): \n  def __len__(): pass", "name __len__"),
        ("class A:\n def __del__(self): pass", "name __del__"),
        ("class A:\n def __init_subclass__(cls): pass", "name __init_subclass__"),
        ("class A:\n def __prepare__(n, b): return {}", "name __prepare__"),
        ("class A:\n def __reduce__(self): pass", "name __reduce__"),
        ("class A:\n __slots__ = g()", "name __slots__"),
        ("class A:\n __match_args__ = ('__globals__',)", "name __match_args__"),
        ("class A:\n __match_args__ = ('gi_frame',)", "name __match_args__"),
        ("class A(str):\n __match_args__ = 'format',", "name __match_args__"),
        ("class A:\n __match_args__ = x = ('a',)", "name __match_args__"),
        ("class A:\n __match_args__: tuple = ('__globals__',)", "name __match_args__"),
        ("class A:\n for __match_args__ in [('__globals__',)]: pass", "name __match_args__"),
        ("class A:\n __dict__ = None", "name __dict__"),
        ("class A:\n def __hash__(self): return hash('a')\n __int__ = __hash__", "name __hash__"),
        ("class A:\n def __hash__(self): return hash('a')\n h = __hash__", "name __hash__"),
        ("class A:\n x = __repr__", "name __repr__"),
        ("super = g\nsuper().__add__(1)", "name super"),
        ("class A:\n __class_getitem__ = list", "name __class_getitem__"),
        ("class A(metaclass=M): pass", "metaclass"),
        ("class A(**k): pass", "class keyword"),
        ("g(__class__=1)", "name __class__"),
        ("f.__init__.__globals__", "attribute __globals__"),
        ("super().__init__", "attribute __init__"),
        ("super().__getattribute__('x')", "attribute __getattribute__"),
        ("super().__hash__()", "attribute __hash__"),
        ("super().__class__", "attribute __class__"),
        ("a.__class__.__mro__", "attribute __mro__"),
        ("self.__class__.__dict__", "attribute __dict__"),
        ("x.__len__()", "attribute __len__"),
        ("class A:\n def __hash__(self): return [hash('a')]", "name hash"),
        ("class A:\n @g\n def __hash__(self): return hash('a')", "name hash"),
        ("def g(self): return hash('a')", "name hash"),
        ("async def f(): pass", "async"),
        ("[x async for x in y]", "async"),
        ("x." + "_" + "y" * 100, "attribute _" + "y" * 49),
    ],
)
def test_refused(code: str, reason: str) -> None:
    assert refusal(code) == reason


@pytest.mark.parametrize(
    "code",
    [
        "import math, re\nfrom collections import Counter, abc\nfrom collections.abc import Iterable",
        "from typing import *\nfrom itertools import *",
        "def f(input, open=1): return input + open",
        "import math as eval\neval.sqrt(4)",
        "match a:\n case eval: eval",
        "match a:\n case [exec, *eval] | {**eval}: exec(eval)",
        "id = 3\nhash = id",
        "try: pass\nexcept E as vars: vars",
        "with a as dir: dir",
        "(eval := 1) + eval",
        "def f():\n global compile\n compile = 1\n return compile",
        "for dir in []: print(dir)",
        "def help(): pass\nhelp()",
        "class A:\n    def __init__(self): self.x = 1\n    def __eq__(self, o): return self.x == o.x",
        "class B(A):\n    def __init__(self): super().__init__()",
        "class B(A):\n    def __init__(self): A.__init__(self)",
        "class A:\n    def __repr__(self): return self.__class__.__name__ + type(self).__name__",
        "class A:\n    __slots__ = ('a', 'b')\n    __match_args__ = ('a', 'b')",
        "class A:\n    def __hash__(self): return hash(self.a)\n    a = 1",
        "class A:\n    def __init__(self): self.__x = self._y = 1\n    def get(self): return self.__x + self._y",
        "P = namedtuple('P', 'first second')\nP(1, 2).second",
        "P = namedtuple('P', ['left', 'right'])\nP(1, 2).left",
        "getattr(a, 'b'), type(1), sorted([])",
        "f.calls = 0\nf.calls += 1",
        "f.__doc__, f.__name__",
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
        ("a.keys() | b", True),
        ("b - a.items()", True),
        ("k = a.keys()\nk & b", True),
        ("a = b.keys()\na |= c", True),
        ("a = b.keys()\na ^= c", True),
        ("import operator\noperator.or_(a.keys(), b)", True),
        ("from operator import sub\nsub(a.items(), b)", True),
        ("getattr(a, n)() | b", True),
        ("methodcaller(n)(a) | b", True),
        ("from collections.abc import KeysView as K", True),
        ("from collections.abc import *", True),
        ("match a:\n case dict(keys=k): k() & b", True),
        ("import typing\ntyping.AbstractSet", True),
        ("sorted([f, g], key=repr)", False),
        ("a |= b", False),
        ("{1: 2}", False),
        ("{x: 1 for x in y}", False),
        ("a.keys()", False),
        ("a | b", False),
    ],
)
def test_ordered(code: str, expected: bool) -> None:
    assert screen.look(screen.walk(ast.parse(code))).ordered is expected


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
