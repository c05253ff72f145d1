"""The numerics contract: ternary weights with residual tiers, int8 activations, one forward for every use.

Weights (BitNet b1.58, arXiv 2402.17764, eq. 1–3): per matrix α = mean|W|, T = clip(round(W/α), −1, 1).
Activations, per token: δ = max|x|/127, X = clip(round(x/δ), −127, 127).
Residual tier of a block of 16 output rows, on a grid nested in the ternary one:

    N = m·T + R,   R = clip(round(λ_r·m·(W − αT)/α), −lim, lim),   W ≈ (α/m)·N

with (m, lim) = (1, 0) for no tier, (4, 7) for 4 bits, (32, 127) for 8 bits: one integer matrix, one product, one scale
a row. The forward multiplies integers and ends with exactly y = f32(acc)·(scale·δ). The backward is straight-through
(arXiv 1308.3432) without a clip mask and without a gradient through α, δ or m.

A weight is a *type*: a latent array (training), ``Dense`` integers (rollouts), ``Blend`` (rollouts below λ = 1),
``Full`` (no quantisation), ``Packed`` (two bits a weight, inference). ``linear`` dispatches on it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int8, Num

from bitzero.config import BLOCK_ROWS, OPERANDS, Model, Operand, kernel_parts
from bitzero.state import pytree
from pallas_kernels import Packed, packed_matmul

GRID: dict[int, tuple[int, int]] = {0: (1, 0), 4: (4, 7), 8: (32, 127)}  # tier in bits → m and the largest |R|
INT4 = -4  # stands where a largest tier is asked for: 4-bit absmax rows without a ternary base, a control
FLOOR = 1e-5  # of α and of max|x|
EXACT = 1 << 24  # integers below are exact in an f32 accumulator


@pytree
class Dense:
    """A matrix materialised as integers for rollouts; y = f32(X·codesᵀ)·(scale·δ)."""

    codes: Num[Array, "*L N K"]  # m·T + R, integer-valued, in the operand type
    scale: Float[Array, "*L N"]  # α/m of each output row


@pytree
class Blend:
    """A matrix on the way from full precision to ternary, for rollouts during the warm-up ramp."""

    weight: Float[Array, "*L N K"]  # W + λ·(Q(W) − W)
    lam: Float[Array, "*L"]  # λ of the ramp, also applied to the activations


@pytree
class Full:
    """A latent matrix used as it is, as at λ = 0, but without computing roundings that count for nothing there."""

    weight: Float[Array, "*L N K"]


Weight = Array | Dense | Blend | Full | Packed


def operand_of(model: Model) -> Operand:
    """The operand type of the products. Raises ValueError while it is still to be measured."""
    if model.compute == "auto":
        raise ValueError("model.compute=auto is to be settled first, with config.with_operand")
    return model.compute


def float_type(operand: Operand) -> jnp.dtype:
    """The type of what is not an integer product: bf16 for bf16 operands, f32 for f32 and int8. Raises ValueError."""
    match operand:
        case "bf16":
            return jnp.dtype(jnp.bfloat16)
        case "f32" | "int8":
            return jnp.dtype(jnp.float32)
    raise ValueError(f"operand {operand!r} is not one of {', '.join(OPERANDS)}")


def row_alpha(w: Float[Array, "*L N K"], parts: tuple[int, ...]) -> Float[Array, "*L N"]:
    """α = mean|W| of each merged matrix, repeated over its rows; ``parts`` are the merged matrices' row counts."""
    magnitudes = jnp.mean(jnp.abs(w), axis=-1)
    alphas, start = [], 0
    for rows in parts:
        alpha = jnp.mean(magnitudes[..., start : start + rows], axis=-1, keepdims=True)
        alphas.append(jnp.broadcast_to(jnp.maximum(alpha, FLOOR), (*alpha.shape[:-1], rows)))
        start += rows
    return jnp.concatenate(alphas, axis=-1)


