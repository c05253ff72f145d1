"""The oracle: packed products by NumPy in 64-bit integers. Slow, outside ``jit``, and the meaning of every backend."""

import jax
import numpy as np
from jaxtyping import Array, Int8, Int32, UInt8

from pallas_kernels.layout import AnyArray, unpack_codes


def code_product(x: Int8[AnyArray, "M K"], data: UInt8[AnyArray, "R K4"]) -> Int32[Array, "M R"]:
    """Σ_k code·x for packed codes 0…3."""
    codes = unpack_codes(np.asarray(data)).astype(np.int64)
    return jax.numpy.asarray((np.asarray(x, np.int64) @ codes.T).astype(np.int32))
