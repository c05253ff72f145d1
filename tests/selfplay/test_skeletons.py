"""Which skeletons a run has trained on."""

import jax.numpy as jnp
import numpy as np

from bitzero.selfplay import skeletons
from bitzero.state import Supervised


def batch(values):
    labels = jnp.zeros((2, 2), jnp.int8)
    return Supervised(
        tokens=jnp.zeros((2, 4), jnp.uint16), mask=jnp.zeros((2, 4), bool), kind=labels, level=labels,
        skeleton=None if values is None else jnp.array(values, jnp.uint32),
    )  # fmt: skip


def test_skeletons_of_a_batch_are_remembered_and_places_without_an_example_are_not():
    record = skeletons.remember(skeletons.empty_record(), batch([[3, 0], [skeletons.PLACES + 9, 0]]))
    record = skeletons.remember(record, batch([[3, 4], [0, 0]]))
    assert np.flatnonzero(record).tolist() == [3, 4, 9]
    wanted = [3, 9, 10, 2 * skeletons.PLACES + 4]
    assert skeletons.never_trained_on(record, wanted) == [False, False, True, False]


def test_a_batch_that_does_not_tell_changes_nothing():
    record = skeletons.empty_record().at[7].set(True)
    assert skeletons.remember(record, batch(None)) is record
