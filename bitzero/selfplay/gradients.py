"""The gradient of an update's loss, in one backward pass or in several equal ones that need less memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Loss = Callable[[Any, Any, Any], tuple[Float[Array, ""], Any]]


def gradients_in_parts(
    loss: Loss, params: Any, taps: Any, rows: Any, microbatches: int
) -> tuple[Float[Array, ""], Any, Any]:
    """Loss, its other results, and gradients by ``params`` and ``taps``: rows are cut into equal parts, run in turn.

    ``loss(params, taps, rows)`` gives ``(value, rest)``; every array of ``rows`` has its rows in front, a number that
    ``microbatches`` divides. Loss and gradients are the parts' means, ``rest`` has the parts in front. A loss that
    divides by ``mean_divisor``, not by what its part holds, has the same mean however it is cut, but for rounding.
    """
    grad = jax.value_and_grad(loss, (0, 1), has_aux=True)
    if microbatches == 1:
        (value, rest), grads = grad(params, taps, rows)
        return value, jax.tree.map(lambda a: a[None], rest), grads

    def add(total: Any, part: Any) -> tuple[Any, Any]:
        (value, rest), grads = grad(params, taps, part)
        return jax.tree.map(lambda t, new: t + new / microbatches, total, (value, grads)), rest

    parts = jax.tree.map(lambda a: a.reshape(microbatches, -1, *a.shape[1:]), rows)
    (value, grads), rest = jax.lax.scan(add, (jnp.float32(0), jax.tree.map(jnp.zeros_like, (params, taps))), parts)
    return value, rest, grads


def mean_divisor(keep: Bool[Array, "B T"], microbatches: int) -> Float[Array, ""]:
    """Number of True in ``keep`` (at least 1) ÷ ``microbatches``: each part divides its sum by it."""
    return jnp.maximum(jnp.sum(keep), 1) / microbatches