def grid(tier: Int8[Array, "*L blocks"]) -> tuple[Float[Array, "*L blocks"], Float[Array, "*L blocks"]]:
    """m and the largest |R| of each block; NaN for a tier that does not exist, so that the loss shows it at once."""
    by_tier = lambda i: jnp.select([tier == bits for bits in GRID], [float(pair[i]) for pair in GRID.values()], jnp.nan)
    return by_tier(0), by_tier(1)


def integer_codes(
    w: Float[Array, "*L N K"], tier: Int8[Array, "*L blocks"], ramp: Float[Array, "*L blocks"], parts: tuple[int, ...]
) -> tuple[Float[Array, "*L N K"], Float[Array, "*L N"]]:
    """Integers N = m·T + R (as f32) and the scale α/m of each row; ``tier`` holds bits, ``ramp`` λ_r, per block."""
    alpha = row_alpha(w, parts)
    rows = functools.partial(jnp.repeat, repeats=BLOCK_ROWS, axis=-1)
    m, limit = (rows(of_block) for of_block in grid(tier))
    limit = limit[..., None]
    scaled = w / alpha[..., None]
    t = jnp.clip(jnp.round(scaled), -1, 1)
    m_col = m[..., None]
    residual = jnp.round(rows(ramp)[..., None] * m_col * (scaled - t))
    return m_col * t + jnp.clip(residual, -limit, limit), alpha / m


def ternary_codes(
    w: Float[Array, "*L N K"], parts: tuple[int, ...]
) -> tuple[Float[Array, "*L N K"], Float[Array, "*L N"]]:
    """T (as f32) and α of each row: ``integer_codes`` where no block has a tier."""
    alpha = row_alpha(w, parts)
    return jnp.clip(jnp.round(w / alpha[..., None]), -1, 1), alpha


def quantise_activations(x: Float[Array, "*B K"]) -> tuple[Float[Array, "*B K"], Float[Array, "*B 1"]]:
    """Per token: integers X in −127…127 (as f32) and δ, so that x ≈ X·δ."""
    x = x.astype(jnp.float32)
    delta = jnp.maximum(jnp.max(jnp.abs(x), axis=-1, keepdims=True), FLOOR) * jnp.float32(1 / 127)
    return jnp.clip(jnp.round(x * (1 / delta)), -127, 127), delta


def absmax_codes(w: Float[Array, "*L N K"]) -> tuple[Float[Array, "*L N K"], Float[Array, "*L N"]]:
    """Integers in −7…7 (as f32) and the scale max|w|/7 of each row: plain 4-bit rows, the control ``INT4``."""
    scale = jnp.maximum(jnp.max(jnp.abs(w), axis=-1), FLOOR) / 7
    return jnp.round(w / scale[..., None]), scale


def forward_codes(
    w: Float[Array, "*L N K"],
    tier: Int8[Array, "*L blocks"] | None,
    ramp: Float[Array, "*L blocks"] | None,
    parts: tuple[int, ...],
    max_tier: int,
) -> tuple[Float[Array, "*L N K"], Float[Array, "*L N"]]:
    """The integers (as f32) that the λ = 1 forward multiplies and the scale of each row.

    Those of ``INT4``, or ternary ones with residuals by ``tier`` and ``ramp``; None stands for no tiers.
    """
    if max_tier == INT4:
        return absmax_codes(w)
    if max_tier == 0 or tier is None or ramp is None:
        return ternary_codes(w, parts)
    return integer_codes(w, tier, ramp, parts)


def largest_tier(model: Model) -> int:
    """What ``max_tier`` is in this module: the largest tier that may occur, or ``INT4``."""
    return INT4 if model.weights == "int4" else model.max_tier


def max_code(max_tier: int) -> int:
    """Largest |m·T + R| when tiers up to ``max_tier`` bits may occur."""
    return 7 if max_tier == INT4 else sum(GRID[max_tier])


