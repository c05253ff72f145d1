"""The packed format: 2-bit codes along K, the same bytes for every backend.

A row of K integers is cut into blocks of 256, padded with zeros. Byte b of a block holds its elements b, 64 + b,
128 + b and 192 + b in bits 0–1, 2–3, 4–5 and 6–7: each of the four bit pairs is a quarter of the block, in order. So a
kernel unpacks quarter j with ``(byte >> 2j) & 3`` and multiplies it with a *slice* of the activations; and a 32-bit
word holds four neighbours of each quarter, as dp4a wants them. The code of a weight is T + 1; the one is taken back
after the product:

    Σ_k T_k·x_k = Σ_k code_k·x_k − Σ_k x_k

A promoted block of 16 output rows carries a residual R on a grid m times finer: W ≈ (α/m)·(m·T + R). R + 8 (m = 4,
4 bits) or R + 128 (m = 32, 8 bits) is written in base 4, each digit in a plane of 2-bit codes, so that the product with
codes 0…3 serves every width. Only promoted blocks have planes; an array of block numbers beside them says which.
"""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int8, Int32, Num, UInt8

AnyArray = Array | np.ndarray

BLOCK_K = 256  # elements of K in a block, 64 bytes
QUARTER = BLOCK_K // 4
BLOCK_ROWS = 16  # output rows that share a tier
TILE_ROWS = 64  # rows are padded to a multiple of it, so that every kernel's tile is full
FACTORS = (4, 32)  # m of the 4-bit and of the 8-bit tier
PLANES = {4: 2, 32: 4}  # base-4 digits of a residual
OFFSET = {4: 8, 32: 128}  # added to a residual, so that its digits are not negative
LIMIT = {4: 7, 32: 127}  # largest |R|


class PackingError(ValueError):
    """Something cannot be packed or multiplied; the message says what, and what can."""


@typing.no_type_check
@dataclasses.dataclass(frozen=True, kw_only=True)
class Planes:
    """The residuals of promoted blocks of one tier."""

    digits: UInt8[Array, "*L planes rows K4"]  # packed base-4 digits, least first; rows = 16 · blocks
    block: Int32[Array, "*L blocks"]  # the number of each; one beyond the matrix's last block is unused capacity


@typing.no_type_check
@dataclasses.dataclass(frozen=True, kw_only=True)
class Packed:
    """A ternary matrix [N, K], with residual blocks or without; y = f32(X·(m·T + R)ᵀ)·(scale·δ)."""

    codes: UInt8[Array, "*L Np K4"]  # T + 1; Np and 4·K4 are N and K rounded up
    scale: Float[Array, "*L N"]  # α/m of each row
    residual: dict[int, Planes]  # by m; empty without promoted blocks
    shape: tuple[int, int]  # N, K


jax.tree_util.register_dataclass(Planes, data_fields=["digits", "block"], meta_fields=[])
jax.tree_util.register_dataclass(Packed, data_fields=["codes", "scale", "residual"], meta_fields=["shape"])


@typing.no_type_check
@dataclasses.dataclass(frozen=True, kw_only=True)
class Residual:
    """Promoted blocks to be packed: R on the grid of tier factor ``m``."""

    values: Int8[AnyArray, "blocks 16 K"]  # |R| ≤ 7 for m = 4, ≤ 127 for m = 32
    block: Sequence[int] | np.ndarray  # number of each block of 16 rows, all different
    m: Sequence[int] | np.ndarray  # 4 or 32 for each block


