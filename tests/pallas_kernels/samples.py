"""Promoted blocks for random matrices: two of 4 bits and one of 8."""

import numpy as np

from pallas_kernels import Residual


def promoted(codes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Residual]:
    """The integers m·T + R of ternary ``codes`` [N, K], N at least 80, with blocks 3, 0, 4 promoted; and their R."""
    n, k = codes.shape
    values = rng.integers(-7, 8, (3, 16, k)).astype(np.int8)
    values[1] = rng.integers(-127, 128, (16, k))
    block, m = [3, 0, 4], [4, 32, 4]
    whole = codes.astype(np.int64).reshape(-1, 16, k)
    for at, factor, value in zip(block, m, values, strict=True):
        whole[at] = factor * whole[at] + value
    return whole.reshape(n, k), Residual(values=values, block=block, m=m)
