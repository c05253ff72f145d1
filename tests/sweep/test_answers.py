"""Right answers by kind, paired item by item between the runs of a sweep."""

import numpy as np
import pytest

from bitzero.run.workdir import RunError
from bitzero.sweep import answers


def row(name, seed, **digits):
    return {"name": name, "seed": seed, "answers": {title.replace("_", " "): of for title, of in digits.items()}}


TABLE = [
    row("full", 0, L0_deduction="1100", L0_abduction="1111", L1_abduction="0011", L0_induction="1000"),
    row("full", 1, L0_deduction="1010", L0_abduction="1111", L1_abduction="0001", L0_induction="1100"),
    row("control", 0, L0_deduction="1100", L0_abduction="1110", L1_abduction="0001", L0_induction="0000"),
    row("control", 1, L0_deduction="1110", L0_abduction="1110", L1_abduction="0001", L0_induction="0100"),
    row("alone", 2, L0_deduction="1111"),
    {"name": "of an older program", "seed": 0},
]


def test_shares_are_over_all_levels_and_seeds():
    assert answers.right_by_kind(TABLE, "full") == {"deduction": 4 / 8, "abduction": 11 / 16, "induction": 3 / 8}
    assert answers.right_by_kind(TABLE, "alone") == {"deduction": 1.0}


def test_a_change_pairs_the_items_of_each_seed():
    found = answers.change(TABLE, "full", "control", answers.TOGETHER)
    # Seed 0: one of L0's and one of L1's abductions, one induction; seed 1: one abduction, one induction.
    assert found.items == 24 and found.gain == pytest.approx(5 / 24)
    assert found.by_seed == pytest.approx((3 / 12, 2 / 12))
    assert found.low <= found.gain <= found.high and found.shown == (found.low > 0)
    same = answers.change(TABLE, "full", "full", answers.TOGETHER)
    assert (same.gain, same.low, same.high, same.shown) == (0, 0, 0, False)


def test_what_has_no_pair_is_not_compared():
    assert answers.change(TABLE, "alone", "full", ("deduction",)) is None
    assert answers.change(TABLE, "of an older program", "full", ("deduction",)) is None
    assert not answers.has_answers(TABLE[5:]) and answers.has_answers(TABLE)


def test_runs_that_were_asked_differently_are_refused():
    other = row("other", 0, L0_deduction="11")
    with pytest.raises(RunError, match="not asked the same questions"):
        answers.change([*TABLE, other], "other", "full", ("deduction",))


def test_a_sentence_says_what_the_reference_adds_and_whether_it_is_shown():
    many = np.tile([1, 1, 0, 1], 100)
    digits = "".join(map(str, many))
    table = [row("full", 0, L0_abduction="1" * 400), row("control", 0, L0_abduction=digits)]
    [line] = answers.sentences(table, "full")
    assert line.startswith("full over control, abduction and induction: +25.0 points (+2")
    assert line.endswith("400 items; by seed +25.0): shown.")
    [line] = answers.sentences([table[0], row("control", 0, L0_abduction="1" * 400)], "full")
    assert line.endswith("not shown.")
