"""Latents to packed matrices: the tree that inference runs on, two bits a ternary weight."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bitzero.config import BLOCK_ROWS, INDEX_BITS, Model, Operand, kernel_parts
from bitzero.model import quant, transformer
from pallas_kernels import Packed, Residual, layout
from pallas_kernels import pack as pack_matrix


def pack(params: dict[str, Any], precision: dict[str, Any], model: Model) -> dict[str, Any]:
    """The parameter tree with every ternary-able kernel [L, N, K] as ``Packed``.

    It holds T of every weight, R of promoted blocks and the scale α/m of each row: the integers of the λ = 1 forward.
    Runs on the host, once.
    """
    layers = dict(params["layers"])
    for name, parts in kernel_parts(model).items():
        tiers = precision["layers"][name]
        layers[name] = {"kernel": _pack_layers(layers[name]["kernel"], tiers, parts)}
    return {**params, "layers": layers}


def _pack_layers(w: Array, tiers: dict[str, Array], parts: tuple[int, ...]) -> Packed:
    """One kernel of all layers; the layers' promoted blocks of a tier are padded to the same number."""
    codes, scale = quant.integer_codes(w, tiers["tier"], tiers["ramp"], parts)
    ternary, _ = quant.ternary_codes(w, parts)
    columns = [np.asarray(column) for column in (codes, ternary, scale, tiers["tier"])]
    packed = [_pack_layer(*layer) for layer in zip(*columns, strict=True)]
    capacities = {
        m: max(layer.residual[m].block.size for layer in packed if m in layer.residual) for m in _tier_factors(packed)
    }
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(_with_capacities(layer, capacities) for layer in packed))


def _pack_layer(codes: np.ndarray, ternary: np.ndarray, scale: np.ndarray, tier: np.ndarray) -> Packed:
    """One kernel of one layer; its residual is what the integers are beyond m·T on the promoted blocks."""
    block = np.flatnonzero(tier)
    m = np.array([quant.GRID[int(bits)][0] for bits in tier[block]])
    if not block.size:
        return pack_matrix(ternary.astype(np.int8), scale)
    blocks = lambda a: a.reshape(len(tier), BLOCK_ROWS, -1)[block]
    values = blocks(codes) - m[:, None, None] * blocks(ternary)
    return pack_matrix(
        ternary.astype(np.int8), scale, residual=Residual(values=values.astype(np.int8), block=block, m=m)
    )


def _tier_factors(packed: list[Packed]) -> list[int]:
    """The factors m of the tiers that occur in some layer."""
    return sorted({m for layer in packed for m in layer.residual})


def _with_capacities(packed: Packed, capacities: dict[int, int]) -> Packed:
    """The matrix with room for ``capacities[m]`` blocks of each tier; unused ones point beyond the last block."""
    return dataclasses.replace(
        packed, residual={m: layout.planes_with_capacity(packed, m, capacity) for m, capacity in capacities.items()}
    )


def to_dense(tree: dict[str, Any], operand: Operand) -> dict[str, Any]:
    """A packed tree with every matrix as ``Dense``: faster for many rows at once, for 8 to 16 times the bytes."""

    def dense(leaf: Any) -> Any:
        if not _is_packed(leaf):
            return leaf
        return quant.Dense(codes=jax.vmap(layout.integers_of)(leaf).astype(quant.float_type(operand)), scale=leaf.scale)

    return jax.tree.map(dense, tree, is_leaf=_is_packed)


def without_tiers(tree: dict[str, Any]) -> dict[str, Any]:
    """A packed tree with every residual dropped: the ternary codes alone under α, a plain BitNet model.

    In NumPy: the compiler would take seconds of a chat's start.
    """

    def plain(leaf: Any) -> Any:
        if not _is_packed(leaf):
            return leaf
        scale = np.asarray(leaf.scale) * _row_factors(leaf)  # α/m · m, exact for powers of two
        return dataclasses.replace(leaf, scale=jnp.asarray(scale), residual={})

    return jax.tree.map(plain, tree, is_leaf=_is_packed)


