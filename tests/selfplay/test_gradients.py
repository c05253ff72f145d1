"""An update cut into parts is the same update: gradients, signals and metrics, in warm-up and in self-play."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model, SelfPlay, Tasks, Warmup
from bitzero.selfplay import objective, warmup
from bitzero.state import Played, Rollout, Supervised
from bitzero.tasks import tokens

CFG = Config(
    model=Model(
        num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, max_tier=4, compute="f32"
    ),
    warmup=Warmup(steps=10, batch_size=8),
    selfplay=SelfPlay(num_tasks=4, group_size=2, ring=4, history=8, kl=0.3, entropy=0.1, seed_tasks=1),
    tasks=Tasks(context=24),
)


def supervised(rows, seed):
    """Random rows of two packed examples; the number of targets differs from row to row."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(100, 500, (rows, 24))
    ids[:, [0, 11]] = tokens.SOLVE
    ids[np.arange(24)[None] >= rng.integers(14, 24, (rows, 1))] = tokens.PAD
    mask = (rng.random((rows, 24)) < rng.random((rows, 1))) & (ids != tokens.PAD)
    label = jnp.zeros((rows, 2), jnp.int8)
    return Supervised(tokens=jnp.asarray(ids, jnp.uint16), mask=jnp.asarray(mask), kind=label, level=label)


def played(rows, seed):
    rng = np.random.default_rng(seed)
    mask = np.arange(6)[None] < rng.integers(1, 7, (rows, 1))
    rollout = Rollout(
        tokens=jnp.asarray(np.where(mask, rng.integers(100, 500, (rows, 6)), tokens.PAD), jnp.int32),
        logprobs=jnp.asarray(rng.normal(-6, 0.3, (rows, 6)), jnp.float32),
        mask=jnp.asarray(mask),
    )
    prompt = jnp.asarray(rng.integers(100, 500, (rows, 9)), jnp.int32)
    advantage = jnp.asarray(rng.normal(size=rows), jnp.float32)
    return Played(prompt=prompt, rollout=rollout, advantage=advantage, target=jnp.asarray(rng.random(rows) < 0.5))


@pytest.fixture(scope="module")
def state():
    fresh = jax.jit(warmup.init_state, static_argnums=0)(CFG)
    other = jax.tree.map(lambda p: p * 0.9, fresh.params)  # the frozen policy of the KL term
    return dataclasses.replace(fresh, reference=other)


def close(one, two):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


def test_a_warm_up_step_in_parts_is_the_same_step(state):
    rows = jax.tree.map(lambda a: a[None], supervised(8, 0))
    results = []
    for parts in (1, 4):
        cfg = dataclasses.replace(CFG, optimiser=dataclasses.replace(CFG.optimiser, microbatches=parts))
        start = jax.tree.map(jnp.copy, dataclasses.replace(state, reference=None))
        new, metrics = warmup.run_chunk(start, rows, cfg, "integer")
        results.append((metrics, new.allocation.signals, new.params["embedding"]))
    (whole, signals, embedding), (cut, cut_signals, cut_embedding) = results
    assert set(whole) == set(cut)
    close([whole[name] for name in sorted(whole)], [cut[name] for name in sorted(whole)])
    close({k: signals[k] for k in ("fisher", "attention")}, {k: cut_signals[k] for k in ("fisher", "attention")})
    assert float(jnp.abs(embedding - state.params["embedding"]).max()) > 0
    close(embedding, cut_embedding)


def test_a_self_play_gradient_in_parts_is_the_same_gradient(state):
    batch = played(4, 1), played(8, 2), supervised(4, 3)

    run = jax.jit(objective.selfplay_gradients, static_argnums=(2, 3))
    (value, figures, grads, taps), (cut_value, cut_figures, cut_grads, cut_taps) = (
        run(state, batch, parts, CFG) for parts in (1, 4)
    )
    assert len({int(n) for n in batch[2].mask[:, 1:].sum(axis=1)}) > 1  # parts whose targets are not as many
    close(value, cut_value)
    close(grads, cut_grads)
    close(taps["layers"]["heads"], cut_taps["layers"]["heads"])
    assert set(figures) == set(cut_figures)
    for name, figure in figures.items():
        close(figure, cut_figures[name])
