"""Packed products in plain XLA: for every device, and the only way on a GPU below compute capability 8.0.

For one row of activations (a few on a GPU) it is one fused multiply-reduce, which reads the packed bytes and writes no
unpacked ones. For more rows the codes are unpacked to int8 once and multiplied by the library's int8 product; or, where
that is the faster of the two, by its product of floating-point numbers (``float_code_product``).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Int8, Int16, Int32, UInt8

from pallas_kernels.layout import BLOCK_K, QUARTER, AnyArray

_REDUCE_ROWS = {"cpu": 1}  # rows of activations up to which the multiply-reduce is the faster of the two, measured
_UNMEASURED = 4  # the same on other platforms, a guess: unpacked codes cost them a way through memory
_FLOAT_K = 170 * BLOCK_K  # elements of K whose products an f32 sum holds exactly: 43,520 · 3 · 128 < 2²⁴
_INT16_BLOCKS = 21  # blocks of K whose products fit one int16 sum: 21 blocks · 4 quarters · 3 · 128 < 2¹⁵


def code_product(x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"]) -> Int32[Array, "M R"]:
    """Σ_k code·x for packed codes 0…3, exact in int32."""
    few = x.shape[0] <= _REDUCE_ROWS.get(jax.default_backend(), _UNMEASURED)
    return _multiply_reduce(x, data) if few else _unpack_and_dot(x, data)


def _multiply_reduce(x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"]) -> Int32[Array, "M R"]:
    """Multiplies and sums over blocks in int16, with twice the lanes of int32; the 64 lanes left are summed in int32.

    The activations are prepared in a function that XLA must not inline: its CPU back end would fuse whatever computed
    them (a quantisation) into the reduce and do it again for every row of the matrix, at half of the speed.
    """
    (m, k), rows = x.shape, data.shape[0]
    with set_xla_metadata(inlineable="false"):
        quarters = _quarters(x)
    blocks = data.reshape(1, rows, k // BLOCK_K, QUARTER)
    parts = [_codes_of_quarter(blocks, j).astype(jnp.int16) * quarters[:, None, :, j, :] for j in range(4)]
    products = parts[0] + parts[1] + parts[2] + parts[3]
    total = jnp.zeros((m, rows), jnp.int32)
    for start in range(0, k // BLOCK_K, _INT16_BLOCKS):
        piece = products[:, :, start : start + _INT16_BLOCKS]
        # lax.reduce and not jnp.sum, which would widen to int32 first
        total += jnp.sum(lax.reduce(piece, np.int16(0), lax.add, (2,)), axis=-1, dtype=jnp.int32)
    return total


@jax.jit
def _quarters(x: Int8[AnyArray, "M K"]) -> Int16[Array, "M blocks 4 64"]:
    """The activations as int16, by block and quarter."""
    return jnp.asarray(x, jnp.int16).reshape(x.shape[0], -1, 4, QUARTER)


def _unpack_and_dot(x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"]) -> Int32[Array, "M R"]:
    """Unpacks the first quarters of all blocks of a row, then the second ones, …, and takes x in the same order.

    In the format's own order the unpacking would write runs of 64 bytes, a scalar loop on a CPU; runs of K/4 become a
    vector loop, several times faster. As the left operand the codes are used as they lie; the library reorders x.
    """
    codes, ordered = _unpacked(x, data, jnp.int8)
    return lax.dot_general(codes, ordered, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32).T


def float_code_product(
    x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"], dtype: jnp.dtype | type
) -> Int32[Array, "M R"]:
    """Σ_k code·x for packed codes 0…3 by products in ``dtype`` (bf16 or f32) with f32 sums, exact for any K.

    Integers to ±128 and to 3 are exact in bf16, their products and sums in f32 below 2²⁴; a longer K is cut.
    """
    codes, ordered = _unpacked(x, data, dtype)
    total = jnp.zeros((x.shape[0], data.shape[0]), jnp.int32)
    for start in range(0, x.shape[1], _FLOAT_K):
        weights, activations = (a[:, start : start + _FLOAT_K] for a in (codes, ordered))
        part = lax.dot_general(weights, activations, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
        total += part.T.astype(jnp.int32)
    return total


def _unpacked(x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"], dtype: jnp.dtype | type) -> tuple[Array, Array]:
    """Codes [R, K] and activations [M, K] in ``dtype``, both with the quarters of all blocks one after the other."""
    m, k = x.shape
    codes = jnp.stack([_codes_of_quarter(data, j).astype(dtype) for j in range(4)], axis=1).reshape(-1, k)
    ordered = jnp.asarray(x).reshape(m, k // BLOCK_K, 4, QUARTER).transpose(0, 2, 1, 3).reshape(m, k)
    return codes, ordered.astype(dtype)


def _codes_of_quarter(data: UInt8[AnyArray, "*S"], quarter: int) -> UInt8[AnyArray, "*S"]:
    """The codes of one quarter of every block."""
    return (data >> jnp.uint8(2 * quarter)) & jnp.uint8(3)