def round_up(size: int, multiple: int) -> int:
    """``size`` rounded up to a multiple."""
    return -(-size // multiple) * multiple


def pack_codes(values: UInt8[AnyArray, "*R K"]) -> UInt8[AnyArray, "*R K4"]:
    """Codes 0…3 to bytes; K must be a multiple of 256. Exact inverse: ``unpack_codes``."""
    *rows, k = values.shape
    quarters = values.reshape(*rows, k // BLOCK_K, 4, QUARTER)
    bits = [quarters[..., j, :] << np.uint8(2 * j) for j in range(4)]
    return (bits[0] | bits[1] | bits[2] | bits[3]).reshape(*rows, k // 4)


def unpack_codes(data: UInt8[AnyArray, "*R K4"]) -> UInt8[AnyArray, "*R K"]:
    """Bytes to codes 0…3."""
    *rows, size = data.shape
    blocks = data.reshape(*rows, size // QUARTER, 1, QUARTER)
    shifts = np.arange(0, 8, 2, dtype=np.uint8).reshape((1,) * (len(rows) + 1) + (4, 1))
    return ((blocks >> shifts) & np.uint8(3)).reshape(*rows, 4 * size)


def pack(codes: Num[AnyArray, "N K"], scale: Any, *, residual: Residual | None = None) -> Packed:
    """The packed matrix of ternary ``codes`` (int8: −1, 0, 1) and f32 scales [N] or []; any N and K.

    With ``residual``, ``scale`` of a promoted row is α/m. Checks values on the host: not for use under ``jit``. Raises
    ``PackingError``.
    """
    ternary = np.asarray(codes)
    if ternary.ndim != 2 or ternary.dtype != np.int8:
        raise PackingError(f"codes must be int8 [N, K], not {ternary.dtype} {list(ternary.shape)}")
    if ternary.size == 0 or ternary.min() < -1 or ternary.max() > 1:
        raise PackingError("codes must be −1, 0 or 1, and there must be some")
    n, k = ternary.shape
    padded_codes = np.zeros((round_up(n, TILE_ROWS), round_up(k, BLOCK_K)), np.int8)
    padded_codes[:n, :k] = ternary
    scales = np.asarray(scale, np.float32)
    if scales.shape not in ((), (n,)):
        raise PackingError(f"scale must be a number or one for each of the {n} rows, not {list(scales.shape)}")
    return Packed(
        codes=jnp.asarray(pack_codes((padded_codes + 1).astype(np.uint8))),
        scale=jnp.asarray(np.broadcast_to(scales, (n,)).copy()),
        residual=_pack_residual(residual, n, k) if residual is not None else {},
        shape=(n, k),
    )


def _pack_residual(residual: Residual, n: int, k: int) -> dict[int, Planes]:
    """The planes of promoted blocks of an N × K matrix, by tier factor. Raises ``PackingError``."""
    values, block, factors = (np.asarray(a) for a in (residual.values, residual.block, residual.m))
    if block.ndim != 1 or factors.shape != block.shape or not np.issubdtype(block.dtype, np.integer):
        raise PackingError("residual blocks must be a list of whole numbers, with a tier factor for each")
    if values.shape != (len(block), BLOCK_ROWS, k) or values.dtype != np.int8:
        raise PackingError(
            f"residual values must be int8 [{len(block)}, {BLOCK_ROWS}, {k}], not {values.dtype} {list(values.shape)}"
        )
    if len(set(block.tolist())) != len(block) or not all(0 <= b < n // BLOCK_ROWS for b in block):
        raise PackingError(f"residual blocks must be different numbers of whole blocks of {BLOCK_ROWS} of the {n} rows")
    planes = {}
    for m in sorted(set(factors.tolist())):
        if m not in FACTORS:
            raise PackingError(f"a tier factor must be one of {FACTORS}, not {m}")
        mine = factors == m
        if np.abs(values[mine].astype(np.int32)).max() > LIMIT[m]:
            raise PackingError(f"residuals of m = {m} must be within ±{LIMIT[m]}")
        planes[m] = Planes(
            digits=jnp.asarray(_digits(values[mine], m)), block=jnp.asarray(block[mine].astype(np.int32))
        )
    return planes


def _digits(values: np.ndarray, m: int) -> np.ndarray:
    """Packed base-4 digits [planes, 16·blocks, K4] of residuals [blocks, 16, K]; padding is R = 0."""
    k = values.shape[-1]
    rows = np.zeros((values.shape[0] * BLOCK_ROWS, round_up(k, BLOCK_K)), np.int32)
    rows[:, :k] = values.reshape(-1, k)
    shifted = rows + OFFSET[m]
    return np.stack([pack_codes(((shifted >> 2 * p) & 3).astype(np.uint8)) for p in range(PLANES[m])])


def unpack(packed: Packed) -> Int8[Array, "N K"]:
    """T of a packed matrix, as ``pack`` was given it."""
    n, k = packed.shape
    return unpack_codes(packed.codes)[..., :n, :k].astype(jnp.int8) - jnp.int8(1)


def unpack_residual(packed: Packed) -> dict[int, tuple[Int8[Array, "blocks 16 K"], Int32[Array, " blocks"]]]:
    """R and block numbers of each tier factor, as ``pack`` was given them."""
    _, k = packed.shape
    residuals = {}
    for m, planes in packed.residual.items():
        weights = 4 ** jnp.arange(PLANES[m], dtype=jnp.int32).reshape(-1, 1, 1)
        shifted = jnp.sum(unpack_codes(planes.digits).astype(jnp.int32) * weights, axis=0) - OFFSET[m]
        residuals[m] = (shifted[:, :k].astype(jnp.int8).reshape(-1, BLOCK_ROWS, k), planes.block)
    return residuals


def integers_of(packed: Packed) -> Int32[Array, "N K"]:
    """The integers m·T + R of a packed matrix."""
    k = packed.shape[1]
    total = unpack(packed).astype(jnp.int32) * row_factors(packed)[:, None]
    for values, block in unpack_residual(packed).values():
        total = total.at[rows_of_blocks(block)].add(values.reshape(-1, k).astype(jnp.int32), mode="drop")
    return total


def rows_of_blocks(block: Int32[Array, " blocks"]) -> Int32[Array, " rows"]:
    """The row numbers of promoted blocks, 16 a block."""
    return (block[:, None] * BLOCK_ROWS + jnp.arange(BLOCK_ROWS)[None]).reshape(-1)


def row_factors(packed: Packed) -> Int32[Array, " N"]:
    """m of each row: 1, or its block's tier factor."""
    blocks = jnp.ones((-(-packed.shape[0] // BLOCK_ROWS),), jnp.int32)
    for m, planes in packed.residual.items():
        blocks = blocks.at[planes.block].set(m, mode="drop")
    return jnp.repeat(blocks, BLOCK_ROWS)[: packed.shape[0]]


def planes_with_capacity(packed: Packed, m: int, blocks: int) -> Planes:
    """The planes of tier factor ``m`` with room for ``blocks``; unused ones carry R = 0 and a number past the last."""
    n, k = packed.shape
    if m in packed.residual:
        planes = packed.residual[m]
    else:
        no_digits = jnp.zeros((PLANES[m], 0, packed.codes.shape[-1]), jnp.uint8)
        planes = Planes(digits=no_digits, block=jnp.zeros((0,), jnp.int32))
    spare = blocks - planes.block.size
    if spare < 0:
        raise PackingError(f"{planes.block.size} blocks of m = {m} do not fit a capacity of {blocks}")
    zeros = jnp.asarray(_digits(np.zeros((spare, BLOCK_ROWS, k), np.int8), m))
    return Planes(
        digits=jnp.concatenate([planes.digits, zeros], axis=1),
        block=jnp.concatenate([planes.block, jnp.full((spare,), -(-n // BLOCK_ROWS), jnp.int32)]),
    )


def check_packed(packed: Packed) -> None:
    """Raises ``PackingError`` unless the arrays of one or of stacked matrices are what ``pack`` could have made."""
    (n, k), stacked = packed.shape, packed.codes.shape[:-2]
    width = round_up(k, BLOCK_K) // 4
    _check_array("codes", packed.codes, (*stacked, round_up(n, TILE_ROWS), width), np.uint8)
    _check_array("scale", packed.scale, (*stacked, n), np.float32)
    for matrix in np.asarray(packed.codes).reshape(-1, *packed.codes.shape[-2:]):
        if np.any(matrix & (matrix >> 1) & np.uint8(0x55)):
            raise PackingError("a code is 3, which is no weight")
    for m, planes in packed.residual.items():
        numbers = np.asarray(planes.block)
        rows = BLOCK_ROWS * numbers.shape[-1]
        _check_array(f"digits of m = {m}", planes.digits, (*stacked, PLANES[m], rows, width), np.uint8)
        _check_array(f"blocks of m = {m}", numbers, (*stacked, numbers.shape[-1]), np.int32)
    promoted = [np.asarray(planes.block).reshape(-1, planes.block.shape[-1]) for planes in packed.residual.values()]
    for layer in zip(*promoted, strict=True):
        used = [int(b) for numbers in layer for b in numbers if b < -(-n // BLOCK_ROWS)]
        if len(set(used)) != len(used) or not all(0 <= b < n // BLOCK_ROWS for b in used):
            raise PackingError(f"promoted blocks must be different numbers below {n // BLOCK_ROWS}")


def _check_array(name: str, found: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raises ``PackingError`` unless the array has that shape and type."""
    if found.shape != shape or found.dtype != dtype:
        raise PackingError(f"{name} are {found.dtype} {list(found.shape)}, not {np.dtype(dtype)} {list(shape)}")


def largest_integer(packed: Packed) -> int:
    """The largest |m·T + R| that the matrix can hold."""
    return max((m + LIMIT[m] for m in packed.residual), default=1)


def nbytes(packed: Packed) -> int:
    """Bytes of a packed matrix: codes, scales, planes and block numbers."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(packed))
