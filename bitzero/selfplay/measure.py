"""Collapse alarms and counters of one self-play step, computed in the scan."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from bitzero.selfplay import buffer
from bitzero.state import Credit, Judged, Proposals, Rollout, Slots, TrainState
from bitzero.tasks.gates import GATES
from bitzero.tasks.kinds import Kinds, names_of
from bitzero.tasks.levels import NUM_LEVELS
from bitzero.tasks.tokens import EOS


def share_where(hit: Bool[Array, "*B"], of: Bool[Array, "*B"]) -> Float[Array, ""]:
    """Share of ``of`` that is ``hit``; 0 where ``of`` is empty."""
    return jnp.sum(hit & of) / jnp.maximum(jnp.sum(of), 1)


def mean_where(values: Float[Array, "*B"], of: Bool[Array, "*B"]) -> Float[Array, ""]:
    """Mean of ``values`` where ``of``; 0 where ``of`` is empty."""
    return jnp.sum(values * of) / jnp.maximum(jnp.sum(of), 1)


def step_metrics(
    state: TrainState,
    proposals: Proposals,
    slots: Slots,
    answers: Rollout,
    judged: Judged,
    credit: Credit,
    kinds: Kinds,
) -> dict[str, Float[Array, ""]]:
    """All metrics of the step but those of the update, from the results of its stages, which are its arguments."""
    return {
        **_task_metrics(slots, judged, credit, kinds),
        **_length_metrics(proposals.rollout, answers, judged),
        **{f"gates/{name}": jnp.sum(slots.gate == i).astype(jnp.float32) for i, name in enumerate(GATES)},
        "selfplay/ring_age": buffer.mean_age(state.ring, state.step),
        "selfplay/ring_filled": state.ring.count.astype(jnp.float32),
        "selfplay/history_load": buffer.filled_share(state.history),
        "selfplay/history_evicted": state.history.evicted.astype(jnp.float32),
        "executor/infra": jnp.sum(~judged.counted).astype(jnp.float32),
    }


def _task_metrics(slots: Slots, judged: Judged, credit: Credit, kinds: Kinds) -> dict[str, Array]:
    own, rate = slots.own, credit.rate
    wrote = own & jnp.asarray([kind.writes_program for kind in kinds])[slots.kind]  # the others propose about one
    everyone = jnp.ones_like(own)
    spread = jnp.max(judged.reward, axis=1) > jnp.min(judged.reward, axis=1)
    metrics = {
        "selfplay/valid_rate": jnp.mean(own.astype(jnp.float32)),
        "selfplay/rate_zero": share_where(rate == 0, everyone),
        "selfplay/rate_one": share_where(rate == 1, everyone),
        "selfplay/own_rate_zero": share_where(rate == 0, own),
        "selfplay/own_rate_one": share_where(rate == 1, own),
        "selfplay/learnable": share_where((rate > 0) & (rate < 1) & ~judged.trivial, own),
        "selfplay/trivial": share_where(judged.trivial, everyone),
        "selfplay/zero_sigma_groups": jnp.mean(1.0 - spread),
        "selfplay/unique_batch": share_where(slots.first, wrote),
        "selfplay/unique_history": share_where(slots.novel, wrote),
        "selfplay/level_as_asked": share_where(slots.level == slots.asked_level, wrote),
        "selfplay/confidence": mean_where(slots.confidence, own),
        "selfplay/reward_propose": jnp.mean(credit.propose_reward),
        "selfplay/reward_solve": mean_where(judged.reward, judged.counted),
    }
    right = jnp.sum(judged.reward * judged.counted, axis=1)
    for count in range(judged.reward.shape[1] + 1):
        metrics[f"selfplay/right_{count}"] = jnp.mean((right == count).astype(jnp.float32))
    for i, kind in enumerate(names_of(kinds)):
        metrics[f"selfplay/solve_{kind}"] = mean_where(rate, slots.kind == i)
        metrics[f"selfplay/valid_{kind}"] = share_where(own, slots.kind == i)
    for level in range(NUM_LEVELS):
        metrics[f"selfplay/accepted_L{level}"] = jnp.sum(own & (slots.level == level)).astype(jnp.float32)
    return metrics


def _length_metrics(written: Rollout, answers: Rollout, judged: Judged) -> dict[str, Array]:
    length = lambda r: jnp.sum(r.mask, axis=1).astype(jnp.float32)
    capped = lambda r: jnp.mean(jnp.all(r.tokens != EOS, axis=1).astype(jnp.float32))
    right = judged.reward.reshape(-1) > 0
    return {
        "selfplay/length_propose": jnp.mean(length(written)),
        "selfplay/length_solve": jnp.mean(length(answers)),
        "selfplay/length_right": mean_where(length(answers), right),
        "selfplay/length_wrong": mean_where(length(answers), ~right),
        "selfplay/capped_propose": capped(written),
        "selfplay/capped_solve": capped(answers),
    }
