"""The transformer: cached decode against the full forward, masks, sizes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import OPERANDS, Model
from bitzero.model import attention, quant, transformer
from bitzero.model.cache import empty_cache

CFG = Model(
    num_layers=2, width=32, num_heads=4, num_kv_heads=2, head_dim=16, ffn_width=48, max_tier=0, smear=2, compute="f32"
)
RICH = dataclasses.replace(CFG, value_embeddings=True, input_skips=True, qk_norm=True, conv=4)
SEGMENTS = jnp.int32(jnp.arange(12)[None] >= jnp.array([0, 3, 5])[:, None])  # left-padded by 0, 3 and 5


apply = jax.jit(transformer.apply, static_argnames="model")


@pytest.fixture(scope="module", params=[CFG, RICH], ids=["plain", "rich"])
def shape(request):
    return request.param


@pytest.fixture(scope="module")
def model(shape):
    """Random parameters; what begins at zero or at a constant is moved, so that a test would see it left out."""
    params, tiers = jax.jit(transformer.init, static_argnums=1)(jax.random.key(0), shape)
    for i, name in enumerate(sorted({"conv", "skip_gain", "value_gain", "query_gain"} & set(params["layers"]))):
        noise = jax.random.normal(jax.random.key(i), params["layers"][name].shape)
        params["layers"][name] = params["layers"][name] + 0.3 * noise
    return params, tiers


@pytest.fixture(scope="module")
def tokens():
    return jax.random.randint(jax.random.key(1), (3, 12), 2, 512)


def logp(logits):
    return jnp.where(SEGMENTS[..., None] > 0, jax.nn.log_softmax(logits), 0)


@pytest.mark.parametrize("operand", OPERANDS)
def test_cached_decode_agrees_with_the_full_forward(model, shape, tokens, operand):
    params, tiers = model
    cfg = dataclasses.replace(shape, compute=operand)
    full = logp(apply(params, tiers, tokens, SEGMENTS, cfg))
    weights = jax.jit(quant.materialise, static_argnames="model")(params, tiers, cfg)
    cache = empty_cache(cfg, 3, 12)
    lags = transformer.with_preceding(tokens, SEGMENTS, shape.smear)
    positions, mask = transformer.positions_of(SEGMENTS), transformer.causal_mask(SEGMENTS)
    step = jax.jit(transformer.apply_cached, static_argnames="model")
    pieces = []
    for t in range(12):
        where = (slice(None), slice(t, t + 1))
        logits, cache = step(weights, lags[where], positions[where], mask[where], cache, jnp.int32(t), cfg)
        pieces.append(logits)
    gap = jnp.abs(logp(jnp.concatenate(pieces, axis=1)) - full)
    assert float(gap.max()) <= 0.05
    assert float(gap.mean()) <= 1e-3


def test_left_padding_changes_nothing(model, shape, tokens):
    params, tiers = model
    alone = apply(params, tiers, tokens[1:2, 3:], jnp.ones((1, 9), jnp.int32), shape)
    padded = apply(params, tiers, tokens, SEGMENTS, shape)[1:2, 3:]
    np.testing.assert_allclose(jax.nn.log_softmax(alone), jax.nn.log_softmax(padded), atol=0.02)


def test_packed_examples_do_not_see_each_other(model, shape, tokens):
    params, tiers = model
    packed = jnp.concatenate([tokens[:1, :5], tokens[1:2, :7]], axis=1)
    segments = jnp.array([[1] * 5 + [2] * 7])
    np.testing.assert_array_equal(transformer.positions_of(segments)[0], [*range(5), *range(7)])
    together = apply(params, tiers, packed, segments, shape)[:, 5:]
    alone = apply(params, tiers, tokens[1:2, :7], jnp.ones((1, 7), jnp.int32), shape)
    np.testing.assert_allclose(jax.nn.log_softmax(together), jax.nn.log_softmax(alone), atol=0.02)


def test_the_future_is_hidden(model, shape, tokens):
    params, tiers = model
    ones = jnp.ones((3, 12), jnp.int32)
    before = apply(params, tiers, tokens, ones, shape)
    after = apply(params, tiers, tokens.at[:, 8:].set(7), ones, shape)
    np.testing.assert_array_equal(before[:, :8], after[:, :8])
    assert jnp.any(before[:, 8:] != after[:, 8:])


def test_the_cache_takes_several_tokens_at_once(model, shape, tokens):
    params, tiers = model
    full = logp(apply(params, tiers, tokens, SEGMENTS, shape))
    weights = jax.jit(quant.materialise, static_argnames="model")(params, tiers, shape)
    lags = transformer.with_preceding(tokens, SEGMENTS, shape.smear)
    positions, mask, cache = transformer.positions_of(SEGMENTS), transformer.causal_mask(SEGMENTS), None
    cache, pieces = empty_cache(shape, 3, 12), []
    for part in (slice(0, 2), slice(2, 7), slice(7, 12)):  # fewer than the convolution reaches, and more
        where = (slice(None), part)
        logits, cache = transformer.apply_cached(
            weights, lags[where], positions[where], mask[where], cache, jnp.int32(part.start), shape
        )
        pieces.append(logits)
    gap = jnp.abs(logp(jnp.concatenate(pieces, axis=1)) - full)
    assert float(gap.max()) <= 0.05
    assert float(gap.mean()) <= 1e-3


def test_every_addition_counts(tokens):
    """Each setting has parameters of its own, they change the logits, and all of them have a gradient."""
    for name, value in {"value_embeddings": True, "input_skips": True, "qk_norm": True, "conv": 4}.items():
        cfg = dataclasses.replace(CFG, **{name: value})
        params, tiers = transformer.init(jax.random.key(0), cfg)
        plain, _ = transformer.init(jax.random.key(0), CFG)
        new = set(params["layers"]) - set(plain["layers"])
        assert new, name

        def loss(params, cfg=cfg, tiers=tiers):
            return jnp.mean(jax.nn.log_softmax(transformer.apply(params, tiers, tokens, SEGMENTS, cfg))[:, :, 3])

        grads = jax.jit(jax.grad(loss))(params)["layers"]
        assert all(bool(jnp.any(grads[key] != 0)) for key in new), name


def test_with_zero_outputs_layers_begin_as_the_identity_and_learn(tokens):
    """In the unquantised phase: rounding begins later."""
    unquantised = jnp.float32(0)
    cfg = dataclasses.replace(CFG, zero_outputs=True)
    params, tiers = transformer.init(jax.random.key(0), cfg)
    assert all(bool(jnp.any(params["layers"][name]["kernel"] != 0)) == (name in ("qkv", "gate_up"))
               for name in ("qkv", "o", "gate_up", "down"))  # fmt: skip
    shorter = dataclasses.replace(cfg, num_layers=1)
    first = jax.tree.map(lambda leaf: leaf[:1], (params["layers"], tiers["layers"]))
    alone = apply({**params, "layers": first[0]}, {**tiers, "layers": first[1]}, tokens, SEGMENTS, shorter, unquantised)
    np.testing.assert_array_equal(apply(params, tiers, tokens, SEGMENTS, cfg, unquantised), alone)

    def loss(params):
        return jnp.mean(
            jax.nn.log_softmax(transformer.apply(params, tiers, tokens, SEGMENTS, cfg, unquantised))[:, :, 3]
        )

    grads = jax.jit(jax.grad(loss))(params)["layers"]
    assert all(bool(jnp.any(grads[name]["kernel"] != 0)) for name in ("o", "down"))


def test_the_convolution_by_hand():
    x = jnp.array([[[1.0], [2.0], [4.0], [8.0]]])
    taps = jnp.array([[0.5], [10.0], [100.0]])
    positions = jnp.array([[0, 1, 0, 1]])  # two examples in one row
    out = attention.convolve(x, jnp.array([[[7.0], [9.0]]]), taps, positions)
    np.testing.assert_allclose(out[0, :, 0], [1.5, 2 + 1 + 10, 6.0, 8 + 4 + 40])
    later = attention.convolve(x[:, :1], jnp.array([[[7.0], [9.0]]]), taps, jnp.array([[2]]))
    np.testing.assert_allclose(later[0, :, 0], [1.5 + 90 + 700])


def test_the_convolution_differentiates_like_its_definition():
    key = jax.random.split(jax.random.key(3), 4)
    x, g, taps = (jax.random.normal(k, s) for k, s in zip(key, [(2, 7, 3), (2, 7, 3), (4, 3)], strict=False))
    positions, before = jnp.array([[0, 1, 2, 0, 1, 2, 3]] * 2), jnp.zeros((2, 3, 3))

    def plain(x, taps):
        reach = jnp.arange(7)[:, None] - jnp.arange(7)[None]  # t − s
        inside = (reach >= 0) & (reach < 4) & (positions[0][:, None] >= reach)
        weights = jnp.where(inside[..., None], taps[jnp.clip(reach, 0, 3)], 0.0)
        return x + jnp.einsum("TSN,BSN->BTN", weights, x)

    mine = lambda x, taps: attention.convolve(x, before, taps, positions)
    np.testing.assert_allclose(mine(x, taps), plain(x, taps), rtol=1e-5, atol=1e-6)
    for one, other in zip(jax.vjp(mine, x, taps)[1](g), jax.vjp(plain, x, taps)[1](g), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_attention_differentiates_like_the_plain_softmax():
    key = jax.random.split(jax.random.key(2), 4)
    q, g = jax.random.normal(key[0], (2, 5, 4, 8)), jax.random.normal(key[1], (2, 5, 4, 8))
    k, v = jax.random.normal(key[2], (2, 5, 2, 8)), jax.random.normal(key[3], (2, 5, 2, 8))
    mask = jnp.broadcast_to(jnp.tril(jnp.ones((5, 5), bool)), (2, 5, 5))

    def plain(q, k, v):
        k, v = jnp.repeat(k, 2, axis=2), jnp.repeat(v, 2, axis=2)
        scores = jnp.einsum("BTHK,BSHK->BHTS", q, k) * 8**-0.5
        weights = jax.nn.softmax(jnp.where(mask[:, None], scores, -1e9), axis=-1)
        return jnp.einsum("BHTS,BSHK->BTHK", weights, v)

    mine = lambda q, k, v: attention.attend(q, k, v, mask, None, jnp.dtype(jnp.float32))
    np.testing.assert_allclose(jax.jit(mine)(q, k, v), jax.jit(plain)(q, k, v), rtol=1e-4, atol=1e-5)
    back = lambda attend: jax.jit(lambda q, k, v, g: jax.vjp(attend, q, k, v)[1](g))(q, k, v, g)
    for one, other in zip(back(mine), back(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_remat_changes_memory_not_gradients(model, shape, tokens):
    params, tiers = model

    def loss(params, cfg):
        logits = transformer.apply(params, tiers, tokens, SEGMENTS, cfg)
        return jnp.mean(jax.nn.log_softmax(logits)[:, :, 3])

    grad = jax.jit(jax.grad(loss), static_argnames="cfg")
    kept, again = (grad.lower(params, dataclasses.replace(shape, remat=remat)).compile() for remat in (False, True))
    for one, two in zip(jax.tree.leaves(kept(params)), jax.tree.leaves(again(params)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-7)
    kept_bytes, again_bytes = (program.memory_analysis().temp_size_in_bytes for program in (kept, again))
    assert again_bytes < kept_bytes


@pytest.mark.parametrize(
    "cfg, low, high",
    [
        (Model(num_layers=2, width=48, num_heads=3, num_kv_heads=1, head_dim=16, ffn_width=96), 0.05e6, 0.15e6),
        (
            Model(num_layers=16, width=1024, num_heads=16, num_kv_heads=8, head_dim=64, ffn_width=2816),
            170e6,
            210e6,
        ),
    ],
)
def test_numbers_alone_reach_from_a_tenth_of_a_million_to_two_hundred(cfg, low, high):
    params, _ = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
    assert low < sum(leaf.size for leaf in jax.tree.leaves(params)) < high
