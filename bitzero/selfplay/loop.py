"""Self-play as one scan: propose → verify → solve → verify → advantage → update → precision.

Absolute Zero (arXiv 2505.03335) with three deviations: every rollout trains (AZR throws the difficulty samples away),
advantages are sequence-level and leave-one-out (AZR whitens by token), and at least a quarter of an update's tokens
are supervised generator data. The host is reached through ``verify.py`` alone.
"""

import dataclasses
import functools
from typing import Any, assert_never

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer, PRNGKeyArray, UInt32

from bitzero.config import Config, rollout_parts, update_parts
from bitzero.model import precision, quant
from bitzero.selfplay import buffer, objective, rollout, skeletons, verify
from bitzero.selfplay.dispatch import Span, run_span
from bitzero.selfplay.measure import step_metrics
from bitzero.selfplay.update import optimiser, update
from bitzero.state import Credit, Judged, Played, Proposals, Rollout, Slots, Supervised, TrainState
from bitzero.tasks import judge, tokens
from bitzero.tasks.gates import DUPLICATE, HELDOUT, OK
from bitzero.tasks.gates import INFRA as INFRA_GATE
from bitzero.tasks.kinds import TASK_KINDS, Kinds, in_turn, tags_of

Metrics = dict[str, Float[Array, ""]]
PROPOSER, SOLVER = 0, 1  # roles: columns of the baselines


@functools.partial(jax.jit, static_argnames=("cfg", "door"), donate_argnames="state")
def run_chunk(
    state: TrainState, batch: Supervised, cfg: Config, door: verify.Door, span: Span | None = None
) -> tuple[TrainState, dict[str, Float[Array, " k"]]]:
    """k self-play steps, or those of ``span``; after the host's stop bit the rest are left (``selfplay/ran`` is 0)."""
    return run_span(lambda state, items: step(state, items, cfg, door), state, batch, span)


def step(state: TrainState, items: Supervised, cfg: Config, door: verify.Door) -> tuple[TrainState, Array, Metrics]:
    """One self-play step; returns the state, the host's stop bit and the metrics."""
    keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(state.key, state.retries), state.step), 4)
    weights = quant.materialise(state.params, state.precision, cfg.model)
    proposals = propose(keys[0], state, weights, cfg, door.kinds)
    verdict = verify.verify_proposals(
        door, proposals.prompt, proposals.rollout.tokens, proposals.kind, proposals.level, state.step, state.trace_mode
    )
    if cfg.selfplay.ablation == "generator":
        verdict = withheld(verdict)
    state, slots = admit(keys[1], state, proposals, verdict)
    answers = solve(keys[2], weights, slots, cfg)
    answer_tokens = answers.tokens.reshape(*slots.kind.shape, cfg.selfplay.group_size, -1)
    answer_verdict = verify.verify_answers(door, slots.record, answer_tokens, state.step)
    judged = Judged(
        reward=answer_verdict["reward"],
        counted=answer_verdict["outcome"] != judge.INFRA,
        trivial=answer_verdict["trivial"],
    )
    if cfg.selfplay.ablation == "shuffled":
        judged = shuffled(keys[3], judged)
    state, credit = advantage(state, slots, judged, cfg, door.kinds)
    state = replayed(state, slots, judged, credit)
    state, metrics = learn(state, proposals, slots, answers, judged, credit, items, cfg, door.kinds)
    state = dataclasses.replace(
        state, precision=precision.advance_ramps(state.precision, cfg.precision.ramp_steps),
        skeletons=skeletons.remember(state.skeletons, items),
    )  # fmt: skip
    metrics |= step_metrics(state, proposals, slots, answers, judged, credit, door.kinds)
    metrics["selfplay/ran"] = jnp.float32(1)
    return state, verdict["stop"] | answer_verdict["stop"], metrics


def withheld(verdict: dict[str, Array]) -> dict[str, Array]:
    """The verdict with every proposal held out: only ring tasks are solved, nothing is learned from proposals."""
    return verdict | {"gate": jnp.full_like(verdict["gate"], HELDOUT)}


def shuffled(key: PRNGKeyArray, judged: Judged) -> Judged:
    """The rewards of a step dealt out anew among all its answers: right by chance, as often as before."""
    mixed = jax.random.permutation(key, judged.reward.reshape(-1))
    return dataclasses.replace(judged, reward=mixed.reshape(judged.reward.shape))


