"""Sampling: log-probs as in training, ends at EOS, padding and batch neighbours without influence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Model
from bitzero.model import quant, transformer
from bitzero.selfplay import objective, rollout

CFG = Model(
    num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=48, max_tier=0, smear=2, compute="f32"
)
PROMPTS = jnp.array([[0, 0, 0, 5, 300, 7], [9, 8, 7, 6, 5, 4], [0, 0, 0, 5, 300, 7], [0, 3, 300, 301, 302, 303]])


apply = jax.jit(transformer.apply, static_argnames="model")


@pytest.fixture(scope="module")
def model():
    params, tiers = jax.jit(transformer.init, static_argnums=1)(jax.random.key(3), CFG)
    params["embedding"] = params["embedding"].at[rollout.EOS].mul(3.0)  # ends now and then
    return params, tiers


def sample(model, key, temperature, max_new=20, prompts=PROMPTS, parts=1):
    weights = jax.jit(quant.materialise, static_argnums=2)(*model, CFG)
    call = jax.jit(rollout.sample, static_argnames=("model", "max_new", "parts"))
    return call(jax.random.key(key), weights, prompts, CFG, max_new=max_new, temperature=temperature, parts=parts)


def test_sampler_and_training_forward_agree_on_logprobs(model):
    drawn = sample(model, 0, 1.0)
    tokens = jnp.concatenate([PROMPTS, drawn.tokens], axis=1)
    logits = apply(*model, tokens, jnp.int32(tokens != 0), CFG)[:, PROMPTS.shape[1] - 1 : -1]
    logp = jax.nn.log_softmax(objective.without_pad(logits))
    logp = jnp.take_along_axis(logp, drawn.tokens[..., None], axis=-1)[..., 0]
    gap = jnp.abs(logp - drawn.logprobs) * drawn.mask
    assert float(gap.max()) <= 0.05
    assert float(gap.sum() / drawn.mask.sum()) <= 1e-3


def test_nothing_follows_the_end(model):
    drawn = sample(model, 1, 1.0)
    ends = np.asarray(drawn.tokens == rollout.EOS)
    assert ends.any(), "the test needs a row that ends"
    for row, mask, end in zip(np.asarray(drawn.tokens), np.asarray(drawn.mask), ends, strict=True):
        length = int(end.argmax()) + 1 if end.any() else len(row)
        assert mask[:length].all() and not mask[length:].any()
        assert (row[length:] == rollout.PAD).all()


def test_a_group_draws_different_answers(model):  # AZR's pinned trainer drew eight identical greedy ones: r̄ ∈ {0, 1}
    drawn = sample(model, 2, 1.0)
    assert (drawn.tokens[0] != drawn.tokens[2]).any()  # rows 0 and 2 have the same prompt
    greedy = sample(model, 2, 0.0)
    np.testing.assert_array_equal(greedy.tokens[0], greedy.tokens[2])


def test_the_same_key_draws_the_same(model):
    one, two = sample(model, 4, 1.0), sample(model, 4, 1.0)
    np.testing.assert_array_equal(one.tokens, two.tokens)
    assert (sample(model, 5, 1.0).tokens != one.tokens).any()


def test_greedy_takes_the_most_probable_token(model):
    drawn = sample(model, 0, 0.0, max_new=1)
    logits = apply(*model, PROMPTS, jnp.int32(PROMPTS != 0), CFG)[:, -1]
    np.testing.assert_array_equal(drawn.tokens[:, 0], jnp.argmax(logits, axis=-1))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_padding_is_never_drawn_however_likely_it_is(model, temperature):
    params, tiers = model
    likely = {**params, "embedding": params["embedding"].at[rollout.PAD].set(40 * params["embedding"][300])}
    weights = jax.jit(quant.materialise, static_argnums=2)(likely, tiers, CFG)
    logits, _ = rollout.prefill(weights, PROMPTS, CFG, max_new=1)
    assert (jnp.argmax(logits, axis=-1) == rollout.PAD).any(), "the test needs a row that wants it"
    drawn = sample((likely, tiers), 0, temperature, max_new=6)
    before_end = jnp.cumsum(drawn.tokens == rollout.EOS, axis=1) == 0
    assert (drawn.tokens[before_end] != rollout.PAD).all()
    assert drawn.mask[before_end].all() and (drawn.logprobs[before_end] > -30).all()


def test_log_probs_are_of_what_was_drawn_from(model):
    drawn = sample(model, 7, 0.5, max_new=1)
    logits = objective.without_pad(apply(*model, PROMPTS, jnp.int32(PROMPTS != 0), CFG)[:, -1])
    expected = jax.nn.log_softmax(logits / 0.5)[jnp.arange(len(PROMPTS)), drawn.tokens[:, 0]]
    np.testing.assert_allclose(drawn.logprobs[:, 0], expected, atol=0.05)


@pytest.mark.parametrize("parts", [2, 4])
def test_rollouts_in_parts_are_the_same_samples(model, parts):
    many = jnp.concatenate([PROMPTS, PROMPTS[::-1]])
    whole, cut = (sample(model, 6, 1.0, prompts=many, parts=n) for n in (1, parts))
    np.testing.assert_array_equal(whole.tokens, cut.tokens)
    np.testing.assert_array_equal(whole.mask, cut.mask)
    np.testing.assert_allclose(whole.logprobs, cut.logprobs, atol=1e-5)
    assert (cut.tokens[0] != cut.tokens[7]).any()  # equal prompts in different parts draw apart


def test_the_least_parts_that_are_small_enough():
    assert [rollout.parts_within(12, most) for most in (100, 12, 6, 5, 4, 1, 0)] == [1, 1, 2, 3, 3, 12, 12]
