"""The tokenizer: lossless on any text, never raises on any ids, and cheap on what ``ast.unparse`` writes."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitzero.tasks import tokens
from bitzero.tasks.tokens import decode, encode

FRAGMENTS = (
    *("def f(", "a", "len(", "len", ".append(", ".pop()", "not in", "not", "in", "if ", "lambda x: x", "True"),
    *(" ", "  ", "\n", "\n    ", ":\n    ", ":", "\t", "\r", "'", '"', "\\", "''", "é", "\x00", "<in>"),
    *("[", "]", "(", ")", "{", "}", "[1:]", "[:", ":]", ",", ", ", ".", ";", "1", "12", "3:"),
    *("-", " - ", "*", "**", "=", " = ", "=="),
)


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
def test_every_text_comes_back(text):
    ids = encode(text)
    assert decode(ids) == text
    assert all(0 <= token < tokens.VOCAB_SIZE for token in ids)


@settings(deadline=None, max_examples=600)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join))
def test_every_mixture_of_python_pieces_comes_back(text):
    assert decode(encode(text)) == text


@settings(deadline=None, max_examples=300)
@given(st.lists(st.integers(-5, 600), max_size=60))
def test_any_ids_decode(ids):
    assert isinstance(decode(ids), str)


def test_decoding_a_deep_indentation_stays_small():
    assert len(decode([tokens.INDENT] * 1_000)) <= 1_000 * (2 + 4 * tokens.MAX_LEVEL)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        # `def f(` a `,` b `)` INDENT c `=` a `[1:]` `+` `[` b `]` NEWLINE return `sorted(` c `)`
        ("def f(a, b):\n    c = a[1:] + [b]\n    return sorted(c)", 19),
        ("def f(a):\n    return -a", 7),  # `def f(` a `)` INDENT return - a
        ("[1, -2, 30]", 9),  # [ 1 , - 2 , 3 0 ]
        ("{'a': 1}", 7),  # { ' a ' : 1 }
        ("1:c=[1, 2];2:d=-1;3", 16),  # `1:` c = [ 1 , 2 ] ; `2:` d = - 1 ; 3
    ],
)
def test_count_of_tokens_by_hand(text, count):
    assert len(encode(text)) == count


def test_what_unparse_writes_needs_no_explicit_space():
    text = ast.unparse(
        ast.parse(
            "def g(x, *y):\n  return -x ** 2 if x not in y else ~x\n"
            "def f(a, b=1):\n  for (i, v) in enumerate(a):\n    if v % 2 == 0 and (not b):\n      a[i] += len(a) - 1\n"
            "    else:\n      b = {k: v for k in a[i:-1]}\n  return sorted(a, key=lambda x: (x, -1))[::-1]"
        )
    )
    ids = encode(text)
    assert decode(ids) == text
    assert tokens.GLUE not in ids
    assert encode(" ")[0] not in ids


def test_digits_and_names_are_split_but_table_words_are_not():
    assert len(encode("123")) == 3
    assert len(encode("zebra")) == 5
    assert len(encode("lent")) == 4  # only a whole identifier is a table word
    assert len(encode("len")) == 1


def test_deviations_from_the_rule_are_written():
    assert encode("a+b").count(tokens.GLUE) == 2
    assert encode("a + b").count(tokens.GLUE) == 0
    assert len(encode("a  +  b")) == 3 + 4  # two spaces each, none implied


def test_line_structure():
    ids = encode("def f(a):\n    if a:\n        a = 1\n    return a")
    assert ids.count(tokens.INDENT) == 2
    assert ids.count(tokens.NEWLINE) == 1
    assert ids.count(tokens.DEDENT) == 1


def test_tags_are_not_text():
    assert decode([tokens.SOLVE, tokens.DEDUCTION_TAG, *encode("x"), tokens.IN]) == "<solve><deduction>x<in>"
    assert tokens.IN not in encode("<in>")
    assert decode([tokens.PAD, tokens.EOS]) == "<pad><eos>"
    assert [decode([level]) for level in tokens.LEVELS] == [f"<L{k}>" for k in range(6)]


def test_a_tag_starts_afresh():
    ids = encode("a[1:")
    assert decode([*ids, tokens.IN, *encode("1, 2")]) == "a[1:<in>1, 2"
