"""What a run reports about its weights: figures of the quantisation, stored bits by layer and matrix, a picture."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from bitzero.config import BLOCK_ROWS, TERNARY_BITS, Model, kernel_parts, kernel_shapes
from bitzero.model import quant
from bitzero.model.precision import TIERS, stored_block_bits
from bitzero.state import TrainState

NEAR = 0.05  # in units of α: a weight this close to a threshold is about to change its code
_CELL = 8  # pixels of a block's side in the picture
_GREY = {0: 40, 4: 150, 8: 255}  # of each tier


@functools.partial(jax.jit, static_argnames="model")
def weight_figures(params: dict[str, Any], model: Model) -> dict[str, Float[Array, ""]]:
    """Tag → figure, of all ternary-able weights.

    Shares of zero codes, of |W| beyond 1.5 α (clipped) and near a threshold, where the thresholds of T = round(W/α) are
    ±α/2; the mean distance to a threshold in α; the mean α of each kernel.
    """
    zeros = clipped = near = distance = jnp.float32(0)
    count = 0
    alphas = {}
    for name, parts in kernel_parts(model).items():
        w = params["layers"][name]["kernel"]
        t, alpha = quant.ternary_codes(w, parts)
        away = jnp.abs(jnp.abs(w / alpha[..., None]) - 0.5)
        zeros += jnp.sum(t == 0)
        clipped += jnp.sum(jnp.abs(w) > 1.5 * alpha[..., None])
        near += jnp.sum(away < NEAR)
        distance += jnp.sum(away)
        count += w.size
        alphas[f"quant/alpha_{name}"] = jnp.mean(alpha)
    totals = {"zero_codes": zeros, "clipped": clipped, "near_threshold": near, "threshold_distance": distance}
    return alphas | {f"quant/{name}": jnp.asarray(total / count) for name, total in totals.items()}


@functools.partial(jax.jit, static_argnames="model")
def residual_saturation(params: dict[str, Any], precision: dict[str, Any], model: Model) -> Float[Array, ""]:
    """Share of the promoted blocks' residual codes R that stand at ±lim; 0 where nothing is promoted."""
    hits = total = jnp.float32(0)
    for name, parts in kernel_parts(model).items():
        w, block = params["layers"][name]["kernel"], precision["layers"][name]
        codes, _ = quant.integer_codes(w, block["tier"], block["ramp"], parts)
        t, _ = quant.ternary_codes(w, parts)
        rows = lambda a: jnp.repeat(a, BLOCK_ROWS, axis=-1)[..., None]
        tier, (m, limit) = rows(block["tier"]), map(rows, quant.grid(block["tier"]))
        hits += jnp.sum((jnp.abs(codes - m * t) >= limit) & (tier > 0))
        total += jnp.sum(jnp.broadcast_to(tier > 0, w.shape))
    return hits / jnp.maximum(total, 1)


@functools.partial(jax.jit, static_argnames="model")
def matrix_scales(params: dict[str, Any], model: Model) -> dict[str, Float[Array, "L parts"]]:
    """α of every matrix, kernel → [L, matrices merged in it]."""
    alphas = {}
    for name, parts in kernel_parts(model).items():
        firsts = np.cumsum((0, *parts[:-1]))
        alphas[name] = quant.row_alpha(params["layers"][name]["kernel"], parts)[:, firsts]
    return alphas


def largest_scale_change(before: dict[str, Any], now: dict[str, Any]) -> float:
    """Largest relative change of an α, between two results of ``matrix_scales``."""
    return max(float(np.max(np.abs(np.asarray(now[name]) / np.asarray(before[name]) - 1))) for name in now)


def stored_bit_figures(precision: dict[str, Any], model: Model) -> dict[str, float]:
    """Tag → mean bits a weight (stored, as information, stored by layer and by kernel), and share of blocks by tier."""
    tiers = {name: np.asarray(precision["layers"][name]["tier"], np.float64) for name in kernel_shapes(model)}
    stored = {name: stored_block_bits(tiers[name], k).sum(axis=1) for name, (_, k) in kernel_shapes(model).items()}
    weights = {name: n * k for name, (n, k) in kernel_shapes(model).items()}
    layer_weights = sum(weights.values())
    mean = sum(a.sum() for a in stored.values()) / (layer_weights * model.num_layers)
    everything = np.concatenate([a.reshape(-1) for a in tiers.values()])
    figures = {"precision/stored_bits": mean, "precision/information_bits": mean - 2 + TERNARY_BITS}
    figures |= {
        f"precision/bits_layer_{i}": sum(a[i] for a in stored.values()) / layer_weights for i in range(model.num_layers)
    }
    figures |= {f"precision/bits_{name}": a.sum() / (weights[name] * model.num_layers) for name, a in stored.items()}
    figures |= {f"precision/share_tier_{tier}": float((everything == tier).mean()) for tier in TIERS}
    return {tag: float(value) for tag, value in figures.items()}


def tier_image(precision: dict[str, Any], model: Model) -> UInt8[np.ndarray, "1 height width"]:
    """The tiers as a grey picture: a row for each layer, its blocks from left to right (qkv | o | gate_up | down)."""
    columns = []
    for name in kernel_shapes(model):
        tier = np.asarray(precision["layers"][name]["tier"])
        grey = np.vectorize(_GREY.get, otypes=[np.uint8])(tier)
        columns += [grey, np.zeros((len(grey), 1), np.uint8)]
    image = np.concatenate(columns[:-1], axis=1)
    return np.kron(image, np.ones((_CELL, _CELL), np.uint8))[None]


def state_figures(state: TrainState, model: Model) -> dict[str, float]:
    """Tag → every figure of this module that a single state has."""
    figures = {tag: float(value) for tag, value in weight_figures(state.params, model).items()}
    if not model.max_tier or model.weights != "ternary":  # controls have no tiers
        return figures
    figures["quant/residual_saturation"] = float(residual_saturation(state.params, state.precision, model))
    return figures | stored_bit_figures(state.precision, model)
