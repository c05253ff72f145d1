"""Warm-up: supervised steps on programs of the random grammar, labelled by running them, in one loop."""

import dataclasses
import functools
from typing import Any, assert_never

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bitzero.config import Config, update_parts
from bitzero.model import precision, quant, transformer
from bitzero.selfplay import buffer, mix, objective, schedule, skeletons
from bitzero.selfplay.dispatch import Span, run_span
from bitzero.selfplay.gradients import gradients_in_parts, mean_divisor
from bitzero.selfplay.update import optimiser, update
from bitzero.state import Supervised, TrainState
from bitzero.tasks.kinds import PROPOSE, TASK_KINDS
from bitzero.tasks.levels import NUM_LEVELS


def init_state(cfg: Config, num_kinds: int = len(TASK_KINDS)) -> TrainState:
    """Random weights and empty buffers for ``cfg.seed``."""
    init_key, key = jax.random.split(jax.random.key(cfg.seed))
    params, tiers = transformer.init(init_key, cfg.model)
    zero = jnp.int32(0)
    state = TrainState(
        step=zero,
        params=params,
        precision=tiers,
        allocation=precision.init(cfg),
        opt_state=optimiser(cfg).init(params),
        ring=buffer.empty_ring(cfg),
        skeletons=skeletons.empty_record(),
        history=buffer.empty_hash_set(cfg.selfplay.history),
        baselines=objective.empty_baselines(num_kinds),
        reference=None,
        key=key,
        frontier=zero,
        mastery=jnp.float32(0),
        open_levels=jnp.int32(cfg.tasks.open_levels),
        mix=mix.empty_mix(cfg),
        trace_mode=jnp.int32(1),
        retries=zero,
        bad_steps=zero,
        skipped=zero,
    )
    return jax.tree.map(jnp.copy, state)  # one buffer a leaf: donation refuses shared ones


@functools.partial(jax.jit, static_argnames=("cfg", "phase"), donate_argnames="state")
def run_chunk(
    state: TrainState, batch: Supervised, cfg: Config, phase: schedule.WarmupPhase, span: Span | None = None
) -> tuple[TrainState, dict[str, Float[Array, " k"]]]:
    """k supervised steps, or those of ``span``; see ``dispatch.run_span``.

    ``phase`` is "full" (λ = 0), "ramp" (λ from the schedule) or "integer" (λ = 1).
    """

    def step(state: TrainState, items: Supervised) -> tuple[TrainState, Array, dict[str, Array]]:
        lam, parts = schedule.lam(state.step, cfg), update_parts(cfg)
        targets = mean_divisor(items.mask[:, 1:], parts)

        def loss_of(params: Any, taps: Any, rows: Supervised) -> Any:
            weights, ramp = _quantised_as(phase, params, lam, cfg)
            return objective.supervised_loss(
                weights, state.precision, rows.tokens, rows.mask, cfg, ramp, taps=taps, count=targets
            )

        taps = objective.empty_taps(state, cfg)
        loss, found, (grads, tapped) = gradients_in_parts(loss_of, state.params, taps, items, parts)
        hits, target = (part.reshape(items.mask.shape) for part in found)
        state, metrics = update(state, grads, tapped, loss, cfg)
        if phase == "integer":
            tiers = precision.advance_ramps(state.precision, cfg.precision.ramp_steps)
            state = dataclasses.replace(state, precision=tiers)
        state = dataclasses.replace(state, skeletons=skeletons.remember(state.skeletons, items))
        if state.mix is not None:
            state = dataclasses.replace(state, mix=mix.observe(state.mix, hits, target, items))
        metrics["quant/lambda"] = lam
        return state, jnp.bool_(False), {**metrics, **_token_accuracy(hits, target, items)}

    return run_span(step, state, batch, span)


def _quantised_as(phase: schedule.WarmupPhase, params: Any, lam: Array, cfg: Config) -> tuple[Any, Array | None]:
    """The weights of a phase, and the λ that blends them where one does."""
    match phase:
        case "full":
            return quant.unquantised(params, cfg.model), None
        case "ramp":
            return params, lam
        case "integer":
            return params, None
        case _:
            assert_never(phase)


def _token_accuracy(hits: Array, target: Array, items: Supervised) -> dict[str, Any]:
    """Teacher-forced share of target tokens predicted, by form and by level; −1 where the batch holds none."""
    example = jnp.maximum(objective.segments_of(items.tokens.astype(jnp.int32)) - 1, 0)
    kind, level = (jnp.take_along_axis(labels, example, axis=1) for labels in (items.kind, items.level))

    def share(of: Array) -> Array:
        count = jnp.sum(target & of)
        return jnp.where(count > 0, jnp.sum(hits & of) / jnp.maximum(count, 1), -1.0)

    forms = {kind.name: kind.number for kind in TASK_KINDS} | {"propose": PROPOSE}
    metrics = {f"loss/token_accuracy_{form}": share(kind == i) for form, i in forms.items()}
    told = objective.has_one_answer(kind)
    metrics |= {f"loss/token_accuracy_L{i}": share((level == i) & told) for i in range(NUM_LEVELS)}
    metrics["perf/target_share"] = jnp.mean(target.astype(jnp.float32))
    metrics["perf/filled"] = jnp.mean((items.tokens != 0).astype(jnp.float32))
    return metrics