def start_selfplay(
    state: TrainState, tasks: dict[str, Any], cfg: Config, known: UInt32[Array, "K 2"] | None = None
) -> TrainState:
    """The state at the first self-play step: fresh moments, the ring seeded with generator tasks.

    ``tasks`` are those of ``verify.ring_rows``. ``known`` are hashes of these tasks and of their programs
    (``verify.hashes_of``), so a proposal that copies a seed task is no news.
    """
    rows = {name: jnp.asarray(array) for name, array in tasks.items()}
    keep = jnp.ones(rows["kind"].shape, bool)
    ring = buffer.push_tasks(state.ring, rows["prompt"], rows["record"], rows["kind"], rows["level"], state.step, keep)
    if cfg.selfplay.replay == "spread":
        ring = buffer.rated(ring)
    reference = quant.materialise(state.params, state.precision, cfg.model) if cfg.selfplay.kl > 0 else None
    history = state.history
    if known is not None:
        history = buffer.insert(history, known, jnp.ones(known.shape[0], bool))
    moments = optimiser(cfg).init(state.params)
    fresh = dataclasses.replace(state, opt_state=moments, ring=ring, history=history, reference=reference)
    return jax.tree.map(jnp.copy, fresh)


def propose(
    key: PRNGKeyArray, state: TrainState, weights: dict[str, Any], cfg: Config, kinds: Kinds = TASK_KINDS
) -> Proposals:
    """N proposals, ``selfplay.kinds`` in turn, half of them at the frontier level and half at any open one.

    A program that is shown has the level asked for; if the ring has none of it, the program's own level is asked for.
    So level and program agree, as in training.
    """
    count = cfg.selfplay.num_tasks
    pick_key, level_key, half_key, ref_key, sample_key = jax.random.split(key, 5)
    kind = asked_kinds(state.step, cfg, kinds)
    any_level = jax.random.randint(level_key, (count,), 0, state.open_levels)
    level = jnp.where(jax.random.bernoulli(half_key, 0.5, (count,)), state.frontier, any_level)
    lender = jnp.asarray([k.lender for k in kinds])[kind]
    at = buffer.pick_slots(state.ring, pick_key, lender, level)
    needed = jnp.asarray([not k.writes_program for k in kinds])[kind]  # the proposal is about the program shown
    shown = jax.random.bernoulli(ref_key, 0.5, (count,)) | needed
    shown &= programs_fit(state.ring.record[at], cfg.tasks.prompt)
    level = jnp.where(shown, state.ring.level[at].astype(level.dtype), level)
    prompt = proposal_prompts(kind, level, state.ring.record[at], shown, cfg.tasks.prompt, kinds)
    rows = cfg.selfplay.num_tasks * cfg.selfplay.group_size // rollout_parts(cfg)  # as many at once as in `solve`
    sampled = rollout.sample(
        sample_key, weights, prompt, cfg.model,
        max_new=cfg.tasks.completion, temperature=cfg.selfplay.temperature, parts=rollout.parts_within(count, rows),
    )  # fmt: skip
    return Proposals(prompt=prompt, kind=kind, level=level, rollout=sampled)


def asked_kinds(step: Int[Array, ""], cfg: Config, kinds: Kinds = TASK_KINDS) -> Int[Array, " N"]:
    """The kind of each of a step's slots: ``selfplay.kinds`` in turn, begun elsewhere in every step."""
    turns = jnp.asarray(in_turn(cfg.selfplay.kinds, kinds))
    return turns[(jnp.arange(cfg.selfplay.num_tasks) + step) % len(turns)]


def proposal_prompts(
    kind: Int[Array, " N"],
    level: Int[Array, " N"],
    record: Integer[Array, "N R"],
    shown: Bool[Array, " N"],
    width: int,
    kinds: Kinds = TASK_KINDS,
) -> Int[Array, "N P"]:
    """`<propose><kind><level> [<prog> CODE] <prog|in>`, left-padded; CODE is that of the record (`kinds.record`)."""
    n = kind.shape[0]
    record = record.astype(jnp.int32)
    body = jnp.where(shown & programs_fit(record, width), _code_lengths(record) + 1, 0)  # tokens of <prog> CODE
    tags = jnp.stack(
        [jnp.full((n,), tokens.PROPOSE), jnp.asarray(tags_of(kinds))[kind], jnp.asarray(tokens.LEVELS)[level]], axis=1
    )
    last = jnp.asarray([k.opener for k in kinds])[kind]
    at = jnp.arange(width)[None] - (width - 4 - body)[:, None]  # index within the prompt; negative is padding
    from_record = jnp.take_along_axis(record, jnp.clip(at - 2, 0, record.shape[1] - 1), axis=1)  # CODE
    middle = jnp.where(at == 3, tokens.PROG, from_record)  # <prog> before it
    prompt = jnp.where(at < 3, jnp.take_along_axis(tags, jnp.clip(at, 0, 2), axis=1), middle)  # tags
    prompt = jnp.where(at == 3 + body[:, None], last[:, None], prompt)  # opener
    return jnp.where(at < 0, tokens.PAD, prompt)  # padding


