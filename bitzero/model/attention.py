"""Attention: rotary positions, normalised queries and keys, a short convolution before them, the product itself."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bitzero.state import pytree

_EPS = 1e-6


@pytree
class AttentionProbe:
    """Which positions the attention signal is measured on, see ``attend``."""

    source: Float[Array, "B S"]  # 1 on program and input positions
    answers: Float[Array, "B T"]  # 1 on positions whose next token is part of an answer
    tap: Float[Array, " H"] | None  # zeros, of each layer; the gradient with respect to it is the signal


def rotate(
    x: Float[Array, "B T H K"], turns: tuple[Float[Array, "B T half"], Float[Array, "B T half"]]
) -> Float[Array, "B T H K"]:
    """Rotary position embedding, half-split form (arXiv 2104.09864, eq. 34), by cosine and sine of its angles."""
    half = x.shape[-1] // 2
    cos, sin = (part[:, :, None, :] for part in turns)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def unit_rms(x: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """x/RMS(x): of a head it is QK-norm (arXiv 2010.04245), whose learned gain the caller applies to the queries."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + _EPS)


@jax.custom_vjp
def convolve(
    x: Float[Array, "B T N"],
    before: Float[Array, "B reach N"],
    taps: Float[Array, "lags N"],
    positions: Int[Array, "B T"],
) -> Float[Array, "B T N"]:
    """x_t + Σ_i taps_i ⊙ x_{t−i}, a causal depthwise convolution with residual (Canon layers, arXiv 2512.17351).

    ``before`` are the rows of the ``reach`` = lags − 1 positions before the first, without a gradient. A row before the
    beginning of its example (``positions`` counts from 0 there) counts as zero. The backward pass is written out and
    both are kept apart from what is around them: fused into the products' own passes they cost a CPU twice as much.
    """
    return _convolve_forward(x, before, taps, positions)[0]


def _convolve_forward(x, before, taps, positions):
    """The result, and what the backward pass needs."""
    x = jax.lax.optimization_barrier(x)
    rows = jax.lax.optimization_barrier(jnp.concatenate([before, x], axis=1))
    total = x
    for lag, lagged in enumerate(_lagged(rows, positions, taps.shape[0])):
        total = total + lagged * taps[None, lag][None]
    return jax.lax.optimization_barrier(total), (rows, taps, positions)


def _lagged(rows: Array, positions: Array, lags: int) -> list[Array]:
    """For each lag the rows so many positions before, zeros before the beginning of an example."""
    t = positions.shape[1]
    return [
        jnp.where((positions >= lag)[..., None], rows[:, lags - 1 - lag : lags - 1 - lag + t], 0.0)
        for lag in range(lags)
    ]


def _convolve_backward(residuals, g):
    """The cotangents of x and taps: a row takes part in the results at and after it."""
    rows, taps, positions = residuals
    lags, t = taps.shape[0], g.shape[1]
    g = jax.lax.optimization_barrier(g)
    later = lambda a: jnp.pad(a, ((0, 0), (0, lags - 1)) + ((0, 0),) * (a.ndim - 2))
    ahead, places = jax.lax.optimization_barrier(later(g)), later(positions)
    dx = g
    for lag in range(lags):
        inside = (places[:, lag : lag + t] >= lag)[..., None]
        dx = dx + jnp.where(inside, ahead[:, lag : lag + t], 0.0) * taps[None, lag][None]
    dtaps = jnp.stack([jnp.sum(lagged * g, axis=(0, 1)) for lagged in _lagged(rows, positions, lags)])
    nothing = np.zeros(positions.shape, jax.dtypes.float0)
    return jax.lax.optimization_barrier(dx), jnp.zeros_like(rows[:, : lags - 1]), dtaps, nothing


convolve.defvjp(_convolve_forward, _convolve_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def attend(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B S G K"],
    v: Float[Array, "B S G K"],
    mask: Bool[Array, "B T S"],
    probe: AttentionProbe | None,
    dtype: jnp.dtype,
) -> Float[Array, "B T H K"]:
    """Grouped-query attention: each of the G key-value heads serves H/G query heads (arXiv 2305.13245).

    The backward pass is written out: it keeps the unnormalised weights in ``dtype`` and takes the softmax's inner
    product from the output (FlashAttention, arXiv 2205.14135, eq. 4), which saves a CPU half of the passes over T×S.

    With ``probe``, the gradient of its dummy ``tap`` is defined as, for each head, Σ over answer positions of
    (attention mass on source positions × norm of the gradient of the head's output): how much an answer hangs on what
    the head reads.
    """
    return _attend_forward(q, k, v, mask, probe, dtype)[0]


def _attend_forward(q, k, v, mask, probe, dtype):
    """The result, and what the backward pass needs; the letters are those of ``_attend_backward``."""
    b, t, h, d = q.shape
    groups = k.shape[2]
    dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    q = (q * d**-0.5).reshape(b, t, groups, h // groups, d).astype(dtype)
    k, v = k.astype(dtype), v.astype(dtype)
    scores = jnp.where(mask[:, None, None, :, :], dot("BTGRK,BSGK->BGRTS", q, k), -1e9)
    unnormalised = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True)).astype(dtype)
    inverse = 1 / jnp.sum(unnormalised, axis=-1, dtype=jnp.float32, keepdims=True)
    out = dot("BGRTS,BSGK->BGRTK", unnormalised, v) * inverse
    return out.transpose(0, 3, 1, 2, 4).reshape(b, t, h, d), (q, k, v, unnormalised, inverse, out, probe)


def _attend_backward(dtype, residuals, g):
    """The letters: B batch, G key-value heads, R query heads of each, T queries, S keys, K head dimension."""
    q, k, v, unnormalised, inverse, out, probe = residuals
    b, t, groups, ratio, d = q.shape
    dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    g = g.reshape(b, t, groups, ratio, d).transpose(0, 2, 3, 1, 4)  # BGRTK
    # Through the softmax: its inner product Σ weight·dweight is that of the output and its gradient.
    inner = jnp.sum(g * out, axis=-1, keepdims=True)
    g_scaled = (g * inverse).astype(dtype)  # carries the softmax's denominator, so the weights stay unnormalised
    d_scores = (unnormalised * (dot("BGRTK,BSGK->BGRTS", g_scaled, v) - inner * inverse)).astype(dtype)
    dq = dot("BGRTS,BSGK->BTGRK", d_scores, k).reshape(b, t, groups * ratio, d) * d**-0.5
    dk = dot("BGRTS,BTGRK->BSGK", d_scores, q)
    dv = dot("BGRTS,BGRTK->BSGK", unnormalised, g_scaled)
    # The signal.
    if probe is not None:
        mass = dot("BGRTS,BS->BGRT", unnormalised, probe.source.astype(dtype)) * inverse[..., 0]
        norm = jnp.sqrt(jnp.sum(g * g, axis=-1))
        of_heads = jnp.einsum("BGRT,BT->GR", mass * norm, probe.answers).reshape(-1)
        probe = dataclasses.replace(jax.tree.map(jnp.zeros_like, probe), tap=of_heads)
    return dq, dk, dv, np.zeros((b, t, k.shape[1]), jax.dtypes.float0), probe


attend.defvjp(_attend_forward, _attend_backward)
