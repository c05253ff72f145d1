"""How the tensor-core product is cut: a tile measured on this kind of GPU (``measured.py``), or a default one."""

import dataclasses

import jax

from pallas_kernels import measured
from pallas_kernels.layout import BLOCK_K, round_up

_PROCESSORS = 132  # an H200's; taken where the device does not say


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """How a product is cut into programs of the GPU."""

    rows: int = 64  # of the matrix that a program takes; divides 64
    activations: int = 64  # rows of x that a program takes; a power of two from 16
    splits: int = 1  # parts of K; divides the number of its blocks
    warps: int = 4  # of a program
    stages: int = 3  # of its software pipeline


def choose_tile(m: int, rows: int, k: int) -> Tile:
    """The measured tile of the shape on the default device, or the default one."""
    fields = measured.fastest_tile(measured.this_card(), shape_key(m, rows, k))
    return Tile(**fields) if fields else default_tile(m, rows, k)


def default_tile(m: int, rows: int, k: int) -> Tile:
    """A tile for M activations and a rows × K matrix: K is split until the grid fills twice the multiprocessors.

    Not measured; ``tuned.json`` holds what was.
    """
    activations = 16 if m <= 16 else 32 if m <= 32 else 64 if m <= 512 else 128
    programs = -(-rows // 64) * -(-m // activations)
    blocks, splits = round_up(k, BLOCK_K) // BLOCK_K, 1
    while programs * splits < 2 * multiprocessors() and splits < 16 and blocks % (2 * splits) == 0:
        splits *= 2
    return Tile(activations=activations, splits=splits, warps=8 if activations >= 128 else 4)


def multiprocessors() -> int:
    """How many the default device has."""
    return getattr(jax.devices()[0], "core_count", None) or _PROCESSORS


def bucket(m: int) -> int:
    """M rounded up to a power of two from 16: products of one bucket share a tile."""
    return max(16, 1 << (m - 1).bit_length())


def shape_key(m: int, rows: int, k: int) -> str:
    """Name of a shape in the table."""
    return f"{bucket(m)}x{rows}x{k}"
