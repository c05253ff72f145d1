"""What is written about quantisation and precision: figures of the weights, bits by layer and kind, the map."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from bitzero.config import TERNARY_BITS, Model, kernel_shapes
from bitzero.model import quant
from bitzero.model.precision import TIERS, block_bits
from bitzero.state import TrainState

NEAR = 0.05  # in units of α: a weight this close to a threshold is about to change its code
_CELL = 8  # pixels of a block on the map
_GREY = {0: 40, 4: 150, 8: 255}


@functools.partial(jax.jit, static_argnames="model")
def weight_figures(params: dict[str, Any], model: Model) -> dict[str, Float[Array, ""]]:
    """Of all ternary-able weights: shares of zero codes, of |W| beyond 1.5 α (clipped) and near a threshold; mean α.

    The thresholds of T = round(W/α) are ±α/2; ``quant/threshold_distance`` is the mean distance to them in α.
    """
    zeros = clipped = near = distance = jnp.float32(0)
    count = 0
    figures = {}
    for name, parts in quant.matrices(model).items():
        w = params["layers"][name]["kernel"]
        t, alpha = quant.ternary_codes(w, parts)
        away = jnp.abs(jnp.abs(w / alpha[..., None]) - 0.5)
        zeros += jnp.sum(t == 0)
        clipped += jnp.sum(jnp.abs(w) > 1.5 * alpha[..., None])
        near += jnp.sum(away < NEAR)
        distance += jnp.sum(away)
        count += w.size
        figures[f"quant/alpha_{name}"] = jnp.mean(alpha)
    totals = {"zero_codes": zeros, "clipped": clipped, "near_threshold": near, "threshold_distance": distance}
    return figures | {f"quant/{name}": jnp.asarray(total / count) for name, total in totals.items()}


@functools.partial(jax.jit, static_argnames="model")
def residual_saturation(params: dict[str, Any], precision: dict[str, Any], model: Model) -> Float[Array, ""]:
    """Share of the promoted blocks' residual codes R that stand at ±lim; 0 where nothing is promoted."""
    hits = total = jnp.float32(0)
    for name, parts in quant.matrices(model).items():
        w, block = params["layers"][name]["kernel"], precision["layers"][name]
        codes, _ = quant.integer_codes(w, block["tier"], block["ramp"], parts)
        t, _ = quant.ternary_codes(w, parts)
        rows = lambda a: jnp.repeat(a, quant.BLOCK_ROWS, axis=-1)[..., None]
        tier, (m, limit) = rows(block["tier"]), map(rows, quant.grid(block["tier"]))
        hits += jnp.sum((jnp.abs(codes - m * t) >= limit) & (tier > 0))
        total += jnp.sum(jnp.broadcast_to(tier > 0, w.shape))
    return hits / jnp.maximum(total, 1)


@functools.partial(jax.jit, static_argnames="model")
def scales(params: dict[str, Any], model: Model) -> dict[str, Float[Array, "L parts"]]:
    """α of every matrix, kernel by kernel; merged ones have one for each part."""
    found = {}
    for name, parts in quant.matrices(model).items():
        firsts = np.cumsum((0, *parts[:-1]))
        found[name] = quant.row_alpha(params["layers"][name]["kernel"], parts)[:, firsts]
    return found


def drift(before: dict[str, Any], now: dict[str, Any]) -> float:
    """Largest relative change of an α of ``scales``."""
    return max(float(np.max(np.abs(np.asarray(now[name]) / np.asarray(before[name]) - 1))) for name in now)


def bits(precision: dict[str, Any], model: Model) -> dict[str, float]:
    """Stored bits a weight: whole, as information, by layer and by kind; share of the blocks in each tier."""
    tiers = {name: np.asarray(precision["layers"][name]["tier"], np.float64) for name in kernel_shapes(model)}
    stored = {name: block_bits(tiers[name], k).sum(axis=1) for name, (_, k) in kernel_shapes(model).items()}
    weights = {name: n * k for name, (n, k) in kernel_shapes(model).items()}
    layer = sum(weights.values())
    whole = sum(a.sum() for a in stored.values()) / (layer * model.num_layers)
    everything = np.concatenate([a.reshape(-1) for a in tiers.values()])
    found = {"precision/stored_bits": whole, "precision/information_bits": whole - 2 + TERNARY_BITS}
    found |= {f"precision/bits_layer_{i}": sum(a[i] for a in stored.values()) / layer for i in range(model.num_layers)}
    found |= {f"precision/bits_{name}": a.sum() / (weights[name] * model.num_layers) for name, a in stored.items()}
    found |= {f"precision/share_tier_{tier}": float((everything == tier).mean()) for tier in TIERS}
    return {tag: float(value) for tag, value in found.items()}


def tier_map(precision: dict[str, Any], model: Model) -> UInt8[np.ndarray, "1 height width"]:
    """The map as a grey image: a row for each layer, its blocks from left to right (qkv | o | gate_up | down)."""
    columns = []
    for name in kernel_shapes(model):
        tier = np.asarray(precision["layers"][name]["tier"])
        grey = np.vectorize(_GREY.get, otypes=[np.uint8])(tier)
        columns += [grey, np.zeros((len(grey), 1), np.uint8)]
    image = np.concatenate(columns[:-1], axis=1)
    return np.kron(image, np.ones((_CELL, _CELL), np.uint8))[None]


def figures(state: TrainState, model: Model) -> dict[str, float]:
    """All scalars of this module for a state, but the drift."""
    found = {tag: float(value) for tag, value in weight_figures(state.params, model).items()}
    if not model.max_tier or model.weights != "ternary":  # a control has no stored bits that tiers would tell
        return found
    found["quant/residual_saturation"] = float(residual_saturation(state.params, state.precision, model))
    return found | bits(state.precision, model)
