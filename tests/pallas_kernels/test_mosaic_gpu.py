"""The identity under the Mosaic kernel, which itself cannot be interpreted; ``test_ahead.py`` compiles it."""

import numpy as np

from pallas_kernels import layout, mosaic_gpu


def test_masked_pairs_and_a_flipped_top_bit_give_the_product():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (48, 512)).astype(np.uint8)
    x = rng.integers(-127, 128, (5, 512)).astype(np.int64)
    flipped = layout.pack_codes(codes) ^ np.uint8(mosaic_gpu._FLIP)
    quarters = x.reshape(5, -1, 4, layout.QUARTER)
    total = 2 * quarters[:, :, 3].sum(axis=(1, 2))[:, None]
    for j, mask in enumerate(mosaic_gpu._MASKS):
        masked = (flipped & np.uint8(mask)).view(np.int8).astype(np.int64)
        acc = quarters[:, :, j].reshape(5, -1) @ masked.T
        assert not (acc % 4**j).any()
        total = total + (acc >> 2 * j)
    np.testing.assert_array_equal(total, x @ codes.T.astype(np.int64))
