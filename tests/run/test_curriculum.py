"""Which level is the frontier, and what the state orders from the generator."""

import dataclasses

import jax.numpy as jnp
import pytest

from bitzero.config import NUM_LEVELS, NUM_PRODUCTIONS, Config
from bitzero.generator.grammar import PRODUCTION_NAMES
from bitzero.run import curriculum, train
from bitzero.selfplay import warmup


@pytest.mark.parametrize(
    "before, accuracies, frontier",
    [
        (0, (0.69,), 0),
        (0, (0.70, 0.5), 1),
        (2, (0.61, 0.61, 0.3), 2),  # within the margin: mastered as before
        (2, (0.59, 0.9, 0.9), 0),  # fallen: it comes back
        (2, (0.9, 0.55), 1),
        (0, (0.9,) * 6, 5),
    ],
)
def test_a_mastered_level_stays_within_a_margin_and_comes_back_below_it(before, accuracies, frontier):
    found, measured = curriculum.lowest_not_mastered(before, accuracies.__getitem__, 0.7)
    assert found == frontier
    assert measured == dict(enumerate(accuracies[: frontier + 1]))


def learning(**tasks):
    cfg = Config()
    return dataclasses.replace(cfg, tasks=dataclasses.replace(cfg.tasks, **tasks))


def test_orders_carry_the_mix_from_the_first_boundary_on():
    cfg = learning(productions="learnable", levels="learnable")
    state = warmup.init_state(cfg)
    order = train.order_at(cfg, state, 0)
    assert order.production_weights == () and order.level_weights == ()
    state = curriculum.reweigh(dataclasses.replace(state, step=jnp.int32(400)), cfg)
    order = train.order_at(cfg, state, 400)
    assert len(order.production_weights) == NUM_PRODUCTIONS and len(order.level_weights) == NUM_LEVELS
    assert min(order.production_weights) >= 1 and all(type(weight) is int for weight in order.level_weights)
    assert hash(order) == hash(train.order_at(cfg, state, 400))
    playing = dataclasses.replace(state, step=jnp.int32(cfg.warmup.steps))
    assert curriculum.reweigh(playing, cfg) is playing


def test_a_mix_is_told_as_figures_and_as_a_table():
    cfg = learning(productions="errors", levels="errors")
    state = warmup.init_state(cfg)
    seen = state.mix.seen.at[3].set(40.0).at[NUM_PRODUCTIONS].set(10.0)
    state = curriculum.reweigh(
        dataclasses.replace(state, mix=dataclasses.replace(state.mix, seen=seen, right=seen / 4)), cfg
    )
    figures = curriculum.mix_figures(state)
    assert figures["mix/right_L0"] == pytest.approx((2.5 + 2) / 14)
    assert sum(figures[f"mix/share_L{level}"] for level in range(3)) == pytest.approx(1)
    table = curriculum.mix_table(state)
    assert f"`{PRODUCTION_NAMES[3]}` | 0.27" in table and len(table.splitlines()) == 3
    even = warmup.init_state(Config())
    assert curriculum.mix_figures(even) == {} and curriculum.mix_table(even) == ""
