"""The XLA route at its edges: where int16 sums must be cut, and on both sides of the change of spelling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import layout, xla

pytestmark = pytest.mark.bits


@pytest.mark.parametrize("blocks", [1, 21, 22, 43])  # 21 fill one int16 sum
@pytest.mark.parametrize(("code", "value"), [(3, 127), (3, -128), (1, -128)])
def test_the_reduce_does_not_overflow_int16(blocks, code, value):
    k = blocks * layout.BLOCK_K
    data = layout.pack_codes(np.full((16, k), code, np.uint8))
    found = jax.jit(xla._multiply_reduce)(np.full((2, k), value, np.int8), data)
    np.testing.assert_array_equal(found, np.full((2, 16), code * value * k))


@pytest.mark.parametrize("spelling", [xla._multiply_reduce, xla._unpack_and_dot])
@pytest.mark.parametrize(("m", "rows", "k"), [(1, 64, 256), (3, 48, 1024), (5, 16, 5888)])
def test_both_spellings_give_the_integers_of_numpy(spelling, m, rows, k):
    rng = np.random.default_rng(m)
    codes = rng.integers(0, 4, (rows, k)).astype(np.uint8)
    x = rng.integers(-128, 128, (m, k)).astype(np.int8)
    found = jax.jit(spelling)(x, layout.pack_codes(codes))
    np.testing.assert_array_equal(found, x.astype(np.int64) @ codes.T.astype(np.int64))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("k", [256, 170 * 256, 171 * 256])  # 170 blocks fill one f32 sum
@pytest.mark.parametrize(("code", "value"), [(3, 127), (3, -128)])
def test_products_of_floats_hold_the_largest_sums(dtype, k, code, value):
    codes = np.full((16, k), code, np.uint8)
    codes[:, ::7] -= 1  # sums that are no multiple of a power of two
    x = np.full((2, k), value, np.int8)
    found = jax.jit(xla.float_code_product, static_argnames="dtype")(
        x, layout.pack_codes(codes), dtype=jnp.dtype(dtype)
    )
    np.testing.assert_array_equal(found, x.astype(np.int64) @ codes.T.astype(np.int64))
