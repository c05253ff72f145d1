"""A delta changes row scales and gains, never a code; exact gradients in the scales, straight-through ones below."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import OPERANDS, Model
from bitzero.model import delta as deltas
from bitzero.model import packing, quant, transformer
from bitzero.selfplay import rollout

CFG = Model(
    num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=48, max_tier=8, smear=1, compute="f32",
    value_embeddings=True, input_skips=True, qk_norm=True,
)  # fmt: skip
ROWS, K = 32, 24


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture(scope="module")
def packed():
    params, precision = transformer.init(jax.random.key(3), CFG)
    layers = dict(precision["layers"])
    layers["o"] = layers["o"] | {"tier": jnp.array([[8, 0], [0, 4]], jnp.int8)}
    return packing.pack(params, {"layers": layers}, CFG)


@pytest.fixture(scope="module")
def delta(packed):
    zero = deltas.zero(packed)
    return {path: 0.1 * draw(i, *leaf.shape) for i, (path, leaf) in enumerate(sorted(zero.items()))}


def arrays_but(tree, paths):
    flat, _ = packing.flatten(tree)
    return {path: np.asarray(leaf) for path, leaf in flat.items() if path not in paths}


def test_it_is_row_scales_and_gains_and_nothing_else(packed):
    assert sorted(deltas.zero(packed)) == sorted([
        *(f"layers/{name}/kernel/scale" for name in ("qkv", "o", "gate_up", "down")),
        *(f"layers/{name}/gain" for name in ("attn_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm")),
        *(f"layers/{name}" for name in ("value_gain", "query_gain", "skip_gain")), "final_norm/gain", "smear",
    ])  # fmt: skip


def test_codes_residuals_and_embeddings_stay(packed, delta):
    new = deltas.applied(packed, delta)
    before, after = arrays_but(packed, delta), arrays_but(new, delta)
    assert before.keys() == after.keys() and any("digits" in path for path in before) and "embedding" in before
    for path in before:
        np.testing.assert_array_equal(before[path], after[path], err_msg=path)
    for path, leaf in deltas.learnable(new).items():
        np.testing.assert_allclose(leaf, deltas.learnable(packed)[path] * (1 + delta[path]), rtol=1e-6)
        assert not np.array_equal(leaf, deltas.learnable(packed)[path]), path


def test_packed_and_dense_draw_the_same_tokens_under_it(packed, delta):
    trees = (deltas.applied(packed, delta), deltas.applied(packing.to_dense(packed, "f32"), delta))
    prompts = jax.random.randint(jax.random.key(5), (32, 9), 2, 512)
    run = jax.jit(rollout.sample, static_argnames=("model", "max_new"))
    one, two, before = (
        run(jax.random.key(0), tree, prompts, CFG, max_new=8, temperature=0.0).tokens for tree in (*trees, packed)
    )
    np.testing.assert_array_equal(one, two)
    assert np.any(np.asarray(one) != np.asarray(before))


@pytest.mark.parametrize("operand", OPERANDS)
def test_the_gradient_of_a_scale_is_the_numerical_one(operand):
    x, codes, scale, g = draw(0, 5, K), jnp.round(2 * draw(1, ROWS, K)), jnp.abs(draw(2, ROWS)), draw(3, 5, ROWS)
    codes = jnp.clip(codes, -1, 1).astype(quant.float_type(operand))
    value = lambda scale: jnp.sum(g * quant.dense_linear(x, codes, scale, operand, 0))
    found = jax.grad(value)(scale)
    step = 0.125  # the value is linear in the scales, so any step will do
    wanted = [(value(scale.at[i].add(step)) - value(scale.at[i].add(-step))) / (2 * step) for i in range(ROWS)]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    assert np.abs(found).min() > 0.01


@pytest.mark.parametrize("tier", [0, 4])
def test_what_goes_below_is_what_a_latent_lets_through(tier):
    x, w, g = draw(0, 5, K), draw(1, ROWS, K), draw(2, 5, ROWS)
    tiers, ramp = jnp.full(2, tier, jnp.int8), jnp.ones(2)
    codes, scale = quant.integer_codes(w, tiers, ramp, (ROWS,))
    y, back = jax.vjp(lambda x: quant.ternary_linear(x, w, tiers, ramp, (ROWS,), "f32", 8), x)
    z, dense_back = jax.vjp(lambda x: quant.dense_linear(x, codes, scale, "f32", 8), x)
    np.testing.assert_array_equal(y, z)
    np.testing.assert_array_equal(back(g)[0], dense_back(g)[0])
    np.testing.assert_allclose(back(g)[0], (g * scale[None]) @ codes, rtol=1e-4, atol=1e-4)


def test_every_number_of_it_has_a_gradient(packed):
    """At a random point: at d = 0 a gain that multiplies a zero would hide."""
    dense = packing.to_dense(packed, "f32")
    tokens = jax.random.randint(jax.random.key(1), (4, 12), 2, 512)

    def loss(delta):
        weights = deltas.applied(dense, delta)
        logits = transformer.apply(weights, {}, tokens, jnp.ones_like(tokens), CFG)
        return jnp.mean(jax.nn.log_softmax(logits)[..., 7] ** 2)

    grads = jax.jit(jax.grad(loss))({path: 0.01 + leaf for path, leaf in deltas.zero(packed).items()})
    for path, grad in grads.items():
        assert np.isfinite(grad).all() and np.mean(np.asarray(grad) != 0) > 0.5, path


def test_another_models_delta_is_refused(packed, delta):
    plain = {path: np.asarray(leaf) for path, leaf in delta.items()}
    deltas.check(plain, packed)
    with pytest.raises(ValueError, match="smear is absent"):
        deltas.check({path: leaf for path, leaf in plain.items() if path != "smear"}, packed)
    with pytest.raises(ValueError, match=r"smear is \[1, 31\] there, \[1, 32\] in the model"):
        deltas.check(plain | {"smear": plain["smear"][:, :31]}, packed)
    for bad in (plain["smear"] * np.nan, plain["smear"].astype(np.float64)):
        with pytest.raises(ValueError, match="not finite, or not float32"):
            deltas.check(plain | {"smear": bad}, packed)