def _row_factors(packed: Packed) -> Float[np.ndarray, "L N"]:
    """m of each row of stacked matrices, as ``layout.row_factors`` has it of one."""
    layers, rows = packed.codes.shape[0], packed.shape[0]
    factors = np.ones((layers, -(-rows // BLOCK_ROWS)), np.float32)
    for m, planes in packed.residual.items():
        for of_layer, promoted in zip(factors, np.asarray(planes.block), strict=True):
            of_layer[promoted[promoted < len(of_layer)]] = m
    return factors.repeat(BLOCK_ROWS, axis=1)[:, :rows]


def stored_bits(tree: dict[str, Any]) -> float:
    """Mean stored bits a ternary-able weight of a packed tree: codes, residuals and the index of each promoted block.

    As ``precision.mean_stored_bits`` counts them; padding and the scales of rows are left out there too.
    """
    bits = weights = 0.0
    for leaf in jax.tree.leaves(tree, is_leaf=_is_packed):
        if _is_packed(leaf):
            n, k = leaf.shape
            weights += n * k * leaf.codes.shape[0]
            bits += 2 * n * k * leaf.codes.shape[0]
            for m, planes in leaf.residual.items():
                blocks = int((np.asarray(planes.block) < -(-n // BLOCK_ROWS)).sum())
                bits += blocks * (BLOCK_ROWS * k * 2 * layout.PLANES[m] + INDEX_BITS)
    return bits / weights if weights else 0.0


def weight_bytes(params: dict[str, Any]) -> tuple[int, int]:
    """Bytes of a packed tree's packed matrices, and of everything else in it (embedding, norm gains)."""
    leaves = jax.tree.leaves(params, is_leaf=_is_packed)
    matrices = sum(layout.nbytes(leaf) for leaf in leaves if _is_packed(leaf))
    return matrices, sum(leaf.nbytes for leaf in leaves if not _is_packed(leaf))


def _is_packed(leaf: Any) -> bool:
    """Told to ``jax.tree``, which would go on into the parts of a packed matrix."""
    return isinstance(leaf, Packed)


def check_tree(tree: dict[str, Any], model: Model) -> None:
    """Raises ``ValueError`` unless the tree has the matrices and arrays of that model, all of them finite.

    In NumPy, a layer at a time: compiling and copies would be most of an answering process's memory.
    """
    params, _ = jax.eval_shape(lambda: transformer.init(jax.random.key(0), model))
    found, wanted = _leaves_by_path(tree), _leaves_by_path(params)
    for name in sorted({*found, *wanted}):
        if name not in found or name not in wanted:
            raise ValueError(f"{name} is {'absent' if name in wanted else 'of another model'}")
        leaf = found[name]
        shape, numbers = leaf.shape, leaf
        if _is_packed(leaf):
            layout.check_packed(leaf)
            shape, numbers = (*leaf.codes.shape[:-2], *leaf.shape), leaf.scale
        if shape != wanted[name].shape or _is_packed(leaf) != name.endswith("kernel"):
            raise ValueError(f"{name} is {list(shape)} there, {list(wanted[name].shape)} in its model")
        numbers = np.asarray(numbers)
        if numbers.dtype != np.float32 or not np.isfinite(numbers).all():
            raise ValueError(f"{name} has numbers that are not finite, or not float32")


def _leaves_by_path(tree: dict[str, Any]) -> dict[str, Any]:
    """Arrays and packed matrices by path, as in ``layers/qkv/kernel``."""
    found = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_packed)
    return {"/".join(str(key.key) for key in path): leaf for path, leaf in found}


def flatten(tree: dict[str, Any], prefix: str = "") -> tuple[dict[str, np.ndarray], dict[str, tuple[int, int]]]:
    """A packed tree as arrays by path, and the true shape of every packed matrix by path: what a file holds."""
    arrays: dict[str, np.ndarray] = {}
    shapes: dict[str, tuple[int, int]] = {}
    for name, leaf in tree.items():
        here = f"{prefix}{name}"
        if isinstance(leaf, Packed):
            shapes[here] = leaf.shape
            arrays |= {f"{here}/codes": np.asarray(leaf.codes), f"{here}/scale": np.asarray(leaf.scale)}
            for m, planes in leaf.residual.items():
                arrays |= {
                    f"{here}/{m}/digits": np.asarray(planes.digits),
                    f"{here}/{m}/block": np.asarray(planes.block),
                }
        elif isinstance(leaf, dict):
            more, inner = flatten(leaf, f"{here}/")
            arrays, shapes = arrays | more, shapes | inner
        else:
            arrays[here] = np.asarray(leaf)
    return arrays, shapes


def unflatten(arrays: dict[str, np.ndarray], shapes: dict[str, list[int]]) -> dict[str, Any]:
    """The packed tree that ``flatten`` took apart; raises ``KeyError`` where a part of a matrix is missing."""
    tree: dict[str, Any] = {}
    matrices = {name: _packed_matrix(name, arrays, shape) for name, shape in shapes.items()}
    plain = {name: jnp.asarray(a) for name, a in arrays.items() if not name.startswith(tuple(f"{m}/" for m in shapes))}
    for name, leaf in (plain | matrices).items():
        *groups, last = name.split("/")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = leaf
    return tree


def _packed_matrix(name: str, arrays: dict[str, np.ndarray], shape: list[int]) -> Packed:
    """The packed matrix of that path from the arrays of its parts."""
    residual = {
        m: layout.Planes(
            digits=jnp.asarray(arrays[f"{name}/{m}/digits"]), block=jnp.asarray(arrays[f"{name}/{m}/block"])
        )
        for m in layout.FACTORS
        if f"{name}/{m}/digits" in arrays
    }
    return Packed(
        codes=jnp.asarray(arrays[f"{name}/codes"]),
        scale=jnp.asarray(arrays[f"{name}/scale"]),
        residual=residual,
        shape=(shape[0], shape[1]),
    )
