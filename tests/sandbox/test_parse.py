"""The shape of a program: what alpha-normalising keeps and forgets, and every way to delete one statement."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitzero.sandbox.parse import canonical, describe

GOLDEN = {
    "def f(a, b):\n    'doc'\n    c = a + b  # why\n    return c": "def f(v0, v1):\n    v2 = v0 + v1\n    return v2",
    "def f(x): return [x for x in x]": "def f(v0):\n    return [v1 for v1 in v0]",
    "def f(x): return (lambda x: x)(x)": "def f(v0):\n    return (lambda v1: v1)(v0)",
    "def f(x): return len(x.strip('x'))": "def f(v0):\n    return len(v0.strip('x'))",
    "def g(y=1): return y\ndef f(x): return g(y=x)": (
        "def v0(v1=1):\n    return v1\n\ndef f(v2):\n    return v0(v1=v2)"
    ),
    "def f(n): return f(n - 1) if n else 0": "def f(v0):\n    return f(v0 - 1) if v0 else 0",
    "def f(a):\n    for i, b in a: pass\n    else: i = b": (
        "def f(v0):\n    for v1, v2 in v0:\n        pass\n    else:\n        v1 = v2"
    ),
    "def f(a): return sorted(a, key=len)": "def f(v0):\n    return sorted(v0, key=len)",
    "def f(*p, q, **r): return p, q, r": "def f(*v0, v1, **v2):\n    return (v0, v1, v2)",
    "def f(a):\n    if (b := a): return [c := 1 for d in b], c": (
        "def f(v0):\n    if (v1 := v0):\n        return ([(v3 := 1) for v2 in v1], v3)"
    ),
    "def f():\n    try: pass\n    except ValueError as e: return e": (
        "def f():\n    try:\n        pass\n    except ValueError as v0:\n        return v0"
    ),
    "def f(a): return f'{a}{a!r:>{a}}'": "def f(v0):\n    return f'{v0}{v0!r:>{v0}}'",
    "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n = 1\n    return n": (
        "def f():\n    v0 = 0\n\n    def v1():\n        nonlocal v0\n        v0 = 1\n    return v0"
    ),
    "def f(a):\n    f = a\n    return f": "def f(v0):\n    v1 = v0\n    return v1",
}


@pytest.mark.parametrize(("code", "expected"), GOLDEN.items())
def test_golden(code: str, expected: str) -> None:
    assert canonical(code) == expected


NAMES = st.sampled_from(["a", "b", "total", "xs", "item", "v0", "v1", "v7"])


@given(st.lists(NAMES, min_size=4, max_size=4, unique=True))
def test_names_do_not_matter(names: list[str]) -> None:
    template = (
        "def {0}({1}):\n    return [{2} * 2 for {2} in {1}]\n"
        "def f({3}, {1}):\n    {2} = {0}({1}={3})\n    for {3} in {2}:\n        {1} += {3}\n    return {1}"
    )
    assert canonical(template.format(*names)) == canonical(template.format("g", "p", "q", "r"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(a, b): return a - b", "def f(a, b): return b - a"),
        ("def f(a): return a + 1", "def f(a): return a + 2"),
        ("def f(a): return a + 1", "def f(a): return a + 1.0"),
        ("def f(a): return a.lower()", "def f(a): return a.upper()"),
        ("def f(a): return len(a)", "def f(a): return sum(a)"),
        ("def f(a):\n    b = a\n    return a", "def f(a):\n    b = a\n    return b"),
    ],
)
def test_programs_that_differ_stay_different(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def test_canonical_text_is_a_fixed_point() -> None:
    code = "def g(x): return x\ndef f(a, k=2):\n    b = [g(x=i) for i in a if i]\n    while k: k -= 1\n    return b"
    assert canonical(canonical(code)) == canonical(code)


def test_every_deletion_by_hand() -> None:
    code = "def g(): pass\ndef f(a):\n    b = 1\n    if a:\n        b = 2\n    else:\n        b = 3\n    return b"
    assert set(describe(code).deletions) == {
        "def f(a):\n    b = 1\n    if a:\n        b = 2\n    else:\n        b = 3\n    return b",
        "def g():\n    pass\n\ndef f(a):\n    if a:\n        b = 2\n    else:\n        b = 3\n    return b",
        "def g():\n    pass\n\ndef f(a):\n    b = 1\n    return b",
        "def g():\n    pass\n\ndef f(a):\n    b = 1\n    if a:\n        b = 2\n    return b",
        "def g():\n    pass\n\ndef f(a):\n    b = 1\n    if a:\n        b = 2\n    else:\n        b = 3",
    }


def test_counts_and_names() -> None:
    code = "def f(a):\n    t = 0\n    for x in a:\n        if x: t += len(a)\n"
    code += "    a.append([i for i in a])\n    return max(t, 1)"
    shape = describe(code)
    assert (shape.statements, shape.loops, shape.branches) == (6, 1, 2)
    assert shape.names == (".append", "len", "max")


@pytest.mark.parametrize(
    "code",
    [
        "", "x = 1", "def g(): pass", "def f(): pass\nx = 1", "import math\ndef f(): pass",
        "def f(): pass\ndef g(): pass", "def f(): pass\ndef f(): pass", "@g\ndef f(): pass", "async def f(): pass",
        "class f: pass", "def f(", "'doc'\ndef f(): pass", "def f(): pass\nf()", "f = lambda: 1",
        "if 1:\n    def f(): pass",
    ],
)  # fmt: skip
def test_structure_is_helpers_and_one_f(code: str) -> None:
    with pytest.raises(SyntaxError):
        describe(code)
