"""The mix of training batches: what counts as right, and what weights follow from it."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import NUM_PRODUCTIONS, Config
from bitzero.selfplay import mix, warmup
from bitzero.state import Supervised
from bitzero.tasks import tokens
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION


def configured(productions="learnable", levels="learnable"):
    return dataclasses.replace(
        Config(), tasks=dataclasses.replace(Config().tasks, productions=productions, levels=levels)
    )


def two_rows(kinds, levels, productions):
    """Two rows of two examples, three tokens each: the tag, a text, an answer."""
    example = [tokens.SOLVE, 300, tokens.EOS]
    bits = np.zeros((2, 2, NUM_PRODUCTIONS), bool)
    for row, column, number in productions:
        bits[row, column, number] = True
    return Supervised(
        tokens=jnp.array([example * 2] * 2, jnp.uint16), mask=jnp.array([[False, False, True] * 2] * 2),
        kind=jnp.array(kinds, jnp.int8), level=jnp.array(levels, jnp.int8),
        productions=jnp.asarray(np.packbits(bits, axis=-1)),
    )  # fmt: skip


def test_an_example_counts_for_all_its_productions_and_its_level():
    items = two_rows(
        [[DEDUCTION, ABDUCTION], [DEDUCTION, -1]], [[0, 1], [2, -1]],
        [(0, 0, 5), (0, 0, 233), (0, 1, 6), (1, 0, 5)],
    )  # fmt: skip
    target = jnp.array([[False, True, False] * 2] * 2)  # at the position before the answer
    hits = target.at[1, 1].set(False)
    before = dataclasses.replace(mix.empty_mix(configured()), seen=jnp.ones(mix.CELLS), right=jnp.full(mix.CELLS, 0.5))
    after = mix.observe(before, hits, target, items)
    seen, right = after.seen - mix.DECAY, after.right - 0.5 * mix.DECAY
    found = {i: (round(float(seen[i]), 3), round(float(right[i]), 3)) for i in np.flatnonzero(np.abs(seen) > 1e-4)}
    l0, l2 = NUM_PRODUCTIONS, NUM_PRODUCTIONS + 2
    assert found == {5: (2.0, 1.0), 233: (1.0, 1.0), l0: (1.0, 1.0), l2: (1.0, 0.0)}


def test_one_wrong_token_makes_an_example_wrong_and_no_other():
    items = two_rows([[DEDUCTION, DEDUCTION]] * 2, [[0, 1], [2, 3]], [])
    target = jnp.ones((2, 6), bool)
    after = mix.observe(mix.empty_mix(configured()), target.at[0, 4].set(False), target, items)
    assert after.right[NUM_PRODUCTIONS:].tolist() == [1, 0, 1, 1, 0, 0]


def test_items_without_productions_are_refused():
    items = dataclasses.replace(two_rows([[0, 0]] * 2, [[0, 0]] * 2, []), productions=None)
    with pytest.raises(ValueError, match="tell their productions"):
        mix.observe(mix.empty_mix(configured()), items.mask, items.mask, items)


def counted(rates, seen=400.0):
    """A mix whose first cells, and whose levels, were seen often and right at these rates."""
    of_productions, of_levels = rates
    right = np.zeros(mix.CELLS)
    count = np.zeros(mix.CELLS)
    for start, values in ((0, of_productions), (NUM_PRODUCTIONS, of_levels)):
        count[start : start + len(values)] = seen
        right[start : start + len(values)] = seen * np.array(values)
    return dataclasses.replace(mix.empty_mix(configured()), seen=jnp.asarray(count), right=jnp.asarray(right))


def test_what_is_half_known_is_wanted_most_and_what_is_known_least():
    new = mix.reweigh(counted(([0.02, 0.4, 0.7, 0.98], [0.5] * 3)), jnp.int32(3), configured())
    never, half, mostly, known = new.weights[:4].tolist()
    assert half > mostly > known and half > never > known
    assert known >= mix.EXTREMES[0] * mix.SCALE
    errors = mix.reweigh(counted(([0.02, 0.4, 0.7, 0.98], [0.5] * 3)), jnp.int32(3), configured("errors"))
    assert errors.weights[:4].tolist() == sorted(errors.weights[:4].tolist(), reverse=True)


def shares_of(first, second, third):
    new = mix.reweigh(counted(([0.5], [first, second, third])), jnp.int32(3), configured())
    levels = np.array(new.weights[NUM_PRODUCTIONS:].tolist(), float)
    levels[3:] = 0  # not open: never drawn, whatever is written there
    return levels / levels.sum()


@pytest.mark.parametrize("first, share", [(0.5, mix.FIRST_FLOOR), (0.97, mix.LEVEL_FLOOR)])
def test_l0_is_kept_until_it_is_known_and_every_open_level_has_its_floor(first, share):
    shares = shares_of(first, 0.4, 0.999)
    assert shares[0] >= share - 0.01 and shares[2] >= mix.LEVEL_FLOOR - 0.01
    assert shares[1] > shares[2]


def test_a_level_waits_for_those_before_it():
    early, late = shares_of(0.15, 0.1, 0.05), shares_of(0.7, 0.5, 0.3)
    assert early[0] > 0.5 and early[0] > early[1] > early[2]
    assert late[0] < early[0] - 0.15 and late[2] > early[2] + 0.05


def test_each_half_can_be_left_as_it_was():
    levels_alone = mix.reweigh(counted(([0.2], [0.5, 0.2])), jnp.int32(2), configured(productions="even"))
    assert not levels_alone.weights[:NUM_PRODUCTIONS].any() and levels_alone.weights[NUM_PRODUCTIONS:].any()
    productions_alone = mix.reweigh(counted(([0.2], [0.5, 0.2])), jnp.int32(2), configured(levels="frontier"))
    assert productions_alone.weights[:NUM_PRODUCTIONS].any()
    assert not productions_alone.weights[NUM_PRODUCTIONS:].any()
    assert mix.empty_mix(configured("even", "frontier")) is None
    assert warmup.init_state(Config()).mix is None
