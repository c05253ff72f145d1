"""Packed products by Pallas on the Mosaic route: NVIDIA GPUs of compute capability 9.0 (Hopper), the same bytes.

Mosaic cannot shift 8-bit lanes. A mask therefore leaves each bit pair where it is, as a code times 1, 4, 16 or 64; each
pair has an accumulator of its own, and the accumulators are shifted once, at the end. The top pair would be negative as
an int8; with its high bit flipped it reads as (code − 2)·64, so twice the sum of its activations is added back:

    Σ code·x = Σ_j acc_j / 4^j + 2·Σ_{k in the last quarters} x_k

The weights are the A operand, in registers; the activations stream through shared memory.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Int8, Int32, UInt8

from pallas_kernels.layout import BLOCK_K, QUARTER, TILE_ROWS, AnyArray, round_up

_STEPS = 4  # blocks of K that are loaded ahead
_MASKS = (0x03, 0x0C, 0x30, 0xC0)  # of the bit pairs
_FLIP = 0x80  # high bit of the top pair
_SWIZZLE = 64  # bytes of a quarter


def code_product(x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"]) -> Int32[Array, "M R"]:
    """Σ_k code·x for packed codes 0…3, exact in int32; R a multiple of 64, K of 256."""
    m, k = x.shape
    columns = 16 if m <= 16 else 32 if m <= 32 else 64
    wide = jnp.pad(x, ((0, round_up(m, columns) - m), (0, 0)))
    rows = round_up(data.shape[0], TILE_ROWS)
    tall = jnp.pad(data, ((0, rows - data.shape[0]), (0, 0)))
    product = plgpu.kernel(
        functools.partial(_kernel, blocks=k // BLOCK_K, columns=columns),
        out_type=jax.ShapeDtypeStruct((rows, wide.shape[0]), jnp.int32),
        grid=(rows // TILE_ROWS, wide.shape[0] // columns),
        grid_names=("row", "column"),
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Warpgroup),
        scratch_types={"out_smem": plgpu.SMEM((TILE_ROWS, columns), jnp.int32)},
    )(lax.bitcast_convert_type(tall, jnp.int8), wide)
    last = wide.reshape(wide.shape[0], -1, 4, QUARTER)[:, :, 3]
    given_back = 2 * jnp.sum(last, axis=(1, 2), dtype=jnp.int32)
    return (product.T + given_back[:, None])[:m, : data.shape[0]]


def _kernel(data_gmem, x_gmem, out_gmem, out_smem, *, blocks: int, columns: int):
    """out[row tile, activation tile] = Σ code·x over the whole of K; see the module for the masks."""
    row, column = lax.axis_index("row"), lax.axis_index("column")
    rows_slice, columns_slice = pl.ds(row * TILE_ROWS, TILE_ROWS), pl.ds(column * columns, columns)

    transforms = plgpu.TilingTransform((8, _SWIZZLE)), plgpu.SwizzleTransform(_SWIZZLE)

    def scope(*accs):
        def body(_, data_smem, x_smem):
            flipped = data_smem[...] ^ jnp.int8(_FLIP - 256)
            for j, acc in enumerate(accs):
                codes = flipped & jnp.int8(_MASKS[j] if j < 3 else _MASKS[j] - 256)
                plgpu.wgmma(acc, codes, x_smem.at[:, pl.ds(j * QUARTER, QUARTER)].transpose((1, 0)))
            plgpu.wgmma_wait(0)

        plgpu.emit_pipeline(
            body,
            grid=(blocks,),
            in_specs=[
                plgpu.BlockSpec((TILE_ROWS, QUARTER), lambda i: (0, i), transforms=transforms),
                plgpu.BlockSpec((columns, BLOCK_K), lambda i: (0, i), transforms=transforms),
            ],
            max_concurrent_steps=min(_STEPS, blocks),
        )(data_gmem.at[rows_slice, :], x_gmem.at[columns_slice, :])
        parts = [acc[...] >> (2 * j) for j, acc in enumerate(accs)]
        return parts[0] + parts[1] + parts[2] + parts[3]

    accumulator = plgpu.ACC((TILE_ROWS, columns), jnp.int32)
    out_smem[...] = pl.run_scoped(scope, *[accumulator] * 4)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(out_smem, out_gmem.at[rows_slice, columns_slice])
    plgpu.wait_smem_to_gmem(0)
