"""A delta: what may be learned on top of a packed model, by path; its codes never change.

A delta has a number d for every row scale and every gain of the model; such a leaf becomes leaf·(1 + d). So d = 0 is
the model itself, one learning rate suits leaves of any size, and the integers of every product stay those of the file:
the packed tree under a delta runs as any other does.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bitzero.model import quant
from pallas_kernels import Packed

Delta = dict[str, Array]
_GAINS = ("gain", "value_gain", "query_gain", "skip_gain", "smear")  # last names of the gains in a tree


def learnable(tree: dict[str, Any]) -> dict[str, Array]:
    """The row scales and gains of a packed or dense tree by path, as in ``layers/qkv/kernel/scale``."""
    found: dict[str, Array] = {}
    _visit(tree, lambda path, leaf: found.setdefault(path, leaf))
    return found


def zero(tree: dict[str, Any]) -> Delta:
    """The delta that changes nothing."""
    return {path: jnp.zeros(leaf.shape, jnp.float32) for path, leaf in learnable(tree).items()}


def applied(tree: dict[str, Any], delta: Delta) -> dict[str, Any]:
    """The tree under a delta; differentiable in it. Raises ``KeyError`` where the delta is of another tree."""
    return _visit(tree, lambda path, leaf: leaf * (1 + delta[path]))


def scaled(delta: Delta, share: float) -> Delta:
    """A share of the delta: on the way from the model itself, at 0, to it, at 1."""
    return {path: share * leaf for path, leaf in delta.items()}


def check(delta: dict[str, np.ndarray], tree: dict[str, Any]) -> None:
    """Raises ``ValueError`` unless the delta has the paths and shapes of that tree, in finite float32."""
    wanted = learnable(tree)
    if delta.keys() != wanted.keys():
        raise ValueError(f"{sorted(delta.keys() ^ wanted.keys())[0]} is absent or of another model")
    for path, array in delta.items():
        if array.shape != wanted[path].shape:
            raise ValueError(f"{path} is {list(array.shape)} there, {list(wanted[path].shape)} in the model")
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError(f"{path} has numbers that are not finite, or not float32")


def _visit(tree: dict[str, Any], act: Any, prefix: str = "") -> dict[str, Any]:
    """The tree with ``act(path, leaf)`` in the place of every row scale and gain."""
    new: dict[str, Any] = {}
    for name, leaf in tree.items():
        path = f"{prefix}{name}"
        if isinstance(leaf, Packed | quant.Dense):
            new[name] = dataclasses.replace(leaf, scale=act(f"{path}/scale", leaf.scale))
        elif isinstance(leaf, dict):
            new[name] = _visit(leaf, act, f"{path}/")
        else:
            new[name] = act(path, leaf) if name in _GAINS else leaf
    return new


def size(delta: Delta) -> int:
    """How many numbers it has."""
    return sum(leaf.size for leaf in jax.tree.leaves(delta))
