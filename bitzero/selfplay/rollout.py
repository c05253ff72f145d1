"""Sampling: prefill, then one token at a time through the cache until every row has ended."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer, PRNGKeyArray

from bitzero.config import Model
from bitzero.model import transformer
from bitzero.model.cache import Cache, empty_cache
from bitzero.native import functions
from bitzero.selfplay import objective
from bitzero.state import Rollout
from bitzero.tasks.tokens import EOS, PAD


def sample(
    key: PRNGKeyArray,
    weights: dict[str, Any],
    prompts: Integer[Array, "B P"],
    model: Model,
    *,
    max_new: int,
    temperature: Float[Array, ""] | float,
    copies: int = 1,
    parts: int = 1,
) -> Rollout:
    """Completions of left-padded prompts, at most ``max_new`` tokens; temperature 0 is greedy. PAD is never drawn.

    Each prompt gets ``copies`` completions, one after another; it is read once for all, unless a part splits them.

    ``weights`` come from ``quant.materialise``. The log-probs are those of the distribution drawn from (of greedy
    tokens, at temperature 1). ``parts`` divides the rows; parts are drawn in turn, with the cache of one at a time and
    the same samples but for rounding. Eight arguments: the model and its prompts, and how many are drawn, and how.
    """
    rows = prompts.shape[0] * copies
    each = rows // parts
    if each % copies:  # a part is less than what a prompt is asked for
        prompts, copies = jnp.repeat(prompts, copies, axis=0), 1

    def one(part: tuple[Array, Array]) -> Rollout:
        first, own = part
        logits, cache = prefill(weights, own, model, max_new=max_new)
        if copies > 1:
            own, logits, cache = (
                jnp.repeat(own, copies, axis=0),
                jnp.repeat(logits, copies, axis=0),
                cache.copied(copies),
            )
        return decode(key, weights, own, logits, cache, model, temperature=temperature, first=first, rows=rows)

    if parts == 1:
        return one((jnp.int32(0), prompts))
    drawn = jax.lax.map(one, (jnp.arange(0, rows, each), prompts.reshape(parts, each // copies, -1)))
    return jax.tree.map(lambda a: a.reshape(rows, *a.shape[2:]), drawn)


def prefill(
    weights: dict[str, Any], prompts: Integer[Array, "B P"], model: Model, *, max_new: int
) -> tuple[Float[Array, "B V"], Cache]:
    """Logits of the first new token, and a cache that holds the prompts and has room for ``max_new`` tokens."""
    prompts = prompts.astype(jnp.int32)
    b, p = prompts.shape
    valid, positions = _valid_and_positions(prompts, max_new)
    segments = valid[:, :p].astype(jnp.int32)
    mask = jnp.pad(transformer.causal_mask(segments), ((0, 0), (0, 0), (0, max_new)))
    logits, cache = transformer.apply_cached(
        weights,
        transformer.with_preceding(prompts, segments, model.smear),
        positions[:, :p],
        mask,
        empty_cache(model, b, p + max_new),
        jnp.int32(0),
        model,
        last=1,
    )
    return logits[:, 0], cache


def decode(
    key: PRNGKeyArray,
    weights: dict[str, Any],
    prompts: Integer[Array, "B P"],
    logits: Float[Array, "B V"],
    cache: Cache,
    model: Model,
    *,
    temperature: Float[Array, ""] | float,
    first: Int[Array, ""] | int = 0,
    rows: int | None = None,
) -> Rollout:
    """What ``sample`` returns, from what ``prefill`` returned; as many new tokens as the cache has room for. It has
    the arguments of both, so that the two can be compiled apart. The prompts may be those from ``first`` on of so many
    ``rows``: chance is drawn for all of them, so that a row's is the same however they are cut.
    """
    prompts = prompts.astype(jnp.int32)
    (b, p), slots = prompts.shape, cache.key.shape[2]
    own = (jnp.asarray(first), b if rows is None else rows)
    max_new = slots - p
    valid, positions = _valid_and_positions(prompts, max_new)

    more = lambda carry: (carry[0] < max_new) & ~jnp.all(carry[-1])

    def step(carry: Any) -> Any:
        i, logits, cache, recent, tokens, logprobs, done = carry
        token, logp = _drawn(jax.random.fold_in(key, i), logits, done, temperature, model, own)
        tokens, logprobs = tokens.at[:, i].set(token), logprobs.at[:, i].set(logp)
        done |= token == EOS
        at = p + i
        seen = (jnp.arange(slots) <= at)[None] & valid
        where = jnp.where(done[:, None], -1, jax.lax.dynamic_slice_in_dim(positions, at, 1, axis=1))
        recent = jnp.concatenate([token[:, None], recent], axis=1)  # newest first
        logits, cache = transformer.apply_cached(weights, recent[:, None], where, seen[:, None], cache, at, model)
        return i + 1, logits[:, 0], cache, recent[:, : model.smear], tokens, logprobs, done

    nothing = (jnp.zeros((b, max_new), jnp.int32), jnp.zeros((b, max_new)), jnp.zeros((b,), bool))
    start = (jnp.int32(0), logits, cache, prompts[:, ::-1][:, : model.smear], *nothing)
    _, _, _, _, tokens, logprobs, _ = jax.lax.while_loop(more, step, start)
    return Rollout(tokens=tokens, logprobs=logprobs, mask=(tokens != PAD) & ~_after_end(tokens))


def _after_end(tokens: Int[Array, "B C"]) -> Bool[Array, "B C"]:
    """Which tokens come after their row's EOS."""
    return jnp.cumsum(tokens == EOS, axis=1) - (tokens == EOS) > 0


def _drawn(
    key: PRNGKeyArray,
    logits: Float[Array, "B V"],
    done: Bool[Array, " B"],
    temperature: Float[Array, ""] | float,
    model: Model,
    own: tuple[Int[Array, ""], int],
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """The next token of each row and its log-prob; PAD and 0 where it is done. The rows are those from the first of
    ``own`` on, of as many as its second."""
    first, whole = own
    rows = logits.shape[0]
    of_rows = lambda chance: chance if whole == rows else jax.lax.dynamic_slice_in_dim(chance, first, rows)
    if model.native:
        chance = of_rows(jax.random.uniform(key, (whole,)))
        return functions.draw_tokens(logits, chance, done, jnp.asarray(temperature, jnp.float32), PAD)
    logits = objective.without_pad(logits)
    noise = of_rows(jax.random.gumbel(key, (whole, logits.shape[1])))
    token = jnp.argmax(logits + temperature * noise, axis=-1)
    tempered = logits / jnp.where(temperature > 0, temperature, 1.0)
    logp = jnp.take_along_axis(jax.nn.log_softmax(tempered), token[:, None], axis=-1)[:, 0]
    return jnp.where(done, PAD, token), jnp.where(done, 0.0, logp)


def parts_within(rows: int, most: int) -> int:
    """The least number of equal parts of ``rows`` with at most ``most`` rows each; one row is always allowed."""
    return next(parts for parts in range(1, rows + 1) if rows % parts == 0 and rows // parts <= max(most, 1))


def _valid_and_positions(prompts: Int[Array, "B P"], max_new: int) -> tuple[Bool[Array, "B S"], Int[Array, "B S"]]:
    """Which slots of the cache hold or will hold a token, and its position in its sequence."""
    valid = jnp.pad(prompts != PAD, ((0, 0), (0, max_new)), constant_values=True)
    return valid, transformer.positions_of(valid.astype(jnp.int32))
