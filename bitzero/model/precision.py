"""Which blocks of 16 output rows deserve more bits: signals, what a tier would gain, bit accounting, ramps.

Signals, each a figure for every block, larger for more deserving:

- ``fisher``: Σ g²·(W − αT)², the loss's second-order change under a diagonal Fisher (SqueezeLLM, arXiv 2306.07629).
- ``activation``: Σ E[x²]·(W − αT)², the layer's output error under uncorrelated inputs (OWQ, arXiv 2306.02272).
- ``attention``: for the q, k and v rows of a head, Σ over answer positions of its attention mass on program and input
  positions × the norm of the gradient of its output; other matrices have none.
- ``magnitude``: Σ W² (PB-LLM, arXiv 2310.00034). ``static``: o and down before the rest. ``random``: the control.

The first three are measured inside the training step from gradients that are there anyway, as moving averages.
"""

import functools
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bitzero.config import BLOCK_ROWS, INDEX_BITS, Config, Model, kernel_shapes
from bitzero.model import quant
from bitzero.state import Allocation

MEASURED = ("fisher", "activation", "attention")  # in the training step; the other signals need no data
TIERS = (0, 4, 8)
Blocks = dict[str, Float[Array, "L blocks"]]  # kernel → a figure for every block


def init(cfg: Config) -> Allocation | None:
    """No signal yet, all blocks ternary; None where the model may hold no tiers."""
    if not cfg.model.max_tier:
        return None
    return Allocation(
        signals={name: _zeros(cfg.model) for name in MEASURED},
        weight=jnp.float32(0),
        age=jax.tree.map(jnp.int32, _zeros(cfg.model)),
        budget=jnp.float32(2.0),
    )


def _zeros(model: Model) -> Blocks:
    return {name: jnp.zeros((model.num_layers, n // BLOCK_ROWS)) for name, (n, _) in kernel_shapes(model).items()}


def observe(
    held: Allocation | None, params: dict[str, Any], grads: dict[str, Any], taps: dict[str, Any] | None, cfg: Config
) -> Allocation | None:
    """The moving averages one update later; ``grads`` and ``taps`` are those of the update's loss."""
    if held is None or taps is None:
        return held
    now = _measure(params["layers"], grads["layers"], taps["layers"], cfg.model)
    decay = cfg.precision.decay
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(a)) for a in jax.tree.leaves(now)]))
    mix = lambda old, new: jnp.where(finite, decay * old + (1 - decay) * new, old)
    return Allocation(
        signals=jax.tree.map(mix, held.signals, now),
        weight=mix(held.weight, jnp.float32(1)),
        age=jax.tree.map(lambda a: a + 1, held.age),
        budget=held.budget,
    )


def _measure(layers: dict[str, Any], grads: dict[str, Any], taps: dict[str, Any], model: Model) -> dict[str, Blocks]:
    """The measured signals of one update."""
    fisher, activation = {}, {}
    for name, parts in quant.matrices(model).items():
        w, g = layers[name]["kernel"], grads[name]["kernel"]
        t, alpha = quant.ternary_codes(w, parts)
        error = jnp.square(w - alpha[..., None] * t)
        fisher[name] = _of_blocks(jnp.sum(jnp.square(g) * error, axis=-1))
        activation[name] = _of_blocks(jnp.einsum("LNK,LK->LN", error, taps[name]["square"]))
    return {
        "fisher": fisher,
        "activation": activation,
        "attention": _zeros(model) | {"qkv": heads(taps["heads"], model)},
    }


def heads(figures: Float[Array, "L H"], model: Model) -> Float[Array, "L blocks"]:
    """A figure for each query head as one for each block of the merged q, k and v rows; k and v rows serve a group."""
    groups = figures.reshape(*figures.shape[:-1], model.num_kv_heads, -1).sum(axis=-1)
    q, kv = (jnp.repeat(a, model.head_dim, axis=-1) for a in (figures, groups))
    return _of_blocks(jnp.concatenate([q, kv, kv], axis=-1) / model.head_dim)


def _of_blocks(rows: Float[Array, "L N"]) -> Float[Array, "L blocks"]:
    return jnp.sum(rows.reshape(*rows.shape[:-1], -1, BLOCK_ROWS), axis=-1)


