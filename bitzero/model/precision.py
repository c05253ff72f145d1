"""Which blocks of 16 output rows deserve more bits, what a tier would gain them, what it costs; ramps to a new tier.

A signal gives a score to every block, larger for more deserving:

- ``fisher``: Σ g²·(W − αT)², the loss's second-order change under a diagonal Fisher (SqueezeLLM, arXiv 2306.07629).
- ``activation``: Σ E[x²]·(W − αT)², the layer's output error under uncorrelated inputs (OWQ, arXiv 2306.02272).
- ``attention``: for the q, k and v rows of a head, Σ over answer positions of its attention mass on program and input
  positions × the norm of the gradient of its output; other matrices have none.
- ``magnitude``: Σ W² (PB-LLM, arXiv 2310.00034). ``static``: o and down before the rest. ``random``: the control.

The first three are moving averages, measured in the training step from gradients that it computes anyway.
"""

import functools
import typing
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bitzero.config import (
    BLOCK_ROWS,
    INDEX_BITS,
    MEASURED_SIGNALS,
    Config,
    Model,
    Signal,
    TierBits,
    kernel_parts,
    kernel_shapes,
)
from bitzero.model import quant
from bitzero.state import Allocation

TIERS: tuple[TierBits, ...] = typing.get_args(TierBits)
Blocks = dict[str, Float[Array, "L blocks"]]  # kernel → a number for every block


def init(cfg: Config) -> Allocation | None:
    """The state of an allocation before anything is measured, all blocks ternary; None for a model without tiers."""
    if not cfg.model.max_tier:
        return None
    return Allocation(
        signals={name: _zero_blocks(cfg.model) for name in MEASURED_SIGNALS},
        weight=jnp.float32(0),
        age=jax.tree.map(jnp.int32, _zero_blocks(cfg.model)),
        budget=jnp.float32(2.0),
    )


def _zero_blocks(model: Model) -> Blocks:
    """A zero for every block."""
    return {name: jnp.zeros((model.num_layers, n // BLOCK_ROWS)) for name, (n, _) in kernel_shapes(model).items()}


def update_signals(
    allocation: Allocation | None,
    params: dict[str, Any],
    grads: dict[str, Any],
    taps: dict[str, Any] | None,
    cfg: Config,
) -> Allocation | None:
    """The moving averages one update later, unless something measured is not finite.

    ``grads`` are the gradients of the update's loss with respect to ``params``, ``taps`` those with respect to
    ``transformer.zero_taps``; without taps nothing is measured.
    """
    if allocation is None or taps is None:
        return allocation
    measured = _measure_signals(params["layers"], grads["layers"], taps["layers"], cfg.model)
    decay = cfg.precision.decay
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(a)) for a in jax.tree.leaves(measured)]))
    mix = lambda old, new: jnp.where(finite, decay * old + (1 - decay) * new, old)
    return Allocation(
        signals=jax.tree.map(mix, allocation.signals, measured),
        weight=mix(allocation.weight, jnp.float32(1)),
        age=jax.tree.map(lambda a: a + 1, allocation.age),
        budget=allocation.budget,
    )


def _measure_signals(
    layers: dict[str, Any], grads: dict[str, Any], taps: dict[str, Any], model: Model
) -> dict[str, Blocks]:
    """The measured signals of one update; its arguments are the ``layers`` of each tree."""
    fisher, activation = {}, {}
    for name, parts in kernel_parts(model).items():
        w, g = layers[name]["kernel"], grads[name]["kernel"]
        t, alpha = quant.ternary_codes(w, parts)
        error = jnp.square(w - alpha[..., None] * t)
        fisher[name] = _sum_over_blocks(jnp.sum(jnp.square(g) * error, axis=-1))
        activation[name] = _sum_over_blocks(jnp.einsum("LNK,LK->LN", error, taps[name]["square"]))
    return {
        "fisher": fisher,
        "activation": activation,
        "attention": _zero_blocks(model) | {"qkv": blocks_of_heads(taps["heads"], model)},
    }


def blocks_of_heads(figures: Float[Array, "L H"], model: Model) -> Float[Array, "L blocks"]:
    """A number for each query head as one for each block of the merged q, k and v rows.

    The rows of a k or v head, which serves a group of query heads, get the sum of the group.
    """
    groups = figures.reshape(*figures.shape[:-1], model.num_kv_heads, -1).sum(axis=-1)
    q, kv = (jnp.repeat(a, model.head_dim, axis=-1) for a in (figures, groups))
    return _sum_over_blocks(jnp.concatenate([q, kv, kv], axis=-1) / model.head_dim)


def _sum_over_blocks(rows: Float[Array, "L N"]) -> Float[Array, "L blocks"]:
    """Sums over the 16 rows of each block."""
    return jnp.sum(rows.reshape(*rows.shape[:-1], -1, BLOCK_ROWS), axis=-1)


