"""One layer of the transformer, after BitNet b1.58 2B4T (arXiv 2504.12285).

RMSNorm → grouped-query attention with RoPE (sub-norm before o) → RMSNorm → ReLU² gated FFN (sub-norm before down). No
biases. Four settings add to it, all of them in float and none in the ternary matrices: value embeddings, input skips,
QK-norm and a convolution on q, k, v; with all off it is BitNet's. ``tap_mean_square`` gives mean(x²) as a gradient.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from bitzero.config import BLOCK_ROWS, VOCAB_SIZE, Model, kernel_parts
from bitzero.model import native, quant
from bitzero.model.attention import AttentionProbe, attend, convolve, rotate, unit_rms
from bitzero.model.cache import Cache, keep_recent, write_rows
from bitzero.native import functions
from bitzero.state import pytree

SAMPLE_EVERY = 4  # one row of the batch in so many is enough for mean(x²)


@pytree
class Shared:
    """What every layer is given beside the residual stream."""

    turns: tuple[Float[Array, "B T half"], Float[Array, "B T half"]]  # cosine and sine of the rotary embedding
    mask: Bool[Array, "B T S"] | None
    segments: Int[Array, "B T"] | None  # in the place of the mask, where layers are native
    slot: Int[Array, ""]  # of the cache, of the first new token
    lam: Float[Array, ""] | None
    probe: AttentionProbe | None
    tokens: Int[Array, "B T"]
    positions: Int[Array, "B T"]  # in the example
    start: Float[Array, "B T D"]  # x₀, the stream before the first layer
    asked: Bool[Array, "B T"] | None  # what is read of the last layer, where layers are native; None: everything


class RMSNorm(nn.Module):
    """x/RMS(x)·g in f32 (arXiv 1910.07467, eq. 4)."""

    @nn.compact
    def gain(self, width: int) -> Float[Array, " D"]:
        """g, for what normalises by itself."""
        return self.param("gain", nn.initializers.ones, (width,))

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        x = unit_rms(x.astype(jnp.float32))
        return x * jnp.broadcast_to(self.gain(x.shape[-1]), x.shape)


@jax.custom_vjp
def tap_mean_square(x: Float[Array, "B T K"], tap: Float[Array, " K"]) -> Float[Array, "B T K"]:
    """Identity on ``x``; the gradient of the dummy ``tap`` is defined as mean(x²) of each column.

    Scan and remat give a statistic of the forward pass no other way out. The mean is over the positions that have a
    gradient, in one row of the batch in ``SAMPLE_EVERY``.
    """
    return x


def _tap_mean_square_backward(x, g):
    """The cotangent passed on, and the mean square in the place of the tap's."""
    x, sampled_grads = x[::SAMPLE_EVERY], g[::SAMPLE_EVERY]
    counts = jnp.any(sampled_grads != 0, axis=-1)
    squares = jnp.sum(jnp.square(x) * counts[..., None], axis=(0, 1)) / jnp.maximum(jnp.sum(counts), 1)
    return g, squares


tap_mean_square.defvjp(lambda x, tap: (x, x), _tap_mean_square_backward)


