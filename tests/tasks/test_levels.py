"""What makes a program's level, and how levels mix in a batch."""

import collections
import random

import pytest

from bitzero.tasks import levels
from bitzero.tasks.levels import Facts, level_of_facts


def facts(**known):
    nothing = dict.fromkeys(
        ("statements", "operations", "comprehensions", "branches", "loops", "depth", "whiles", "builds", "helpers"), 0
    )
    return Facts(**{**nothing, "vocabulary": 1, "events": 0, **known})


@pytest.mark.parametrize(
    ("known", "level"),
    [
        ({"operations": 2}, 0),
        ({"statements": 1, "operations": 2, "events": 1}, 1),
        ({"statements": 2, "operations": 4, "events": 2}, 1),
        ({"statements": 4, "operations": 4, "events": 4}, 2),
        ({"comprehensions": 1, "operations": 2, "vocabulary": 2}, 2),
        ({"branches": 1, "statements": 2, "operations": 2}, 2),
        ({"loops": 1, "depth": 1, "statements": 3, "events": 8}, 3),
        ({"loops": 1, "depth": 1, "branches": 1, "statements": 4, "events": 8}, 4),
        ({"loops": 2, "depth": 2, "statements": 4, "events": 8}, 5),
        ({"loops": 1, "depth": 1, "whiles": 1, "statements": 3, "events": 4}, 5),
        ({"loops": 1, "depth": 1, "builds": 1, "statements": 3, "events": 4}, 5),
        ({"helpers": 1, "operations": 1}, 5),
    ],
)
def test_structure_makes_the_level(known, level):
    assert level_of_facts(facts(**known)) == level


def test_vocabulary_makes_a_program_harder_than_its_structure():
    assert [level_of_facts(facts(operations=1, vocabulary=vocabulary)) for vocabulary in (1, 2, 3)] == [0, 2, 4]


def test_events_make_a_program_harder_than_its_structure():
    loop = {"loops": 1, "depth": 1, "statements": 2}
    assert [level_of_facts(facts(**loop, events=n)) for n in (8, 9, 16, 17, 40, 41)] == [3, 4, 4, 5, 5, None]


def test_half_of_a_batch_is_at_the_frontier_and_half_is_uniform():
    rng = random.Random(0)
    counts = collections.Counter(levels.draw_level(rng, 4, 1) for _ in range(8000))
    assert counts[1] / 8000 == pytest.approx(0.5 + 0.5 / 4, abs=0.02)
    for level in (0, 2, 3):
        assert counts[level] / 8000 == pytest.approx(0.5 / 4, abs=0.02)
