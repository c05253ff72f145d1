"""A tiny packed model of random weights, and a conversation that a file of tests goes on with."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from bitzero.config import Config, Model
from bitzero.model import packing, transformer
from bitzero.run import packed_file
from tests.chat.terminal import Terminal

MODEL = Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, max_tier=8, smear=1)
CFG = dataclasses.replace(Config(), model=MODEL)


@pytest.fixture(scope="session")
def tree():
    """Packed weights with one promoted block of each tier."""
    params, precision = transformer.init(jax.random.key(3), MODEL)
    layers = dict(precision["layers"])
    layers["o"] = layers["o"] | {"tier": jnp.array([[8, 4]], jnp.int8)}
    return packing.pack(params, {"layers": layers}, MODEL)


@pytest.fixture(scope="session")
def model_file(tree, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.npz"
    packed_file.save(path, tree, CFG, step=200, operand="f32", trace=True)
    return path


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="module")
def terminal(model_file, profile):
    found = Terminal(model_file, profile)
    yield found
    found.kill()
