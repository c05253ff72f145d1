"""Signals: what leaves by the backward pass is what the definitions say, and nothing of the training changes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import BLOCK_ROWS, Config, Model, Precision, Tasks, kernel_shapes
from bitzero.model import attention, precision, quant, transformer
from bitzero.selfplay import objective

pytestmark = pytest.mark.bits
MODEL = Model(num_layers=2, width=32, num_heads=4, num_kv_heads=2, head_dim=16, ffn_width=48, max_tier=8, compute="f32")
CFG = Config(model=MODEL, tasks=Tasks(context=24))
TOKENS = jnp.asarray(np.random.default_rng(0).integers(20, 200, (8, 24)))
SEGMENTS = jnp.asarray(np.where(np.arange(24)[None] < np.arange(8)[:, None] + 16, 1, 0))
ANSWERS = jnp.asarray((np.arange(24)[None] >= 8) & (np.asarray(SEGMENTS) == 1) & (np.arange(24)[None] < 22))
SOURCES = objective.sources_of(TOKENS, ANSWERS) & (SEGMENTS == 1)


def test_an_answer_reads_text_and_neither_tags_nor_targets():
    #      <solve> <in> text text <out> text  target <eos>: the token before a target is where it is asked
    row = [2, 16, 300, 301, 17, 302, 303, 1, 0]
    asked = [False, False, False, False, False, True, True, False, False]
    found = objective.sources_of(jnp.array([row]), jnp.array([asked]))
    assert found[0].tolist() == [False, False, True, True, False, True, False, False, False]


@pytest.fixture(scope="module")
def model():
    return jax.jit(transformer.init, static_argnums=1)(jax.random.key(0), MODEL)


observe = jax.jit(precision.update_signals, static_argnames="cfg")


def loss(params, taps, tiers):
    logits = transformer.apply(params, tiers, TOKENS, SEGMENTS, MODEL, taps=taps, answers=ANSWERS, sources=SOURCES)
    logp = objective.token_logprobs(logits, TOKENS)
    return -jnp.sum(logp * ANSWERS) / jnp.sum(ANSWERS)


@pytest.fixture(scope="module")
def measured(model):
    """Gradients with and without taps, and the taps' own."""
    params, tiers = model
    plain = jax.jit(jax.grad(lambda p: loss(p, None, tiers)))(params)
    tapped = jax.jit(jax.grad(lambda p, t: loss(p, t, tiers), argnums=(0, 1)))(params, transformer.zero_taps(MODEL))
    return plain, *tapped


def test_taps_change_no_gradient(measured):
    plain, tapped, _ = measured
    jax.tree.map(np.testing.assert_array_equal, plain, tapped)


def test_the_square_tap_is_the_mean_square_of_the_first_layers_input(model, measured):
    params, _ = model
    x = params["embedding"][TOKENS[::4]] * MODEL.width**0.5
    x = x / jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)
    # Every position of a segment up to its last answer has a gradient at the first layer, and none after it.
    counts = np.asarray(ANSWERS)[::4][:, ::-1].cumsum(axis=1)[:, ::-1] > 0
    wanted = (np.asarray(x) ** 2)[counts].mean(axis=0)
    np.testing.assert_allclose(measured[2]["layers"]["qkv"]["square"][0], wanted, rtol=1e-4)