def integer_product(
    x: Num[Array, "*B K"], codes: Num[Array, "N K"], operand: Operand, max_tier: int
) -> Num[Array, "*B N"]:
    """X·Nᵀ, exact, as int32 or as f32 with integer values.

    f32 holds every sum exactly while 127·max|N|·K < 2²⁴; beyond, pieces of K that small are summed in int32.
    """
    contract = (((x.ndim - 1,), (1,)), ((), ()))
    if operand == "int8":
        dot = functools.partial(jax.lax.dot_general, dimension_numbers=contract, preferred_element_type=jnp.int32)
        x8 = x.astype(jnp.int8)
        if max_code(max_tier) <= 127:
            return dot(x8, codes.astype(jnp.int8))
        half = jnp.floor(codes.astype(jnp.float32) / 2)  # |codes| ≤ 159 needs two int8 planes
        low = codes.astype(jnp.float32) - 2 * half
        return 2 * dot(x8, half.astype(jnp.int8)) + dot(x8, low.astype(jnp.int8))
    dtype = float_type(operand)
    x, codes = x.astype(dtype), codes.astype(dtype)
    dot = functools.partial(jax.lax.dot_general, dimension_numbers=contract, preferred_element_type=jnp.float32)
    k, piece = x.shape[-1], (EXACT - 1) // (127 * max_code(max_tier))
    if k <= piece:
        return dot(x, codes)
    pieces = [dot(x[..., i : i + piece], codes[:, i : i + piece]).astype(jnp.int32) for i in range(0, k, piece)]
    return sum(pieces[1:], pieces[0])


def _as_row(scale: Float[Array, " N"], ndim: int) -> Array:
    """The scales with ``ndim`` dimensions, to broadcast over the leading ones."""
    return scale.reshape((1,) * (ndim - 1) + scale.shape)


def _epilogue(acc: Num[Array, "*B N"], scale: Float[Array, " N"], delta: Float[Array, "*B 1"]) -> Float[Array, "*B N"]:
    """f32(acc)·(scale·δ), in that order everywhere."""
    return acc.astype(jnp.float32) * (_as_row(scale, acc.ndim) * delta)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def ternary_linear(x, w, tier, ramp, parts, operand, max_tier):
    """y = x·Q(W)ᵀ on integers with the straight-through gradient; shapes as in ``linear``.

    dx = (g·scale)·N and dW = gᵀ·(δ·X), with both factors of each product in the operand type: the gradient of the
    quantised product, passed through Q as the identity. Seven arguments, as ``custom_vjp`` wants each array and each
    static one by itself.
    """
    return _ternary_forward(x, w, tier, ramp, parts, operand, max_tier)[0]


def _ternary_forward(x, w, tier, ramp, parts, operand, max_tier):
    """y, and what the backward pass needs of it; the arguments are those of ``ternary_linear``."""
    xq, delta = quantise_activations(x)
    codes, scale = forward_codes(w, tier, ramp, parts, max_tier)
    dtype = float_type(operand)
    xq, codes = xq.astype(dtype), codes.astype(dtype)
    y = _epilogue(integer_product(xq, codes, operand, max_tier), scale, delta)
    return y, (xq, delta, codes, scale, tier, ramp)


def _ternary_backward(parts, operand, max_tier, residuals, g):
    """The cotangents of x, w, tier and ramp."""
    xq, delta, codes, scale, tier, ramp = residuals
    dx = jnp.einsum(
        "...N,NK->...K", (g * _as_row(scale, g.ndim)).astype(codes.dtype), codes, preferred_element_type=jnp.float32
    )
    dw = _weight_gradient(g.astype(xq.dtype), (xq * delta).astype(xq.dtype))
    return dx, dw, _no_gradient(tier), _no_gradient(ramp)


def _weight_gradient(g: Float[Array, "*B N"], x: Float[Array, "*B K"]) -> Float[Array, "N K"]:
    """gᵀ·x over all leading axes.

    Both choices are for XLA's CPU back end. Flattened to two dimensions, a bf16 product is done in f32, 2.5 times
    slower. And δ is multiplied into x before: g has to be transposed, and a factor broadcast into that pass makes it 5
    times slower.
    """
    tokens = tuple(range(g.ndim - 1))
    return jax.lax.dot_general(g, x, ((tokens, tokens), ((), ())), preferred_element_type=jnp.float32)


