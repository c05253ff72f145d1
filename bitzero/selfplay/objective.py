"""Losses, rewards and advantages: pure functions with golden tests."""

import functools
from typing import Any, Literal, assert_never, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Num

from bitzero.config import Config
from bitzero.config.defaults import Reward
from bitzero.model import transformer
from bitzero.native.functions import Head
from bitzero.selfplay import gradients
from bitzero.state import Baselines, Played, Rollout, Supervised, TrainState
from bitzero.tasks.kinds import TASK_KINDS, Kinds
from bitzero.tasks.tokens import PAD, PROPOSE, SOLVE, TEXT

_NEVER = -1e9  # a logit whose probability is 0 in f32, and 0 × it still 0
Batch = tuple[Played, Played, Supervised]  # of a self-play update: proposer, solver, generator
Role = Literal["propose", "solve", "generator"]
ROLES: tuple[Role, ...] = get_args(Role)  # in the order of a batch


@jax.custom_vjp
def token_logprobs(logits: Float[Array, "B T V"], tokens: Int[Array, "B T"]) -> Float[Array, "B T"]:
    """log p of token t + 1 given the ones before, at index t; the last index is 0.

    The backward pass is one pass over the logits; JAX's own would slice, scatter and pad arrays of their size.
    """
    return _logprobs_forward(logits, tokens)[0]


def _logprobs_forward(logits, tokens):
    """The result, and what the backward pass needs."""
    following = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)))
    most = jnp.max(logits, axis=-1, keepdims=True)
    total = most + jnp.log(jnp.sum(jnp.exp(logits - most), axis=-1, keepdims=True))
    logp = (jnp.take_along_axis(logits, following[..., None], axis=-1) - total)[..., 0]
    return logp.at[:, -1].set(0.0), (logits, total, following)


def _logprobs_backward(residuals, g):
    """The cotangent of the logits: g·(1[following] − p), nothing at the last index."""
    logits, total, following = residuals
    g = g.at[:, -1].set(0.0)[..., None]
    chosen = jnp.arange(logits.shape[-1])[None, None] == following[..., None]
    nothing = np.zeros(following.shape, jax.dtypes.float0)
    return jnp.where(chosen, g, 0.0) - g * jnp.exp(logits - total), nothing


token_logprobs.defvjp(_logprobs_forward, _logprobs_backward)


def without_pad(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
    """Logits that give PAD no chance: it fills rows up and is no token of a completion."""
    return logits.at[..., PAD].set(_NEVER)


def segments_of(tokens: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """Number of the packed example each token belongs to: every role tag begins one; 0 on padding."""
    begins = (tokens == SOLVE) | (tokens == PROPOSE)
    return jnp.where(tokens == PAD, 0, jnp.cumsum(begins, axis=1))


def sources_of(tokens: Int[Array, "B T"], answers: Bool[Array, "B T"]) -> Bool[Array, "B T"]:
    """Positions that an answer may read: the program and the values, not the form's tags or targets.

    ``answers`` is True on positions whose next token is a target. A head that only rests on a tag (attention sinks,
    arXiv 2309.17453) would otherwise pass for one that reads.
    """
    target = jnp.pad(answers[:, :-1], ((0, 0), (1, 0)))
    return (tokens >= TEXT) & ~target


def supervised_loss(
    params: dict[str, Any],
    precision: dict[str, Any],
    tokens: Num[Array, "B T"],
    mask: Bool[Array, "B T"],
    cfg: Config,
    lam: Float[Array, ""] | None,
    *,
    taps: dict[str, Any] | None = None,
    count: Float[Array, ""] | None = None,
) -> tuple[Float[Array, ""], tuple[Bool[Array, "B T"], Bool[Array, "B T"]]]:
    """Mean cross-entropy in nats a target token; also hits: whether the greedy token is the target, and the mask.

    ``count`` is what to divide by in the place of the number of targets, for a part of an update's rows. Parameters and
    tiers are arguments apart because only the first are differentiated, λ because it is traced.
    """
    tokens = tokens.astype(jnp.int32)
    target = jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
    given = (params, precision, tokens, segments_of(tokens), cfg.model, lam)
    watched: dict[str, Any] = {"taps": taps, "answers": target, "sources": sources_of(tokens, target)}
    if cfg.model.native:
        nll, right, _ = transformer.answer_losses(*given, **watched)
        return _masked_mean(nll, target, count), (right > 0, target)
    logits = transformer.apply(*given, **watched)
    following = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)))
    hits = (jnp.argmax(jax.lax.stop_gradient(logits), axis=-1) == following) & target
    return _masked_mean(-token_logprobs(logits, tokens), target, count), (hits, target)


