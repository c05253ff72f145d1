"""Decisions of the driver that need no run: collapse across chunks, generator orders, what a sitting may change."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model, Run, SelfPlay, Tasks, Warmup
from bitzero.run import curriculum, train
from bitzero.selfplay import warmup

CFG = Config(
    model=Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32),
    warmup=Warmup(steps=40, batch_size=8),
    selfplay=SelfPlay(steps=8, supervised_batch=4, ring=8, history=64),
    tasks=Tasks(unlock_every=20, open_levels=3),
    run=Run(chunk=4, save_every=20),
)


@pytest.mark.parametrize(
    ("before", "column", "longest"),
    [(0, [0, 0, 0], 0), (0, [1, 1, 0, 1], 2), (2, [1, 0], 3), (2, [0, 1], 2), (1, [], 1), (0, [0, 1, 1, 1, 0], 3)],
)
def test_non_finite_steps_in_a_row_are_counted_across_chunks(before, column, longest):
    assert train.worst_run(before, np.array(column)) == longest


@pytest.fixture(scope="module")
def coming():
    """Step → (step, phase, batch size) of the orders that are made there."""
    state = jax.jit(warmup.init_state, static_argnums=0)(CFG)

    def at(step):
        units = train.coming(CFG, dataclasses.replace(state, step=jnp.int32(step)))
        return [(unit.step, unit.phase, unit.batch_size) for unit in units]

    return at


def test_data_is_ordered_ahead_but_never_past_a_dev_measurement(coming):
    assert coming(0) == [(0, "warmup", 8), (4, "warmup", 8), (8, "warmup", 8)]
    assert coming(12) == [(12, "warmup", 8), (16, "warmup", 8)]  # at 20 a level may open
    assert coming(20) == [(20, "warmup", 8), (24, "warmup", 8), (28, "warmup", 8)]


def test_a_chunk_begun_in_an_earlier_sitting_is_ordered_whole(coming):
    assert coming(38) == [(36, "warmup", 8)]
    assert coming(41) == [(40, "selfplay", 4), (44, "selfplay", 4)]


def test_an_order_carries_the_levels_of_the_state():
    state = jax.jit(warmup.init_state, static_argnums=0)(CFG)
    state = dataclasses.replace(state, frontier=jnp.int32(3), open_levels=jnp.int32(4))
    unit = train.unit(CFG, state, 0)
    assert (unit.open_levels, unit.frontier, unit.steps, unit.context) == (4, 3, 4, CFG.tasks.context)


def test_unlocks_are_read_at_multiples_and_never_at_the_start():
    assert [step for step in range(0, 61) if curriculum.unlocks(step, CFG)] == [20, 40, 60]
