"""What decoding keeps of the tokens before: the KV cache, and the last inputs of the convolution."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bitzero.config import Model, kernel_shapes
from bitzero.model import quant
from bitzero.state import pytree


@pytree
class Cache:
    """What decoding keeps of all layers: keys and values, in the float operand type, and the convolution's inputs."""

    key: Float[Array, "L B S H K"]
    value: Float[Array, "L B S H K"]
    recent: Float[Array, "L B reach N"]  # q, k, v of the last positions, before the convolution

    def copied(self, times: int) -> "Cache":
        """A cache with every sequence so many times, one after another."""
        return jax.tree.map(lambda a: jnp.repeat(a, times, axis=1), self)


def empty_cache(model: Model, batch: int, slots: int) -> Cache:
    """A cache of ``slots`` positions for ``batch`` sequences."""
    rows, _ = kernel_shapes(model)["qkv"]
    shape = (model.num_layers, batch, slots, model.num_kv_heads, model.head_dim)
    dtype = quant.float_type(quant.operand_of(model))
    recent = jnp.zeros((model.num_layers, batch, max(model.conv - 1, 0), rows))
    return Cache(key=jnp.zeros(shape, dtype), value=jnp.zeros(shape, dtype), recent=recent)


def write_rows(cache: Cache, k: Array, v: Array, layer: Array, slot: Array) -> Cache:
    """The cache with a layer's new keys and values, from ``slot`` on."""
    at = (layer, 0, slot, 0, 0)
    put = jax.lax.dynamic_update_slice
    return dataclasses.replace(
        cache,
        key=put(cache.key, k[None].astype(cache.key.dtype), at),
        value=put(cache.value, v[None].astype(cache.value.dtype), at),
    )


def keep_recent(cache: Cache, rows: Array, layer: Array) -> Cache:
    """The cache with a layer's last inputs of the convolution."""
    return dataclasses.replace(cache, recent=jax.lax.dynamic_update_slice(cache.recent, rows[None], (layer, 0, 0, 0)))
