"""One optimiser step: Muon and Adam on the latents, non-finite steps skipped and counted, flips measured."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Float

from bitzero.config import Config, kernel_parts
from bitzero.model import precision, quant
from bitzero.native import functions
from bitzero.selfplay import schedule
from bitzero.state import TrainState

_NS_STEPS = 5  # of Newton–Schulz, by optax or in C++, with the coefficients of Jordan's Muon
_NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_EVERY = 4  # rows of a matrix to one that is asked whether its codes changed; divides BLOCK_ROWS


def optimiser(cfg: Config) -> optax.GradientTransformation:
    """Clip by global norm, then Muon (arXiv 2502.16982) on the matrices and Adam on embedding and norm gains.

    With Muon on 16 rows a step a loss came at 1/1.7 of the tokens that Adam on 40 rows needed. Steps are scaled to an
    RMS of 0.2 an element (``consistent_rms``), so one learning rate serves both; the schedule applies it outside.
    """
    opt = cfg.optimiser
    muon = optax.contrib.muon(
        1.0,
        beta=opt.momentum,
        weight_decay=opt.weight_decay,
        adam_b1=opt.beta1,
        adam_b2=opt.beta2,
        adam_learning_rate=opt.lr_gains,
        ns_coeffs=_NS_COEFFICIENTS,
        ns_steps=0 if _is_native(cfg) else _NS_STEPS,
        muon_weight_dimension_numbers=_muon_dimensions,
        consistent_rms=0.2,
    )
    return optax.chain(optax.clip_by_global_norm(opt.clip), muon)


def _muon_dimensions(params: Any) -> Any:
    """The stacked ternary-able kernels [L, N, K] as batches of matrices; None elsewhere."""
    stacked = optax.contrib.MuonDimensionNumbers(reduction_axis=2, output_axis=1)
    is_kernel = lambda path: path[-1] == jax.tree_util.DictKey("kernel")
    return jax.tree_util.tree_map_with_path(lambda path, _: stacked if is_kernel(path) else None, params)


def _is_native(cfg: Config) -> bool:
    """Whether Newton–Schulz runs in C++, after optax; decay would have to come after it."""
    return cfg.model.layers == "native" and cfg.optimiser.weight_decay == 0


def _orthogonal(updates: dict[str, Any], cfg: Config) -> dict[str, Any]:
    """The updates of ``optimiser`` with what it leaves out where Newton–Schulz is native.

    It gives the kernels' updates as matrices of Frobenius norm 1, times what scales the result: the norm they have.
    """
    layers, names = dict(updates["layers"]), tuple(kernel_parts(cfg.model))
    given = [layers[name]["kernel"] for name in names]
    for name, x, y in zip(names, given, functions.newton_schulz(given, _NS_STEPS, _NS_COEFFICIENTS), strict=True):
        layers[name] = {"kernel": y * jnp.sqrt(jnp.sum(jnp.square(x), axis=(1, 2), keepdims=True))}
    return {**updates, "layers": layers}


def update(
    state: TrainState, grads: Any, taps: Any, loss: Float[Array, ""], cfg: Config
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """The state after one step and its metrics; ``taps`` is the gradient of ``objective.empty_taps``.

    A non-finite loss or gradient leaves parameters and moments untouched; the step still advances, so that schedules
    and data stay a function of it.
    """
    norm = optax.tree.norm(grads)
    good = jnp.isfinite(loss) & jnp.isfinite(norm)
    lr = schedule.lr(state.step, cfg) * 0.5 ** state.retries.astype(jnp.float32)
    updates, moments = optimiser(cfg).update(grads, state.opt_state, state.params)
    if _is_native(cfg):
        updates = _orthogonal(updates, cfg)
    params = jax.tree.map(lambda p, u: p + lr * u, state.params, updates)
    keep = lambda new, old: jax.tree.map(lambda n, o: jnp.where(good, n, o), new, old)
    params, moments = keep(params, state.params), keep(moments, state.opt_state)
    bad = 1 - good.astype(jnp.int32)
    metrics = {
        "loss/total": loss,
        "loss/grad_norm": norm,
        "loss/lr": lr,
        "loss/nonfinite": bad.astype(jnp.float32),
        "quant/flip_rate": flip_rate(state.params, params, cfg),
    }
    new = dataclasses.replace(
        state,
        step=state.step + 1,
        params=params,
        opt_state=moments,
        allocation=precision.update_signals(state.allocation, state.params, grads, taps, cfg),
        bad_steps=jnp.where(good, 0, state.bad_steps + 1),
        skipped=state.skipped + bad,
    )
    return new, metrics


def flip_rate(old: dict[str, Any], new: dict[str, Any], cfg: Config) -> Float[Array, ""]:
    """Share of ternary codes that the step changed, the discrete size of a policy step; of one row in ``_EVERY``.

    All rows would take a twentieth of a training step. α is that of the rows that are looked at.
    """
    flips, total = jnp.float32(0), 0
    for name, parts in kernel_parts(cfg.model).items():
        looked_at = tuple(rows // _EVERY for rows in parts)
        sampled = (tree["layers"][name]["kernel"][:, ::_EVERY] for tree in (old, new))
        before, after = (quant.ternary_codes(rows, looked_at)[0] for rows in sampled)
        flips += jnp.sum(before != after)
        total += before.size
    return flips / total
