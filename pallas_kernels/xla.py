"""Packed products in plain XLA: for every device, and the only way on a GPU below compute capability 8.0.

Few rows of activations: one fused multiply-reduce that reads the packed bytes and nothing else (on a GPU it needs no
temporary memory). More rows: the codes are unpacked to int8 once and multiplied by the library's int8 product.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int8, Int32, UInt8

from pallas_kernels.layout import BLOCK_K, QUARTER, AnyArray, unpack_codes

REDUCE_ROWS = 4  # activations up to which the multiply-reduce was the faster of the two


def code_product(x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"]) -> Int32[Array, "M R"]:
    """Σ_k code·x for packed codes 0…3, exact in int32."""
    return _reduce(x, data) if x.shape[0] <= REDUCE_ROWS else _dot(x, data)


def _reduce(x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"]) -> Int32[Array, "M R"]:
    m, k = x.shape
    quarters = x.reshape(m, 1, k // BLOCK_K, 4, QUARTER).astype(jnp.int32)
    blocks = data.reshape(1, -1, k // BLOCK_K, QUARTER)
    parts = [
        ((blocks >> jnp.uint8(2 * j)) & jnp.uint8(3)).astype(jnp.int32) * quarters[:, :, :, j, :] for j in range(4)
    ]
    return jnp.sum(jnp.sum(parts[0] + parts[1] + parts[2] + parts[3], axis=-2), axis=-1)


def _dot(x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"]) -> Int32[Array, "M R"]:
    codes = unpack_codes(data).astype(jnp.int8)
    return jax.lax.dot_general(x, codes, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32)
