"""Decoding with layers in C++ beside XLA's: logits and cache of prompts of several lengths and of what follows."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Model, kernel_parts
from bitzero.model import native, packing, quant, transformer
from bitzero.model.cache import empty_cache
from bitzero.model.transformer import apply_cached, positions_of, with_preceding
from bitzero.native import functions
from bitzero.selfplay import rollout
from bitzero.tasks.tokens import PAD

PLAIN = Model(num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=32, ffn_width=64, max_tier=4, compute="f32")
OURS = dataclasses.replace(
    PLAIN, num_heads=4, num_kv_heads=2, smear=2, value_embeddings=True, input_skips=True, qk_norm=True, conv=3
)
LENGTHS, PROMPT, NEW = (1, 7, 50, 52, 3), 52, 3


def materialised(model, kind):
    """Weights of every leaf at random, as a rollout takes them."""
    params, tiers = transformer.init(jax.random.key(0), model)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    params = jax.tree.unflatten(structure, moved)
    if kind == "tiers":
        for name in kernel_parts(model):
            tiers["layers"][name]["tier"] = tiers["layers"][name]["tier"].at[:, ::2].set(4)
    if kind == "full":
        return quant.unquantised(params, model)
    return quant.materialise(params, tiers, model, jnp.float32(0.3) if kind == "blend" else None)


def decoded(weights, model):
    """Logits of a prompt's tokens and of NEW more, one by one, and the cache after them."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(20, 512, (len(LENGTHS), PROMPT + NEW))
    held = np.arange(PROMPT + NEW)[None] >= PROMPT - np.array(LENGTHS)[:, None]
    tokens, segments = jnp.asarray(np.where(held, tokens, PAD)), jnp.asarray(held, jnp.int32)
    read, places = with_preceding(tokens, segments, model.smear), positions_of(segments)
    mask = transformer.causal_mask(segments)
    cache, found = empty_cache(model, len(LENGTHS), PROMPT + NEW), []
    step = jax.jit(apply_cached, static_argnames="model")
    for at, to in ((0, PROMPT), *((i, i + 1) for i in range(PROMPT, PROMPT + NEW))):
        logits, cache = step(
            weights, read[:, at:to], places[:, at:to], mask[:, at:to], cache, jnp.int32(at), model=model
        )
        found.append(logits)
    return jnp.concatenate(found, axis=1), cache, held


@pytest.mark.parametrize(
    "model, kind", [(OURS, "full"), (OURS, "ternary"), (OURS, "tiers"), (OURS, "blend"), (PLAIN, "ternary")]
)
def test_decoding_is_that_of_xla(model, kind):
    """A code lies between two integers for some value, and one that falls the other way moves what follows a little."""
    weights = materialised(model, kind)
    got_logits, cache, held = decoded(weights, dataclasses.replace(model, layers="native"))
    want, want_cache, _ = decoded(weights, dataclasses.replace(model, layers="xla"))
    at = 2e-4 if kind == "full" else 0.05
    for got, expected, rows in (
        (got_logits, want, held),
        (jnp.moveaxis(cache.key, 0, 2), jnp.moveaxis(want_cache.key, 0, 2), held),
        (jnp.moveaxis(cache.value, 0, 2), jnp.moveaxis(want_cache.value, 0, 2), held),
        (jnp.moveaxis(cache.recent, 0, 2), jnp.moveaxis(want_cache.recent, 0, 2), held[:, -cache.recent.shape[2] :]),
    ):
        if expected.size == 0:  # a model without convolution keeps no inputs of one
            continue
        off = np.abs(np.asarray(got) - np.asarray(expected))[rows] / float(jnp.max(jnp.abs(expected)))
        assert off.max() < at and off.mean() < at / 10, (kind, off.max(), off.mean())
    assert float(jnp.mean(jnp.argmax(got_logits, -1)[held] == jnp.argmax(want, -1)[held])) > 0.95