def empty_taps(state: TrainState, cfg: Config) -> dict[str, Any] | None:
    """Zeros whose gradient is what the precision signals are made of; None where the state carries no signals."""
    return None if state.allocation is None else transformer.zero_taps(cfg.model)


def has_one_answer(kind: Int[Array, "*B"], kinds: Kinds = TASK_KINDS) -> Bool[Array, "*B"]:
    """Which numbers are those of kinds with exactly one right answer; False for what is no kind (−1, ``PROPOSE``)."""
    one = jnp.asarray([each.one_answer for each in kinds])
    return (kind >= 0) & one[jnp.maximum(kind, 0)]


def success_rate(correct: Num[Array, "N G"], counted: Bool[Array, "N G"]) -> Float[Array, " N"]:
    """r̄ of each task over its counted rollouts; 0 where none counts."""
    return jnp.sum(correct * counted, axis=1) / jnp.maximum(jnp.sum(counted, axis=1), 1)


def proposer_reward(
    rate: Float[Array, " N"], valid: Bool[Array, " N"], trivial: Bool[Array, " N"], form: Reward
) -> Float[Array, " N"]:
    """Learnability reward of each proposal (Absolute Zero, arXiv 2505.03335, eq. 4).

    paper: 1 − r̄ for 0 < r̄ < 1, else 0. code: the same with −0.5 instead of 0, as AZR's code has it. balanced:
    min(r̄, 1 − r̄) (R-Zero, arXiv 2508.05004). A task that a trivial answer solves earns 0; an invalid proposal −1.
    """
    between = (rate > 0) & (rate < 1)
    match form:
        case "paper":
            value = jnp.where(between, 1 - rate, 0.0)
        case "code":
            value = jnp.where(between, 1 - rate, -0.5)
        case "balanced":
            value = jnp.minimum(rate, 1 - rate)
        case _:
            assert_never(form)
    return jnp.where(valid, jnp.where(trivial, 0.0, value), -1.0)


def empty_baselines(num_kinds: int) -> Baselines:
    """No reward seen yet, of any of the kinds of task."""
    zeros = jnp.zeros((num_kinds, 2))
    return Baselines(mean=zeros, square=zeros, weight=zeros)


def update_baselines(
    base: Baselines,
    rewards: Float[Array, " B"],
    kind: Int[Array, " B"],
    role: int,
    counted: Bool[Array, " B"],
    decay: float,
) -> Baselines:
    """Baselines after the rewards of one role in one step; a kind without a counted reward keeps its own."""
    num_kinds = base.mean.shape[0]
    member = (kind[None] == jnp.arange(num_kinds)[:, None]) & counted[None]
    count = jnp.sum(member, axis=1)
    mean = jnp.sum(member * rewards[None], axis=1) / jnp.maximum(count, 1)
    square = jnp.sum(member * jnp.square(rewards)[None], axis=1) / jnp.maximum(count, 1)
    blend = lambda old, new: old.at[:, role].set(
        jnp.where(count > 0, decay * old[:, role] + (1 - decay) * new, old[:, role])
    )
    return Baselines(
        mean=blend(base.mean, mean), square=blend(base.square, square), weight=blend(base.weight, jnp.ones(num_kinds))
    )


def mean_and_sigma(base: Baselines, kind: Int[Array, " B"], role: int, floor: float) -> tuple[Array, Array]:
    """Bias-corrected EMA mean and σ (at least ``floor``) for each row's kind."""
    weight = jnp.maximum(base.weight[:, role], 1e-6)
    mean, square = base.mean[:, role] / weight, base.square[:, role] / weight
    sigma = jnp.maximum(jnp.sqrt(jnp.maximum(square - mean**2, 0.0)), floor)
    return mean[kind], sigma[kind]


def leave_one_out_advantage(rewards: Float[Array, "N G"], counted: Bool[Array, "N G"]) -> Float[Array, "N G"]:
    """Reward minus the mean of the task's other counted rollouts (RLOO, arXiv 2402.14740); 0 where alone."""
    total = jnp.sum(rewards * counted, axis=1, keepdims=True)
    others = jnp.sum(counted, axis=1, keepdims=True) - counted
    mean = (total - rewards * counted) / jnp.maximum(others, 1)
    return jnp.where(counted & (others > 0), rewards - mean, 0.0)


