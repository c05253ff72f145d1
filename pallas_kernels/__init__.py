"""Packed ternary matrices and their products: knows nothing of bitzero, needs jax, numpy and jaxtyping.

packed = pack(codes, scale)                              # int8 [N, K] of −1, 0, 1 → 2 bits a weight
y = packed_matmul(x, packed, x_scale=delta)              # int8 [M, K] → f32 [M, N]
"""

from pallas_kernels.layout import Packed, PackingError, Residual, pack, unpack
from pallas_kernels.matmul import backends, packed_matmul

__all__ = ["Packed", "PackingError", "Residual", "backends", "pack", "packed_matmul", "unpack"]
