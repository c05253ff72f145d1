"""What ``layer.cpp`` computes, as JAX functions with gradients; f32 on a CPU, once ``build.load`` has been called.

``normed_linear`` is RMSNorm (arXiv 1910.07467), the rounding of its result to int8 (arXiv 2402.17764) and a linear
layer; ``attend`` is QK-norm, rotation and causal attention within each example of a packed row, ``convolve`` what may
come before it; ``answer_losses`` is the output layer and its cross-entropy where something is asked. They are what
``model.quant``, ``model.attention`` and ``selfplay.objective`` compute, up to the order of sums. ``decode_layers`` is
what sampling does with all layers, ``draw_tokens`` with the logits. Every width is a multiple of ``MULTIPLE``.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

MULTIPLE = 32  # every width is a multiple of it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """What is static about ``normed_linear``."""

    gated: bool  # the input is [gate, up], and ReLU²(gate)·up is what is normalised (arXiv 2109.08668)
    integer: bool  # codes are integers and the input is rounded to them; otherwise the ramp: x + λ·(Q(x) − x)
    half: bool = False  # both factors of each product in bf16, but where codes are ternary integers; sums in f32
    floor: float  # of max|x|
    sequence: int  # rows of a sequence
    every: int  # the mean square is taken of one sequence in so many; 0: not at all


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def normed_linear(
    form: Form,
    x: Float[Array, "*B width"],
    gain: Float[Array, " K"],
    latent: Float[Array, "N K"],
    codes: Float[Array, "N K"],
    scale: Float[Array, " N"],
    lam: Float[Array, ""],
    tap: Float[Array, " K"],
) -> Float[Array, "*B N"]:
    """Q(norm(x)·gain)·codesᵀ·scale, with the straight-through gradient for ``latent``, which ``codes`` are made of.

    The gradient of the dummy ``tap`` is defined as the mean square of the normalised input over the positions that have
    a gradient, see ``block.tap_mean_square``. Eight arguments: the form, and each array by itself.
    """
    return _normed_forward(form, x, gain, latent, codes, scale, lam, tap)[0]


def _attributes(form: Form) -> dict[str, Any]:
    """Of both calls."""
    return {"gated": form.gated, "integer": form.integer, "half": form.half, "floor": np.float32(form.floor)}


def _normed_forward(form, x, gain, latent, codes, scale, lam, tap):
    """y, and what the backward pass needs of it; the arguments are those of ``normed_linear``."""
    lead, n = x.shape[:-1], codes.shape[0]
    call = jax.ffi.ffi_call("bitzero_normed_forward", (_f32(*lead, n), _f32(*lead), _f32(*lead)))
    y, rms, delta = call(x, gain, codes, scale, lam, **_attributes(form))
    return y, (x, gain, codes, scale, lam, rms, delta)


def _normed_backward(form, residuals, g):
    """The cotangents of x, gain, latent and tap; the others have none."""
    x, gain, codes, scale, lam, rms, delta = residuals
    n, k = codes.shape
    call = jax.ffi.ffi_call("bitzero_normed_backward", (_f32(*x.shape), _f32(k), _f32(n, k), _f32(k)))
    dx, dgain, dw, square = call(
        x, gain, codes, scale, lam, rms, delta, g,
        **_attributes(form), sequence=np.int64(form.sequence), every=np.int64(form.every),
    )  # fmt: skip
    return dx, dgain, dw, jnp.zeros_like(codes), jnp.zeros_like(scale), jnp.zeros_like(lam), square


normed_linear.defvjp(_normed_forward, _normed_backward)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heads:
    """What is static about ``attend``."""

    heads: int
    groups: int  # key-value heads
    norm: bool  # QK-norm (arXiv 2010.04245)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(
    form: Heads,
    qkv: Float[Array, "B T N"],
    extra: Float[Array, "B T GK"] | None,
    gains: Float[Array, " H"],
    turns: tuple[Float[Array, "B T half"], Float[Array, "B T half"]],
    segments: Int[Array, "B T"],
    watched: tuple[Float[Array, "B T"], Float[Array, "B T"]] | None,
    tap: Float[Array, " H"],
) -> Float[Array, "B T HK"]:
    """The heads' outputs side by side; zeros on padding (segment 0), which nothing reads.

    ``extra`` is added to the values, ``gains`` are the queries', ``turns`` the cosine and sine of the rotation.
    ``watched`` are sources and answers of ``model.attention.AttentionProbe``, and the gradient of ``tap`` its signal.
    Eight arguments: the form, and each array by itself.
    """
    return _attend_forward(form, qkv, extra, gains, turns, segments, watched, tap)[0]


def _static(form: Heads) -> dict[str, Any]:
    """Of both calls."""
    return {"heads": np.int64(form.heads), "groups": np.int64(form.groups), "norm": form.norm}


def _attend_forward(form, qkv, extra, gains, turns, segments, watched, tap):
    """The result, and what the backward pass needs of it; the arguments are those of ``attend``."""
    b, t, width = qkv.shape
    size = width // (form.heads + 2 * form.groups)
    call = jax.ffi.ffi_call("bitzero_attend_forward", _f32(b, t, form.heads * size))
    none = jnp.zeros((0,))
    out = call(qkv, none if extra is None else extra, gains, *turns, segments, **_static(form))
    return out, (qkv, extra, gains, turns, segments, watched, out)


def _attend_backward(form, residuals, g):
    """The cotangents of qkv, extra, gains and tap; the others have none."""
    qkv, extra, gains, turns, segments, watched, out = residuals
    heads, none = _f32(form.heads), jnp.zeros((0,))
    call = jax.ffi.ffi_call("bitzero_attend_backward", (_f32(*qkv.shape), heads, heads))
    dqkv, dgains, signal = call(
        qkv, none if extra is None else extra, gains, *turns, segments, out, g,
        *((none, none) if watched is None else watched), **_static(form),
    )  # fmt: skip
    values = qkv.shape[-1] * form.groups // (form.heads + 2 * form.groups)
    dextra = None if extra is None else dqkv[..., -values:]
    nothing = np.zeros(segments.shape, jax.dtypes.float0)
    return (
        dqkv,
        dextra,
        dgains,
        jax.tree.map(jnp.zeros_like, turns),
        nothing,
        jax.tree.map(jnp.zeros_like, watched),
        signal,
    )


attend.defvjp(_attend_forward, _attend_backward)


@jax.custom_vjp
def convolve(
    x: Float[Array, "B T N"], taps: Float[Array, "lags N"], positions: Int[Array, "B T"]
) -> Float[Array, "B T N"]:
    """x_t + Σ_i taps_i ⊙ x_{t−i} within each example, whose ``positions`` count from 0 (arXiv 2512.17351)."""
    return _convolve_forward(x, taps, positions)[0]


def _convolve_forward(x, taps, positions):
    """The result, and what the backward pass needs."""
    return jax.ffi.ffi_call("bitzero_convolve_forward", _f32(*x.shape))(x, taps, positions), (x, taps, positions)


def _convolve_backward(residuals, g):
    """The cotangents of x and taps."""
    x, taps, positions = residuals
    call = jax.ffi.ffi_call("bitzero_convolve_backward", (_f32(*x.shape), _f32(*taps.shape)))
    return *call(x, taps, positions, g), np.zeros(positions.shape, jax.dtypes.float0)


convolve.defvjp(_convolve_forward, _convolve_backward)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """What is static about ``answer_losses``: the distribution that it is of, and whether its entropy is wanted."""

    temperature: float = 1.0
    without: int = -1  # a token that has no probability; −1: none
    entropy: bool = False


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def answer_losses(
    head: Head, x: Float[Array, "B T D"], table: Float[Array, "V D"], following: Int[Array, "B T"]
) -> tuple[Float[Array, "B T"], Float[Array, "B T"], Float[Array, "..."]]:
    """−log p of the token that follows under the output layer ``table``, 1 where it is the likeliest, and the entropy.

    All are 0 where ``following`` is −1, and nothing is computed there. The second has no gradient; the third has no
    elements where ``head`` does not want it.
    """
    return _answers_forward(head, x, table, following)[0]


def _answers_forward(head, x, table, following):
    """The results, and what the backward pass needs."""
    rows = _f32(*following.shape)
    spread = rows if head.entropy else _f32(0, 0)
    call = jax.ffi.ffi_call("bitzero_answers_forward", (rows, rows, rows, spread))
    nll, total, hits, entropy = call(x, table, following, **_of_head(head))
    return (nll, hits, entropy), (x, table, following, total, entropy)


def _answers_backward(head, residuals, g):
    """The cotangents of x and the table."""
    x, table, following, total, entropy = residuals
    call = jax.ffi.ffi_call("bitzero_answers_backward", (_f32(*x.shape), _f32(*table.shape)))
    found = call(x, table, following, total, entropy, g[0], g[2], **_of_head(head))
    return *found, np.zeros(following.shape, jax.dtypes.float0)


def _of_head(head: Head) -> dict[str, Any]:
    """Of both calls."""
    return {"temperature": np.float32(head.temperature), "without": np.int64(head.without)}


answer_losses.defvjp(_answers_forward, _answers_backward)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stack:
    """The layers of a model as ``decode_layers`` takes them, arrays stacked along a first axis L; None: not there."""

    heads: int
    norm: bool  # QK-norm
    integer: bool  # codes are integers; otherwise weights, and the input is moved towards its rounding by ``lam``
    floor: float  # of max|x|
    skip: Float[Array, " L"] | None
    conv: Float[Array, "L lags N"] | None
    query: Float[Array, "L H"] | None  # gains of QK-norm
    lam: Float[Array, " L"]
    gains: tuple[Array, Array, Array, Array]  # of the norms before q, k, v; o; gate and up; down
    matrices: tuple[tuple[Array, Array], ...]  # codes [L, N, K] and scale [L, N], in the same order


def decode_layers(
    stack: Stack,
    x: Float[Array, "B T D"],
    extra: Float[Array, "L B T GK"] | None,
    turns: tuple[Float[Array, "B T half"], Float[Array, "B T half"]],
    first: Int[Array, " B"],
    positions: Int[Array, "B T"],
    slot: Int[Array, ""],
    cache: tuple[Float[Array, "L B S G K"], Float[Array, "L B S G K"], Float[Array, "L B reach N"]],
) -> tuple[Float[Array, "B T D"], tuple[Array, Array, Array]]:
    """T new tokens of each sequence through all layers, and the cache with them from ``slot`` on; no gradient.

    A sequence has its tokens in the slots from ``first`` on. ``extra`` is added to the values. What comes out for
    padding before ``first`` means nothing, and a sequence whose last position is negative has ended: it is passed over.
    Eight arguments: the layers, and each array by itself.
    """
    empty = jnp.zeros((0,))
    given = [empty if a is None else a for a in (stack.skip, stack.conv, stack.query, stack.lam)]
    arrays = [x, *turns, empty if extra is None else extra, first, positions, slot[None], *given, *stack.gains]
    arrays += [part for matrix in stack.matrices for part in matrix]
    at = len(arrays)
    results, aliases = [_f32(*a.shape) for a in (x, *cache)], {at: 1, at + 1: 2, at + 2: 3}
    call = jax.ffi.ffi_call("bitzero_decode_layers", results, input_output_aliases=aliases)
    out, key, value, recent = call(
        *arrays, *cache, heads=np.int64(stack.heads), norm=stack.norm, integer=stack.integer,
        floor=np.float32(stack.floor),
    )  # fmt: skip
    return out, (key, value, recent)


def draw_tokens(
    logits: Float[Array, "B V"],
    chance: Float[Array, " B"],
    done: Bool[Array, " B"],
    temperature: Float[Array, ""],
    without: int,
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """A token of each row and its log-probability at this temperature; 0 and 0 of what is done, never ``without``.

    ``chance`` in [0, 1) decides: the token is the first at which the probabilities so far exceed it. At temperature 0
    it is the likeliest, with its log-probability at 1.
    """
    rows = logits.shape[0]
    call = jax.ffi.ffi_call("bitzero_draw_tokens", (jax.ShapeDtypeStruct((rows,), jnp.int32), _f32(rows)))
    token, logp = call(logits, chance, done.astype(jnp.int32), temperature[None], without=np.int64(without))
    return token, logp


def newton_schulz(
    stacks: Sequence[Float[Array, "L N K"]], steps: int, coefficients: tuple[float, float, float], half: bool = False
) -> Sequence[Array]:
    """Muon's orthogonalisation (arXiv 2502.16982, eq. 2) of each matrix of four stacks [L, N, K] of any N and K.

    Each is divided by its Frobenius norm first. With ``half`` the factors of products are in bf16, as in the paper.
    """
    c0, c1, c2 = (np.float32(c) for c in coefficients)
    call = jax.ffi.ffi_call("bitzero_newton_schulz", [_f32(*x.shape) for x in stacks])
    return call(*stacks, steps=np.int64(steps), c0=c0, c1=c1, c2=c2, half=half)


def _f32(*shape: int) -> jax.ShapeDtypeStruct:
    """A result of a call."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)