def policy_loss(
    logp: Float[Array, "B C"],
    logprobs: Float[Array, "B C"],
    mask: Bool[Array, "B C"],
    advantage: Float[Array, " B"],
    max_weight: float,
) -> tuple[Float[Array, ""], Float[Array, "B C"]]:
    """REINFORCE on one role: token sum ÷ the fixed length C, then the mean over sequences.

    One update a rollout, so the old log-probs are the training forward's own; exp(train − sampler), detached and
    capped, corrects for what the sampler computed otherwise (truncated importance sampling). Returns it as well.
    """
    weight = jax.lax.stop_gradient(jnp.minimum(jnp.exp(logp - logprobs), max_weight))
    per_token = -advantage[:, None] * weight * logp * mask
    return jnp.mean(jnp.sum(per_token, axis=1) / logp.shape[1]), weight


def task_relative_advantage(
    rewards: Float[Array, " B"], kind: Int[Array, " B"], counted: Bool[Array, " B"], num_kinds: int, floor: float
) -> Float[Array, " B"]:
    """(R − μ)/σ over the batch's counted rewards of the same kind and role: AZR's task-relative REINFORCE++.

    AZR weights μ and σ by token, which favours short wrong and long right answers; these are per sequence.
    """
    member = (kind[None] == jnp.arange(num_kinds)[:, None]) & counted[None]
    count = jnp.maximum(jnp.sum(member, axis=1), 1)
    mean = jnp.sum(member * rewards[None], axis=1) / count
    variance = jnp.sum(member * jnp.square(rewards[None] - mean[:, None]), axis=1) / count
    return jnp.where(counted, (rewards - mean[kind]) / jnp.maximum(jnp.sqrt(variance), floor)[kind], 0.0)


def selfplay_gradients(
    state: TrainState, batch: Batch, parts: int, cfg: Config
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]], dict[str, Any], dict[str, Any] | None]:
    """Loss of an update of self-play, its figures, and the gradients of the parameters and of ``empty_taps``.

    Roles run one after another, each in equal ``parts``, so only the sum of the gradients and one role's own are held.
    The norm of each role's is a figure. Taps see the solver's rollouts alone.
    """
    counts = token_counts(batch, parts)
    value, total, taps = jnp.float32(0), jax.tree.map(jnp.zeros_like, state.params), None
    figures: dict[str, Float[Array, ""]] = {}
    for role, rows in zip(ROLES, batch, strict=True):
        loss = functools.partial(role_loss, role=role, state=state, counts=counts, cfg=cfg)
        watched = empty_taps(state, cfg) if role == "solve" else None
        own, terms, (grads, tapped) = gradients.gradients_in_parts(loss, state.params, watched, rows, parts)
        value, total = value + own, jax.tree.map(jnp.add, total, grads)
        taps = tapped if role == "solve" else taps
        figures[f"loss/grad_norm_{role}"] = optax.tree.norm(grads)
        for name, column in terms.items():
            over_parts, both = (jnp.max, jnp.maximum) if name == "quant/max_ratio" else (jnp.mean, jnp.add)
            figures[name] = both(figures[name], over_parts(column)) if name in figures else over_parts(column)
    return value, figures, total, taps


