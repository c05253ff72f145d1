"""Products of a few activations (M ≤ 8) on NVIDIA GPUs: a GEMV that multiplies four codes at once by dp4a.

A 32-bit word of the packed format holds four neighbours of each quarter of a block: ``(word >> 2j) & 0x03030303`` is
four codes as four bytes, to be multiplied with a word of four activations. Every word of codes is read once and used
for all M rows of activations. dp4a is inline PTX, which interpret mode cannot run; there ``dot4`` takes its place.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pltriton
from jaxtyping import Array, Int8, Int32, UInt8

from pallas_kernels.layout import BLOCK_K, AnyArray
from pallas_kernels.tiles import multiprocessors

MAX_ROWS = 8  # of activations; from 9 on the tensor-core product pads to 16
_WORDS = BLOCK_K // 16  # words of a block: 16 codes each
_LANES = 1024  # words that a program holds at a time

Dot4 = Callable[[Array, Array, Array], Array]


def dot4(codes: Int32[Array, "*S"], x: Int32[Array, "*S"], acc: Int32[Array, "*S"]) -> Int32[Array, "*S"]:
    """What dp4a does: acc + Σ of four products of bytes, the codes unsigned, the activations signed."""
    for shift in (0, 8, 16, 24):
        acc += ((codes >> shift) & 0xFF) * ((x << (24 - shift)) >> 24)
    return acc


def dp4a(codes: Int32[Array, "*S"], x: Int32[Array, "*S"], acc: Int32[Array, "*S"]) -> Int32[Array, "*S"]:
    """``dot4`` in one instruction (compute capability 6.1 and newer)."""
    [out] = pltriton.elementwise_inline_asm(
        "dp4a.u32.s32 $0, $1, $2, $3;",
        args=[codes, x, acc],
        constraints="=r,r,r,r",
        pack=1,
        result_shape_dtypes=[jax.ShapeDtypeStruct(acc.shape, jnp.int32)],
    )
    return out


def _kernel(x_ref, words_ref, out_ref, *, rows: int, lanes: int, steps: int, m: int, dot: Dot4):
    """out[part, M, rows] = Σ over this program's part of K.

    Of the eight arguments three are references that Pallas passes, the others sizes that the program is compiled for.
    """
    first = pl.program_id(1) * steps

    def step(i: Array, accs: tuple[Array, ...]) -> tuple[Array, ...]:
        at = pl.ds((first + i) * lanes, lanes)
        words = words_ref[:, at]
        for j in range(4):
            codes = (words >> (2 * j)) & 0x03030303
            accs = tuple(
                dot(codes, jnp.broadcast_to(x_ref[row, j, at][None], (rows, lanes)), acc)
                for row, acc in enumerate(accs)
            )
        return accs

    zero = jnp.zeros((rows, lanes), jnp.int32)
    for row, acc in enumerate(jax.lax.fori_loop(0, steps, step, (zero,) * m)):
        out_ref[0, row] = jnp.sum(acc, axis=1)


def code_product(
    x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"], *, interpret: bool = False
) -> Int32[Array, "M R"]:
    """Σ_k code·x for packed codes 0…3 and M ≤ 8, exact in int32; R a multiple of 16, K of 256."""
    (m, k), r = x.shape, data.shape[0]
    words = lax.bitcast_convert_type(jnp.asarray(data).reshape(r, k // 16, 4), jnp.int32)
    lanes = _power_of_two(k // 16, 128)
    rows = _power_of_two(r, max(8, _LANES // lanes))
    parts = parts_of_k(k // 16 // lanes, r // rows, multiprocessors())
    partial = pl.pallas_call(
        functools.partial(
            _kernel, rows=rows, lanes=lanes, steps=k // 16 // lanes // parts, m=m, dot=dot4 if interpret else dp4a
        ),
        grid=(r // rows, parts),
        in_specs=[
            pl.BlockSpec((m, 4, k // 16), lambda row, part: (0, 0, 0)),
            pl.BlockSpec((rows, k // 16), lambda row, part: (row, 0)),
        ],
        out_specs=pl.BlockSpec((1, m, rows), lambda row, part: (part, 0, row)),
        out_shape=jax.ShapeDtypeStruct((parts, m, r), jnp.int32),
        compiler_params=pltriton.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="packed_ternary_decode",
    )(quarters_first(x), words)
    return jnp.sum(partial, axis=0)


def quarters_first(x: Int8[AnyArray, "M K"]) -> Int32[Array, "M 4 K16"]:
    """Activations as words of four neighbours, by quarter: word t of quarter j is for bit pair j of word t of a row."""
    m, k = x.shape
    quarters = jnp.asarray(x).reshape(m, k // BLOCK_K, 4, _WORDS, 4).transpose(0, 2, 1, 3, 4)
    return lax.bitcast_convert_type(quarters, jnp.int32).reshape(m, 4, k // 16)


def parts_of_k(steps: int, programs: int, processors: int) -> int:
    """Parts to cut K into, a divisor of ``steps``: as few as give four programs a multiprocessor, or else the most."""
    parts = 1
    for more in range(2, steps + 1):
        if steps % more == 0 and programs * parts < 4 * processors:
            parts = more
    return parts


def _power_of_two(size: int, most: int) -> int:
    """The largest power of two that divides ``size``, at most ``most``."""
    return min(size & -size, most)