def scores(signal: str, held: Allocation, params: dict[str, Any], cfg: Config) -> dict[str, np.ndarray]:
    """The figure of every block under ``signal``, on the host; ties are broken by a hair of the block's magnitude."""
    size = {name: np.asarray(a) for name, a in _magnitudes(params, cfg.model).items()}
    if signal == "magnitude":
        return size
    if signal in ("static", "random"):  # figures of a weight, so that wide blocks are not passed over for their price
        columns = {name: k for name, (_, k) in kernel_shapes(cfg.model).items()}
        found = {name: columns[name] * _drawn(signal, name, a.shape, cfg.seed) for name, a in size.items()}
    else:
        found = {name: np.asarray(a) / max(float(held.weight), 1e-9) for name, a in held.signals[signal].items()}
    largest = max(a.max() for a in found.values()) or 1.0
    hair = 1e-6 * largest / max(a.max() for a in size.values())
    return {name: a + hair * size[name] for name, a in found.items()}


def _drawn(signal: str, name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Figures without data: 1 for o and down (static), or random ones of the seed alone, the same at every refresh."""
    if signal == "static":
        return np.full(shape, float(name in ("o", "down")))
    return np.random.default_rng([seed, zlib.crc32(name.encode())]).random(shape)


@functools.partial(jax.jit, static_argnames="model")
def _magnitudes(params: dict[str, Any], model: Model) -> Blocks:
    """ΣW² of every block."""
    return {
        name: _of_blocks(jnp.sum(jnp.square(params["layers"][name]["kernel"]), -1)) for name in kernel_shapes(model)
    }


@functools.partial(jax.jit, static_argnames="model")
def _errors(params: dict[str, Any], model: Model) -> dict[str, Float[Array, "L blocks 3"]]:
    """Σ(W − Q(W))² of every block at each tier of ``TIERS``."""
    found = {}
    for name, parts in quant.matrices(model).items():
        w = params["layers"][name]["kernel"]
        shape = (w.shape[0], w.shape[1] // BLOCK_ROWS)
        errors = []
        for tier in TIERS:
            codes, scale = quant.integer_codes(w, jnp.full(shape, tier, jnp.int8), jnp.ones(shape), parts)
            errors.append(_of_blocks(jnp.sum(jnp.square(w - scale[..., None] * codes), axis=-1)))
        found[name] = jnp.stack(errors, axis=-1)
    return found


def gains(params: dict[str, Any], model: Model) -> dict[str, np.ndarray]:
    """Share of a block's squared ternary error that each tier of ``TIERS`` removes, kernel → [L, blocks, 3].

    On the nested grid the error of a tier is that of the block's weights alone: α is the matrix's.
    """
    errors = {name: np.asarray(found, np.float64) for name, found in _errors(params, model).items()}
    return {name: 1 - found / np.maximum(found[..., :1], 1e-30) for name, found in errors.items()}


def advance(precision: dict[str, Any], steps: int) -> dict[str, Any]:
    """The precision collection one update later: λ_r of every block moves to 1 by 1/``steps``."""
    layers = {
        name: {**block, "ramp": jnp.minimum(block["ramp"] + 1 / steps, 1.0)}
        for name, block in precision["layers"].items()
    }
    return {**precision, "layers": layers}


def with_tiers(precision: dict[str, Any], tier: int) -> dict[str, Any]:
    """The same collection with every block at ``tier`` bits, ramps done: for looking at one model's weights."""
    layers = {
        name: {"tier": jnp.full_like(block["tier"], tier), "ramp": jnp.ones_like(block["ramp"])}
        for name, block in precision["layers"].items()
    }
    return {**precision, "layers": layers}


def stored_bits(precision: dict[str, Any], model: Model) -> Float[Array, ""]:
    """Mean stored bits a ternary-able weight: 2, plus the tier's bits on promoted blocks, plus their indices."""
    shapes = kernel_shapes(model)
    tiers = {name: precision["layers"][name]["tier"].astype(jnp.float32) for name in shapes}
    bits = jnp.stack([jnp.sum(block_bits(tiers[name], k)) for name, (_, k) in shapes.items()])
    return jnp.sum(bits) / (model.num_layers * sum(n * k for n, k in shapes.values()))


def block_bits(tier: Any, columns: int) -> Any:
    """Stored bits of blocks with ``tier`` residual bits (not int8: it would overflow) and so many columns."""
    return (2.0 + tier) * (BLOCK_ROWS * columns) + INDEX_BITS * (tier > 0)
