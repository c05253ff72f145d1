"""Which skeletons (programs without their constants) were trained on: a flag at each hash modulo ``PLACES``.

It tells which held-out programs have a structure that the model has never met. Two skeletons may share a place, so some
new ones pass for known; which ones is chance, so a figure over the others is not shifted by it.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from bitzero.state import Supervised

PLACES = 1 << 20  # a byte each in the state


def empty_record() -> Bool[Array, " places"]:
    """Nothing trained on yet."""
    return jnp.zeros(PLACES, bool)


def remember(record: Bool[Array, " places"], items: Supervised) -> Bool[Array, " places"]:
    """The record after a batch was trained on; as it was where the batch does not tell its skeletons."""
    if items.skeleton is None:
        return record
    places = jnp.where(items.skeleton > 0, items.skeleton % record.size, record.size)
    return record.at[places.reshape(-1)].set(True, mode="drop")


def never_trained_on(record: Bool[Array, " places"], wanted: Sequence[int]) -> list[bool]:
    """Whether each skeleton is surely new to the model."""
    known = np.asarray(record)
    return [not known[skeleton % known.size] for skeleton in wanted]
