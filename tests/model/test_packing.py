"""Packed trees: the integers of the λ = 1 forward, bit for bit, and the same tokens out of a whole decode."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import BLOCK_ROWS, Model, kernel_parts
from bitzero.model import packing, precision, quant, transformer
from bitzero.selfplay import rollout
from pallas_kernels import layout

CFG = Model(
    num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=48, max_tier=8, smear=1, compute="f32"
)


@pytest.fixture(scope="module")
def model():
    """Random latents; tiers differ by layer and matrix, one promoted block is half-way up its ramp."""
    params, precision = transformer.init(jax.random.key(3), CFG)
    tiers = {
        "qkv": [[8, 0, 4, 0], [0, 0, 0, 4]],
        "o": [[0, 0], [0, 0]],
        "gate_up": [[0] * 6, [8] * 6],
        "down": [[4, 4], [0, 8]],
    }
    layers = {
        name: {"tier": jnp.array(rows, jnp.int8), "ramp": precision["layers"][name]["ramp"].at[1, -1].set(0.5)}
        for name, rows in tiers.items()
    }
    return params, {"layers": layers}


def test_both_rooms_mean_the_same_tiers():
    assert layout.BLOCK_ROWS == BLOCK_ROWS
    assert {m: limit for m, limit in quant.GRID.values() if limit} == layout.LIMIT


def test_every_linear_layer_is_bit_for_bit_the_unpacked_one(model):
    params, precision = model
    packed = packing.pack(params, precision, CFG)
    dense = quant.materialise(params, precision, CFG)
    for name, parts in kernel_parts(CFG).items():
        for layer in range(CFG.num_layers):
            a, b = (jax.tree.map(lambda leaf: leaf[layer], t["layers"][name]["kernel"]) for t in (dense, packed))  # noqa: B023
            for rows in (1, 7):
                x = jax.random.normal(jax.random.key(layer), (rows, a.codes.shape[1]))
                y, z = (quant.linear(x, w, None, None, parts=parts, operand="f32", max_tier=8) for w in (a, b))
                assert np.abs(y).max() > 0
                np.testing.assert_array_equal(y, z)


def test_greedy_decode_gives_the_same_tokens_on_200_prompts(model):
    params, precision = model
    prompts = jax.random.randint(jax.random.key(5), (200, 9), 2, 512)
    prompts = jnp.where(jnp.arange(9)[None] < jnp.arange(200)[:, None] % 6, 0, prompts)
    decode = jax.jit(rollout.sample, static_argnames=("model", "max_new"))
    trees = (packing.pack(params, precision, CFG), quant.materialise(params, precision, CFG))
    a, b = (decode(jax.random.key(0), tree, prompts, CFG, max_new=12, temperature=0.0) for tree in trees)
    np.testing.assert_array_equal(a.tokens, b.tokens)
    np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


def test_the_additions_are_packed_too():
    """The float parts are the same floats, but sums around them may be in another order, and a last bit of a sum may
    turn the code of an activation: a few rows differ a little.
    """
    cfg = dataclasses.replace(CFG, conv=3, value_embeddings=True, input_skips=True, qk_norm=True)
    params, precision = transformer.init(jax.random.key(3), cfg)
    taps = params["layers"]["conv"]
    params["layers"]["conv"] = 0.3 * jax.random.normal(jax.random.key(4), taps.shape)  # they begin at 0
    prompts = jax.random.randint(jax.random.key(5), (200, 9), 2, 512)
    decode = jax.jit(rollout.sample, static_argnames=("model", "max_new"))
    trees = (packing.pack(params, precision, cfg), quant.materialise(params, precision, cfg))
    a, b = (decode(jax.random.key(0), tree, prompts, cfg, max_new=12, temperature=0.0) for tree in trees)
    same = np.all(a.tokens == b.tokens, axis=1)
    off = np.max(np.abs(a.logprobs - b.logprobs), axis=1)[same]
    assert np.mean(same) > 0.95 and np.mean(off < 1e-5) > 0.9 and np.max(off) < 0.05


def test_materialise_gives_back_the_integers(model):
    params, precision = model
    found = packing.to_dense(packing.pack(params, precision, CFG), "f32")
    want = quant.materialise(params, precision, CFG)
    jax.tree.map(np.testing.assert_array_equal, found, want)


def test_a_ternary_tree_takes_two_bits_a_weight_and_a_scale_a_row():
    cfg = dataclasses.replace(CFG, width=256, head_dim=128, ffn_width=512, max_tier=0)
    params, precision = transformer.init(jax.random.key(0), cfg)
    matrices, rest = packing.weight_bytes(packing.pack(params, precision, cfg))
    weights = sum(params["layers"][name]["kernel"].size for name in kernel_parts(cfg))
    rows = cfg.num_layers * sum(sum(parts) for parts in kernel_parts(cfg).values())
    assert matrices == weights // 4 + 4 * rows
    assert rest == 4 * (sum(leaf.size for leaf in jax.tree.leaves(params)) - weights)


def test_without_tiers_a_plain_ternary_model_is_left(model):
    params, precision = model
    tree = packing.pack(params, precision, CFG)
    plain = packing.without_tiers(tree)
    bare = {"layers": {name: t | {"tier": jnp.zeros_like(t["tier"])} for name, t in precision["layers"].items()}}
    jax.tree.map(np.testing.assert_array_equal, packing.to_dense(plain, "f32"), quant.materialise(params, bare, CFG))
    assert packing.stored_bits(plain) == 2.0


def test_stored_bits_are_those_that_the_budget_counts(model):
    params, state = model
    counted = precision.mean_stored_bits(state, CFG)
    assert packing.stored_bits(packing.pack(params, state, CFG)) == pytest.approx(float(counted), rel=1e-6)
