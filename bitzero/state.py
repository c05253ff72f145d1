"""The pytrees: everything that a run carries, each field with its shape and meaning."""

import dataclasses
import typing
from typing import Any, TypeVar

import jax
from jaxtyping import Array, Bool, Float, Int, Int8, Integer, PRNGKeyArray, UInt8, UInt16, UInt32

T = TypeVar("T")


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
def pytree(cls: type[T]) -> type[T]:
    """A frozen, keyword-only dataclass registered with JAX; change it with ``dataclasses.replace``."""
    cls = typing.no_type_check(dataclasses.dataclass(frozen=True, kw_only=True)(cls))
    fields = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return jax.tree_util.register_dataclass(cls, data_fields=fields, meta_fields=[])


@pytree
class Ring:
    """Tasks on the device, newest overwriting oldest (AZR kept the oldest; its buffers went stale)."""

    prompt: UInt16[Array, "cap P"]  # solver prompt, left-padded
    record: UInt16[Array, "cap R"]  # the whole task as tokens, for the judge
    kind: Int8[Array, " cap"]  # number of the kind of task
    level: Int8[Array, " cap"]
    born: Int[Array, " cap"]  # step of arrival
    head: Int[Array, ""]  # next slot to write
    count: Int[Array, ""]  # filled slots


@pytree
class RatedRing(Ring):
    """A ring that knows how its tasks were answered (``selfplay.replay``)."""

    spread: Float[Array, " cap"]  # r̄(1 − r̄) of a task's answers when it was last solved, the most before that


@pytree
class HashSet:
    """A fixed-size set of 64-bit hashes: buckets of 4, oldest of a bucket replaced when full."""

    slots: UInt32[Array, "buckets 4 2"]  # (high, low); (0, 0) is empty
    inserted: Int[Array, ""]  # hashes put in
    evicted: Int[Array, ""]  # hashes overwritten by a newer one


@pytree
class Baselines:
    """EMA of reward mean and second moment, per kind (rows) and role (0 propose, 1 solve)."""

    mean: Float[Array, "kinds 2"]
    square: Float[Array, "kinds 2"]
    weight: Float[Array, "kinds 2"]  # Σ of the EMA weights, for the bias correction


@pytree
class Allocation:
    """What the precision manager knows; the tiers themselves are in the Flax collection ``precision``."""

    signals: dict[str, dict[str, Float[Array, "L blocks"]]]  # measured signal → kernel → moving average
    weight: Float[Array, ""]  # Σ of the averages' weights, for the bias correction
    age: dict[str, Int[Array, "L blocks"]]  # kernel → updates since the block's tier last changed
    budget: Float[Array, ""]  # mean stored bits now in force


@pytree
class Mix:
    """What training batches are drawn by: how often examples were exactly right lately, and the weights in force."""

    seen: Float[Array, " cells"]  # examples with each production, then of each level; a moving sum
    right: Float[Array, " cells"]  # those of them whose every target was the greedy token
    weights: Int[Array, " cells"]  # in the orders of batches; all 0: none yet


@pytree
class TrainState:
    """All that a run carries from step to step; a checkpoint is this and a small JSON."""

    step: Int[Array, ""]  # updates done, warm-up and self-play together
    params: dict[str, Any]  # latent weights, f32
    precision: dict[str, Any]  # per 16-row block: tier (bits) and its ramp λ_r
    allocation: Allocation | None  # signals, ages and budget of the tiers; None where the model may hold none
    opt_state: Any  # Adam moments
    ring: Ring
    skeletons: Bool[Array, " places"]  # by hash, those of the generator's programs trained on; see `selfplay.skeletons`
    history: HashSet  # (kind, program, input) and program hashes of all proposals
    baselines: Baselines
    reference: Any  # Dense integers frozen at self-play start, or None when the KL weight is 0
    key: PRNGKeyArray  # folded with (retries, step), never split
    frontier: Int[Array, ""]  # lowest level not yet mastered
    mastery: Float[Array, ""]  # last dev accuracy of the frontier ÷ the accuracy that counts as mastered, at most 1
    open_levels: Int[Array, ""]  # levels 0 … open_levels − 1 are trained on
    mix: Mix | None  # None where neither productions nor levels go by what training gets right
    trace_mode: Int[Array, ""]  # deduction answers in self-play: 1 trace, 0 direct; chosen on dev
    retries: Int[Array, ""]  # restores after non-finite steps
    bad_steps: Int[Array, ""]  # non-finite steps in a row
    skipped: Int[Array, ""]  # non-finite steps in all


@pytree
class Rollout:
    """Sampled completions; positions after the first EOS are PAD and masked."""

    tokens: Int[Array, "B C"]
    logprobs: Float[Array, "B C"]  # of the distribution that was drawn from
    mask: Bool[Array, "B C"]  # True up to and including EOS


@pytree
class Played:
    """What one role wrote in a self-play step, and what it is worth."""

    prompt: Int[Array, "B P"]
    rollout: Rollout
    advantage: Float[Array, " B"]
    target: Bool[Array, " B"]  # a right answer that is learned as a supervised one is (``selfplay.own_answers``)


@pytree
class Supervised:
    """Generator sequences; in a chunk every field has the steps as an axis in front."""

    tokens: UInt16[Array, "*k B T"]  # right-padded with PAD (0)
    mask: Bool[Array, "*k B T"]  # True: this token is a target
    kind: Int8[Array, "*k B E"]  # of each packed example: number of its kind, −2 propose; −1 none
    level: Int8[Array, "*k B E"]
    skeleton: UInt32[Array, "*k B E"] | None = None  # of each example's program, 0 where there is none; None: not told
    productions: UInt8[Array, "*k B E bytes"] | None = None  # of each example's program, a bit each; None: not told


@pytree
class Proposals:
    """What the proposer wrote, and on which prompts."""

    prompt: Integer[Array, "N P"]
    kind: Int[Array, " N"]
    level: Int[Array, " N"]  # the level asked for
    rollout: Rollout


@pytree
class Slots:
    """The N tasks of a step: a valid proposal's own, or one from the ring in the place of an invalid proposal."""

    prompt: Integer[Array, "N P"]
    record: Integer[Array, "N R"]
    kind: Int[Array, " N"]
    asked_kind: Int[Array, " N"]  # of the proposal; another than `kind` where that is a ring's task of another kind
    own: Bool[Array, " N"]  # the slot holds this step's proposal
    gate: Int[Array, " N"]  # what became of the proposal: index into ``tasks.gates.GATES``
    level: Int[Array, " N"]  # measured level of an accepted proposal
    asked_level: Int[Array, " N"]  # of the proposal
    novel: Bool[Array, " N"]  # accepted, and the program was never seen before
    confidence: Float[Array, " N"]  # of an accepted proposal's gold
    first: Bool[Array, " N"]  # accepted, and no earlier slot of this step has its program
    place: Int[Array, " N"]  # of the task in the ring


@pytree
class Judged:
    """The judge's word on N × G answers."""

    reward: Float[Array, "N G"]
    counted: Bool[Array, "N G"]  # False for infrastructure faults
    trivial: Bool[Array, " N"]  # a trivial answer solves the task


@pytree
class Credit:
    """Rewards and advantages of both roles."""

    rate: Float[Array, " N"]  # r̄ of each slot
    propose_reward: Float[Array, " N"]
    propose_advantage: Float[Array, " N"]
    solve_advantage: Float[Array, "N G"]
