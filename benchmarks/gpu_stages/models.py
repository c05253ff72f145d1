"""The models that the stages train and sample: configurations, what they cost, random batches of their shape."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu_stages.record import Told
from bitzero.config import Config, Operand, kernel_shapes, with_operand
from bitzero.run import device, memory
from bitzero.run.experiment import read_config
from bitzero.selfplay import warmup
from bitzero.state import Supervised, TrainState


def config_of(part: str) -> Config:
    """The experiment's configuration; sets JAX up as a run does."""
    device.configure_jax()
    return read_config(f"experiments/{part}.py")


def fast_operand(told: Told) -> Operand:
    """bf16 on tensor cores; f32 where there are none, and in a rehearsal."""
    return "bf16" if told.card["platform"] == "gpu" and float(told.card["capability"]) >= 8 else "f32"


def variant(cfg: Config, operand: Operand, weights: Any = "ternary") -> Config:
    """``cfg`` with those operands; ``weights`` "full" is the same model in plain dense weights."""
    settled = with_operand(cfg, operand)
    return dataclasses.replace(settled, model=dataclasses.replace(settled.model, weights=weights))


def with_parts(cfg: Config, parts: int) -> Config:
    """``cfg`` with its updates in so many parts."""
    return dataclasses.replace(cfg, optimiser=dataclasses.replace(cfg.optimiser, microbatches=parts))


def shape_of(cfg: Config) -> tuple[int, int, int, int, int, int, int]:
    """What a peer needs to know of the shape: ``torch_peer.Shape``."""
    model = cfg.model
    return (
        model.num_layers, model.width, model.num_heads, model.num_kv_heads, model.head_dim, model.ffn_width,
        cfg.tasks.context,
    )  # fmt: skip


def parameters(cfg: Config) -> int:
    """How many the model has."""
    state = jax.eval_shape(functools.partial(warmup.init_state, variant(cfg, "f32", cfg.model.weights)))
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def random_state(cfg: Config) -> TrainState:
    """``warmup.init_state``, compiled once for all operands and parts: the state is the same."""
    return _random_state(with_parts(variant(cfg, "f32", cfg.model.weights), 1))


_random_state = jax.jit(warmup.init_state, static_argnames="cfg")


def random_batch(cfg: Config, steps: int, rows: int) -> Supervised:
    """Full rows of random text, half of it targets. XLA's step costs the same whatever it reads; layers in C++ take
    less for several examples a row and for fewer targets."""
    shape = memory.generated(cfg, rows, (steps,))
    tokens = jax.random.randint(jax.random.key(0), shape.tokens.shape, 64, 500).astype(jnp.uint16)
    # The tag that begins an example, so that a row is one segment and none of it padding.
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    return dataclasses.replace(blank, tokens=tokens.at[..., 0].set(2), mask=tokens % 2 == 0)


def flops_of_a_token(cfg: Config) -> float:
    """Floating-point operations of a trained token, without what is computed again for the backward pass.

    Six a weight (two forward, four backward) of the layers' matrices and the head, and of attention 12·H·K·T a layer
    (PaLM, arXiv 2204.02311, appendix B), its causal half counted whole.
    """
    model = cfg.model
    weights = model.num_layers * sum(n * k for n, k in kernel_shapes(model).values()) + 512 * model.width
    return 6 * weights + 12 * model.num_layers * model.num_heads * model.head_dim * cfg.tasks.context


def parts_that_fit(cfg: Config, rows: int, pool_bytes: int | None) -> int:
    """Equal parts of an update's rows, a power of two, so that one fits by a rough count of its bytes.

    With ``remat`` a part keeps each layer's input and, of one layer at a time, about five arrays of attention weights
    and six of each hidden unit.
    """
    model, t = cfg.model, cfg.tasks.context
    attention = 5 * 4 * model.num_heads * t * t
    row = attention + 4 * t * (2 * model.num_layers * model.width + 12 * model.ffn_width + 3 * 512)
    row *= 1 if model.remat else max(model.num_layers / 2, 1)
    room = 0.6 * (pool_bytes or 4 << 30) - 24 * flops_of_a_token(cfg) / 6
    fitting = max(room / row, 1)
    return min(rows, 1 << max(0, math.ceil(math.log2(rows / fitting))))
