"""Packed products by Pallas on the Triton route: NVIDIA GPUs of compute capability 8.0 and newer.

Up to 8 activations take the GEMV of ``decode_gpu.py``; this module is for more.

The weights are the A operand of the tensor-core product (yᵀ = W·xᵀ), where unpacked codes stay in registers; as the B
operand each of them would be stored to shared memory byte by byte. A program takes a tile of rows and a tile of
activations and goes through K in blocks of 256, with four products of 64 a block, one for each bit pair. Where there
would be fewer programs than multiprocessors, K is split over a third grid axis and XLA adds the partial sums: integers
add to the same bits in any order.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pltriton
from jaxtyping import Array, Int8, Int32, UInt8

from pallas_kernels import decode_gpu
from pallas_kernels.layout import BLOCK_K, QUARTER, AnyArray, round_up
from pallas_kernels.tiles import Tile, choose_tile


def _kernel(x_ref, data_ref, out_ref, *, blocks: int, tile: Tile):
    """out[M tile, row tile] = Σ over this program's ``blocks`` of K."""
    first = pl.program_id(2) * blocks

    def block(i: Array, acc: Array) -> Array:
        at = first + i
        data = data_ref[:, pl.ds(at * QUARTER, QUARTER)]
        for j in range(4):
            codes = ((data >> jnp.uint8(2 * j)) & jnp.uint8(3)).astype(jnp.int8)
            x = x_ref[:, pl.ds(at * BLOCK_K + j * QUARTER, QUARTER)]
            acc += jax.lax.dot_general(codes, x, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32)
        return acc

    zero = jnp.zeros((tile.rows, tile.activations), jnp.int32)
    out_ref[0] = jax.lax.fori_loop(0, blocks, block, zero).T


def code_product(
    x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"], tile: Tile | None = None, *, interpret: bool = False
) -> Int32[Array, "M R"]:
    """Σ_k code·x for packed codes 0…3, exact in int32; R a multiple of 16, K of 256.

    Without a ``tile`` one is chosen, and up to 8 activations take the GEMV. ``interpret`` does on any device what the
    kernel would do, for tests.
    """
    m, k = x.shape
    if tile is None and m <= decode_gpu.MAX_ROWS:
        return decode_gpu.code_product(x, data, interpret=interpret)
    rows = data.shape[0]
    tile = tile or choose_tile(m, rows, k)
    if rows % tile.rows:  # planes of a few promoted blocks
        tile = dataclasses.replace(tile, rows=16)
    wide = jnp.pad(x, ((0, round_up(m, tile.activations) - m), (0, 0)))
    blocks = k // BLOCK_K
    if blocks % tile.splits:
        tile = dataclasses.replace(tile, splits=1)
    partial = pl.pallas_call(
        functools.partial(_kernel, blocks=blocks // tile.splits, tile=tile),
        grid=(rows // tile.rows, wide.shape[0] // tile.activations, tile.splits),
        in_specs=[
            pl.BlockSpec((tile.activations, k), lambda r, i, s: (i, 0)),
            pl.BlockSpec((tile.rows, k // 4), lambda r, i, s: (r, 0)),
        ],
        out_specs=pl.BlockSpec((1, tile.activations, tile.rows), lambda r, i, s: (s, i, r)),
        out_shape=jax.ShapeDtypeStruct((tile.splits, wide.shape[0], rows), jnp.int32),
        compiler_params=pltriton.CompilerParams(num_warps=tile.warps, num_stages=tile.stages),
        interpret=interpret,
        name="packed_ternary",
    )(wide, data)
    return jnp.sum(partial, axis=0)[:m]
