"""Bits against samples: the same questions asked four ways, judged in the sandbox, kept, and told by level."""

import dataclasses

import pytest

from bitzero.chat import commands, comparing, intent, judging, model, session, solving
from bitzero.chat.answers import Answer
from bitzero.chat.profile import Profile
from bitzero.model import packing
from bitzero.run import packed_file
from bitzero.sandbox import Sandbox
from tests.chat.conftest import CFG


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(judging.LIMITS, workers=2) as box:
        yield box


@pytest.fixture
def chat(model_file, sandbox, tmp_path):
    return session.open_session(model.load(model_file, print), sandbox, Profile(tmp_path / "p"))


def asked_before(chat, *texts):
    for kind, text in texts:
        chat.keep({"kind": kind, "question": text, "right": False})


def said(chat, text):
    *pieces, answer = commands.run(chat, text)
    assert isinstance(answer, Answer)
    return pieces, answer.answer if answer.kind == "command" else answer.note


def test_questions_are_asked_again_once_each_and_the_records_stay(chat, model_file, sandbox):
    asked_before(
        chat,
        ("deduction", "def f(a): return a + 1; f(3)"),
        ("deduction", "def f(a): return a + 1; f(3)"),
        ("deduction", "def g(a): return a // 0; g(3)"),  # Python has no value to verify with
        ("expression", "1 + 1"),
        ("abduction", "def h(t):\n    u = sorted(t)\n    v = u[1:]\n    return v + t + u\nh(?) == [2, 1]"),
        ("induction", "1 -> 2, 5 -> 77, 8 -> 3"),
    )
    pieces, text = said(chat, "/stats compare")
    assert pieces == ["."] * 4 * 3 and chat.model.asked == 12
    rows = {line.split("  ")[2]: line.split()[-5:] for line in text.splitlines() if line.startswith("    level")}
    assert set(rows) == {"level 0", "level 1"} and all(row[0] == "1" for row in rows.values())
    assert "together" in text and "16 ternary" in text and "left open" in text
    kept = [record for record in chat.profile.records()[0] if record["kind"] == "comparison"]
    assert [record["about"] for record in kept] == ["induction", "abduction", "deduction"]
    for record in kept:
        assert set(record["verified"]) == {"few", "auto", "all", "ternary"} and record["samples"] == 16

    again = session.open_session(model.load(model_file, print), sandbox, chat.profile)
    pieces, repeated = said(again, "/stats compare 20")
    assert pieces == [] and again.model.asked == 0
    assert repeated.splitlines()[-6:] == text.splitlines()[-6:] == said(again, "/stats")[1].splitlines()[-6:]


def test_ways_are_made_of_equally_many_samples():
    assert {way: len(batches) for way, batches in comparing.WAYS.items()} == {
        "few": 1, "auto": 2, "all": 2, "ternary": 2
    }  # fmt: skip
    bits = {way: [comparing.BATCHES[batch] for batch in batches] for way, batches in comparing.WAYS.items()}
    assert bits["auto"] == [("ternary", True), ("all", True)]
    assert bits["all"] == [("all", True), ("all", False)] and bits["ternary"] == [("ternary", True), ("ternary", False)]


def test_what_verifies_counts_for_every_way_that_has_its_batch(chat):
    batches = list(comparing.BATCHES)
    hits = [batch == ("all", False) for batch in batches]
    assert comparing.verified_by(hits) == {"few": False, "auto": False, "all": True, "ternary": False}
    hits = [batch == ("all", True) for batch in batches]
    assert comparing.verified_by(hits) == {"few": False, "auto": True, "all": True, "ternary": False}


def test_the_sandbox_judges_every_kind(chat):
    asked = chat.asked()
    for text, right, wrong in (
        ("def f(a): return a * a; f(3)", "9", "6"),
        ("def f(a): return a * a; f(?) == 4", "-2", "3"),
        ("1 -> 2, 5 -> 6", "def f(a):\n    return a + 1", "def f(a):\n    return 2"),
    ):
        question = solving.posed(intent.understand(text), asked)
        verdicts = solving.confidences([right, wrong, None, right, "open('x')"], question.judge)
        assert [verdict is not None for verdict in verdicts.values()] == [True, False, False]


def test_the_table_counts_by_level_and_those_left_open():
    ways = lambda few, auto, every, ternary: {"few": few, "auto": auto, "all": every, "ternary": ternary}
    records = [
        {"level": 1, "verified": ways(True, True, False, True)},
        {"level": 1, "verified": ways(False, True, True, False)},
        {"level": None, "verified": ways(False, False, True, False)},
    ]
    lines = [line.split() for line in comparing.table(records)]
    assert lines[2:5] == [
        ["level", "1", "2", "1", "2", "1", "1"],
        ["examples", "1", "0", "0", "1", "0"],
        ["together", "3", "1", "2", "2", "1"],
    ]
    assert comparing.table(records)[-1].strip() == (
        "of 2 that 8 ternary samples left open, 8 more at all bits verified 1; "
        "16 at all bits and none ternary 2, 8 more ternary ones 0"
    )


def test_records_of_another_model_or_damaged_ones_do_not_count(chat):
    digest = comparing.model_digest(chat.model)
    whole = {
        "kind": "comparison",
        "key": "k",
        "model": digest,
        "level": 0,
        "verified": dict.fromkeys(comparing.WAYS, True),
    }
    chat.records = [
        whole, whole | {"model": "other", "key": "a"}, whole | {"key": 3}, whole | {"key": "b", "level": "x"},
        whole | {"key": "c", "verified": {"few": True}}, {"kind": "comparison"},
    ]  # fmt: skip
    assert comparing.known(chat.records, chat.model) == [whole]
    assert "[K" not in said(chat, "/memory list")[1]


def test_a_model_without_tiers_says_so_in_a_line(tree, sandbox, tmp_path):
    file = tmp_path / "plain.npz"
    packed_file.save(file, packing.without_tiers(tree), CFG, step=200, operand="f32", trace=True)
    chat = session.open_session(model.load(file, print), sandbox, Profile(tmp_path / "p"))
    asked_before(chat, ("deduction", "def f(a): return a + 1; f(3)"))
    pieces, text = said(chat, "/stats compare")
    assert pieces == [] and text.splitlines()[-1].strip().startswith("bits     this model is ternary alone")
    assert chat.asked().precisions() == ("ternary",)


@pytest.mark.parametrize("words", ["compare 0", "compare 21", "compare many", "again"])
def test_other_words_are_a_line(chat, words):
    assert "/stats compare N with N from 1 to 20" in said(chat, f"/stats {words}")[1]


def test_nothing_to_compare_is_a_line(chat):
    assert "nothing to compare yet" in said(chat, "/stats compare")[1]
    assert "/stats compare asks the last questions again" in said(chat, "/stats")[1]


def test_auto_asks_ternary_first_and_all_tiers_where_nothing_verifies(chat):
    bits = [dataclasses.replace(chat.asked(), bits=name).precisions() for name in session.BITS]
    assert bits == [("ternary", "all"), ("ternary",), ("all",)]
    *_, answer = session.respond(chat, "1 -> 2, 5 -> 77, 8 -> 3")
    assert (answer.right, answer.bits, answer.tries) == (False, "all", 32)
