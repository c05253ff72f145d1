"""With every addition off the model is BitNet b1.58: compared with a forward pass written out in NumPy."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np

from bitzero import config as configuration
from bitzero.config import with_operand
from bitzero.model import packing, quant, transformer
from bitzero.model.cache import empty_cache

TOKENS = jnp.array([[7, 300, 301, 9, 300, 44, 5, 302]])


def plain():
    cfg = configuration.freeze(importlib.import_module("experiments.bitnet_plain").get_config())
    small = dataclasses.replace(
        cfg.model, num_layers=2, width=32, num_heads=4, num_kv_heads=2, head_dim=16, ffn_width=48
    )
    return with_operand(dataclasses.replace(cfg, model=small), "f32").model


def test_the_parameters_are_those_of_bitnet():
    """Seven matrices a layer in four kernels, four norms, an embedding, a last norm."""
    params, _ = jax.eval_shape(lambda: transformer.init(jax.random.key(0), plain()))
    names = {"/".join(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    kernels = {f"layers/{name}/kernel" for name in ("qkv", "o", "gate_up", "down")}
    norms = {f"layers/{name}/gain" for name in ("attn_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm")}
    assert names == {"embedding", "final_norm/gain"} | kernels | norms


def rms_norm(x, gain):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6) * gain


def bit_linear(x, w):
    """arXiv 2402.17764, equations 1 to 3, of one matrix; activations to int8 by token."""
    alpha = np.abs(w).mean()
    delta = np.abs(x).max(axis=-1, keepdims=True) / 127
    return np.round(x / delta) @ np.clip(np.round(w / alpha), -1, 1).T * (alpha * delta)


def rotated(x, theta):
    """Rotary positions, half-split; x has the axes T, H, K."""
    t, _, size = x.shape
    angles = np.arange(t)[:, None] * theta ** (-np.arange(size // 2) / (size // 2))
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    a, b = x[..., : size // 2], x[..., size // 2 :]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def attended(x, w, model):
    """Causal attention of one sequence; w is Wq, Wk and Wv one below the other."""
    t, size, heads, groups = len(x), model.head_dim, model.num_heads, model.num_kv_heads
    cuts = [heads * size, (heads + groups) * size]
    q, k, v = (bit_linear(x, part).reshape(t, -1, size) for part in np.split(w, cuts))
    q, k = rotated(q, model.rope_theta), rotated(k, model.rope_theta)
    k, v = (np.repeat(part, heads // groups, axis=1) for part in (k, v))
    scores = np.einsum("THK,SHK->HTS", q, k) / np.sqrt(size)
    scores = np.where(np.tril(np.ones((t, t), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("HTS,SHK->THK", weights, v).reshape(t, -1)


def logits_by_hand(params, model):
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    x = p["embedding"][np.asarray(TOKENS[0])] * np.sqrt(model.width)
    for layer in range(model.num_layers):
        at = jax.tree.map(lambda a, layer=layer: a[layer], p["layers"])
        kernel, gain = lambda name, at=at: at[name]["kernel"], lambda name, at=at: at[name]["gain"]
        heads = attended(rms_norm(x, gain("attn_norm")), kernel("qkv"), model)
        x = x + bit_linear(rms_norm(heads, gain("attn_sub_norm")), kernel("o"))
        gate, up = (bit_linear(rms_norm(x, gain("ffn_norm")), w) for w in np.split(kernel("gate_up"), 2))
        x = x + bit_linear(rms_norm(np.maximum(gate, 0) ** 2 * up, gain("ffn_sub_norm")), kernel("down"))
    return rms_norm(x, p["final_norm"]["gain"]) @ p["embedding"].T


def test_the_forward_pass_is_bitnets_and_packs():
    model = plain()
    params, tiers = jax.jit(transformer.init, static_argnums=1)(jax.random.key(1), model)
    params = jax.tree.map(lambda a: a + 0.1 * jax.random.normal(jax.random.key(a.size), a.shape), params)  # gains too
    by_hand = logits_by_hand(params, model)
    ones = jnp.ones(TOKENS.shape, jnp.int32)
    ours = jax.jit(transformer.apply, static_argnames="model")(params, tiers, TOKENS, ones, model)[0]
    np.testing.assert_allclose(ours, by_hand, atol=2e-2 * np.abs(by_hand).max())
    assert np.mean(np.abs(ours - by_hand)) < 2e-3 * np.abs(by_hand).max()  # but where an int8 rounding flips
    packed = packing.pack(params, tiers, model)
    dense = jax.jit(quant.materialise, static_argnums=2)(params, tiers, model)
    decode = jax.jit(transformer.apply_cached, static_argnames="model")
    cache = lambda: empty_cache(model, 1, TOKENS.shape[1])
    lags, positions = transformer.with_preceding(TOKENS, ones, 0), transformer.positions_of(ones)
    mask = transformer.causal_mask(ones)
    from_packed, from_dense = (
        decode(weights, lags, positions, mask, cache(), jnp.int32(0), model)[0][0] for weights in (packed, dense)
    )
    np.testing.assert_allclose(from_packed, from_dense, atol=1e-4)
    np.testing.assert_allclose(from_packed, by_hand, atol=2e-2 * np.abs(by_hand).max())
