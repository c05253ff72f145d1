"""A layer's passes in C++ (``bitzero.native``), from what a layer of ``transformer`` has to what they take."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int8

from bitzero.config import Model, kernel_parts
from bitzero.model import quant
from bitzero.model.attention import AttentionProbe
from bitzero.native import functions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Codes:
    """What ``functions.normed_linear`` multiplies, and the latent weights that its gradient is for."""

    latent: Float[Array, "N K"]
    codes: Float[Array, "N K"]
    scale: Float[Array, " N"]
    lam: Float[Array, ""]  # of the activations' rounding, where the codes are no integers
    integer: bool


def codes_of(
    w: Float[Array, "N K"] | quant.Full,
    tier: Int8[Array, " blocks"] | None,
    ramp: Float[Array, " blocks"] | None,
    parts: tuple[int, ...],
    max_tier: int,
    lam: Float[Array, ""] | None,
) -> Codes:
    """The codes of a weight: integers at λ = 1 (``lam`` None), below it the blend; ``Full`` as it is."""
    if isinstance(w, quant.Full):
        return Codes(
            latent=w.weight, codes=w.weight, scale=jnp.ones(w.weight.shape[:1]), lam=jnp.float32(0), integer=False
        )
    latent = jax.lax.stop_gradient(w)
    if lam is None:
        codes, scale = quant.forward_codes(latent, tier, ramp, parts, max_tier)
        return Codes(latent=w, codes=codes, scale=scale, lam=jnp.float32(1), integer=True)
    blend = quant.blended_weight(latent, lam, parts, max_tier)
    return Codes(latent=w, codes=blend, scale=jnp.ones(w.shape[:1]), lam=lam, integer=False)


def linear(
    codes: Codes,
    gain: Float[Array, " K"],
    x: Float[Array, "B T width"],
    tap: Float[Array, " K"] | None,
    gated: bool,
    every: int,
    half: bool,
) -> Float[Array, "B T N"]:
    """RMSNorm with ``gain``, rounding and product; with ``gated`` x is [gate, up] and the input ReLU²(gate)·up.

    The gradient of ``tap`` is a mean over one row of the batch in ``every``. With ``half`` products are of bf16.
    Seven arguments: the arrays, and what is static about the layer.
    """
    form = functions.Form(
        gated=gated,
        integer=codes.integer,
        half=half,
        floor=quant.FLOOR,
        sequence=x.shape[1],
        every=0 if tap is None else every,
    )
    tap = jnp.zeros_like(gain) if tap is None else tap
    return functions.normed_linear(form, x, gain, codes.latent, codes.codes, codes.scale, codes.lam, tap)


def attention(
    model: Model,
    qkv: Float[Array, "B T N"],
    more: Float[Array, "B T GK"] | None,
    gain: Float[Array, "H 1"] | None,
    turns: tuple[Array, Array],
    segments: Int[Array, "B T"],
    probe: AttentionProbe | None,
) -> Float[Array, "B T HK"]:
    """The heads' outputs side by side: examples apart, nothing of padding.

    ``more`` is added to the values, ``gain`` is QK-norm's (None without), ``turns`` cosine and sine of the rotation.
    Seven arguments: each array by itself, as a layer may come without some.
    """
    form = functions.Heads(heads=model.num_heads, groups=model.num_kv_heads, norm=gain is not None)
    gains = jnp.ones(model.num_heads) if gain is None else gain[:, 0]
    watched = None if probe is None else (probe.source, probe.answers)
    tap = jnp.zeros(model.num_heads) if probe is None else probe.tap
    return functions.attend(form, qkv, more, gains, turns, segments, watched, tap)


def stack_of(layers: dict[str, Any], model: Model) -> functions.Stack | None:
    """Materialised layers as the C++ sampler takes them; None for packed ones and latents, left to XLA."""
    kernels = [layers[name]["kernel"] for name in kernel_parts(model)]
    depth = model.num_layers
    if all(isinstance(kernel, quant.Dense) for kernel in kernels):
        matrices, lam = [(kernel.codes, kernel.scale) for kernel in kernels], jnp.ones(depth)
    elif all(isinstance(kernel, quant.Blend | quant.Full) for kernel in kernels):
        matrices = [(kernel.weight, jnp.ones(kernel.weight.shape[:2])) for kernel in kernels]
        lam = kernels[0].lam if isinstance(kernels[0], quant.Blend) else jnp.zeros(depth)
    else:
        return None
    flat = lambda name: layers[name].reshape(depth) if name in layers else None
    return functions.Stack(
        heads=model.num_heads,
        norm=model.qk_norm,
        integer=isinstance(kernels[0], quant.Dense),
        floor=quant.FLOOR,
        skip=flat("skip_gain"),
        conv=layers.get("conv"),
        query=layers["query_gain"][..., 0] if model.qk_norm else None,
        lam=lam,
        gains=tuple(layers[f"{name}_norm"]["gain"] for name in ("attn", "attn_sub", "ffn", "ffn_sub")),
        matrices=tuple(matrices),
    )


def value_embeddings(layers: dict[str, Any], tokens: Int[Array, "B T"]) -> Float[Array, "L B T GK"] | None:
    """What each layer adds to the values of these tokens; None where a model has none."""
    if "value_embedding" not in layers:
        return None
    return layers["value_embedding"][:, tokens] * layers["value_gain"]
