"""Intervals against values computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitzero.evaluation.statistics import paired_gain, wilson


def test_wilson_by_hand():
    # p = 0.5, n = 100, z = 1.96: centre 0.5, half = 1.96/(1 + 0.038416)·√(0.0025 + 0.000096) = 0.09617
    low, high = wilson(50, 100)
    assert (low, high) == pytest.approx((0.40383, 0.59617), abs=1e-4)


def test_wilson_at_the_ends():
    assert wilson(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-4)  # z²/(n + z²)
    assert wilson(10, 10) == pytest.approx((0.72247, 1.0), abs=1e-4)
    assert wilson(0, 7)[0] == 0.0 and wilson(7, 7)[1] == 1.0  # exactly
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="11 hits in 10"):
        wilson(11, 10)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_stays_in_range(case):
    hits, n = case
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n <= high <= 1


def test_paired_gain_of_a_known_change():
    before = np.array([True] * 40 + [False] * 60)
    after = np.array([True] * 30 + [False] * 10 + [True] * 30 + [False] * 30)
    gain, low, high = paired_gain(before, after)
    # 30 gained, 10 lost of 100: mean 0.2, variance (40 − 4)/100² → standard error 0.06
    assert gain == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.2 - 1.96 * 0.06, 0.2 + 1.96 * 0.06), abs=0.011)


def test_no_change_is_a_point_and_nothing_is_no_knowledge():
    same = np.array([True, False, True])
    assert paired_gain(same, same) == (0.0, 0.0, 0.0)
    assert paired_gain(np.zeros(0, bool), np.zeros(0, bool)) == (0.0, -1.0, 1.0)
