"""What training batches are drawn by: weights of productions and levels, from what training itself gets right.

An example is exactly right where every target is the greedy token, which the training forward tells at no cost. A
program holds several productions, so the shares are factorised: each production, and each level, has the rate of all
examples that hold it. Learnability as in SFL (arXiv 2408.15099): neither what is always right nor what never is.
"""

import dataclasses
from typing import assert_never

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bitzero.config import NUM_LEVELS, NUM_PRODUCTIONS, Config
from bitzero.config.defaults import LevelMix, Preference
from bitzero.selfplay import objective
from bitzero.state import Mix, Supervised

CELLS = NUM_PRODUCTIONS + NUM_LEVELS
DECAY = 0.995  # a step, of the moving sums
PRIOR = 4.0  # examples, half of them right, that a cell begins with
SCALE = 64  # the mean weight of the productions, and that of the open levels
EXTREMES = (0.25, 4.0)  # of a production's weight ÷ the mean
LEVEL_FLOOR = 0.15  # of the examples, for each open level
FIRST_FLOOR = 0.2  # for L0, until its examples are right at the rate FIRST_DONE
FIRST_DONE = 0.9
READY = 0.8  # rate of a level's examples at which the next one counts in full


def empty_mix(cfg: Config) -> Mix | None:
    """Nothing seen yet; None where batches are not drawn by what was."""
    if cfg.tasks.productions == "even" and cfg.tasks.levels == "frontier":
        return None
    zeros = jnp.zeros(CELLS)
    return Mix(seen=zeros, right=jnp.zeros(CELLS), weights=jnp.zeros(CELLS, jnp.int32))


def observe(mix: Mix, hits: Bool[Array, "B T"], target: Bool[Array, "B T"], items: Supervised) -> Mix:
    """The mix after a batch: deductions that were exactly right, by production and level.

    Only tasks of one right answer count: of an inverse or a program there are more. Raises ValueError for items
    that do not tell their productions.
    """
    if items.productions is None:
        raise ValueError("a mix learns from batches that tell their productions")
    place = objective.segments_of(items.tokens.astype(jnp.int32)) - 1
    example = jax.nn.one_hot(place, items.kind.shape[1], dtype=bool)
    wrong = jnp.any((target & ~hits)[..., None] & example, axis=1)
    counted = objective.has_one_answer(items.kind).astype(jnp.float32)
    bits = jnp.unpackbits(items.productions, axis=-1, count=NUM_PRODUCTIONS)
    cells = jnp.concatenate([bits, jax.nn.one_hot(items.level, NUM_LEVELS, dtype=bits.dtype)], axis=-1)
    cells = cells.astype(jnp.float32)
    total = lambda of: jnp.einsum("BE,BEC->C", of, cells)
    seen, right = DECAY * mix.seen + total(counted), DECAY * mix.right + total(counted * ~wrong)
    return dataclasses.replace(mix, seen=seen, right=right)


def rates(mix: Mix) -> Float[Array, " cells"]:
    """Share of the recent examples with each production, then of each level, that were exactly right."""
    return (mix.right + PRIOR / 2) / (mix.seen + PRIOR)


def reweigh(mix: Mix, open_levels: Int[Array, ""], cfg: Config) -> Mix:
    """The mix with the weights that its counts ask for; 0 where the configuration leaves all alike."""
    rate = rates(mix)
    of_productions = preference(rate[:NUM_PRODUCTIONS], cfg.tasks.productions)
    seen = mix.seen[:NUM_PRODUCTIONS] > 0
    mean = jnp.sum(of_productions * seen) / jnp.maximum(jnp.sum(seen), 1)
    productions = jnp.clip(of_productions / jnp.maximum(mean, 1e-6), *EXTREMES)
    levels = level_shares(rate[NUM_PRODUCTIONS:], cfg.tasks.levels, open_levels) * open_levels
    whole = lambda weights: jnp.maximum(jnp.round(SCALE * weights).astype(jnp.int32), 1)
    of_cells = [
        whole(productions) * (cfg.tasks.productions != "even"),
        whole(levels) * (cfg.tasks.levels != "frontier"),
    ]
    return dataclasses.replace(mix, weights=jnp.concatenate(of_cells))


def preference(rate: Float[Array, " n"], form: Preference | LevelMix) -> Float[Array, " n"]:
    """How much an example is wanted, by the rate at which its like are right.

    errors: 1 − p. learnable: (1 − p)(p + ¼), which is largest at p = ⅜ and leaves ¼ to what is never right. even: 1.
    """
    match form:
        case "errors":
            return 1 - rate
        case "learnable":
            return (1 - rate) * (rate + 0.25)
        case "even" | "frontier":
            return jnp.ones_like(rate)
    assert_never(form)


def level_shares(rate: Float[Array, " levels"], form: LevelMix, open_levels: Int[Array, ""]) -> Float[Array, " levels"]:
    """Shares of the open levels, which sum to 1: each at least ``LEVEL_FLOOR``, and L0 ``FIRST_FLOOR`` until known.

    Beyond the floors a level is wanted by its own rate, and only as far as those before it are known: its programs are
    made of theirs. Without that, L0 fell behind by more than the others won (log, 2026-11-26).
    """
    is_open = jnp.arange(NUM_LEVELS) < open_levels
    floor = jnp.full(NUM_LEVELS, LEVEL_FLOOR).at[0].set(jnp.where(rate[0] < FIRST_DONE, FIRST_FLOOR, LEVEL_FLOOR))
    floor = jnp.where(is_open, floor, 0.0) / jnp.maximum(jnp.sum(jnp.where(is_open, floor, 0.0)), 1.0)
    known = jnp.cumprod(jnp.minimum(rate / READY, 1.0))
    ready = jnp.concatenate([jnp.ones(1), known[:-1]])
    wanted = jnp.where(is_open, preference(rate, form) * ready, 0.0)
    rest = 1 - jnp.sum(floor)
    return floor + rest * wanted / jnp.maximum(jnp.sum(wanted), 1e-6)
