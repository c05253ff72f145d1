"""The ring keeps the newest tasks, the set forgets only when a bucket is full."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitzero.config import Config, SelfPlay
from bitzero.selfplay import buffer
from bitzero.state import Ring

CFG = Config(selfplay=SelfPlay(ring=8))


def rows(values, kinds=None):
    n = len(values)
    prompt = jnp.broadcast_to(jnp.array(values)[:, None], (n, CFG.tasks.prompt))
    record = jnp.zeros((n, CFG.tasks.record), jnp.int32)
    kind = jnp.array(kinds if kinds is not None else [0] * n)
    return prompt, record, kind, jnp.zeros(n, jnp.int32)


def pushed(ring, values, step=0, kinds=None, keep=None):
    keep = jnp.ones(len(values), bool) if keep is None else jnp.array(keep)
    return buffer.push_tasks(ring, *rows(values, kinds), jnp.int32(step), keep)


def test_the_oldest_tasks_give_way():  # AZR's truncate_datasets kept the oldest: its tasks were 231 steps stale
    ring = buffer.empty_ring(CFG)
    for step in range(5):
        ring = pushed(ring, [10 * step + 1, 10 * step + 2, 10 * step + 3], step)
    kept = set(np.asarray(ring.prompt[:, 0]).tolist())
    assert kept == {22, 23, 31, 32, 33, 41, 42, 43}
    assert (int(ring.count), int(ring.head)) == (8, 15 % 8)
    assert float(buffer.mean_age(ring, jnp.int32(5))) == pytest.approx((2 * 3 + 3 * 2 + 3 * 1) / 8)


def test_only_kept_rows_enter_and_in_order():
    ring = pushed(buffer.empty_ring(CFG), [5, 6, 7, 8], keep=[True, False, True, False])
    np.testing.assert_array_equal(ring.prompt[:3, 0], [5, 7, 0])
    assert int(ring.count) == 2


def test_a_pick_is_of_the_wanted_kind_and_filled():
    ring = pushed(buffer.empty_ring(CFG), [1, 2, 3, 4], kinds=[0, 1, 1, 2])
    wanted = jnp.array([0, 1, 2, 1] * 16)
    at = buffer.pick_slots(ring, jax.random.key(0), wanted)
    np.testing.assert_array_equal(ring.kind[at], wanted)
    assert set(np.asarray(at[jnp.array(wanted == 1)]).tolist()) == {1, 2}
    none_of_it = pushed(buffer.empty_ring(CFG), [1, 2], kinds=[0, 0])
    assert set(np.asarray(buffer.pick_slots(none_of_it, jax.random.key(1), jnp.array([2] * 32))).tolist()) == {0, 1}


def test_a_pick_keeps_to_the_level_where_there_is_one_of_it():
    ring = dataclasses.replace(
        pushed(buffer.empty_ring(CFG), [1, 2, 3, 4], kinds=[1, 1, 1, 2]), level=jnp.array([0, 1, 1, 0, *[0] * 4])
    )
    many = lambda kind, level: buffer.pick_slots(ring, jax.random.key(2), jnp.full(40, kind), jnp.full(40, level))
    assert set(np.asarray(many(1, 1)).tolist()) == {1, 2}
    assert set(np.asarray(many(1, 5)).tolist()) == {0, 1, 2}
    assert set(np.asarray(many(0, 1)).tolist()) == {0, 1, 2, 3}


def test_tasks_of_more_spread_are_picked_more_often():
    ring = pushed(buffer.rated(buffer.empty_ring(CFG)), [1, 2, 3], kinds=[0, 0, 0])
    ring = dataclasses.replace(ring, spread=jnp.array([0.21, 0.0, 0.07, *[buffer.UNSOLVED] * 5]))
    wanted = jnp.zeros(4_000, jnp.int32)
    found = np.bincount(buffer.pick_slots(ring, jax.random.key(3), wanted, by_spread=True), minlength=8) / 4_000
    expected = np.array([0.21, buffer.LEAST_SPREAD, 0.07, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.03)
    alike = np.bincount(buffer.pick_slots(ring, jax.random.key(3), wanted), minlength=8) / 4_000
    np.testing.assert_allclose(alike[:3], 1 / 3, atol=0.03)


def test_the_spread_of_a_steps_answers_is_noted_and_a_new_task_has_none():
    ring = pushed(buffer.rated(buffer.empty_ring(CFG)), [1, 2, 3, 4, 5, 6])
    place, own = jnp.array([0, 1, 1, 2, 3, 3, 4]), jnp.array([False, False, False, False, True, False, False])
    spread = jnp.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07])
    known = jnp.array([True, True, True, False, True, True, True])
    noted = buffer.note_spread(ring, place, own, spread, known)
    untold = buffer.UNSOLVED
    np.testing.assert_allclose(noted.spread, [0.01, 0.03, untold, 0.05, 0.07, untold, untold, untold])
    assert buffer.places(noted, jnp.array([True, False, True, True])).tolist()[::3] == [6, 0]
    over = pushed(noted, [7, 8, 9], keep=[True, True, True])
    np.testing.assert_allclose(over.spread[:2], [untold, 0.03])


def test_a_ring_that_draws_all_alike_knows_no_spread():
    """So the state is the one that runs of before have saved."""
    ring = buffer.empty_ring(CFG)
    assert type(ring) is type(pushed(ring, [1])) is Ring
    nothing = jnp.zeros(1, jnp.int32), jnp.zeros(1, bool), jnp.zeros(1), jnp.ones(1, bool)
    assert buffer.note_spread(ring, *nothing) is ring


def hashes(*values):
    return jnp.array([[value >> 32, value & 0xFFFFFFFF] for value in values], jnp.uint32)


@given(st.lists(st.integers(1, 2**64 - 1), min_size=6, max_size=6, unique=True))
def test_what_went_in_is_found_and_nothing_else(values):
    seen = buffer.insert(buffer.empty_hash_set(1 << 10), hashes(*values[:3]), jnp.array([True, True, False]))
    np.testing.assert_array_equal(buffer.contains(seen, hashes(*values)), [True, True] + [False] * 4)
    assert int(seen.inserted) == 2


def test_a_full_bucket_forgets_its_oldest_hash_and_counts_it():
    seen = buffer.empty_hash_set(8)  # two buckets of four; even low words share the first
    same_bucket = [2, 4, 6, 8, 10]
    seen = buffer.insert(seen, hashes(*same_bucket), jnp.ones(5, bool))
    np.testing.assert_array_equal(buffer.contains(seen, hashes(*same_bucket)), [False, True, True, True, True])
    assert (int(seen.evicted), float(buffer.filled_share(seen))) == (1, 0.5)


def test_a_hash_enters_once():
    seen = buffer.insert(buffer.empty_hash_set(8), hashes(3, 3, 3), jnp.ones(3, bool))
    assert int(seen.inserted) == 1


def test_first_of_marks_the_first_kept_one():
    keep = jnp.array([False, True, True, True])
    np.testing.assert_array_equal(buffer.first_occurrences(hashes(9, 9, 9, 7), keep), [False, True, False, True])


def test_the_ring_is_a_pytree_of_fixed_shapes():
    ring = buffer.empty_ring(CFG)
    names = ["prompt", "record", "kind", "level", "born", "head", "count"]
    assert [f.name for f in dataclasses.fields(ring)] == names
    before = jax.tree.map(lambda a: (a.shape, a.dtype), ring)
    assert before == jax.tree.map(lambda a: (a.shape, a.dtype), pushed(ring, [1, 2, 3]))