def role_loss(
    params: dict[str, Any],
    taps: dict[str, Any] | None,
    rows: Played | Supervised,
    *,
    role: Role,
    state: TrainState,
    counts: dict[str, Float[Array, ""]],
    cfg: Config,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """What a role adds to the loss, and its figures: over roles those of one name are summed, maxima maximised.

    Proposer and solver: policy loss, entropy, if asked for KL and the solver's own answers; generator:
    cross-entropy. ``counts`` are the tokens that the means divide by (``token_counts``). Seven arguments: what is
    differentiated, what is cut into parts, and what is bound once an update.
    """
    sp = cfg.selfplay
    if isinstance(rows, Supervised):
        loss, _ = supervised_loss(
            params, state.precision, rows.tokens, rows.mask, cfg, None, count=counts["supervised"]
        )
        return sp.supervised * loss, {"loss/supervised": loss}
    loss, terms = _policy_terms(params, taps, rows, role, state=state, counts=counts, cfg=cfg)
    total = loss * (sp.proposer if role == "propose" else 1.0)
    total -= sp.entropy * terms[f"selfplay/entropy_{role}"]
    if sp.kl > 0:
        total += sp.kl * terms["loss/kl"]
    if "loss/own_answers" in terms:
        total += sp.own_answers * terms["loss/own_answers"]
    return total, {f"loss/{role}": loss, **terms}


def _policy_terms(
    params: dict[str, Any],
    taps: dict[str, Any] | None,
    played: Played,
    role: Role,
    *,
    state: TrainState,
    counts: dict[str, Float[Array, ""]],
    cfg: Config,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Loss of one role's policy, which is at the temperature it was sampled at, and other terms; see ``role_loss``."""
    prompt, rows = played.prompt, played.rollout
    temperature = cfg.selfplay.answer_temperature if role == "solve" else cfg.selfplay.temperature
    tokens, drew = jnp.concatenate([prompt, rows.tokens], axis=1), prompt.shape[1] - 1
    window = lambda a: a[:, drew:-1]  # of the positions that drew the completion
    answers = jnp.pad(rows.mask, ((0, 0), (drew, 1)))
    policy = lambda logits: jax.nn.log_softmax(without_pad(window(logits)) / temperature)
    given = (state.precision, tokens, jnp.int32(tokens != PAD), cfg.model)
    watched: dict[str, Any] = {"taps": taps, "answers": answers, "sources": sources_of(tokens, answers)}
    if cfg.model.native and cfg.selfplay.kl == 0:
        head = Head(temperature=temperature, without=PAD, entropy=True)
        nll, _, spread = transformer.answer_losses(params, *given, **watched, head=head)
        logp, entropy = -window(nll), window(spread)
    else:
        logits = policy(transformer.apply(params, *given, **watched))
        logp = jnp.take_along_axis(logits, rows.tokens[..., None], axis=-1)[..., 0]
        entropy = -jnp.sum(jnp.exp(logits) * logits, axis=-1)
    loss, weight = policy_loss(logp, rows.logprobs, rows.mask, played.advantage, cfg.selfplay.max_weight)
    terms = {
        f"selfplay/entropy_{role}": _masked_mean(entropy, rows.mask, counts[role]),
        **_sampler_mismatch(logp, rows, weight >= cfg.selfplay.max_weight, counts["played"]),
    }
    if role == "solve" and cfg.selfplay.own_answers > 0:
        terms["loss/own_answers"] = _masked_mean(-logp, rows.mask & played.target[:, None], counts["own"])
    if cfg.selfplay.kl > 0:
        frozen = policy(transformer.apply(state.reference, *given))
        kl = jnp.sum(jnp.exp(logits) * (logits - frozen), axis=-1)
        terms["loss/kl"] = _masked_mean(kl, rows.mask, counts["played"])
    return loss, terms


def token_counts(batch: Batch, microbatches: int) -> dict[str, Float[Array, ""]]:
    """What the means over parts of the batch divide by: tokens of both roles, of each, and of targets, given or own."""
    proposed, solved, items = batch
    masks = {"propose": proposed.rollout.mask, "solve": solved.rollout.mask, "supervised": items.mask[:, 1:]}
    masks["own"] = solved.rollout.mask & solved.target[:, None]
    masks["played"] = jnp.concatenate([masks["propose"], masks["solve"]])
    return {name: gradients.mean_divisor(mask, microbatches) for name, mask in masks.items()}


def _sampler_mismatch(
    logp: Float[Array, "B C"], rows: Rollout, capped: Bool[Array, "B C"], count: Float[Array, ""]
) -> dict[str, Float[Array, ""]]:
    """How far the training forward is from the sampler: KL, the largest ratio, the share of ratios that were capped."""
    ratio = (logp - rows.logprobs) * rows.mask  # log of train ÷ sampler
    return {
        "quant/kl_rollout_train": _masked_mean(jnp.exp(ratio) - 1 - ratio, rows.mask, count),
        "quant/max_ratio": jnp.max(jnp.exp(ratio)),
        "quant/capped_ratio": _masked_mean(capped, rows.mask, count),
    }


def _masked_mean(
    values: Num[Array, "B C"] | Bool[Array, "B C"], keep: Bool[Array, "B C"], count: Float[Array, ""] | None
) -> Float[Array, ""]:
    return jnp.sum(values * keep) / (jnp.maximum(jnp.sum(keep), 1) if count is None else count)
