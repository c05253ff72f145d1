"""Canonical text: type and content are equal exactly when the texts are."""

import ast
import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitzero.sandbox import literals
from bitzero.sandbox.values import Malformed, Oversize, Unsupported, canonical, loosely_equal, read

HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)
VALUES = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HASHABLE, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, "b", (2,)], "[1, 'b', (2,)]"),
        (set(), "set()"),
        ({"a": 1}, "{'a': 1}"),
        ({"b": 2, "a": 1}, "{'a': 1, 'b': 2}"),
        ({3, 1, 20}, "{1, 20, 3}"),
        ((), "()"),
        ({}, "{}"),
        ("é", "'\\xe9'"),
        (b"\x00'", 'b"\\x00\'"'),
        (-0.0, "-0.0"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (1e16, "1e+16"),
        (True, "True"),
    ],
)
def test_golden_texts(value: Any, text: str) -> None:
    assert canonical(value) == text
    assert canonical(read(text)) == text


@settings(deadline=None)
@given(VALUES)
def test_text_reads_back_to_the_same_text(value: Any) -> None:
    text = canonical(value, 10**6)
    assert text.isascii()
    assert canonical(read(text, 10**6), 10**6) == text


def alike(a: Any, b: Any) -> bool:
    """Equal type and content, at every depth; ``nan`` is ``nan``, and -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if type(a) is float:
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if type(a) in (set, dict):
        left, right = sorted(a, key=canonical), sorted(b, key=canonical)
        values_alike = type(a) is set or all(map(alike, (a[key] for key in left), (b[key] for key in right)))
        return len(a) == len(b) and all(map(alike, left, right)) and values_alike
    return bool(a == b)


NUMBERS = st.floats(width=64) | st.integers(-(1 << 13_000), 1 << 13_000) | st.floats(1e-5, 1e-3) | st.floats(1e14, 1e17)
NUMBERS |= st.sampled_from([1 / 70, 1e-4, 9.999e-5, 5e-324, 1.7976931348623157e308, 123456789012345.67, -0.0, 1e22])


@settings(deadline=None, max_examples=400)
@given(NUMBERS | VALUES)
def test_what_was_written_reads_back(value: Any) -> None:
    text = canonical(value, 10**6)
    assert alike(read(text, 10**6), value)
    assert alike(literals.single(text), value)  # as an argument or an answer


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(-25, 25))
def test_quotients_read_back(a: int, b: int, exponent: int) -> None:
    value = a / b * 10.0**exponent
    assert read(canonical([value, -value])) == literals.single(canonical([value, -value])) == [value, -value]


@settings(deadline=None)
@given(st.recursive(st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3), max_leaves=8))
def test_text_is_python_repr_where_python_has_one_spelling(value: Any) -> None:
    assert ast.literal_eval(canonical(value)) == value
    assert canonical(value) == ascii(value)


def test_types_are_part_of_a_value() -> None:
    assert len({canonical(value) for value in (1, True, 1.0, "1", b"1", [1], (1,), {1}, {1: 1}, 0, 0.0, -0.0)}) == 12


def test_order_of_sets_and_dicts_is_not() -> None:
    assert canonical({"x": 1, "y": {2, 3}}) == canonical({"y": {3, 2}, "x": 1})


class Sly(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "1"

    __hash__ = int.__hash__


@pytest.mark.parametrize("value", [Sly(1), [Sly(1)], {Sly(1)}, lambda: 1, frozenset(), bytearray(b"a"), 1j, ..., int])
def test_only_exact_builtin_types(value: Any) -> None:
    with pytest.raises(Unsupported, match="unsupported_type"):
        canonical(value)


def test_size_depth_and_digits_are_bounded() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    bomb: list[Any] = ["x" * 10]
    for _ in range(30):
        bomb = [bomb, bomb]  # 2³⁰ strings in shared references
    for value, why in ((cyclic, "depth"), (bomb, "bytes"), ("x" * 9000, "bytes"), (1 << 14_001, "digits")):
        with pytest.raises(Oversize, match=why):
            canonical(value)
    assert len(canonical(1 << 13_999)) == 4215


@settings(deadline=None)
@given(VALUES, st.integers(0, 60))
def test_the_byte_limit_is_exact(value: Any, limit: int) -> None:
    size = len(canonical(value, 10**6))
    if size <= limit:
        assert len(canonical(value, limit)) == size
    else:
        with pytest.raises(Oversize):
            canonical(value, limit)


FORGED = [
    "",
    "1 ",
    "01",
    "+1",
    "[1,2]",
    "[1, ]",
    "(1)",
    "{2, 1}",
    "{1, 1}",
    "{'b': 1, 'a': 2}",
    "{1: 2, 1: 3}",
    "[",
    "f()",
]
FORGED += [
    "{[]}",
    "'é'",
    "'\\x41'",
    '"a"',
    "1_0",
    "0x10",
    "1.",
    "1e5",
    "NaN",
    "set([1])",
    "{**a}",
    "[1: 2]",
    "__import__",
]
FORGED += ["'a' 'b'", "[" * 40 + "]" * 40, "1" * 5000, "]", "{1, 2: 3}", "'\\ud8", "b'\\u0041'", "- 1", "1\n", "True1"]


@pytest.mark.parametrize("text", FORGED)
def test_forged_text_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        read(text)


@settings(deadline=None)
@given(st.text(alphabet="[](){},: 'ab\\x0u12.-e", max_size=20))
def test_reading_never_accepts_a_second_spelling(text: str) -> None:
    try:
        value = read(text)
    except Malformed:
        return
    assert canonical(value) == text


def test_loose_equality_is_pythons_own() -> None:
    assert loosely_equal("1", "True") and loosely_equal("[1.0]", "[1]")
    assert not loosely_equal("1", "'1'") and not loosely_equal("nan", "nan") and not loosely_equal("f()", "f()")
    assert math.isnan(read("nan"))
