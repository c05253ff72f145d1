"""Probes: inputs like a given one, from text alone."""

import pytest

from bitzero.tasks.probes import draw_probes


def test_probes_are_like_the_input_and_fixed_by_the_seed():
    made = draw_probes("[1, 20], 'abc', True", seed=7)
    assert made == draw_probes("[1, 20], 'abc', True", seed=7)
    assert made != draw_probes("[1, 20], 'abc', True", seed=8)
    assert [probe.changed for probe in made] == [(0, 1, 2), (0, 1, 2), (0,), (1,), (2,)]
    for probe in made:
        numbers, word, truth = eval(f"({probe.text})")  # written by this test
        assert all(type(n) is int for n in numbers)
        assert type(word) is str
        assert type(truth) is bool


@pytest.mark.parametrize("given", ["[]", "None", "''", "()", "{}", "set()", "inf", "nan", "b'x'", "True"])
def test_a_probe_is_never_the_input(given):
    assert all(probe.text != given for seed in range(20) for probe in draw_probes(given, seed))


def test_a_key_stays_in_its_dict_and_an_index_in_its_list():
    found = [eval(f"({probe.text})") for seed in range(20) for probe in draw_probes("{'a': 4, 'b': 6}, 'a'", seed)[:2]]
    assert sum(key in known for known, key in found) > 36  # of 40: a letter may come out as itself
    found = [eval(f"({probe.text})") for seed in range(40) for probe in draw_probes("[4, 7, 1], 1", seed)[:2]]
    assert sum(index < len(items) for items, index in found) > 20
