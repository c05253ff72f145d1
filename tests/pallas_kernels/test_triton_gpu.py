"""The Triton kernel in interpret mode: NumPy's integers for every tile and shape."""

import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import layout, tiles, triton_gpu
from pallas_kernels.tiles import Tile


def operands(m, rows, k, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (rows, k)).astype(np.uint8)
    return rng.integers(-127, 128, (m, k)).astype(np.int8), codes


@pytest.mark.parametrize(
    ("m", "rows", "k", "tile"),
    [
        (1, 64, 256, Tile(activations=16)),
        (9, 128, 1024, None),
        (33, 48, 512, None),  # rows that only 16 divides
        (5, 64, 768, Tile(activations=16, splits=3)),
        (20, 64, 512, Tile(activations=32, rows=32, splits=4)),  # 4 does not divide 2 blocks
    ],
)
def test_the_kernel_is_exact(m, rows, k, tile):
    x, codes = operands(m, rows, k)
    data = jnp.asarray(layout.pack_codes(codes))
    found = triton_gpu.code_product(jnp.asarray(x), data, tile, interpret=True)
    np.testing.assert_array_equal(found, x.astype(np.int64) @ codes.T.astype(np.int64))


@pytest.mark.parametrize("m", [1, 64, 2048])
@pytest.mark.parametrize(("rows", "k"), [(2560, 2560), (20480, 3328), (768, 768)])
def test_the_default_tile_fits_the_shape_and_the_grid(m, rows, k):
    tile = tiles.default_tile(m, rows, k)
    assert (k // layout.BLOCK_K) % tile.splits == 0
    assert tile.activations >= 16 and rows % tile.rows == 0
    programs = rows // tile.rows * -(-m // tile.activations) * tile.splits
    full = programs >= 2 * tiles.multiprocessors()
    assert full or tile.splits == 16 or (k // layout.BLOCK_K) % (2 * tile.splits)  # nothing left to split
    assert tile.splits == 1 or programs // 2 < 2 * tiles.multiprocessors()  # not more than needed
