"""Answers as they come: a few rows decoded side by side, one token of each at a time.

What ``questions.complete_prompts`` does in one program that nobody can look into or stop; here the host has every
token at once, and may go away after any.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from bitzero.config import Model
from bitzero.evaluation import questions
from bitzero.evaluation.questions import Solver
from bitzero.model import transformer
from bitzero.model.cache import Cache
from bitzero.tasks.tokens import EOS, PAD


def stream_rows(
    solver: Solver, prompt: Sequence[int], temperatures: Sequence[float], *, max_new: int, seed: int
) -> Iterator[list[int]]:
    """The next token of every row, until all have ended or have ``max_new``; PAD after a row's end.

    Every row answers the same ``prompt`` (at most ``cfg.tasks.prompt`` ids), each at its own temperature, 0 being
    greedy. As many rows and as long answers as before compile nothing.
    """
    rows, model = len(temperatures), solver.cfg.model
    batch = jnp.asarray(questions.left_padded([prompt] * rows, solver.cfg.tasks.prompt), jnp.int32)
    logits, cache = questions.prefill(solver.weights, batch, model, max_new=max_new)
    recent, done = batch[:, ::-1][:, : model.smear], jnp.zeros(rows, bool)
    key, warmth, padding = jax.random.key(seed), jnp.asarray(temperatures, jnp.float32), jnp.sum(batch == PAD, axis=1)
    for i in range(max_new):
        place = jnp.array([i, batch.shape[1]], jnp.int32)
        token, logits, cache, recent, done = _step(
            solver.weights, model, key, warmth, place, padding, logits, cache, recent, done
        )
        yield [int(one) for one in np.asarray(token)]
        if np.all(np.asarray(done)):
            return


@functools.partial(jax.jit, static_argnames="model", donate_argnames="cache")
def _step(
    weights: dict[str, Any],
    model: Model,
    key: PRNGKeyArray,
    warmth: Float[Array, " B"],
    place: Int[Array, " 2"],
    padding: Int[Array, " B"],
    logits: Float[Array, "B V"],
    cache: Cache,
    recent: Int[Array, "B lags"],
    done: Bool[Array, " B"],
) -> tuple[Int[Array, " B"], Float[Array, "B V"], Cache, Int[Array, "B lags"], Bool[Array, " B"]]:
    """One step of ``rollout.decode``: the token of each row, and what the next step needs.

    Ten arguments: what stays the same and what a step hands to the next, each by itself so that the cache is donated.
    """
    i, width = place
    noise = jax.random.gumbel(jax.random.fold_in(key, i), logits.shape)
    token = jnp.where(done, PAD, jnp.argmax(logits + warmth[:, None] * noise, axis=-1)).astype(jnp.int32)
    done |= token == EOS
    slots = jnp.arange(cache.key.shape[2])
    seen = (slots[None] <= width + i) & (slots[None] >= padding[:, None])
    recent = jnp.concatenate([token[:, None], recent], axis=1)  # newest first
    logits, cache = transformer.apply_cached(
        weights, recent[:, None], (width + i - padding)[:, None], seen[:, None], cache, width + i, model
    )
    return token, logits[:, 0], cache, recent[:, : model.smear], done
