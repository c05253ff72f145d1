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
import time
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int8, Num

from bitzero.config import BLOCK_ROWS, Model
from bitzero.config.defaults import Operand
from bitzero.state import pytree
from pallas_kernels import Packed, packed_matmul

GRID = {0: (1, 0), 4: (4, 7), 8: (32, 127)}  # tier in bits → m and the largest |R|
INT4 = -4  # in the place of the largest tier: 4-bit absmax rows without a ternary base, the control of the tiers
OPERANDS: tuple[Operand, ...] = get_args(Operand)
_FLOOR = 1e-5  # of α and of max|x|
_EXACT = 1 << 24  # integers below are exact in an f32 accumulator


@pytree
class Dense:
    """A matrix materialised as integers for rollouts; y = f32(X·codesᵀ)·(scale·δ)."""

    codes: Num[Array, "*L N K"]  # m·T + R, integer-valued, in the operand type
    scale: Float[Array, "*L N"]  # α/m of each output row


@pytree
class Blend:
    """A matrix on the way from full precision to ternary; rollouts during the warm-up ramp."""

    weight: Float[Array, "*L N K"]  # W + λ·(Q(W) − W)
    lam: Float[Array, "*L"]  # λ of the ramp, also applied to the activations


@pytree
class Full:
    """A latent matrix used as it is: λ = 0 without the roundings that would be thrown away."""

    weight: Float[Array, "*L N K"]


Weight = Array | Dense | Blend | Full | Packed


def operand_of(model: Model) -> Operand:
    """The operand type of the products, f32, bf16 or int8. Raises ValueError while it is still to be measured."""
    if model.compute == "auto":
        raise ValueError(f"model.compute={model.compute} is to be settled first, with derived.with_operand")
    return model.compute


def float_type(operand: str) -> jnp.dtype:
    """The floating-point operand type beside ``operand``: bf16 for bf16, f32 otherwise."""
    return jnp.dtype(jnp.bfloat16 if operand == "bf16" else jnp.float32)


def row_alpha(w: Float[Array, "*L N K"], parts: tuple[int, ...]) -> Float[Array, "*L N"]:
    """α = mean|W| of each merged matrix, repeated over its rows; ``parts`` are the merged matrices' row counts."""
    sizes = jnp.mean(jnp.abs(w), axis=-1)
    alphas, start = [], 0
    for rows in parts:
        alpha = jnp.mean(sizes[..., start : start + rows], axis=-1, keepdims=True)
        alphas.append(jnp.broadcast_to(jnp.maximum(alpha, _FLOOR), (*alpha.shape[:-1], rows)))
        start += rows
    return jnp.concatenate(alphas, axis=-1)


def grid(tier: Int8[Array, "*L blocks"]) -> tuple[Float[Array, "*L blocks"], Float[Array, "*L blocks"]]:
    """m and the largest |R| of each block."""
    pick = lambda i: jnp.where(tier == 8, float(GRID[8][i]), jnp.where(tier == 4, float(GRID[4][i]), float(GRID[0][i])))
    return pick(0), pick(1)


def integer_codes(
    w: Float[Array, "*L N K"], tier: Int8[Array, "*L blocks"], ramp: Float[Array, "*L blocks"], parts: tuple[int, ...]
) -> tuple[Float[Array, "*L N K"], Float[Array, "*L N"]]:
    """Integers N = m·T + R (as f32) and the scale α/m of each row; ``tier`` holds bits, ``ramp`` λ_r, per block."""
    alpha = row_alpha(w, parts)
    rows = functools.partial(jnp.repeat, repeats=BLOCK_ROWS, axis=-1)
    m, limit = (rows(figure) for figure in grid(tier))
    limit = limit[..., None]
    unit = w / alpha[..., None]
    t = jnp.clip(jnp.round(unit), -1, 1)
    m_col = m[..., None]
    residual = jnp.round(rows(ramp)[..., None] * m_col * (unit - t))
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
    delta = jnp.maximum(jnp.max(jnp.abs(x), axis=-1, keepdims=True), _FLOOR) * jnp.float32(1 / 127)
    return jnp.clip(jnp.round(x * (1 / delta)), -127, 127), delta


def absmax_codes(w: Float[Array, "*L N K"]) -> tuple[Float[Array, "*L N K"], Float[Array, "*L N"]]:
    """Integers in −7…7 (as f32) and the scale max|w|/7 of each row: plain 4-bit rows, the control ``INT4``."""
    scale = jnp.maximum(jnp.max(jnp.abs(w), axis=-1), _FLOOR) / 7
    return jnp.round(w / scale[..., None]), scale


def codes_of(
    w: Float[Array, "*L N K"],
    tier: Int8[Array, "*L blocks"] | None,
    ramp: Float[Array, "*L blocks"] | None,
    parts: tuple[int, ...],
    max_tier: int,
) -> tuple[Float[Array, "*L N K"], Float[Array, "*L N"]]:
    """The integers (as f32) that the forward multiplies and the scale of each row; no tiers where these are None."""
    if max_tier == INT4:
        return absmax_codes(w)
    if max_tier == 0 or tier is None or ramp is None:
        return ternary_codes(w, parts)
    return integer_codes(w, tier, ramp, parts)