def test_what_has_ended_is_passed_over():
    """The others go on with the same bits, and the cache of what has ended stays as it was."""
    model = dataclasses.replace(OURS, layers="native")
    weights, ended = materialised(model, "ternary"), jnp.asarray([False, True, True, False, True])
    tokens = jnp.asarray(np.random.default_rng(0).integers(20, 512, (len(ended), PROMPT)))
    segments, found = jnp.ones_like(tokens), []
    mask, read = transformer.causal_mask(segments), with_preceding(tokens, segments, model.smear)
    for places in (positions_of(segments), jnp.where(ended[:, None], -1, positions_of(segments))):
        step = functools.partial(apply_cached, weights, mask=mask, slot=jnp.int32(0), model=model)
        found.append(step(read, places, cache=empty_cache(model, len(ended), PROMPT)))
    (want, want_cache), (got, cache) = found
    np.testing.assert_array_equal(got[~ended], want[~ended])
    np.testing.assert_array_equal(cache.key[:, ~ended], want_cache.key[:, ~ended])
    assert not np.asarray(cache.key[:, ended]).any() and np.asarray(want_cache.key[:, ended]).any()


def test_tokens_are_drawn_by_their_probabilities():
    """A token has as wide a share of the unit interval as it is likely; PAD has none, nor has what is done."""
    logits = jax.random.normal(jax.random.key(0), (3, 64)).at[0, PAD].set(9.0)
    places = 4096
    chance = (jnp.arange(places) + 0.5) / places
    for temperature in (0.5, 1.0):
        want = jax.nn.log_softmax(logits.at[:, PAD].set(-jnp.inf) / temperature)
        for row in range(len(logits)):
            rows, done = jnp.repeat(logits[row][None], places, axis=0), jnp.arange(places) % 16 == 5
            token, logp = functions.draw_tokens(rows, chance, done, jnp.float32(temperature), PAD)
            assert not np.asarray(token)[done].any() and not np.asarray(logp)[done].any()
            token, logp = functions.draw_tokens(rows, chance, jnp.zeros_like(done), jnp.float32(temperature), PAD)
            np.testing.assert_allclose(logp, want[row][token], atol=1e-5)
            shares = np.bincount(np.asarray(token), minlength=64) / places
            np.testing.assert_allclose(shares, np.exp(want[row]), atol=2 / places)
            assert (np.diff(np.asarray(token)) >= 0).all()


def test_at_temperature_nought_the_likeliest_is_drawn():
    logits = jax.random.normal(jax.random.key(0), (50, 64)).at[:, PAD].set(9.0).at[7, 3].set(5.0).at[7, 40].set(5.0)
    best = logits.at[:, PAD].set(-jnp.inf)
    token, logp = functions.draw_tokens(logits, jnp.ones(50) * 0.999, jnp.zeros(50, bool), jnp.float32(0), PAD)
    np.testing.assert_array_equal(token, jnp.argmax(best, axis=1))
    assert int(token[7]) == 3  # the first of two
    np.testing.assert_allclose(logp, jnp.max(jax.nn.log_softmax(best), axis=1), atol=1e-5)


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_samples_do_not_depend_on_the_parts(parts):
    """Three answers to each of two prompts; a part may be several prompts, one, or less than one."""
    model = dataclasses.replace(OURS, layers="native")
    weights, prompts = materialised(model, "ternary"), jnp.asarray([[PAD, 30, 31, 32], [40, 41, 42, 43]])
    draw = jax.jit(rollout.sample, static_argnames=("model", "max_new", "copies", "parts"))
    named = {"model": model, "max_new": 12, "temperature": jnp.float32(0.8), "copies": 3}
    whole, cut = (draw(jax.random.key(0), weights, prompts, **named, parts=n) for n in (1, parts))
    np.testing.assert_array_equal(cut.tokens, whole.tokens)
    np.testing.assert_array_equal(cut.mask, whole.mask)
    np.testing.assert_allclose(cut.logprobs, whole.logprobs, atol=1e-4)
    assert len({tuple(row) for row in np.asarray(whole.tokens)}) > 2


def test_packed_weights_go_by_xla():
    """They are not materialised, and C++ does not read their format."""
    params, tiers = transformer.init(jax.random.key(0), PLAIN)
    packed = packing.pack(params, tiers, PLAIN)
    assert native.stack_of(packed["layers"], PLAIN) is None
    assert native.stack_of(params["layers"], PLAIN) is None
