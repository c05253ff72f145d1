"""The GEMV in interpret mode, with dp4a's meaning in its place: NumPy's integers; and the meaning itself."""

import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import decode_gpu, layout


@pytest.mark.parametrize(("m", "rows", "k"), [(1, 64, 256), (8, 128, 512), (3, 48, 2560)])
def test_the_kernel_is_exact(m, rows, k):
    rng = np.random.default_rng(m)
    codes = rng.integers(0, 4, (rows, k)).astype(np.uint8)
    x = rng.integers(-127, 128, (m, k)).astype(np.int8)
    found = decode_gpu.code_product(jnp.asarray(x), jnp.asarray(layout.pack_codes(codes)), interpret=True)
    np.testing.assert_array_equal(found, x.astype(np.int64) @ codes.T.astype(np.int64))


def test_dot4_multiplies_unsigned_codes_with_signed_activations():
    codes = np.array([[3, 0, 2, 1]], np.uint8)
    x = np.array([[-128, 5, 127, -1]], np.int8)
    found = decode_gpu.dot4(*(jnp.asarray(a.view(np.int32)[0]) for a in (codes, x)), jnp.int32([10]))
    assert found.tolist() == [10 + 3 * -128 + 2 * 127 - 1]


@pytest.mark.parametrize(("steps", "programs"), [(1, 4), (6, 10), (7, 100), (40, 1_000)])
def test_parts_divide_k_and_stop_when_the_grid_is_full(steps, programs):
    parts = decode_gpu.parts_of_k(steps, programs, processors=132)
    assert steps % parts == 0
    larger = [more for more in range(parts + 1, steps + 1) if steps % more == 0]
    assert programs * parts >= 4 * 132 or not larger  # full, or nothing left to split
    assert parts == 1 or programs * max(p for p in range(1, parts) if steps % p == 0) < 4 * 132
