"""The steps of one dispatch to the device: any span of a chunk by one compiled program, ended early by a stop bit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

Step = Callable[[Any, Any], tuple[Any, Bool[Array, ""], dict[str, Array]]]

Span = tuple[Int[Array, ""] | int, Int[Array, ""] | int]  # first item, and the one after the last


def run_span(step: Step, state: Any, batch: Any, span: Span | None = None) -> tuple[Any, dict[str, Array]]:
    """Runs ``step`` on the items of ``batch`` (leading axis k) from ``span[0]`` up to ``span[1]``; None: on all.

    ``step(state, items)`` gives state, stop bit and metrics; after a stop bit no more steps are run. Metrics have k
    rows, 0 where no step ran. The span is data: a shorter dispatch is the same program, and its steps the same bits.
    """
    count = jax.tree.leaves(batch)[0].shape[0]
    first, end = (jnp.asarray(bound, jnp.int32) for bound in ((0, count) if span is None else span))
    items_at = lambda i: jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), batch)
    shapes = jax.eval_shape(lambda: step(state, items_at(jnp.int32(0))))[2]
    rows = jax.tree.map(lambda a: jnp.zeros((count, *a.shape), a.dtype), shapes)

    def more(carry: Any) -> Array:
        i, stopped, *_ = carry
        return (i < end) & ~stopped

    def one(carry: Any) -> Any:
        i, _, state, rows = carry
        state, stopped, found = step(state, items_at(i))
        return i + 1, stopped, state, jax.tree.map(lambda all_of_it, row: all_of_it.at[i].set(row), rows, found)

    _, _, state, rows = jax.lax.while_loop(more, one, (first, jnp.bool_(False), state, rows))
    return state, rows
