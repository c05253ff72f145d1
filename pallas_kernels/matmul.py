"""``packed_matmul``: one packed format, one meaning, the backend that fits the device.

A backend is one function, ``code_product(x int8 [M, K], data uint8 [R, K/4]) → int32 [M, R]`` with codes 0…3; what is
around it is the same for all: the bias of the codes, the residual planes, the scales. Backends agree bit for bit on the
integers, and y = f32(accumulator)·(scale·δ) is computed in that order.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, Int32, Num

from pallas_kernels import layout, reference, xla
from pallas_kernels.layout import AnyArray, Packed, PackingError

CodeProduct = Callable[[Array, Array], Array]
BACKENDS = ("reference", "xla", "triton", "mosaic")
_RANGE = {"triton": (8.0, 99.0), "mosaic": (9.0, 9.9)}  # compute capabilities; Mosaic's wgmma is Hopper's alone
# (platform, least compute capability, most rows of activations) → backend; the first line that holds counts. Only what
# has been measured on the device stands here: the Pallas kernels compile for 8.0 and 9.0 and have run on neither.
_TABLE = (
    ("gpu", 0.0, None, "xla"),
    ("cpu", 0.0, None, "xla"),
)


def backends() -> dict[str, str]:
    """Every backend: "available" on the default device, or the reason why not."""
    platform, capability = _device()
    found = {name: "available" for name in BACKENDS}
    for name, (least, most) in _RANGE.items():
        if platform != "gpu":
            found[name] = f"needs an NVIDIA GPU of compute capability {least}; the device is a {platform}"
        elif not least <= capability <= most:
            found[name] = f"needs compute capability {least} to {most}; this GPU has {capability}"
    return found


def _product(name: str) -> CodeProduct:
    """The backend's function. Pallas is imported where it is used: that takes a second, and most runs never need it."""
    if name == "triton":
        from pallas_kernels import triton_gpu

        return triton_gpu.code_product
    if name == "mosaic":
        from pallas_kernels import mosaic_gpu

        return mosaic_gpu.code_product
    return {"reference": reference.code_product, "xla": xla.code_product}[name]


def choose(m: int) -> str:
    """The backend that ``auto`` stands for, for M rows of activations on the default device."""
    platform, capability = _device()
    for where, least, most, name in _TABLE:
        if where == platform and capability >= least and (most is None or m <= most):
            return name
    return "xla"


def _device() -> tuple[str, float]:
    """Platform of the default device (gpu, cpu, …) and its compute capability, 0 where there is none."""
    device = jax.devices()[0]
    try:
        return device.platform, float(getattr(device, "compute_capability", 0) or 0)
    except ValueError:  # other makers' cards name their architecture
        return device.platform, 0.0


def packed_matmul(
    x: Num[AnyArray, "M K"],
    packed: Packed,
    *,
    x_scale: Float[AnyArray, " rows"],
    backend: str = "auto",
    out_dtype: jnp.dtype | type = jnp.float32,
) -> Num[Array, "M N"]:
    """y = f32(x·(m·T + R)ᵀ)·(scale·δ) with δ = ``x_scale`` [M]; ``out_dtype=int32`` returns the accumulator instead.

    x is int8 within ±127. Exact in int32, which bounds K: 106,000 with 8-bit residuals, 16 million without. Not
    differentiable: packed weights are for inference. Raises ``PackingError`` for what does not fit, or a backend that
    cannot do this here.
    """
    x, x_scale = jnp.asarray(x), jnp.asarray(x_scale)
    _check(x, packed, x_scale, jnp.dtype(out_dtype))
    if not x.shape[0]:
        return jnp.zeros((0, packed.shape[0]), out_dtype)
    name = choose(x.shape[0]) if backend == "auto" else backend
    reason = backends().get(name, f"there is no such backend; there is: auto, {', '.join(BACKENDS)}")
    if reason != "available":
        raise PackingError(f"backend {name}: {reason}; backend='xla' does everything")
    product = _product(name)
    if name == "reference":
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((x, packed, x_scale))):
            raise PackingError("the reference backend runs outside jit and grad; xla does the same inside jit")
        return _finish(_accumulate(x, packed, product), packed, x_scale, out_dtype)
    return _no_gradient(x, packed, x_scale, product, jnp.dtype(out_dtype))


def _check(x: Array, packed: Packed, x_scale: Array, out_dtype: jnp.dtype) -> None:
    """Raises ``PackingError`` for arguments that do not fit each other."""
    if packed.codes.ndim != 2:
        layers = list(packed.codes.shape[:-2])
        raise PackingError(f"these are {layers} stacked matrices; take one: jax.tree.map(lambda a: a[i], packed)")
    k = packed.shape[1]
    if x.ndim != 2 or x.shape[1] != k or x.dtype != jnp.int8:
        raise PackingError(f"x must be int8 [M, {k}] for this matrix, not {x.dtype} {list(x.shape)}")
    if x_scale.shape != x.shape[:1]:
        raise PackingError(f"x_scale must be [{x.shape[0]}], one δ for each row of x, not {list(x_scale.shape)}")
    if out_dtype != jnp.int32 and not jnp.issubdtype(out_dtype, jnp.floating):
        raise PackingError(f"out_dtype must be a floating-point type, or int32 for the accumulator, not {out_dtype}")
    if 127 * layout.largest(packed) * k >= 2**31:
        raise PackingError(f"K = {k:,} does not fit the int32 accumulator; split the matrix along K and add the parts")


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _no_gradient(x, packed, x_scale, product, out_dtype):
    return _finish(_accumulate(x, packed, product), packed, x_scale, out_dtype)


def _refuse(*_):
    raise PackingError("packed weights are not trained: differentiate the latent weights they were packed from")


_no_gradient.defvjp(_refuse, _refuse)


def _accumulate(x: Int8[AnyArray, "M K"], packed: Packed, product: CodeProduct) -> Int32[Array, "M N"]:
    """Σ_k (m·T + R)·x."""
    n, k = packed.shape
    wide = jnp.pad(x, ((0, 0), (0, layout.padded(k, layout.BLOCK_K) - k)))
    total = jnp.sum(x, axis=1, dtype=jnp.int32)[:, None]
    acc = product(wide, packed.codes)[:, :n] - total
    if not packed.residual:
        return acc
    acc = acc * layout.row_factors(packed)[None]
    for m, planes in packed.residual.items():
        digits, rows, k4 = planes.digits.shape
        parts = product(wide, planes.digits.reshape(digits * rows, k4)).reshape(-1, digits, rows)
        whole = sum(parts[:, p] * 4**p for p in range(digits)) - layout.OFFSET[m] * total
        acc = acc.at[:, layout.rows_of(planes.block)].add(whole, mode="drop")
    return acc


def _finish(
    acc: Int32[Array, "M N"], packed: Packed, x_scale: Float[AnyArray, " M"], out_dtype: jnp.dtype | type
) -> Num[Array, "M N"]:
    if jnp.dtype(out_dtype) == jnp.int32:
        return acc
    return (acc.astype(jnp.float32) * (packed.scale[None] * x_scale[:, None])).astype(out_dtype)