def largest_tier(model: Model) -> int:
    """The static argument ``max_tier`` of this module: the largest tier that may occur, or ``INT4``."""
    return INT4 if model.weights == "int4" else model.max_tier


def max_code(max_tier: int) -> int:
    """Largest |m·T + R| when tiers up to ``max_tier`` bits may occur."""
    return 7 if max_tier == INT4 else sum(GRID[max_tier])


def integer_product(x: Num[Array, "*B K"], codes: Num[Array, "N K"], operand: str, max_tier: int) -> Num[Array, "*B N"]:
    """X·Nᵀ, exact; f32 (integer-valued) while 127·max|N|·K < 2²⁴ or else int32, summed over exact pieces of K."""
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
    k, piece = x.shape[-1], (_EXACT - 1) // (127 * max_code(max_tier))
    if k <= piece:
        return dot(x, codes)
    pieces = [dot(x[..., i : i + piece], codes[:, i : i + piece]).astype(jnp.int32) for i in range(0, k, piece)]
    return sum(pieces[1:], pieces[0])


def _row(scale: Float[Array, " N"], ndim: int) -> Array:
    return scale.reshape((1,) * (ndim - 1) + scale.shape)


def _epilogue(acc: Num[Array, "*B N"], scale: Float[Array, " N"], delta: Float[Array, "*B 1"]) -> Float[Array, "*B N"]:
    """f32(acc)·(scale·δ), in that order everywhere."""
    return acc.astype(jnp.float32) * (_row(scale, acc.ndim) * delta)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def ternary_linear(x, w, tier, ramp, parts, operand, max_tier):
    """y = x·Q(W)ᵀ on integers with the straight-through gradient; shapes as in ``linear``.

    dx = (g·scale)·N and dW = gᵀ·(δ·X), with both factors of each product in the operand type: the gradient of the
    quantised product, passed through Q as the identity.
    """
    return _ternary_forward(x, w, tier, ramp, parts, operand, max_tier)[0]


def _ternary_forward(x, w, tier, ramp, parts, operand, max_tier):
    xq, delta = quantise_activations(x)
    codes, scale = codes_of(w, tier, ramp, parts, max_tier)
    keep = float_type(operand)
    xq, codes = xq.astype(keep), codes.astype(keep)
    y = _epilogue(integer_product(xq, codes, operand, max_tier), scale, delta)
    return y, (xq, delta, codes, scale, tier, ramp)


def _ternary_backward(parts, operand, max_tier, residuals, g):
    xq, delta, codes, scale, tier, ramp = residuals
    dx = jnp.einsum(
        "...N,NK->...K", (g * _row(scale, g.ndim)).astype(codes.dtype), codes, preferred_element_type=jnp.float32
    )
    dw = _weight_gradient(g.astype(xq.dtype), (xq * delta).astype(xq.dtype))
    return dx, dw, _no_gradient(tier), _no_gradient(ramp)


def _weight_gradient(g: Float[Array, "*B N"], x: Float[Array, "*B K"]) -> Float[Array, "N K"]:
    """gᵀ·x over all leading axes.

    Flattened to two dimensions the product would leave the bf16 library of XLA's CPU back end for an f32 one, 2.5 times
    slower; and δ belongs on x, as g is transposed and a broadcast factor makes that pass 5 times slower.
    """
    tokens = tuple(range(g.ndim - 1))
    return jax.lax.dot_general(g, x, ((tokens, tokens), ((), ())), preferred_element_type=jnp.float32)


def _no_gradient(a: Array) -> Any:
    if jnp.issubdtype(a.dtype, jnp.floating):
        return jnp.zeros_like(a)
    return np.zeros(a.shape, jax.dtypes.float0)


ternary_linear.defvjp(_ternary_forward, _ternary_backward)


def blended_linear(x, w_blend, lam, operand):
    """y = x_λ·W_λᵀ in floating point, x_λ = x + λ·sg(Q(x) − x): the ramp, no exactness claimed."""
    xq, delta = quantise_activations(x)
    x_lam = x + lam * jax.lax.stop_gradient(xq * delta - x)
    return _float_product(x_lam, w_blend, operand)


def _float_product(x: Float[Array, "*B K"], w: Float[Array, "N K"], operand: str) -> Float[Array, "*B N"]:
    lead = "ABCDE"[: x.ndim - 1]  # not flattened, see _weight_gradient
    return contraction(f"{lead}K,NK->{lead}N", x, w, float_type(operand))


def blend(
    w: Float[Array, "*L N K"], lam: Float[Array, ""], parts: tuple[int, ...], max_tier: int = 0
) -> Float[Array, "*L N K"]:
    """W_λ = W + λ·sg(αT − W); the ramp knows no tiers."""
    codes, scale = codes_of(w, None, None, parts, max_tier)
    return w + lam * jax.lax.stop_gradient(scale[..., None] * codes - w)


