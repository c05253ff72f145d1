"""Residual tiers of 16-row blocks: their bit accounting and the ramp of a promoted block."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from bitzero.config import Model
from bitzero.model import quant

RAMP_STEPS = 100  # updates over which a promoted block's residual fades in


def advance(precision: dict[str, Any]) -> dict[str, Any]:
    """The precision collection one update later: λ_r of every block moves to 1 by 1/100."""
    layers = {
        name: {**block, "ramp": jnp.minimum(block["ramp"] + 1 / RAMP_STEPS, 1.0)}
        for name, block in precision["layers"].items()
    }
    return {**precision, "layers": layers}


def stored_bits(precision: dict[str, Any], cfg: Model) -> Float[Array, ""]:
    """Mean stored bits a ternary-able weight: 2, plus the tier's bits on promoted blocks, plus 32-bit block indices."""
    bits, weights = jnp.float32(0), 0
    columns = {
        "qkv": cfg.width,
        "o": cfg.num_heads * cfg.head_dim,
        "gate_up": cfg.width,
        "down": cfg.ffn_width,
    }
    for name, k in columns.items():
        tier = precision["layers"][name]["tier"].astype(jnp.float32)
        block = quant.BLOCK_ROWS * k
        bits += jnp.sum(2.0 * block + tier * block + 32.0 * (tier > 0))
        weights += tier.size * block
    return bits / weights
