"""An extra for GTX 16- and RTX 20-series cards (compute capability 7.5): the decode GEMV as PTX written by hand.

Pallas needs compute capability 8.0, so this kernel is written in PTX and launched by the call that JAX itself uses for
compiled Triton kernels. Bytes and dp4a are those of ``decode_gpu.py``. A warp computes one row of the matrix: it reads
32 words of 16 codes at a time and multiplies each with all M rows of activations. The tests assemble it for sm_75 and
execute it lane by lane in NumPy. On an H100 all 45 checks were exact (`experiments/LOG.md`); **no card of compute
capability 7.5 has run it yet**: it is chosen only where it was measured.
"""

import zlib
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int8, Int32, UInt8

from pallas_kernels.decode_gpu import MAX_ROWS, quarters_first
from pallas_kernels.layout import AnyArray, PackingError

NAME = "packed_ternary_gemv"
WARPS = 4  # of a thread block, each for one row of the matrix
TARGET = "triton_kernel_call_ffi"  # launches PTX with the buffers and two more pointers as its parameters


def ptx(m: int, rows: int, k: int) -> str:
    """PTX of the GEMV for M activations and a rows × K matrix; parameters: activations, codes, result, two unused.

    Activations are words [M, 4, K/16] (``quarters_first``), codes words [rows, K/16], the result int32 [M, rows].
    """
    words, accs = k // 16, [f"%acc{i}" for i in range(m)]
    stores = (f"@%first st.global.u32 [%py+{4 * i * rows}], {acc};" for i, acc in enumerate(accs))
    return f"""
.version 7.0
.target sm_75
.address_size 64
.visible .entry {NAME}(.param .u64 x, .param .u64 w, .param .u64 y, .param .u64 scratch, .param .u64 profile)
.reqntid {32 * WARPS}, 1, 1
{{
  .reg .pred %in, %more, %first;
  .reg .b32 %thread, %lane, %warp, %row, %at, %base, %word, %code, %x, %other, {", ".join(accs)};
  .reg .b64 %px, %pw, %py;
{_indented(_start_addresses(words))}
{_indented(f"mov.u32 {acc}, 0;" for acc in accs)}
LOOP:
  add.u32 %at, %base, %lane;
  setp.lt.u32 %in, %at, {words};
  mov.u32 %word, 0;
  @%in ld.global.nc.u32 %word, [%pw];
{_indented(_products(accs, words))}
  add.u64 %pw, %pw, 128;
  add.u64 %px, %px, 128;
  add.u32 %base, %base, 32;
  setp.lt.u32 %more, %base, {words};
  @%more bra LOOP;
{_indented(_sum_over_lanes(accs))}
  setp.eq.u32 %first, %lane, 0;
  mad.wide.u32 %py, %row, 4, %py;
{_indented(stores)}
  ret;
}}
"""


def _indented(instructions: Iterable[str]) -> str:
    """Instructions as lines of a PTX body."""
    return "\n".join(f"  {line}" for line in instructions)


def _start_addresses(words: int) -> Iterator[str]:
    """Sets the pointers to where this lane starts: at word ``lane`` of row 4·block + warp, and of the activations."""
    for pointer, parameter in (("%px", "x"), ("%pw", "w"), ("%py", "y")):
        yield f"ld.param.u64 {pointer}, [{parameter}];"
        yield f"cvta.to.global.u64 {pointer}, {pointer};"
    yield "mov.u32 %thread, %tid.x;"
    yield "and.b32 %lane, %thread, 31;"
    yield "shr.u32 %warp, %thread, 5;"
    yield "mov.u32 %row, %ctaid.x;"
    yield f"mad.lo.u32 %row, %row, {WARPS}, %warp;"
    yield f"mad.wide.u32 %pw, %row, {4 * words}, %pw;"
    yield "mad.wide.u32 %pw, %lane, 4, %pw;"
    yield "mad.wide.u32 %px, %lane, 4, %px;"
    yield "mov.u32 %base, 0;"


def _products(accs: list[str], words: int) -> Iterator[str]:
    """Multiplies four codes of each bit pair with their activations; a lane past the end has codes 0, loads nothing."""
    yield "mov.u32 %x, 0;"
    for j in range(4):
        yield f"shr.u32 %code, %word, {2 * j};"
        yield "and.b32 %code, %code, 0x03030303;"
        for i, acc in enumerate(accs):
            yield f"@%in ld.global.nc.u32 %x, [%px+{4 * words * (4 * i + j)}];"
            yield f"dp4a.u32.s32 {acc}, %code, %x, {acc};"


def _sum_over_lanes(accs: list[str]) -> Iterator[str]:
    """Leaves the sum over the warp's 32 lanes in every lane."""
    for acc in accs:
        for distance in (16, 8, 4, 2, 1):
            yield f"shfl.sync.bfly.b32 %other, {acc}, {distance}, 31, 0xffffffff;"
            yield f"add.s32 {acc}, {acc}, %other;"


def code_product(x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"]) -> Int32[Array, "M R"]:
    """Σ_k code·x for packed codes 0…3 and M ≤ 8; R a multiple of 4, K of 256. Raises ``PackingError`` for more rows.

    Needs JAX's CUDA plugin, whose kernel call it borrows (the same one in 0.10 and 0.11).
    """
    (m, k), rows = x.shape, data.shape[0]
    if not 1 <= m <= MAX_ROWS or rows % WARPS or k % 256:
        raise PackingError(
            f"the sm_75 GEMV takes 1 to {MAX_ROWS} activations and whole blocks, not {m}×{k}, {rows} rows"
        )
    words = lax.bitcast_convert_type(jnp.asarray(data).reshape(rows, k // 16, 4), jnp.int32)
    call = jax.ffi.ffi_call(TARGET, jax.ShapeDtypeStruct((m, rows), jnp.int32))
    return call(quarters_first(x), words, name=NAME, opaque=_launch_message(m, rows, k))


def _launch_message(m: int, rows: int, k: int) -> bytes:
    """The launch as JAX's kernel call takes it: a compressed message of PTX, grid and parameters."""
    from jaxlib import gpu_triton  # not above: only there with the CUDA plugin

    kernel = gpu_triton.TritonKernel(NAME, WARPS, 1, 0, ptx(m, rows, k), "", 75)
    buffers = [gpu_triton.create_array_parameter(0, 4)] * 3
    launch = gpu_triton.TritonKernelCall(kernel, rows // WARPS, 1, 1, buffers)
    return zlib.compress(launch.to_proto(NAME, b""))