def linear(
    x: Float[Array, "*B K"],
    w: Weight,
    tier: Int8[Array, " blocks"] | None,
    ramp: Float[Array, " blocks"] | None,
    *,
    parts: tuple[int, ...],
    operand: str,
    max_tier: int,
    lam: Float[Array, ""] | None = None,
) -> Float[Array, "*B N"]:
    """One linear layer without bias, by the type of ``w``.

    ``w`` latent [N, K]: integers with the straight-through gradient, or the ramp where ``lam`` is given. ``Dense``:
    the same integers, materialised. ``Blend``: the ramp, materialised. ``Full``: no quantisation. ``Packed``: the same
    integers, by ``packed_matmul``. ``tier`` and ``ramp`` belong to latents only.
    """
    if isinstance(w, Packed):
        return _packed_linear(x, w)
    if isinstance(w, Dense):
        xq, delta = quantise_activations(x)
        return _epilogue(integer_product(xq, w.codes, operand, max_tier), w.scale, delta)
    if isinstance(w, Full):
        return _float_product(x, w.weight, operand)
    if isinstance(w, Blend):
        return blended_linear(x, w.weight, w.lam, operand)
    if lam is not None:
        return blended_linear(x, blend(w, lam, parts, max_tier), lam, operand)
    return ternary_linear(x, w, tier, ramp, parts, operand, max_tier)


def _packed_linear(x: Float[Array, "*B K"], w: Packed) -> Float[Array, "*B N"]:
    xq, delta = quantise_activations(x)
    y = packed_matmul(xq.reshape(-1, x.shape[-1]).astype(jnp.int8), w, x_scale=delta.reshape(-1))
    return y.reshape(*x.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def contraction(spec: str, a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """``einsum(spec, a, b)`` with ``dtype`` operands and f32 results, forward and backward.

    The automatic transpose would mix an f32 cotangent with bf16 operands, 4–6× slower on a CPU with AMX. Each letter
    of an operand must stand in the other operand or in the result.
    """
    return jnp.einsum(spec, a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.float32)


def _contraction_forward(spec, a, b, dtype):
    a, b = a.astype(dtype), b.astype(dtype)
    return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32), (a, b)


def _contraction_backward(spec, dtype, residuals, g):
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

    With ``lam`` (below 1) by its ``Blend`` instead. Quantising once a policy update keeps it out of the decode loop,
    where XLA cannot hoist it (1.6× at 25M parameters). ``model.weights`` "full" quantises nothing.
    """
    if model.weights == "full":
        return unquantised(params, model)

    largest, dtype = largest_tier(model), float_type(operand_of(model))

    def leaf(w: Array, tiers: dict[str, Array], parts: tuple[int, ...]) -> Dense | Blend:
        if lam is not None:
            return Blend(weight=blend(w, lam, parts, largest), lam=jnp.broadcast_to(lam, w.shape[:-2]))
        codes, scale = codes_of(w, tiers["tier"], tiers["ramp"], parts, largest)
        return Dense(codes=codes.astype(dtype), scale=scale)

    layers = dict(params["layers"])
    for name, parts in matrices(model).items():
        layers[name] = {"kernel": leaf(layers[name]["kernel"], precision["layers"][name], parts)}
    return {**params, "layers": layers}


def unquantised(params: dict[str, Any], model: Model) -> dict[str, Any]:
    """The parameter tree with every ternary-able matrix as ``Full``; differentiable."""
    layers = dict(params["layers"])
    for name in matrices(model):
        layers[name] = {"kernel": Full(weight=layers[name]["kernel"])}
    return {**params, "layers": layers}


def matrices(model: Model) -> dict[str, tuple[int, ...]]:
    """Row counts of the merged matrices of each ternary-able kernel of a layer."""
    queries, keys = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    return {
        "qkv": (queries, keys, keys),
        "o": (model.width,),
        "gate_up": (model.ffn_width, model.ffn_width),
        "down": (model.width,),
    }


def measure_operand(model: Model, tokens: int = 2_048) -> Operand:
    """The fastest operand type of a forward and backward of one FFN product on this device, by a short measurement."""
    w = jnp.full((2 * model.ffn_width, model.width), 0.5)
    x = jnp.ones((16, tokens // 16, model.width))  # as in training: flattened, the backward would be another one
    blocks = w.shape[0] // BLOCK_ROWS
    tier, ramp = jnp.zeros((blocks,), jnp.int8), jnp.ones((blocks,))

    def seconds(operand: Operand) -> float:
        def loss(x: Array, w: Array) -> Array:
            return jnp.sum(ternary_linear(x, w, tier, ramp, (w.shape[0],), operand, model.max_tier))

        step = jax.jit(jax.grad(loss, argnums=(0, 1)))
        jax.block_until_ready(step(x, w))
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(step(x, w))
            best = min(best, time.perf_counter() - start)
        return best

    return min(OPERANDS, key=seconds)
