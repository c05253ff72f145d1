"""The PTX for GTX 16- and RTX 20-series cards, executed lane by lane in NumPy: exactly the product."""

import jax.numpy as jnp
import numpy as np
import pytest
import warp

from pallas_kernels import PackingError, decode_gpu, layout, turing


@pytest.mark.parametrize(("m", "rows", "k"), [(1, 8, 256), (3, 4, 1280)])  # 16 words leave half of the lanes idle
def test_the_ptx_computes_the_product(m, rows, k):
    rng = np.random.default_rng(m)
    codes = rng.integers(0, 4, (rows, k)).astype(np.uint8)
    x = rng.integers(-127, 128, (m, k)).astype(np.int8)
    words = np.ascontiguousarray(layout.pack_codes(codes)).view(np.int32)
    out = np.zeros((m, rows), np.int32)
    x_words = np.asarray(decode_gpu.quarters_first(jnp.asarray(x)))
    warp.run(turing.ptx(m, rows, k), [x_words, words, out], blocks=rows // turing.WARPS, warps=turing.WARPS)
    np.testing.assert_array_equal(out, x.astype(np.int64) @ codes.T.astype(np.int64))


@pytest.mark.parametrize("m", [0, 9])
def test_more_rows_or_none_are_refused(m):
    with pytest.raises(PackingError, match="1 to 8 activations"):
        turing.code_product(np.zeros((m, 256), np.int8), np.zeros((8, 64), np.uint8))
