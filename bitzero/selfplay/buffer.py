"""The task ring and the set of seen hashes, both fixed-shape arrays on the device.

The set holds 64-bit hashes in buckets of 4 chosen by the low word. A membership test reads 4 whole hashes, so a false
positive needs two different programs with equal 64-bit hashes: at most 4·2⁻⁶⁴ a query, under 10⁻¹² over a million
queries. A full bucket forgets its oldest hash (counted), which lets a duplicate through but never rejects a new task.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, PRNGKeyArray, UInt32

from bitzero.config import Config
from bitzero.state import HashSet, RatedRing, Ring

WAYS = 4  # hashes of a bucket
UNSOLVED = 0.25  # spread of a task that was not solved yet: the most there is, so that each comes to its turn
LEAST_SPREAD = 0.01  # what a task without spread is drawn by: it comes again, a twenty-fifth as often as the best


def empty_ring(cfg: Config) -> Ring:
    """A ring of ``cfg.selfplay.ring`` empty slots."""
    cap = cfg.selfplay.ring
    return Ring(
        prompt=jnp.zeros((cap, cfg.tasks.prompt), jnp.uint16),
        record=jnp.zeros((cap, cfg.tasks.record), jnp.uint16),
        kind=jnp.zeros((cap,), jnp.int8),
        level=jnp.zeros((cap,), jnp.int8),
        born=jnp.zeros((cap,), jnp.int32),
        head=jnp.int32(0),
        count=jnp.int32(0),
    )


def rated(ring: Ring) -> RatedRing:
    """The ring as a RatedRing, all tasks at the spread of an unsolved one."""
    fields = {field.name: getattr(ring, field.name) for field in dataclasses.fields(ring)}
    return RatedRing(**fields, spread=jnp.full(ring.kind.shape, UNSOLVED, jnp.float32))


def push_tasks(
    ring: Ring,
    prompt: Integer[Array, "N P"],
    record: Integer[Array, "N R"],
    kind: Integer[Array, " N"],
    level: Integer[Array, " N"],
    born: Int[Array, ""],
    keep: Bool[Array, " N"],
) -> Ring:
    """Writes the rows where ``keep``, in order, over the oldest entries. An argument for each field of a row."""
    cap = ring.kind.shape[0]
    at = jnp.where(keep, places(ring, keep), cap)  # cap is out of range: dropped
    put = lambda old, new: old.at[at].set(new.astype(old.dtype), mode="drop")
    added = jnp.sum(keep)
    if isinstance(ring, RatedRing):
        ring = dataclasses.replace(ring, spread=put(ring.spread, jnp.full(kind.shape, UNSOLVED)))
    return dataclasses.replace(
        ring,
        prompt=put(ring.prompt, prompt),
        record=put(ring.record, record),
        kind=put(ring.kind, kind),
        level=put(ring.level, level),
        born=put(ring.born, jnp.broadcast_to(born, kind.shape)),
        head=(ring.head + added) % cap,
        count=jnp.minimum(ring.count + added, cap),
    )


def places(ring: Ring, keep: Bool[Array, " N"]) -> Int[Array, " N"]:
    """Where ``push_tasks`` writes the rows that it keeps."""
    return (ring.head + jnp.cumsum(keep) - 1) % ring.kind.shape[0]


def note_spread(
    ring: Ring, place: Int[Array, " N"], own: Bool[Array, " N"], spread: Float[Array, " N"], known: Bool[Array, " N"]
) -> Ring:
    """Writes the spread of each slot's answers to its ``place`` where ``known``; a plain Ring stays as it is.

    Of slots with one place only the ``own`` one counts, whose task overwrote the others'; without one, the last known.
    """
    if not isinstance(ring, RatedRing):
        return ring
    same = place[:, None] == place[None]
    known &= own | ~jnp.any(same & own[None], axis=1)
    known &= ~jnp.any(jnp.triu(same & known[None], 1), axis=1)
    at = jnp.where(known, place, ring.kind.shape[0])
    return dataclasses.replace(ring, spread=ring.spread.at[at].set(spread, mode="drop"))


def pick_slots(
    ring: Ring,
    key: PRNGKeyArray,
    kind: Integer[Array, " N"],
    level: Integer[Array, " N"] | None = None,
    by_spread: bool = False,
) -> Int[Array, " N"]:
    """For each row a random filled slot of its kind and level; if there is none, of its kind; if none, any.

    ``level`` None: of any level. With ``by_spread`` a RatedRing's slots are drawn in proportion to r̄(1 − r̄) (SFL,
    arXiv 2408.15099), otherwise all alike.
    """
    worth = jnp.float32(0)
    if by_spread and isinstance(ring, RatedRing):
        worth = jnp.log(jnp.maximum(ring.spread, LEAST_SPREAD))
    filled = jnp.arange(ring.kind.shape[0]) < ring.count
    same = lambda held, wanted: held[None].astype(jnp.int32) == wanted[:, None].astype(jnp.int32)
    choices = [filled[None] & same(ring.kind, kind)]
    if level is not None:
        choices.append(choices[0] & same(ring.level, level))
    allowed = jnp.broadcast_to(filled[None], choices[0].shape)
    for narrower in choices:
        allowed = jnp.where(jnp.any(narrower, axis=1, keepdims=True), narrower, allowed)
    return jax.random.categorical(key, jnp.where(allowed, worth, -jnp.inf), axis=-1)


def empty_hash_set(entries: int) -> HashSet:
    """A set with room for ``entries`` hashes (a multiple of 4)."""
    return HashSet(slots=jnp.zeros((entries // WAYS, WAYS, 2), jnp.uint32), inserted=jnp.int32(0), evicted=jnp.int32(0))


def hash_words(hashes: Sequence[int]) -> UInt32[np.ndarray, "n 2"]:
    """64-bit hashes as the set holds them: (high, low)."""
    return np.array([(value >> 32, value & 0xFFFF_FFFF) for value in hashes], np.uint32).reshape(-1, 2)


def contains(seen: HashSet, hashes: UInt32[Array, "N 2"]) -> Bool[Array, " N"]:
    """Whether each hash is in the set."""
    bucket = (hashes[:, 1] % seen.slots.shape[0]).astype(jnp.int32)
    return jnp.any(jnp.all(seen.slots[bucket] == hashes[:, None], axis=-1), axis=-1)


def insert(seen: HashSet, hashes: UInt32[Array, "N 2"], keep: Bool[Array, " N"]) -> HashSet:
    """Adds the new hashes where ``keep``; the oldest of a full bucket makes room."""

    def one(seen: HashSet, item: tuple[Array, Array]) -> tuple[HashSet, None]:
        value, wanted = item
        wanted &= ~contains(seen, value[None])[0]
        at = (value[1] % seen.slots.shape[0]).astype(jnp.int32)
        bucket = seen.slots[at]
        pushed = jnp.concatenate([value[None], bucket[:-1]])  # newest first, so the last is the oldest
        slots = seen.slots.at[at].set(jnp.where(wanted, pushed, bucket))
        lost = wanted & jnp.any(bucket[-1] != 0)
        return (
            HashSet(slots=slots, inserted=seen.inserted + wanted, evicted=seen.evicted + lost),
            None,
        )

    return jax.lax.scan(one, seen, (hashes, keep))[0]


def first_occurrences(hashes: UInt32[Array, "N 2"], keep: Bool[Array, " N"]) -> Bool[Array, " N"]:
    """True for kept rows whose hash no earlier kept row has."""
    equal = jnp.all(hashes[:, None] == hashes[None], axis=-1) & keep[None] & keep[:, None]
    return keep & ~jnp.any(jnp.tril(equal, -1), axis=1)


def filled_share(seen: HashSet) -> Float[Array, ""]:
    """Share of the set's entries that are filled."""
    return jnp.mean(jnp.any(seen.slots != 0, axis=-1).astype(jnp.float32))


def mean_age(ring: Ring, step: Int[Array, ""]) -> Float[Array, ""]:
    """Mean number of steps that the filled slots have been in the ring."""
    filled = jnp.arange(ring.kind.shape[0]) < ring.count
    return jnp.sum((step - ring.born) * filled) / jnp.maximum(ring.count, 1)
