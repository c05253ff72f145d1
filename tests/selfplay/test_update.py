"""One optimiser step: learning, skipping what is not finite, counting flips; and the schedules."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model, Optimiser, SelfPlay, Warmup
from bitzero.selfplay import objective, schedule, update, warmup

CFG = Config(
    model=Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32),
    optimiser=Optimiser(lr=0.01, lr_warmup=10, lr_end=0.1),
    warmup=Warmup(steps=100),
    selfplay=SelfPlay(ring=4, history=8, lr=3e-4, steps=20),
)


@pytest.fixture(scope="module")
def state():
    return jax.jit(warmup.init_state, static_argnums=0)(CFG)


@pytest.fixture(scope="module")
def step():
    return jax.jit(lambda s, g, loss: update.update(s, g, objective.empty_taps(s, CFG), loss, CFG))


def gradients(state):
    return jax.tree.map(
        lambda p: jnp.asarray(np.random.default_rng(p.size).normal(size=p.shape), p.dtype), state.params
    )


def test_a_good_step_moves_every_parameter(state, step):
    new, metrics = step(state, gradients(state), jnp.float32(1.0))
    for before, after in zip(jax.tree.leaves(state.params), jax.tree.leaves(new.params), strict=True):
        assert jnp.mean(before != after) > 0.9
    assert (int(new.step), int(new.skipped), float(metrics["loss/nonfinite"])) == (1, 0, 0.0)
    assert 0 < float(metrics["quant/flip_rate"]) < 0.5


def test_rows_of_a_step_are_evened_by_what_they_were_so_far(state):
    """By hand, over two steps whose rows differ; the whole stays as long as Muon made it, the rest as it was."""
    evened = dataclasses.replace(CFG, optimiser=dataclasses.replace(CFG.optimiser, row_beta=0.8))
    plain, even = update.optimiser(CFG), update.optimiser(evened)
    first, second = gradients(state), jax.tree.map(lambda g: jnp.flip(g) ** 2, gradients(state))
    moments, theirs, squares = plain.init(state.params), even.init(state.params), 0.0
    for grads in (first, second):
        wanted, moments = plain.update(grads, moments, state.params)
        found, theirs = even.update(grads, theirs, state.params)
        step = np.asarray(wanted["layers"]["gate_up"]["kernel"][0], np.float64)
        squares = 0.8 * squares + 0.2 * np.mean(step**2, axis=1)
        by_hand = step / np.sqrt(squares)[:, None]
        by_hand *= np.linalg.norm(step) / np.linalg.norm(by_hand)
        np.testing.assert_allclose(found["layers"]["gate_up"]["kernel"][0], by_hand, rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(found["embedding"], wanted["embedding"])
    lengths = np.linalg.norm(step, axis=1)
    assert np.ptp(lengths) > 0.1 * lengths.max()  # there was something to even


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_non_finite_step_is_skipped_and_counted(state, step, where):
    grads, loss = gradients(state), jnp.float32(1.0)
    if where == "loss":
        loss = jnp.float32(jnp.nan)
    else:
        grads["final_norm"]["gain"] = grads["final_norm"]["gain"].at[0].set(jnp.inf)
    new, metrics = step(state, grads, loss)
    for name in ("params", "opt_state"):
        for before, after in zip(
            jax.tree.leaves(getattr(state, name)), jax.tree.leaves(getattr(new, name)), strict=True
        ):
            np.testing.assert_array_equal(before, after)
    assert (int(new.step), int(new.skipped), int(new.bad_steps)) == (1, 1, 1)
    assert float(metrics["loss/nonfinite"]) == 1.0
    healed, _ = step(new, gradients(state), jnp.float32(1.0))
    assert (int(healed.bad_steps), int(healed.skipped)) == (0, 1)


def test_a_retry_halves_the_learning_rate(state, step):
    _, once = step(state, gradients(state), jnp.float32(1.0))
    _, twice = step(dataclasses.replace(state, retries=jnp.int32(1)), gradients(state), jnp.float32(1.0))
    np.testing.assert_allclose(twice["loss/lr"], once["loss/lr"] / 2)


def test_phases_and_ramp_follow_the_step():
    assert [schedule.phase(s, CFG) for s in (0, 39, 40, 69, 70, 99, 100, 119, 120)] == [
        *("full", "full", "ramp", "ramp", "integer", "integer", "selfplay", "selfplay", "done")
    ]
    assert schedule.phase_boundaries(CFG) == [40, 70, 100, 120]
    np.testing.assert_allclose([schedule.lam(s, CFG) for s in (0, 40, 55, 70, 99)], [0, 0, 0.5, 1, 1])


def test_the_learning_rate_rises_stays_falls_and_is_constant_in_self_play():
    np.testing.assert_allclose(schedule.lr(0, CFG), 0.01 / 10, rtol=1e-5)
    np.testing.assert_allclose([schedule.lr(s, CFG) for s in (9, 50, 65)], 0.01, rtol=1e-5)
    np.testing.assert_allclose(schedule.lr(79, CFG), 0.01 * (0.1 + 0.9 * (1 - 14 / 35)), rtol=1e-5)
    np.testing.assert_allclose([schedule.lr(s, CFG) for s in (100, 119)], 3e-4, rtol=1e-6)


def test_in_self_play_the_learning_rate_falls_to_nothing_after_the_share_that_is_flat():
    falling = dataclasses.replace(CFG, selfplay=dataclasses.replace(CFG.selfplay, lr_flat=0.5))
    rates = [schedule.lr(s, falling) for s in (100, 110, 115, 119)]
    np.testing.assert_allclose(rates, np.array([1, 1, 0.5, 0.1]) * 3e-4, rtol=1e-5)


def test_the_fall_may_be_a_cosine_from_the_beginning():
    falling = Optimiser(lr=0.01, lr_warmup=10, lr_decay="cosine", lr_flat=0.0, lr_end=0.1)
    cosine = dataclasses.replace(CFG, optimiser=falling)
    np.testing.assert_allclose(schedule.lr(50, cosine), 0.01 * (0.1 + 0.9 * 0.5), rtol=1e-5)
    np.testing.assert_allclose(schedule.lr(99, cosine), 0.001, rtol=1e-2)


def test_the_default_falls_to_nothing():
    usual = dataclasses.replace(CFG, optimiser=Optimiser(lr=0.01))
    np.testing.assert_allclose(schedule.lr(99, usual), 0.01 / 35, rtol=1e-4)
