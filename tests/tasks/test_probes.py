"""Probes: inputs like a given one, from text alone."""

from bitzero.tasks.probes import draw_probes


def test_probes_are_like_the_input_and_fixed_by_the_seed():
    made = draw_probes("[1, 20], 'abc', True", seed=7)
    assert made == draw_probes("[1, 20], 'abc', True", seed=7)
    assert made != draw_probes("[1, 20], 'abc', True", seed=8)
    for text in made:
        numbers, word, truth = eval(f"({text})")  # written by this test
        assert all(type(n) is int for n in numbers)
        assert type(word) is str
        assert type(truth) is bool