def block_scores(signal: Signal, allocation: Allocation, params: dict[str, Any], cfg: Config) -> dict[str, np.ndarray]:
    """How much each block deserves bits under ``signal``, kernel → [L, blocks], on the host.

    A millionth of the block's magnitude is added, so that no two blocks are equal.
    """
    magnitudes = {name: np.asarray(a) for name, a in _block_magnitudes(params, cfg.model).items()}
    if signal == "magnitude":
        return magnitudes
    scores = _scores(signal, allocation, {name: a.shape for name, a in magnitudes.items()}, cfg)
    largest = max(a.max() for a in scores.values()) or 1.0
    hair = 1e-6 * largest / max(a.max() for a in magnitudes.values())
    return {name: a + hair * magnitudes[name] for name, a in scores.items()}


def _scores(
    signal: Signal, allocation: Allocation, shapes: dict[str, tuple[int, ...]], cfg: Config
) -> dict[str, np.ndarray]:
    """Scores under a signal other than the magnitude. Raises ValueError.

    Those without data are times a block's columns: a wide block costs more bits, and is not to be less likely for that.
    """
    columns = {name: k for name, (_, k) in kernel_shapes(cfg.model).items()}
    match signal:
        case "fisher" | "activation" | "attention":
            averaged = max(float(allocation.weight), 1e-9)
            return {name: np.asarray(a) / averaged for name, a in allocation.signals[signal].items()}
        case "static":
            return {
                name: columns[name] * np.full(shape, float(name in ("o", "down"))) for name, shape in shapes.items()
            }
        case "random":  # of the seed alone, so the same at every refresh
            draw = lambda name: np.random.default_rng([cfg.seed, zlib.crc32(name.encode())]).random(shapes[name])
            return {name: columns[name] * draw(name) for name in shapes}
    raise ValueError(f"no scores under the signal {signal!r}")


@functools.partial(jax.jit, static_argnames="model")
def _block_magnitudes(params: dict[str, Any], model: Model) -> Blocks:
    """ΣW² of every block."""
    return {
        name: _sum_over_blocks(jnp.sum(jnp.square(params["layers"][name]["kernel"]), -1))
        for name in kernel_shapes(model)
    }


@functools.partial(jax.jit, static_argnames="model")
def _tier_errors(params: dict[str, Any], model: Model) -> dict[str, Float[Array, "L blocks 3"]]:
    """Σ(W − Q(W))² of every block at each tier of ``TIERS``."""
    errors = {}
    for name, parts in kernel_parts(model).items():
        w = params["layers"][name]["kernel"]
        shape = (w.shape[0], w.shape[1] // BLOCK_ROWS)
        of_tiers = []
        for tier in TIERS:
            codes, scale = quant.integer_codes(w, jnp.full(shape, tier, jnp.int8), jnp.ones(shape), parts)
            of_tiers.append(_sum_over_blocks(jnp.sum(jnp.square(w - scale[..., None] * codes), axis=-1)))
        errors[name] = jnp.stack(of_tiers, axis=-1)
    return errors


def removed_error(params: dict[str, Any], model: Model) -> dict[str, np.ndarray]:
    """Share of a block's squared ternary error that each tier of ``TIERS`` removes, kernel → [L, blocks, 3].

    As α belongs to the whole matrix, a tier changes the error of its own block alone.
    """
    errors = {name: np.asarray(of_tiers, np.float64) for name, of_tiers in _tier_errors(params, model).items()}
    return {name: 1 - of_tiers / np.maximum(of_tiers[..., :1], 1e-30) for name, of_tiers in errors.items()}


def advance_ramps(precision: dict[str, Any], steps: int) -> dict[str, Any]:
    """The precision collection one update later: λ_r of every block is 1/``steps`` nearer to 1."""
    layers = {
        name: {**block, "ramp": jnp.minimum(block["ramp"] + 1 / steps, 1.0)}
        for name, block in precision["layers"].items()
    }
    return {**precision, "layers": layers}


def with_uniform_tier(precision: dict[str, Any], tier: TierBits) -> dict[str, Any]:
    """The same collection with every block at ``tier`` bits and all ramps over, to see what a model does at a tier."""
    layers = {
        name: {"tier": jnp.full_like(block["tier"], tier), "ramp": jnp.ones_like(block["ramp"])}
        for name, block in precision["layers"].items()
    }
    return {**precision, "layers": layers}


def mean_stored_bits(precision: dict[str, Any], model: Model) -> Float[Array, ""]:
    """Mean stored bits a ternary-able weight: 2, and for promoted blocks the bits of their tier and their number."""
    shapes = kernel_shapes(model)
    tiers = {name: precision["layers"][name]["tier"].astype(jnp.float32) for name in shapes}
    bits = jnp.stack([jnp.sum(stored_block_bits(tiers[name], k)) for name, (_, k) in shapes.items()])
    return jnp.sum(bits) / (model.num_layers * sum(n * k for n, k in shapes.values()))


def stored_block_bits(tier: Any, columns: int) -> Any:
    """Stored bits of blocks with so many columns, for tiers as numbers or arrays (not int8: it would overflow)."""
    return (2.0 + tier) * (BLOCK_ROWS * columns) + INDEX_BITS * (tier > 0)
