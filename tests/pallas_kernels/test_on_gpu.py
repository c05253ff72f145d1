"""On an NVIDIA card: every backend that runs there gives the integers of NumPy, bit for bit.

    pytest -m gpu tests/pallas_kernels

Without a card the tests are deselected; asked for all the same, they are skipped.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import backends, layout, matmul, pack, packed_matmul, tiles, triton_gpu
from tests.pallas_kernels.samples import promoted

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(jax.default_backend() != "gpu", reason="no NVIDIA GPU is JAX's default device"),
    pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated"),  # said by JAX 0.11
]

SHAPES = [(768, 768), (1280, 2304), (80, 700)]  # the last one is padded along both


def matrix(n, k, residual):
    rng = np.random.default_rng(n)
    codes = rng.integers(-1, 2, (n, k)).astype(np.int8)
    if not residual:
        return codes.astype(np.int64), pack(codes, np.float32(1))
    whole, planes = promoted(codes, rng)
    return whole, pack(codes, np.float32(1), residual=planes)


BACKENDS = [name for name in matmul.BACKENDS if name != "reference"]


def runnable(backend, m=1):
    state = backends()[backend]
    if state != "available" or m > matmul.MOST_ROWS.get(backend, m):
        pytest.skip(f"{backend}: {state}")


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("m", [1, 4, 9, 16, 64, 200])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_the_accumulator_is_exact(n, k, backend, m, residual):
    runnable(backend, m)
    whole, packed = matrix(n, k, residual)
    x = np.random.default_rng(m).integers(-127, 128, (m, k)).astype(np.int8)
    run = jax.jit(lambda x: packed_matmul(x, packed, x_scale=jnp.ones(m), backend=backend, out_dtype=jnp.int32))
    for _ in range(3):  # a race would not always show
        np.testing.assert_array_equal(run(x), x.astype(np.int64) @ whole.T)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("m", [7, 33])
def test_the_epilogue_is_that_of_the_reference(backend, m):
    runnable(backend, m)
    rng = np.random.default_rng(0)
    packed = pack(rng.integers(-1, 2, (128, 512)).astype(np.int8), rng.uniform(0.01, 2, 128).astype(np.float32))
    x, delta = rng.integers(-127, 128, (m, 512)).astype(np.int8), rng.uniform(0.1, 3, m).astype(np.float32)
    want = packed_matmul(x, packed, x_scale=delta, backend="reference")
    np.testing.assert_array_equal(packed_matmul(x, packed, x_scale=delta, backend=backend), want)


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("rows", [32, 64])
@pytest.mark.parametrize("activations", [16, 64, 128])
def test_every_tile_is_exact(rows, activations, splits):
    runnable("triton")
    rng = np.random.default_rng(0)
    codes, x = rng.integers(0, 4, (192, 768)).astype(np.uint8), rng.integers(-127, 128, (100, 768)).astype(np.int8)
    tile = tiles.Tile(rows=rows, activations=activations, splits=splits)
    found = triton_gpu.code_product(jnp.asarray(x), jnp.asarray(layout.pack_codes(codes)), tile)
    np.testing.assert_array_equal(found, x.astype(np.int64) @ codes.T.astype(np.int64))
