"""Every experiment is a configuration that can run, of the size it says."""

import dataclasses
import functools
import importlib
import pathlib

import jax
import jax.numpy as jnp
import pytest

from bitzero import config as configuration
from bitzero.selfplay import warmup
from bitzero.state import Supervised

NAMES = sorted(path.stem for path in (pathlib.Path(__file__).parents[1] / "experiments").glob("*.py"))
MILLIONS = {
    "smoke": (0, 0.1),
    "azr_small": (0.5, 2),
    "bitnet_plain": (0.5, 0.7),
    "take_home": (0.5, 2),
    "azr_25m": (20, 30),
    "azr_100m": (100, 200),
}


def experiment(name, *variant):
    return configuration.freeze(importlib.import_module(f"experiments.{name}").get_config(*variant))


def parameters(cfg):
    """Millions of parameters, without making them."""
    state = jax.eval_shape(functools.partial(warmup.init_state, cfg))
    return sum(leaf.size for leaf in jax.tree.leaves(state.params)) / 1e6


def tiny_batch(cfg, examples):
    """One supervised step on one short sequence."""
    length = 16
    tokens = jnp.arange(1, length + 1, dtype=jnp.uint16)[None, None] + 40
    label = jnp.zeros((1, 1, examples), jnp.int8)
    return Supervised(tokens=tokens, mask=jnp.ones((1, 1, length), bool), kind=label, level=label)


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_freezes_and_has_its_size(name):
    cfg = experiment(name)
    low, high = MILLIONS[name]
    assert low <= parameters(cfg) <= high
    assert cfg.name == name


def test_the_hour_is_the_same_job_wider_and_with_more_steps():
    small, hour = experiment("azr_small"), experiment("azr_small", "hour")
    wider = {"width": 192, "num_heads": 6, "ffn_width": 384}
    assert hour.model == dataclasses.replace(small.model, **wider) and hour.tasks == small.tasks
    assert hour.warmup.steps > small.warmup.steps
    assert hour.name != small.name  # another default workdir


@pytest.mark.parametrize("name", ["azr_25m", "azr_100m"])
def test_a_large_experiment_lowers(name):
    cfg = experiment(name)
    state = jax.eval_shape(functools.partial(warmup.init_state, cfg))
    lowered = warmup.run_chunk.lower(state, tiny_batch(cfg, 1), configuration.with_operand(cfg, "bf16"), "integer")
    assert "stablehlo" in lowered.as_text()[:20_000]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["azr_25m", "azr_100m"])
def test_a_large_experiment_takes_a_step(name):
    cfg = experiment(name)
    state = jax.jit(warmup.init_state, static_argnums=0)(cfg)
    before = jax.tree.map(lambda leaf: leaf.copy(), state.params["layers"])
    state, metrics = warmup.run_chunk(state, tiny_batch(cfg, 1), configuration.with_operand(cfg, "f32"), "integer")
    assert int(state.step) == 1 and jnp.isfinite(metrics["loss/total"]).all()
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, state.params["layers"])
    assert all(jax.tree.leaves(moved))