class BitLinear(nn.Module):
    """One kernel: a linear layer, or several with the same input. What its weight is decides how (``quant.linear``)."""

    parts: tuple[int, ...]
    init_scale: float
    model: Model

    @nn.compact
    def __call__(
        self, norm: RMSNorm, x: Float[Array, "*B width"], lam: Float[Array, ""] | None, gated: bool = False
    ) -> Float[Array, "*B N"]:
        """The layer of ``norm(x)``, or with ``gated`` of ``norm(ReLU²(gate)·up)``, where x is both side by side."""
        rows, k = sum(self.parts), x.shape[-1] // (1 + gated)
        if self.has_variable("params", "kernel"):  # not by ``param``, which lets nothing but arrays of one shape pass
            kernel = self.get_variable("params", "kernel")
        else:
            kernel = self.param("kernel", nn.initializers.normal(self.init_scale / k**0.5), (rows, k))
        tap = self.get_variable("taps", "square") if self.has_variable("taps", "square") else None
        tier = ramp = None
        if isinstance(kernel, jax.Array):
            blocks = (rows // BLOCK_ROWS,)
            tier = self.variable("precision", "tier", jnp.zeros, blocks, jnp.int8).value
            ramp = self.variable("precision", "ramp", jnp.ones, blocks, jnp.float32).value
        operand, max_tier = quant.operand_of(self.model), quant.largest_tier(self.model)
        if self.model.native and isinstance(kernel, jax.Array | quant.Full):
            codes = native.codes_of(kernel, tier, ramp, self.parts, max_tier, lam)
            return native.linear(codes, norm.gain(k), x, tap, gated, SAMPLE_EVERY, self.model.bf16_products)
        if gated:
            gate, up = jnp.split(x, 2, axis=-1)
            x = jnp.square(jax.nn.relu(gate)) * up
        x = norm(x)
        if tap is not None:
            x = tap_mean_square(x, tap)
        return quant.linear(x, kernel, tier, ramp, parts=self.parts, operand=operand, max_tier=max_tier, lam=lam)


class Block(nn.Module):
    """One layer under ``nn.scan``; the carry is (residual stream, cache or None, layer index)."""

    model: Model

    def _linear(self, name: str, init_scale: float) -> BitLinear:
        return BitLinear(kernel_parts(self.model)[name], init_scale, self.model, name=name)

    @nn.compact
    def __call__(self, carry: Any, shared: Shared) -> tuple[Any, None]:
        x, cache, layer = carry
        model, lam = self.model, shared.lam
        # The variance of the residual stream is flat over depth, or its own until the layers have learned something.
        residual_scale = 0.0 if model.zero_outputs else (2 * model.num_layers) ** -0.5
        if model.input_skips:
            x = x + shared.start * self.param("skip_gain", nn.initializers.constant(0.1), (1, 1, 1))
        qkv = checkpoint_name(self._linear("qkv", 1.0)(RMSNorm(name="attn_norm"), x, lam), "qkv")
        attended, cache = self._attention(qkv, cache, layer, shared)
        if shared.asked is not None:  # native layers pass over what is 0
            read = shared.asked[..., None] | (layer + 1 < model.num_layers)
            x, attended = jnp.where(read, x, 0.0), jnp.where(read, attended, 0.0)
        x = x + self._linear("o", residual_scale)(RMSNorm(name="attn_sub_norm"), attended, lam)
        gate_up = checkpoint_name(self._linear("gate_up", 1.0)(RMSNorm(name="ffn_norm"), x, lam), "gate_up")
        down = self._linear("down", residual_scale)(RMSNorm(name="ffn_sub_norm"), gate_up, lam, gated=True)
        return (x + down, cache, layer + 1), None

    def _attention(
        self, qkv: Float[Array, "B T N"], cache: Cache | None, layer: Array, shared: Shared
    ) -> tuple[Float[Array, "B T HK"], Cache | None]:
        """From the merged q, k, v to the heads' outputs side by side, and the cache with the new rows."""
        model, probe = self.model, shared.probe
        (b, t, _), groups, size = qkv.shape, model.num_kv_heads, model.head_dim
        if model.conv:
            taps = self.param("conv", nn.initializers.zeros, (model.conv, qkv.shape[-1]))
            before = jnp.zeros((b, model.conv - 1, qkv.shape[-1])) if cache is None else cache.recent[layer]
            if cache is not None:
                cache = keep_recent(cache, jnp.concatenate([before, qkv], axis=1)[:, t:], layer)
            if shared.segments is not None:
                qkv = functions.convolve(qkv, taps, shared.positions)
            else:
                qkv = convolve(qkv, before, taps, shared.positions)
        more = self._value_embeddings(shared.tokens) if model.value_embeddings else None
        gain = None
        if model.qk_norm:
            gain = self.param("query_gain", nn.initializers.constant(1.5), (model.num_heads, 1))
        if probe is not None:
            probe = dataclasses.replace(probe, tap=self.get_variable("taps", "heads"))
        if shared.segments is not None:
            out = native.attention(model, qkv, more, gain, shared.turns, shared.segments, probe)
            return checkpoint_name(out, "attended"), cache
        q, k, v = jnp.split(qkv, [model.num_heads * size, (model.num_heads + groups) * size], -1)
        if more is not None:
            v = v + more
        q, k, v = (part.reshape(b, t, -1, size) for part in (q, k, v))
        if gain is not None:
            q, k = unit_rms(q) * gain[None, None], unit_rms(k)
        q, k = rotate(q, shared.turns), rotate(k, shared.turns)
        if cache is not None:
            cache = write_rows(cache, k, v, layer, shared.slot)
            k, v = cache.key[layer], cache.value[layer]
        out = attend(q, k, v, shared.mask, probe, quant.float_type(quant.operand_of(model)))
        return checkpoint_name(out.reshape(b, t, -1), "attended"), cache

    def _value_embeddings(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T GK"]:
        """What a layer adds to its values."""
        width = self.model.num_kv_heads * self.model.head_dim
        scale = width**0.5  # as with the embedding: a table that Adam can turn over in some hundred steps
        table = self.param("value_embedding", nn.initializers.normal(1 / scale), (VOCAB_SIZE, width))
        gain = self.param("value_gain", nn.initializers.constant(0.5 * scale), (1, 1, 1))
        return table[tokens] * gain
