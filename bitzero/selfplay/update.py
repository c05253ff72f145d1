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
_TINY = 1e-12  # beside a norm that may be 0
_EVERY = 4  # rows of a matrix to one that is asked whether its codes changed; divides BLOCK_ROWS


def optimiser(cfg: Config) -> optax.GradientTransformation:
    """Clip by global norm, then Muon (arXiv 2502.16982) on the matrices and Adam on all else: embeddings, convolution,
    gains.

    With Muon on 16 rows a step a loss came at 1/1.7 of the tokens that Adam on 40 rows needed. Steps are scaled to an
    RMS of 0.2 an element (``consistent_rms``), so one learning rate serves both; the schedule applies it outside.
    Last, where ``row_beta`` asks for it, the rows of a step are evened.
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
    steps = optax.chain(optax.clip_by_global_norm(opt.clip), muon)
    if _is_native(cfg):
        steps = _with_native_orthogonal(steps, cfg)
    return optax.chain(steps, _even_rows(cfg)) if opt.row_beta < 1 else steps


def _muon_dimensions(params: Any) -> Any:
    """The stacked ternary-able kernels [L, N, K] as batches of matrices; None elsewhere."""
    stacked = optax.contrib.MuonDimensionNumbers(reduction_axis=2, output_axis=1)
    is_kernel = lambda path: path[-1] == jax.tree_util.DictKey("kernel")
    return jax.tree_util.tree_map_with_path(lambda path, _: stacked if is_kernel(path) else None, params)


def _is_native(cfg: Config) -> bool:
    """Whether Newton–Schulz runs in C++, after optax; decay would have to come after it."""
    return cfg.model.native and cfg.optimiser.weight_decay == 0


def _with_native_orthogonal(steps: optax.GradientTransformation, cfg: Config) -> optax.GradientTransformation:
    """``steps`` and what they leave out: Newton–Schulz, in C++.

    It gives the kernels' updates as matrices of Frobenius norm 1, times what scales the result: the norm they have.
    """
    names = tuple(kernel_parts(cfg.model))

    def apply(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = steps.update(grads, state, params)
        given = [updates["layers"][name]["kernel"] for name in names]
        found = functions.newton_schulz(given, _NS_STEPS, _NS_COEFFICIENTS, cfg.model.bf16_products)
        layers = {name: {"kernel": y * _norm(x)} for name, x, y in zip(names, given, found, strict=True)}
        return {**updates, "layers": {**updates["layers"], **layers}}, state

    return optax.GradientTransformation(steps.init, apply)


def _even_rows(cfg: Config) -> optax.GradientTransformation:
    """Each row of a kernel's step over the root of its mean square in the steps so far, the whole as long as before.

    NorMuon (arXiv 2510.05491): the rows of an orthogonalised matrix that has more rows than columns differ in length,
    and the longest would turn their codes most often.
    """
    names, beta = tuple(kernel_parts(cfg.model)), cfg.optimiser.row_beta

    def start(params: Any) -> Any:
        return {name: jnp.zeros(params["layers"][name]["kernel"].shape[:2]) for name in names}

    def apply(updates: Any, squares: Any, params: Any = None) -> tuple[Any, Any]:
        layers, new = {}, {}
        for name in names:
            given = updates["layers"][name]["kernel"]
            new[name] = beta * squares[name] + (1 - beta) * jnp.mean(jnp.square(given), axis=2)
            even = given / (jnp.sqrt(new[name]) + _TINY)[..., None]
            layers[name] = {"kernel": even * (_norm(given) / (_norm(even) + _TINY))}
        return {**updates, "layers": {**updates["layers"], **layers}}, new

    return optax.GradientTransformation(start, apply)


def _norm(kernels: Float[Array, "L N K"]) -> Float[Array, "L 1 1"]:
    """Frobenius norm of each matrix."""
    return jnp.sqrt(jnp.sum(jnp.square(kernels), axis=(1, 2), keepdims=True))


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
    """Share of ternary codes that the step changed: its discrete size, counted on one row in ``_EVERY``.

    All rows would take a twentieth of a training step. α is that of the counted rows.
    """
    flips, total = jnp.float32(0), 0
    for name, parts in kernel_parts(cfg.model).items():
        looked_at = tuple(rows // _EVERY for rows in parts)
        sampled = (tree["layers"][name]["kernel"][:, ::_EVERY] for tree in (old, new))
        before, after = (quant.ternary_codes(rows, looked_at)[0] for rows in sampled)
        flips += jnp.sum(before != after)
        total += before.size
    return flips / total
