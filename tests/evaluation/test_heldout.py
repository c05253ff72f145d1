"""Held-out nats: the rows hold every answer once, and the figures are those of a slow computation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model, Tasks
from bitzero.evaluation import heldout
from bitzero.generator import programs
from bitzero.model import precision, transformer
from bitzero.tasks import tokens

CFG = Config(
    model=Model(
        num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, max_tier=8, compute="f32"
    ),
    tasks=Tasks(context=96),
)


@pytest.fixture(scope="module")
def held():
    found = [programs.generate(0, -1, i, 0, "dev", pairs=CFG.tasks.pairs) for i in range(6)]
    return heldout.answer_rows(found, CFG)


@pytest.fixture(scope="module")
def model():
    return jax.jit(transformer.init, static_argnums=1)(jax.random.key(1), CFG.model)


def test_rows_are_examples_one_after_another(held):
    assert held.tokens.shape == held.mask.shape and held.tokens.shape[1:] == (heldout.ROWS, 96)
    begins = np.isin(held.tokens, [tokens.SOLVE]).sum()
    assert begins == 18  # six programs in three forms, each with one pair
    ends = (held.tokens == tokens.EOS) & held.mask
    assert ends.sum() == 18
    assert not held.mask[held.tokens == tokens.PAD].any()


def test_nats_are_the_mean_over_answer_tokens(held, model):
    params, tiers = model
    value, count = heldout.nats_per_token(params, tiers, held, CFG)
    assert count == held.mask[:, :, 1:].sum()
    one = dataclasses.replace(held, tokens=held.tokens[:1], mask=held.mask[:1])
    ids = np.asarray(one.tokens[0], np.int32)
    segments = np.where(ids == tokens.PAD, 0, np.cumsum(ids == tokens.SOLVE, axis=1))
    apply = jax.jit(transformer.apply, static_argnums=4)
    logits = np.asarray(apply(params, tiers, jnp.asarray(ids), jnp.asarray(segments), CFG.model), np.float64)
    logp = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    picked = [-logp[i, t, ids[i, t + 1]] for i in range(ids.shape[0]) for t in range(95) if one.mask[0, i, t + 1]]
    assert heldout.nats_per_token(params, tiers, one, CFG)[0] == pytest.approx(np.mean(picked), rel=1e-5)
    assert 0 < value


def test_divergence_is_zero_between_equals_and_positive_between_precisions(held, model):
    params, tiers = model
    assert heldout.divergence_of_precisions(params, tiers, tiers, held, CFG.model) == 0.0
    assert (
        heldout.divergence_of_precisions(params, tiers, precision.with_uniform_tier(tiers, 8), held, CFG.model) > 1e-4
    )
