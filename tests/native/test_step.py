"""A training step with layers in C++ beside one with XLA's: the same losses, statistics and new weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model
from bitzero.config.defaults import Tasks
from bitzero.selfplay import objective, warmup
from bitzero.state import Played, Rollout, Supervised
from bitzero.tasks.tokens import SOLVE, TEXT

SMALL = Model(
    num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=32, ffn_width=64, max_tier=4, smear=2, compute="f32",
    value_embeddings=True, input_skips=True, qk_norm=True, conv=2,
)  # fmt: skip


def batch_of(cfg, steps=2):
    rng, rows, length = np.random.default_rng(0), cfg.warmup.batch_size, cfg.tasks.context
    tokens = rng.integers(TEXT, 512, (steps, rows, length)).astype(np.uint16)
    tokens[:, :, [0, 11, 17]] = SOLVE
    tokens[:, ::2, 25:] = 0
    mask = (rng.random(tokens.shape) < 0.4) & (tokens != 0) & (tokens != SOLVE)
    labels = np.zeros((steps, rows, 8), np.int8)
    return Supervised(
        tokens=jnp.asarray(tokens), mask=jnp.asarray(mask), kind=jnp.asarray(labels), level=jnp.asarray(labels),
        skeleton=jnp.zeros((steps, rows, 8, 2), jnp.uint32), productions=None,
    )  # fmt: skip


@pytest.mark.parametrize("phase", ["full", "ramp", "integer"])
def test_a_step_of_warm_up(phase, half):
    base = Config()
    cfg = dataclasses.replace(
        base, model=SMALL, warmup=dataclasses.replace(base.warmup, steps=10, batch_size=6),
        precision=dataclasses.replace(base.precision, budget=2.5), tasks=Tasks(context=32, prompt=20, completion=8),
    )  # fmt: skip
    batch, results = batch_of(cfg), []
    for layers in ("native_bf16" if half else "native", "xla"):
        mine = dataclasses.replace(cfg, model=dataclasses.replace(SMALL, layers=layers))
        start = dataclasses.replace(warmup.init_state(mine), step=jnp.int32(5))  # in the middle of the ramp
        results.append(warmup.run_chunk(start, batch, mine, phase))
    (state, metrics), (want_state, want_metrics) = results
    for name in ("loss/total", "loss/grad_norm", "loss/token_accuracy_deduction", "perf/target_share"):
        np.testing.assert_allclose(metrics[name], want_metrics[name], rtol=8e-3 if half else 2e-3, err_msg=name)
    assert state.allocation is not None
    for (path, got), want in zip(
        jax.tree_util.tree_leaves_with_path((state.params, state.allocation)),
        jax.tree.leaves((want_state.params, want_state.allocation)),
        strict=True,
    ):
        scale = float(jnp.max(jnp.abs(want))) or 1.0
        difference = np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64)) / scale
        assert difference.mean() < (2e-2 if half else 2e-3), jax.tree_util.keystr(path)


def test_the_loss_of_self_play():
    """Both policies' losses, ratios and entropies and the gradient of all, at a temperature each."""
    rng, base = np.random.default_rng(0), Config()
    played = []
    for rows in (4, 8):
        prompt, tokens = rng.integers(TEXT, 512, (rows, 12)), rng.integers(TEXT, 512, (rows, 8))
        prompt[::2, :5] = 0
        mask = np.arange(8) < rng.integers(1, 9, (rows, 1))
        rollout = Rollout(
            tokens=jnp.asarray(np.where(mask, tokens, 0)), mask=jnp.asarray(mask & (np.arange(rows) != 1)[:, None]),
            logprobs=jnp.asarray(np.where(mask, -6 + rng.random((rows, 8)), 0.0), jnp.float32),
        )  # fmt: skip
        advantage, target = jnp.asarray(rng.normal(size=rows), jnp.float32), jnp.arange(rows) == 3
        played.append(Played(prompt=jnp.asarray(prompt), rollout=rollout, advantage=advantage, target=target))
    play = dataclasses.replace(
        base.selfplay, entropy=0.3, own_answers=0.4, temperature=1.25, answer_temperature=0.6, max_weight=1.5
    )
    results = []
    for layers in ("native", "xla"):
        cfg = dataclasses.replace(
            base, model=dataclasses.replace(SMALL, layers=layers, weights="full"), selfplay=play,
            tasks=Tasks(context=32, prompt=12, completion=8),
        )  # fmt: skip
        items = jax.tree.map(lambda a: None if a is None else a[0], batch_of(cfg, 1))
        batch, state = (*played, items), warmup.init_state(cfg)
        results.append(jax.jit(objective.selfplay_gradients, static_argnums=(2, 3))(state, batch, 1, cfg))
    (value, metrics, grads, _), (want, want_metrics, want_grads, _) = results
    np.testing.assert_allclose(value, want, rtol=1e-5)
    for name, expected in want_metrics.items():
        np.testing.assert_allclose(metrics[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)
    for (path, got), expected in zip(jax.tree.leaves_with_path(grads), jax.tree.leaves(want_grads), strict=True):
        size = float(jnp.abs(expected).max())
        np.testing.assert_allclose(got, expected, atol=1e-4 * size, err_msg=jax.tree_util.keystr(path))