def _no_gradient(a: Array) -> Any:
    """The zero cotangent of an array: float0 for integers."""
    if jnp.issubdtype(a.dtype, jnp.floating):
        return jnp.zeros_like(a)
    return np.zeros(a.shape, jax.dtypes.float0)


ternary_linear.defvjp(_ternary_forward, _ternary_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def dense_linear(x, codes, scale, operand, max_tier):
    """y = f32(X·codesᵀ)·(scale·δ); shapes as in ``Dense``. The codes are data: nothing learns them from here.

    dx = (g·scale)·N, as in ``ternary_linear``, and dscale = Σ g·acc·δ over the tokens, which is exact.
    """
    return _dense_forward(x, codes, scale, operand, max_tier)[0]


def _dense_forward(x, codes, scale, operand, max_tier):
    """y, and what the backward pass needs of it."""
    xq, delta = quantise_activations(x)
    acc = integer_product(xq, codes, operand, max_tier)
    return _epilogue(acc, scale, delta), (acc, delta, codes, scale)


def _dense_backward(operand, max_tier, residuals, g):
    """The cotangents of x, codes (none) and scale."""
    acc, delta, codes, scale = residuals
    dtype = float_type(operand)
    dx = jnp.einsum(
        "...N,NK->...K", (g * _as_row(scale, g.ndim)).astype(dtype), codes.astype(dtype),
        preferred_element_type=jnp.float32,
    )  # fmt: skip
    return dx, _no_gradient(codes), jnp.sum(g * acc.astype(jnp.float32) * delta, axis=tuple(range(g.ndim - 1)))


dense_linear.defvjp(_dense_forward, _dense_backward)


def blended_linear(x, w_blend, lam, operand):
    """y = x_λ·W_λᵀ in floating point, x_λ = x + λ·sg(Q(x) − x): the ramp, no exactness claimed."""
    xq, delta = quantise_activations(x)
    x_lam = x + lam * jax.lax.stop_gradient(xq * delta - x)
    return _float_product(x_lam, w_blend, operand)


def _float_product(x: Float[Array, "*B K"], w: Float[Array, "N K"], operand: Operand) -> Float[Array, "*B N"]:
    """x·wᵀ, with the gradient of ``contraction``."""
    lead = "ABCDE"[: x.ndim - 1]  # not flattened, see _weight_gradient
    return contraction(f"{lead}K,NK->{lead}N", x, w, float_type(operand))


def blended_weight(
    w: Float[Array, "*L N K"], lam: Float[Array, ""], parts: tuple[int, ...], max_tier: int = 0
) -> Float[Array, "*L N K"]:
    """W_λ = W + λ·sg(αT − W); the ramp knows no tiers."""
    codes, scale = forward_codes(w, None, None, parts, max_tier)
    return w + lam * jax.lax.stop_gradient(scale[..., None] * codes - w)


def linear(
    x: Float[Array, "*B K"],
    w: Weight,
    tier: Int8[Array, " blocks"] | None,
    ramp: Float[Array, " blocks"] | None,
    *,
    parts: tuple[int, ...],
    operand: Operand,
    max_tier: int,
    lam: Float[Array, ""] | None = None,
) -> Float[Array, "*B N"]:
    """One linear layer without bias, by the type of ``w``.

    ``w`` latent [N, K]: integers with the straight-through gradient, or the ramp where ``lam`` is given. ``Dense``:
    the same integers, materialised, with a gradient for their scales. ``Blend``: the ramp, materialised. ``Full``: no
    quantisation. ``Packed``: the same integers, by ``packed_matmul``. ``tier`` and ``ramp`` belong to latents only.
    Raises TypeError for another type.
    Eight arguments: the input, the arrays that a weight may come with, and what is static about it.
    """
    if isinstance(w, Packed):
        return _packed_linear(x, w)
    if isinstance(w, Dense):
        return dense_linear(x, w.codes, w.scale, operand, max_tier)
    if isinstance(w, Full):
        return _float_product(x, w.weight, operand)
    if isinstance(w, Blend):
        return blended_linear(x, w.weight, w.lam, operand)
    if not isinstance(w, jax.Array):
        raise TypeError(f"no linear layer for a weight of type {type(w).__name__}")
    if lam is not None:
        return blended_linear(x, blended_weight(w, lam, parts, max_tier), lam, operand)
    return ternary_linear(x, w, tier, ramp, parts, operand, max_tier)


def _packed_linear(x: Float[Array, "*B K"], w: Packed) -> Float[Array, "*B N"]:
    """The same integers by ``packed_matmul``, which wants rows and no leading axes."""
    xq, delta = quantise_activations(x)
    y = packed_matmul(xq.reshape(-1, x.shape[-1]).astype(jnp.int8), w, x_scale=delta.reshape(-1))
    return y.reshape(*x.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def contraction(spec: str, a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """``einsum(spec, a, b)`` with ``dtype`` operands and f32 results, in the backward pass too.

    JAX's own transpose would multiply an f32 cotangent with a bf16 operand, 4–6× slower on a CPU with AMX. Each letter
    of an operand must stand in the other operand or in the result.
    """
    return jnp.einsum(spec, a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.float32)


def _contraction_forward(spec, a, b, dtype):
    """The result, and the operands in their type."""
    a, b = a.astype(dtype), b.astype(dtype)
    return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32), (a, b)


def _contraction_backward(spec, dtype, residuals, g):
    """The cotangents of both operands, each a product in ``dtype`` too."""
    a, b = residuals
    inputs, out = spec.split("->")
    a_spec, b_spec = inputs.split(",")
    g = g.astype(dtype)
    da = jnp.einsum(f"{out},{b_spec}->{a_spec}", g, b, preferred_element_type=jnp.float32)
    db = jnp.einsum(f"{a_spec},{out}->{b_spec}", a, g, preferred_element_type=jnp.float32)
    return da, db


contraction.defvjp(_contraction_forward, _contraction_backward)


def materialise(
    params: dict[str, Any], precision: dict[str, Any], model: Model, lam: Float[Array, ""] | None = None
) -> dict[str, Any]:
    """The parameter tree for rollouts: every latent ternary-able matrix replaced by its ``Dense`` integers.

    With ``lam`` (below 1) by its ``Blend`` instead; with ``model.weights`` "full" by ``Full``. XLA cannot move the
    quantisation out of the decode loop, so it is done here, once a policy update (1.6× faster at 25M parameters).
    """
    if model.weights == "full":
        return unquantised(params, model)

    largest, dtype = largest_tier(model), float_type(operand_of(model))

    def leaf(w: Array, tiers: dict[str, Array], parts: tuple[int, ...]) -> Dense | Blend:
        if lam is not None:
            return Blend(weight=blended_weight(w, lam, parts, largest), lam=jnp.broadcast_to(lam, w.shape[:-2]))
        codes, scale = forward_codes(w, tiers["tier"], tiers["ramp"], parts, largest)
        return Dense(codes=codes.astype(dtype), scale=scale)

    layers = dict(params["layers"])
    for name, parts in kernel_parts(model).items():
        layers[name] = {"kernel": leaf(layers[name]["kernel"], precision["layers"][name], parts)}
    return {**params, "layers": layers}


def unquantised(params: dict[str, Any], model: Model) -> dict[str, Any]:
    """The parameter tree with every ternary-able matrix as ``Full``; differentiable."""
    layers = dict(params["layers"])
    for name in kernel_parts(model):
        layers[name] = {"kernel": Full(weight=layers[name]["kernel"])}
    return {**params, "layers": layers}
