"""A supervised step on the ramp: λ reaches the loss, from full precision at 0 to ternary at 1."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model, SelfPlay, Tasks, Warmup
from bitzero.model import quant
from bitzero.selfplay import objective, schedule, warmup
from bitzero.state import Supervised
from bitzero.tasks import tokens

CFG = Config(
    model=Model(
        num_layers=1, width=16, num_heads=1, num_kv_heads=1, head_dim=16, ffn_width=16, max_tier=0, compute="f32"
    ),
    warmup=Warmup(steps=10, batch_size=2, ramp_start=0.0, ramp_end=0.4),
    selfplay=SelfPlay(ring=4, history=8, seed_tasks=1),
    tasks=Tasks(context=9),
)


def rows():
    ids = jnp.array([[tokens.SOLVE, 320, 321, 322, 323, tokens.EOS, *[tokens.PAD] * 3]] * 2, jnp.uint16)
    label = jnp.zeros((2, 2), jnp.int8)
    return Supervised(tokens=ids, mask=(ids != tokens.PAD) & (jnp.arange(9) > 1)[None], kind=label, level=label)


def pair():
    """Tokens and targets."""
    return rows().tokens, rows().mask


@pytest.fixture(scope="module")
def state():
    return jax.jit(warmup.init_state, static_argnums=0)(CFG)


def test_the_loss_is_full_at_nought_ternary_at_one_and_neither_between(state):
    @functools.partial(jax.jit, static_argnames="full")
    def loss(lam, full=False):
        params = quant.unquantised(state.params, CFG.model) if full else state.params
        return objective.supervised_loss(params, state.precision, *pair(), CFG, lam)[0]

    full, ternary = float(loss(None, full=True)), float(loss(None))
    np.testing.assert_allclose(loss(jnp.float32(0)), full, rtol=1e-4)
    np.testing.assert_allclose(loss(jnp.float32(1)), ternary, rtol=1e-4)
    assert abs(full - ternary) > 1e-3 * full


def test_a_step_on_the_ramp_has_the_loss_of_its_lambda(state):
    start = dataclasses.replace(state, step=jnp.int32(2))
    lam = schedule.lam(2, CFG)
    assert float(lam) == 0.5
    loss = jax.jit(lambda lam: objective.supervised_loss(state.params, state.precision, *pair(), CFG, lam)[0])
    batch = jax.tree.map(lambda a: a[None], rows())
    _, metrics = warmup.run_chunk(jax.tree.map(jnp.copy, start), batch, CFG, "ramp")
    np.testing.assert_allclose(metrics["loss/total"], loss(lam)[None], rtol=1e-4)
    assert abs(float(loss(lam) - loss(None))) > 1e-4
