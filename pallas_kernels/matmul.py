"""``packed_matmul``: one packed format, one meaning, the backend that fits the device.

A backend is one function, ``code_product(x int8 [M, K], data uint8 [R, K/4]) → int32 [M, R]`` with codes 0…3; what is
around it is the same for all: the bias of the codes, the residual planes, the scales. Backends agree bit for bit on the
integers, and y = f32(accumulator)·(scale·δ) is computed in that order.
"""

import functools
from collections.abc import Callable
from typing import Literal, assert_never, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, Int32, Num

from pallas_kernels import layout, measured, reference, xla
from pallas_kernels.layout import AnyArray, Packed, PackingError

CodeProduct = Callable[[Array, Array], Array]
Backend = Literal["reference", "xla", "bf16", "f32", "triton", "mosaic", "turing"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
# Least and largest compute capability; Mosaic's wgmma is Hopper's alone, the PTX of Turing runs on what came after.
_CAPABILITIES: dict[Backend, tuple[float, float]] = {"triton": (8.0, 99.0), "mosaic": (9.0, 9.9), "turing": (7.5, 99.0)}
MOST_ROWS: dict[Backend, int] = {"turing": 8}  # of activations that a backend can take; the others take any number


def backends() -> dict[str, str]:
    """Every backend: "available" on the default device, or the reason why not."""
    platform, capability = _device()
    states: dict[str, str] = {name: "available" for name in BACKENDS}
    for name, (least, most) in _CAPABILITIES.items():
        if platform != "gpu":
            states[name] = f"needs an NVIDIA GPU of compute capability {least}; the device is a {platform}"
        elif not least <= capability <= most:
            states[name] = f"needs compute capability {least} to {most}; this GPU has {capability}"
    return states


@functools.cache
def _code_product_of(backend: Backend) -> CodeProduct:
    """The backend's function. Pallas is imported where it is used: that takes a second, and most runs never need it."""
    match backend:
        case "reference":
            return reference.code_product
        case "xla":
            return xla.code_product
        case "bf16":
            return functools.partial(xla.float_code_product, dtype=jnp.bfloat16)
        case "f32":
            return functools.partial(xla.float_code_product, dtype=jnp.float32)
        case "triton":
            from pallas_kernels import triton_gpu

            return triton_gpu.code_product
        case "mosaic":
            from pallas_kernels import mosaic_gpu

            return mosaic_gpu.code_product
        case "turing":
            from pallas_kernels import turing

            return turing.code_product
    assert_never(backend)


def choose_backend(m: int, n: int, k: int) -> Backend:
    """What ``auto`` stands for, for M activations and an N × K matrix on the default device.

    The fastest one measured on that card (``measured.py``), and plain XLA where none was or it cannot do this.
    """
    fastest = measured.fastest_backend(measured.this_card(), m, n, k)
    for known in BACKENDS:
        if known == fastest and m <= MOST_ROWS.get(known, m) and backends()[known] == "available":
            return known
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
    differentiable: packed weights are for inference. ``backend`` is one of ``backends()`` or "auto". Raises
    ``PackingError`` for what does not fit, an unknown backend, and one that cannot do this here.
    """
    x, x_scale = jnp.asarray(x), jnp.asarray(x_scale)
    _check_arguments(x, packed, x_scale, jnp.dtype(out_dtype))
    if not x.shape[0]:
        return jnp.zeros((0, packed.shape[0]), out_dtype)
    chosen = choose_backend(x.shape[0], *packed.shape) if backend == "auto" else _available(backend)
    product = _code_product_of(chosen)
    if chosen == "reference":
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((x, packed, x_scale))):
            raise PackingError("the reference backend runs outside jit and grad; xla does the same inside jit")
        return _scaled(_accumulate(x, packed, product), packed, x_scale, out_dtype)
    return _undifferentiable_product(x, packed, x_scale, product, jnp.dtype(out_dtype))


def product_by(
    product: CodeProduct, x: Int8[Array, "M K"], packed: Packed, x_scale: Float[Array, " M"]
) -> Float[Array, "M N"]:
    """What ``packed_matmul`` returns by a given ``product``, such as one with a tile of its own, to be measured."""
    return _undifferentiable_product(x, packed, x_scale, product, jnp.dtype(jnp.float32))


def _available(backend: str) -> Backend:
    """The backend of that name. Raises ``PackingError`` unless it exists and can be used on the default device."""
    state = backends().get(backend, f"there is no such backend; there is: auto, {', '.join(BACKENDS)}")
    for known in BACKENDS:
        if known == backend and state == "available":
            return known
    raise PackingError(f"backend {backend}: {state}; backend='xla' does everything")


def _check_arguments(x: Array, packed: Packed, x_scale: Array, out_dtype: jnp.dtype) -> None:
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
    if 127 * layout.largest_integer(packed) * k >= 2**31:
        raise PackingError(f"K = {k:,} does not fit the int32 accumulator; split the matrix along K and add the parts")


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _undifferentiable_product(x, packed, x_scale, product, out_dtype):
    """The whole product, with a sentence in the place of a gradient."""
    return _scaled(_accumulate(x, packed, product), packed, x_scale, out_dtype)


def _refuse_gradient(*_):
    """Raises ``PackingError``."""
    raise PackingError("packed weights are not trained: differentiate the latent weights they were packed from")


_undifferentiable_product.defvjp(_refuse_gradient, _refuse_gradient)


def _accumulate(x: Int8[AnyArray, "M K"], packed: Packed, product: CodeProduct) -> Int32[Array, "M N"]:
    """Σ_k (m·T + R)·x, from products with codes 0…3 alone."""
    n, k = packed.shape
    wide = jnp.pad(x, ((0, 0), (0, layout.round_up(k, layout.BLOCK_K) - k)))
    total = jnp.sum(x, axis=1, dtype=jnp.int32)[:, None]
    # T is its code less one.
    acc = product(wide, packed.codes)[:, :n] - total
    if not packed.residual:
        return acc
    # R is Σ digit·4^plane less the offset; each tier's promoted rows are added to m·T.
    acc = acc * layout.row_factors(packed)[None]
    for m, planes in packed.residual.items():
        digits, rows, k4 = planes.digits.shape
        parts = product(wide, planes.digits.reshape(digits * rows, k4)).reshape(-1, digits, rows)
        residual = sum(parts[:, p] * 4**p for p in range(digits)) - layout.OFFSET[m] * total
        acc = acc.at[:, layout.rows_of_blocks(planes.block)].add(residual, mode="drop")
    return acc


def _scaled(
    acc: Int32[Array, "M N"], packed: Packed, x_scale: Float[AnyArray, " M"], out_dtype: jnp.dtype | type
) -> Num[Array, "M N"]:
    """f32(accumulator)·(scale·δ), in that order; the accumulator itself for int32."""
    if jnp.dtype(out_dtype) == jnp.int32:
        return acc
    return (acc.astype(jnp.float32) * (packed.scale[None] * x_scale[:, None])).astype(out_dtype)