def test_the_head_tap_is_attention_mass_times_gradient():
    rng = np.random.default_rng(1)
    b, t, h, groups, d = 2, 6, 4, 2, 8
    q, k, v = (jnp.asarray(rng.normal(size=(b, t, n, d)), jnp.float32) for n in (h, groups, groups))
    mask = jnp.broadcast_to(jnp.tril(jnp.ones((t, t), bool)), (b, t, t))
    source = jnp.asarray(np.arange(t)[None] < np.array([[3], [2]]), jnp.float32)
    answers = jnp.asarray(np.arange(t)[None] >= np.array([[2], [4]]), jnp.float32)
    g = jnp.asarray(rng.normal(size=(b, t, h, d)), jnp.float32)
    probe = attention.AttentionProbe(source=source, answers=answers, tap=jnp.zeros(h))
    inner = lambda tap: jnp.sum(
        g * attention.attend(q, k, v, mask, dataclasses.replace(probe, tap=tap), jnp.dtype(jnp.float32))
    )
    found = jax.grad(inner)(jnp.zeros(h))
    scores = np.einsum("bthd,bshd->bhts", np.asarray(q), np.repeat(np.asarray(k), h // groups, axis=2)) / d**0.5
    weights = np.asarray(jax.nn.softmax(jnp.where(mask[:, None], scores, -1e9), axis=-1))
    mass = np.einsum("bhts,bs->bht", weights, np.asarray(source))
    norm = np.linalg.norm(np.asarray(g), axis=-1)
    wanted = np.einsum("bht,bth,bt->h", mass, norm, np.asarray(answers))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_observed_signals_are_those_of_their_definitions(model, measured):
    params, _ = model
    _, grads, taps = measured
    held = observe(precision.init(CFG), params, grads, taps, CFG)
    assert float(held.weight) == pytest.approx(1 - CFG.precision.decay)
    name, k = "down", MODEL.ffn_width
    w, g = (np.asarray(tree["layers"][name]["kernel"]) for tree in (params, grads))
    alpha = np.abs(w).mean(axis=(1, 2), keepdims=True)
    error = (w - alpha * np.clip(np.round(w / alpha), -1, 1)) ** 2
    blocks = lambda rows: rows.reshape(MODEL.num_layers, -1, BLOCK_ROWS).sum(axis=-1)
    assert error.shape[-1] == k
    fisher = held.signals["fisher"][name] / held.weight
    np.testing.assert_allclose(fisher, blocks((g**2 * error).sum(axis=-1)), rtol=1e-4)
    square = np.asarray(taps["layers"][name]["square"])
    activation = held.signals["activation"][name] / held.weight
    np.testing.assert_allclose(activation, blocks((error * square[:, None]).sum(axis=-1)), rtol=1e-4)
    assert not np.any(held.signals["attention"][name])


def test_a_heads_figure_goes_to_its_rows_and_to_those_it_shares():
    figures = jnp.asarray([[1.0, 2.0, 4.0, 8.0], [0.0, 0.0, 0.0, 1.0]])
    found = np.asarray(precision.blocks_of_heads(figures, MODEL))  # one block of 16 rows a head
    assert found[0].tolist() == [1, 2, 4, 8, 3, 12, 3, 12]
    assert found[1].tolist() == [0, 0, 0, 1, 0, 1, 0, 1]


def test_averages_forget_and_ages_count(model, measured):
    params, _ = model
    _, grads, taps = measured
    once = observe(precision.init(CFG), params, grads, taps, CFG)
    twice = observe(once, params, jax.tree.map(lambda g: 0 * g, grads), taps, CFG)
    for name in kernel_shapes(MODEL):
        np.testing.assert_allclose(twice.signals["fisher"][name], 0.95 * once.signals["fisher"][name], rtol=1e-6)
        assert (twice.age[name] == 2).all()


def test_a_step_that_is_not_finite_is_not_observed(model, measured):
    params, _ = model
    _, grads, taps = measured
    once = observe(precision.init(CFG), params, grads, taps, CFG)
    bad = observe(once, params, jax.tree.map(lambda g: g * jnp.nan, grads), taps, CFG)
    jax.tree.map(np.testing.assert_array_equal, bad.signals, once.signals)


def test_a_model_without_tiers_carries_no_signals():
    assert precision.init(dataclasses.replace(CFG, model=dataclasses.replace(MODEL, max_tier=0))) is None


@pytest.mark.parametrize("signal", ["fisher", "activation", "attention", "magnitude", "static", "random"])
def test_every_signal_ranks_all_blocks(model, measured, signal):
    params, _ = model
    held = observe(precision.init(CFG), params, *measured[1:], CFG)
    found = precision.block_scores(signal, held, params, CFG)
    assert {name: a.shape for name, a in found.items()} == {
        name: (MODEL.num_layers, n // BLOCK_ROWS) for name, (n, _) in kernel_shapes(MODEL).items()
    }
    everything = np.concatenate([a.reshape(-1) for a in found.values()])
    assert (everything > 0).all() and len(set(everything.tolist())) == everything.size
    if signal == "static":
        assert min(found["o"].min(), found["down"].min()) > 1e5 * max(found["qkv"].max(), found["gate_up"].max())
    if signal == "attention":
        assert found["qkv"].min() > 1e4 * found["gate_up"].max()


def test_random_blocks_are_of_the_seed(model):
    params, _ = model
    draw = lambda seed: precision.block_scores(
        "random", precision.init(CFG), params, dataclasses.replace(CFG, seed=seed)
    )
    np.testing.assert_array_equal(draw(1)["qkv"], draw(1)["qkv"])
    assert (draw(1)["qkv"] != draw(2)["qkv"]).all()


def test_random_blocks_of_every_kind_are_as_likely_for_their_bits(model):
    params, _ = model
    held = precision.init(CFG)
    draws = [precision.block_scores("random", held, params, dataclasses.replace(CFG, seed=seed)) for seed in range(200)]
    means = {name: np.mean([draw[name].mean() for draw in draws]) / k for name, (_, k) in kernel_shapes(MODEL).items()}
    assert max(means.values()) - min(means.values()) < 0.05 and abs(means["down"] - 0.5) < 0.05


def test_gains_are_shares_of_the_ternary_error(model):
    params, _ = model
    for name, gain in precision.removed_error(params, MODEL).items():
        assert (gain[..., 0] == 0).all(), name
        assert ((gain[..., 1] > 0.85) & (gain[..., 1] < gain[..., 2])).all()  # Gaussian weights: about 94 % and 99.9 %
        assert (gain[..., 2] <= 1).all()


def test_one_look_at_all_blocks_is_like_a_materialised_tier(model):
    params, tiers = model
    eight = precision.with_uniform_tier(tiers, 8)
    codes, scale = quant.integer_codes(
        params["layers"]["o"]["kernel"], eight["layers"]["o"]["tier"], eight["layers"]["o"]["ramp"], (MODEL.width,)
    )
    error = np.abs(np.asarray(scale)[..., None] * np.asarray(codes) - np.asarray(params["layers"]["o"]["kernel"]))
    assert np.median(error) < 0.01 * np.median(np.asarray(scale) * 32)
    assert float(precision.mean_stored_bits(precision.with_uniform_tier(tiers, 0), MODEL)) == 2.0


def test_ramps_move_by_their_steps(model):
    _, tiers = model
    zero = jax.tree.map(lambda a: a * 0, tiers)
    for _ in range(3):
        zero = precision.advance_ramps(zero, 4)
    assert np.allclose(zero["layers"]["qkv"]["ramp"], 0.75)
    assert np.allclose(precision.advance_ramps(tiers, Precision().ramp_steps)["layers"]["qkv"]["ramp"], 1.0)
