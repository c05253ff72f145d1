"""The numerics contract by hand-computed numbers, exact integers and gradients at random points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitzero.config import OPERANDS, Config, Model, kernel_parts, with_operand
from bitzero.model import precision, quant, transformer

ROWS, K = 32, 24
pytestmark = pytest.mark.bits


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def no_tier(rows=ROWS):
    return jnp.zeros(rows // 16, jnp.int8), jnp.ones(rows // 16)


def linear(x, w, operand="f32", max_tier=0, tier=None, ramp=None, parts=None, lam=None):
    rows = w.shape[0] if isinstance(w, jax.Array) else ROWS
    blocks = no_tier(rows)
    return quant.linear(
        x, w, blocks[0] if tier is None else tier, blocks[1] if ramp is None else ramp,
        parts=parts or (rows,), operand=operand, max_tier=max_tier, lam=lam,
    )  # fmt: skip


def test_what_does_not_exist_is_no_other_thing():
    """By the function itself, or before it by the type checks of the tests."""
    with pytest.raises((TypeError, ValueError)):
        quant.float_type("f16")
    with pytest.raises((TypeError, ValueError)):
        linear(jnp.ones((1, K)), draw(0, ROWS, K), operand="f16")
    with pytest.raises(ValueError, match="'f16' is not one of f32, bf16, int8"):
        with_operand(Config(), "f16")
    m, limit = quant.grid(jnp.array([0, 4, 8, 5], jnp.int8))
    np.testing.assert_array_equal(m, [1, 4, 32, np.nan])
    np.testing.assert_array_equal(limit, [0, 7, 127, np.nan])


def test_a_bitnet_layer_by_hand():
    # α = (0.5 + 1.5 + 0.1 + 1.1)/4 = 0.8; W/α = 0.625, −1.875, 0.125, 1.375 → T = 1, −1, 0, 1.
    row = jnp.array([[0.5, -1.5, 0.1, 1.1]])
    codes, scale = quant.ternary_codes(jnp.repeat(row, 16, axis=0), (16,))
    np.testing.assert_array_equal(codes[0], [1, -1, 0, 1])
    np.testing.assert_allclose(scale[0], 0.8, rtol=1e-6)
    # max|x| = 2 → δ = 2/127; x/δ = 127, −63.5 → −64 (half to even), 31.75 → 32, 0.
    x = jnp.array([2.0, -1.0, 0.5, 0.0])
    integers, delta = quant.quantise_activations(x)
    np.testing.assert_array_equal(integers, [127, -64, 32, 0])
    np.testing.assert_allclose(delta, [2 / 127], rtol=1e-6)
    # y = (127 + 64 + 0 + 0) · 0.8 · 2/127
    y = linear(x[None], jnp.repeat(row, 16, axis=0))
    np.testing.assert_allclose(y[0], 191 * 0.8 * 2 / 127, rtol=1e-6)


def test_rounding_is_half_to_even():
    codes, _ = quant.ternary_codes(jnp.tile(jnp.array([0.5, 1.5, -0.5, 1.5]), (16, 1)), (16,))
    np.testing.assert_array_equal(codes[0], [0, 1, 0, 1])  # α = 1: 0.5 rounds to 0, not to 1


def test_merged_matrices_keep_their_own_alpha():
    w = jnp.concatenate([jnp.full((16, K), 0.1), jnp.full((16, K), -3.0)])
    codes, scale = quant.ternary_codes(w, (16, 16))
    np.testing.assert_allclose(scale, [0.1] * 16 + [3.0] * 16, rtol=1e-6)
    np.testing.assert_array_equal(codes[:, 0], [1] * 16 + [-1] * 16)


@pytest.mark.parametrize("bits, m, limit", [(4, 4, 7), (8, 32, 127)])
def test_a_tier_is_the_nested_grid(bits, m, limit):
    w = draw(0, ROWS, K)
    tier = jnp.array([bits, 0], jnp.int8)
    codes, scale = quant.integer_codes(w, tier, jnp.ones(2), (ROWS,))
    alpha = np.abs(np.asarray(w)).mean()
    t = np.clip(np.round(np.asarray(w) / alpha), -1, 1)
    residual = np.clip(np.round(m * (np.asarray(w) - alpha * t) / alpha), -limit, limit)
    np.testing.assert_array_equal(codes[:16], (m * t + residual)[:16])
    np.testing.assert_array_equal(codes[16:], t[16:])
    np.testing.assert_allclose(scale, [alpha / m] * 16 + [alpha] * 16, rtol=1e-6)
    error = lambda c: np.square(np.asarray(c * scale[:, None]) - np.asarray(w))[:16].mean()
    assert error(codes) < 0.1 * error(jnp.asarray(t) * m)


def test_a_promoted_block_fades_in_from_plain_ternary():
    w, tier = draw(1, ROWS, K), jnp.array([4, 4], jnp.int8)
    start, scale = quant.integer_codes(w, tier, jnp.zeros(2), (ROWS,))
    t, alpha = quant.ternary_codes(w, (ROWS,))
    np.testing.assert_array_equal(start, 4 * t)
    np.testing.assert_allclose(start * scale[:, None], t * alpha[:, None], rtol=1e-6)


def test_a_tier_changes_the_forward():
    x, w = draw(2, 5, K), draw(3, ROWS, K)
    plain = linear(x, w, max_tier=8)
    promoted = linear(x, w, max_tier=8, tier=jnp.array([4, 0], jnp.int8))
    full = x @ w.T
    assert jnp.all(plain[:, 16:] == promoted[:, 16:])
    assert jnp.mean((promoted - full)[:, :16] ** 2) < 0.3 * jnp.mean((plain - full)[:, :16] ** 2)


@pytest.mark.parametrize("max_tier", [0, 4, 8])
@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("k", [24, 1000])
def test_every_operand_type_gives_the_exact_integers(operand, max_tier, k):
    rng = np.random.default_rng(4)
    top = quant.max_code(max_tier)
    codes = rng.integers(-top, top + 1, (ROWS, k))
    x = rng.integers(-127, 128, (7, k))
    exact = x.astype(np.int64) @ codes.T.astype(np.int64)
    got = quant.integer_product(jnp.float32(x), jnp.float32(codes), operand, max_tier)
    np.testing.assert_array_equal(np.asarray(got, np.int64), exact)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from(OPERANDS), st.sampled_from([0, 4, 8]))
def test_the_forward_is_the_integer_reference_bit_for_bit(seed, operand, bits):
    x, w = draw(seed, 3, K), draw(seed + 1, ROWS, K)
    tier = jnp.array([bits, 0], jnp.int8)
    codes, scale = quant.integer_codes(w, tier, jnp.ones(2), (ROWS,))
    integers, delta = quant.quantise_activations(x)
    acc = np.asarray(integers, np.int64) @ np.asarray(codes, np.int64).T
    reference = np.float32(acc) * (np.asarray(scale) * np.asarray(delta))
    np.testing.assert_array_equal(linear(x, w, operand, 8, tier=tier), reference)
    dense = quant.Dense(codes=codes.astype(quant.float_type(operand)), scale=scale)
    np.testing.assert_array_equal(linear(x, dense, operand, 8), reference)


def test_the_gradient_is_straight_through_at_a_random_point():
    x, w, g = draw(5, 6, K), draw(6, ROWS, K), draw(7, 6, ROWS)
    _, vjp = jax.vjp(lambda x, w: linear(x, w), x, w)
    dx, dw = vjp(g)
    alpha = np.abs(np.asarray(w)).mean()
    t = np.clip(np.round(np.asarray(w) / alpha), -1, 1)
    delta = np.abs(np.asarray(x)).max(axis=1, keepdims=True) / 127
    quantised = np.clip(np.round(np.asarray(x) / delta), -127, 127) * delta
    np.testing.assert_allclose(dx, np.asarray(g) @ (alpha * t), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dw, np.asarray(g).T @ quantised, rtol=1e-4, atol=1e-4)
    assert np.abs(dw).min() > 0  # nothing is masked, not even weights beyond the clip


def test_the_gradient_of_a_tier_uses_its_integers():
    x, w, g = draw(8, 6, K), draw(9, ROWS, K), draw(10, 6, ROWS)
    tier = jnp.array([8, 4], jnp.int8)
    _, vjp = jax.vjp(lambda x: linear(x, w, max_tier=8, tier=tier), x)
    codes, scale = quant.integer_codes(w, tier, jnp.ones(2), (ROWS,))
    np.testing.assert_allclose(vjp(g)[0], g @ (codes * scale[:, None]), rtol=1e-4, atol=1e-4)


def test_the_ramp_goes_from_full_precision_to_the_quantised_values():
    x, w = draw(11, 4, K), draw(12, ROWS, K)
    np.testing.assert_allclose(linear(x, w, lam=jnp.float32(0)), x @ w.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(linear(x, w, lam=jnp.float32(1)), linear(x, w), rtol=1e-4, atol=1e-4)
    half = linear(x, w, lam=jnp.float32(0.5))
    blended = quant.Blend(weight=quant.blended_weight(w, jnp.float32(0.5), (ROWS,)), lam=jnp.float32(0.5))
    np.testing.assert_array_equal(half, linear(x, blended))


def test_contraction_differentiates_like_einsum():
    a, b, g = draw(13, 3, 5, 4), draw(14, 3, 6, 4), draw(15, 3, 5, 6)
    mine = lambda a, b: quant.contraction("ZTK,ZSK->ZTS", a, b, jnp.dtype(jnp.float32))
    plain = lambda a, b: jnp.einsum("ZTK,ZSK->ZTS", a, b)
    for one, other in zip(jax.vjp(mine, a, b)[1](g), jax.vjp(plain, a, b)[1](g), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_stored_bits_count_tiers_and_their_index():
    cfg = Model(num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, compute="f32")
    _, tiers = jax.jit(transformer.init, static_argnums=1)(jax.random.key(0), cfg)
    assert float(precision.mean_stored_bits(tiers, cfg)) == 2.0
    o = tiers["layers"]["o"]
    tiers["layers"]["o"] = {
        **o,
        "tier": o["tier"].at[0, 0].set(4),
    }  # 16×32 weights of 2·(64·32 + 32·32 + 64·32 + 32·32)
    total = 2 * (64 * 32 + 32 * 32 + 64 * 32 + 32 * 32)
    np.testing.assert_allclose(precision.mean_stored_bits(tiers, cfg), 2 + (4 * 16 * 32 + 32) / total, rtol=1e-6)


def test_materialise_replaces_every_ternary_matrix():
    cfg = Model(num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, compute="bf16")
    params, tiers = jax.jit(transformer.init, static_argnums=1)(jax.random.key(0), cfg)
    weights = quant.materialise(params, tiers, cfg)
    for name in kernel_parts(cfg):
        dense = weights["layers"][name]["kernel"]
        assert isinstance(dense, quant.Dense) and dense.codes.dtype == jnp.bfloat16
        assert set(np.unique(np.float32(dense.codes))) <= {-1.0, 0.0, 1.0}
    assert weights["embedding"] is params["embedding"]
    blended = quant.materialise(params, tiers, cfg, lam=jnp.float32(0.25))
    assert isinstance(blended["layers"]["o"]["kernel"], quant.Blend)