def programs_fit(record: Integer[Array, "N R"], width: int) -> Bool[Array, " N"]:
    """Whether a proposer's prompt of so many tokens can show the record's program."""
    return _code_lengths(record) <= width - 5  # <propose><kind><level> <prog> CODE <prog>


def _code_lengths(record: Integer[Array, "N R"]) -> Int[Array, " N"]:
    """Tokens of each record's program: a record is <kind><level> CODE <in> …"""
    return jnp.argmax(record == tokens.IN, axis=1) - 2


def admit(
    key: PRNGKeyArray, state: TrainState, proposals: Proposals, verdict: dict[str, Array]
) -> tuple[TrainState, Slots]:
    """Accepted proposals enter ring and history; the other slots are filled from the ring, kind by kind."""
    gate = jnp.where(
        (verdict["gate"] == OK) & buffer.contains(state.history, verdict["task_hash"]),
        DUPLICATE,
        verdict["gate"],
    )
    own = gate == OK
    program = verdict["program_hash"]
    novel = own & ~buffer.contains(state.history, program)
    first = buffer.first_occurrences(program, own)
    at = buffer.pick_slots(state.ring, key, proposals.kind, by_spread=True)
    fill = lambda new, old: jnp.where(own.reshape(-1, *(1,) * (new.ndim - 1)), new, old[at])
    slots = Slots(
        prompt=fill(verdict["prompt"], state.ring.prompt),
        record=fill(verdict["record"], state.ring.record),
        kind=jnp.where(own, proposals.kind, state.ring.kind[at].astype(jnp.int32)),
        asked_kind=proposals.kind,
        own=own,
        gate=gate,
        level=jnp.where(own, verdict["level"], state.ring.level[at].astype(jnp.int32)),
        asked_level=proposals.level,
        novel=novel & first,
        first=first,
        confidence=verdict["confidence"],
        place=jnp.where(own, buffer.places(state.ring, own), at),
    )
    ring = buffer.push_tasks(
        state.ring, verdict["prompt"], verdict["record"], proposals.kind, verdict["level"], state.step, own
    )
    history = buffer.insert(buffer.insert(state.history, verdict["task_hash"], own), program, own)
    return dataclasses.replace(state, ring=ring, history=history), slots


def solve(key: PRNGKeyArray, weights: dict[str, Any], slots: Slots, cfg: Config) -> Rollout:
    """G answers to every slot, as N·G rows."""
    return rollout.sample(
        key, weights, slots.prompt, cfg.model,
        max_new=cfg.tasks.completion, temperature=cfg.selfplay.answer_temperature, copies=cfg.selfplay.group_size,
        parts=rollout_parts(cfg),
    )  # fmt: skip


def advantage(
    state: TrainState, slots: Slots, judged: Judged, cfg: Config, kinds: Kinds = TASK_KINDS
) -> tuple[TrainState, Credit]:
    """Rewards to advantages: a proposer earns by its own task, −1 for an invalid one; the solver in every slot."""
    sp = cfg.selfplay
    rate = objective.success_rate(judged.reward, judged.counted)
    paid = objective.proposer_reward(rate, slots.own, judged.trivial, sp.reward)
    stale = slots.own & ~slots.novel & jnp.asarray([kind.writes_program for kind in kinds])[slots.kind]
    elsewhere = slots.own & (slots.level != slots.asked_level)
    paid *= jnp.where(stale, sp.stale, 1.0) * jnp.where(elsewhere, sp.off_level, 1.0)
    proposer_counts = ~blameless(slots) & (jnp.any(judged.counted, axis=1) | ~slots.own)
    flat = lambda a: a.reshape(-1)
    rows = jnp.repeat(slots.kind, sp.group_size)
    asked = slots.asked_kind  # a rejected proposal's slot holds another task, perhaps of another kind
    base = objective.update_baselines(state.baselines, paid, asked, PROPOSER, proposer_counts, sp.ema)
    base = objective.update_baselines(base, flat(judged.reward), rows, SOLVER, flat(judged.counted), sp.ema)
    match sp.advantage:
        case "task_relative":
            relative = functools.partial(
                objective.task_relative_advantage, num_kinds=base.mean.shape[0], floor=sp.min_sigma
            )
            propose_advantage = relative(paid, asked, proposer_counts)
            solve_advantage = relative(flat(judged.reward), rows, flat(judged.counted))
        case "group":
            mean, sigma = objective.mean_and_sigma(base, asked, PROPOSER, sp.min_sigma)
            propose_advantage = jnp.where(proposer_counts, (paid - mean) / sigma, 0.0)
            _, sigma = objective.mean_and_sigma(base, rows, SOLVER, sp.min_sigma)
            solve_advantage = flat(objective.leave_one_out_advantage(judged.reward, judged.counted)) / sigma
        case _:
            assert_never(sp.advantage)
    credit = Credit(
        rate=rate,
        propose_reward=paid,
        propose_advantage=propose_advantage,
        solve_advantage=solve_advantage.reshape(judged.reward.shape),
    )
    return dataclasses.replace(state, baselines=base), credit


