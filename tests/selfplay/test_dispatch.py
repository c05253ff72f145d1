"""Spans of a chunk: the same steps however they are cut, one program for all of them, an end at the stop bit."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.selfplay.dispatch import run_span

BATCH = {"x": jnp.arange(1.0, 7.0)}


@functools.partial(jax.jit, static_argnames="stop_at")
def run(state, span, stop_at=None):
    def step(state, items):
        state = 0.5 * state + items["x"]
        return state, jnp.bool_(False) if stop_at is None else items["x"] == stop_at, {"state": state}

    return run_span(step, state, BATCH, span)


@pytest.mark.parametrize("cuts", [(0, 6), (0, 1, 6), (0, 2, 3, 6), range(7)])
def test_a_chunk_is_the_same_however_it_is_cut(cuts):
    whole, rows = run(jnp.float32(8), None)
    state, found = jnp.float32(8), np.zeros(6, np.float32)
    for first, end in itertools.pairwise(cuts):
        state, part = run(state, (first, end))
        assert not np.asarray(part["state"])[[i for i in range(6) if not first <= i < end]].any()
        found += np.asarray(part["state"])
    assert float(state) == float(whole) and np.array_equal(found, rows["state"])


def test_spans_of_every_length_are_one_program():
    run(jnp.float32(0), (0, 1))
    before = run._cache_size()
    for first, end in [(0, 6), (2, 3), (5, 6)]:
        run(jnp.float32(0), (first, end))
    assert run._cache_size() == before


def test_nothing_runs_after_the_stop_bit():
    state, rows = run(jnp.float32(0), (1, 6), stop_at=3.0)  # items 2 and 3
    np.testing.assert_array_equal(rows["state"], [0, 2, 4, 0, 0, 0])
    assert float(state) == 4.0