def replayed(state: TrainState, slots: Slots, judged: Judged, credit: Credit) -> TrainState:
    """Notes in the ring how mixed each task's answers were, under ``selfplay.replay`` "spread"."""
    spread, known = credit.rate * (1 - credit.rate), jnp.any(judged.counted, axis=1)
    ring = buffer.note_spread(state.ring, slots.place, slots.own, spread, known)
    return dataclasses.replace(state, ring=ring)


def blameless(slots: Slots) -> Bool[Array, " N"]:
    """Proposals that met a fault of the machine, or that a hash holds out: nothing is learned from them."""
    return (slots.gate == INFRA_GATE) | (slots.gate == HELDOUT)


def by_turns(spread: Float[Array, " N"], level: Int[Array, " N"]) -> Float[Array, " N"]:
    """Scores that rank by turns: each level's best slot, each level's second best, …; slots without spread last."""
    at = jnp.arange(len(spread))
    better = (spread[None] > spread[:, None]) | ((spread[None] == spread[:, None]) & (at[None] < at[:, None]))
    place = jnp.sum(better & (level[None] == level[:, None]), axis=1)
    return jnp.where(spread > 0, spread - place, -1.0 * len(spread))


def of_most_spread(solved: Played, rate: Float[Array, " N"], groups: int, level: Int[Array, " N"] | None) -> Played:
    """The rows of the ``groups`` slots whose answers differ most: r̄(1 − r̄) is largest (PODS, arXiv 2504.13818).

    With ``level`` all levels share them, see ``by_turns``.
    """
    spread = rate * (1 - rate)
    worth = spread if level is None else by_turns(spread, level)
    _, chosen = jax.lax.top_k(worth, groups)

    def rows(a: Array) -> Array:
        by_slot = a.reshape(rate.shape[0], -1, *a.shape[1:])
        return by_slot[chosen].reshape(-1, *a.shape[1:])

    return jax.tree.map(rows, solved)


def shortest_right(slots: Slots, judged: Judged, answers: Rollout, kinds: Kinds = TASK_KINDS) -> Bool[Array, " B"]:
    """Marks the shortest right answer to each task that may have several; none where a trivial answer solves it.

    Such targets are what RAFT's filter keeps (arXiv 2304.06767), one a task so that no easy task counts twice. A
    deduction has one answer, which the generator's rows teach with its trace.
    """
    wanted = ~objective.has_one_answer(slots.kind, kinds) & ~judged.trivial
    right = judged.counted & (judged.reward > 0) & wanted[:, None]
    length = jnp.where(right, jnp.sum(answers.mask, axis=1).reshape(right.shape), answers.mask.shape[1] + 1)
    shortest = jnp.argmin(length, axis=1)[:, None] == jnp.arange(right.shape[1])[None]
    return (right & shortest).reshape(-1)


def learn(
    state: TrainState,
    proposals: Proposals,
    slots: Slots,
    answers: Rollout,
    judged: Judged,
    credit: Credit,
    items: Supervised,
    cfg: Config,
    kinds: Kinds = TASK_KINDS,
) -> tuple[TrainState, Metrics]:
    """One update on the rollouts of both roles and on the generator's sequences.

    The arguments are the results of the stages before, one each.
    """
    group, parts, plays = cfg.selfplay.group_size, update_parts(cfg), cfg.selfplay.ablation != "supervised"
    counted = dataclasses.replace(answers, mask=answers.mask & judged.counted.reshape(-1, 1) & plays)
    prompts = jnp.repeat(slots.prompt, group, axis=0).astype(jnp.int32)
    written = dataclasses.replace(proposals.rollout, mask=proposals.rollout.mask & ~blameless(slots)[:, None] & plays)
    none = jnp.zeros(proposals.prompt.shape[0], bool)
    proposed = Played(prompt=proposals.prompt, rollout=written, advantage=credit.propose_advantage, target=none)
    solved = Played(
        prompt=prompts,
        rollout=counted,
        advantage=credit.solve_advantage.reshape(-1),
        target=shortest_right(slots, judged, answers, kinds),
    )
    if groups := cfg.selfplay.learnt_groups:
        solved = of_most_spread(solved, credit.rate, groups, slots.level if cfg.selfplay.level_budget else None)
    value, figures, grads, tapped = objective.selfplay_gradients(state, (proposed, solved, items), parts, cfg)
    own_rates = dataclasses.replace(cfg.optimiser, lr_gains=cfg.selfplay.lr_gains)
    state, metrics = update(state, grads, tapped, value, dataclasses.replace(cfg, optimiser=own_rates))
    return state, metrics | figures
