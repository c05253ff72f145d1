"""Why a configuration cannot run: a sentence for every problem."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from bitzero.config.defaults import Config
from bitzero.config.derived import (
    BLOCK_ROWS,
    MEASURED_SIGNALS,
    NUM_LEVELS,
    budget_limit,
    kernel_shapes,
    last_fall,
    promotable,
    ramp_steps,
    refresh_period,
    spends,
    steps_in_all,
)  # fmt: skip

KIND_NAMES = ("deduction", "abduction", "induction")  # of ``tasks.kinds``, which no setting may import

# Whole numbers that may be 0; every other one counts something there must be at least one of.
_MAY_BE_ZERO = frozenset({
    "seed", "model.max_tier", "optimiser.lr_warmup", "selfplay.steps", "selfplay.seed_tasks", "tasks.nice", "run.nice",
    "eval.items", "eval.locked_items", "eval.passk_items", "eval.shuffled_items", "eval.precision_items", "model.smear",
    "run.until", "selfplay.dev_every", "tasks.guarded", "model.conv", "eval.operation_items", "tasks.workers",
    "sandbox.workers", "optimiser.microbatches", "selfplay.rollout_parts", "eval.parts", "selfplay.learnt_groups",
})  # fmt: skip


def problems(cfg: Config) -> Iterator[str]:
    """Every sentence about what makes ``cfg`` impossible to run."""
    tree = dataclasses.asdict(cfg)
    for key in leaves(tree):
        group, _, name = key.rpartition(".")
        value = tree[group][name] if group else tree[name]
        if type(value) is int and value < (0 if key in _MAY_BE_ZERO else 1):
            yield f"config.{key} must be at least {0 if key in _MAY_BE_ZERO else 1}; it is {value}"
        if type(value) is float and value < 0:
            yield f"config.{key} must not be negative; it is {value}"
    yield from _shape_problems(cfg)
    yield from _part_problems(cfg)
    yield from _selfplay_problems(cfg)
    yield from _precision_problems(cfg)
    yield from _schedule_problems(cfg)


def _shape_problems(cfg: Config) -> Iterator[str]:
    model, tasks = cfg.model, cfg.tasks
    if model.num_heads % model.num_kv_heads:
        yield f"config.model.num_kv_heads={model.num_kv_heads} must divide num_heads={model.num_heads}"
    if model.head_dim % 2:
        yield f"config.model.head_dim={model.head_dim} must be even: RoPE turns pairs"
    rows = {
        "width": model.width,
        "ffn_width": model.ffn_width,
        "num_heads × head_dim": model.num_heads * model.head_dim,
        "num_kv_heads × head_dim": model.num_kv_heads * model.head_dim,
    }
    for name, size in rows.items():
        if size % BLOCK_ROWS:
            yield f"config.model.{name}={size} must be a multiple of {BLOCK_ROWS}: precision tiers go by so many rows"
    if tasks.shown >= tasks.pairs:
        yield f"config.tasks.shown={tasks.shown} must be below pairs={tasks.pairs}: the rest is hidden"
    if tasks.open_levels > NUM_LEVELS:
        yield f"config.tasks.open_levels={tasks.open_levels} must be at most {NUM_LEVELS}, the number of levels"
    if cfg.optimiser.row_beta < 1 and cfg.optimiser.weight_decay:
        yield (
            f"config.optimiser.row_beta={cfg.optimiser.row_beta} and weight_decay={cfg.optimiser.weight_decay} "
            "exclude each other: set row_beta=1 or weight_decay=0"
        )
    if not all(0 <= b < 1 for b in (cfg.optimiser.beta1, cfg.optimiser.beta2, cfg.selfplay.ema, cfg.precision.decay)):
        yield "config.optimiser.beta1, beta2, config.selfplay.ema and config.precision.decay must be in [0, 1)"


def _part_problems(cfg: Config) -> Iterator[str]:
    """What does not divide what it is to cut."""
    play = cfg.selfplay
    cut = {"warmup.batch_size": cfg.warmup.batch_size}
    if play.steps:
        cut |= {"selfplay.supervised_batch": play.supervised_batch, "selfplay.num_tasks": play.num_tasks}
    for name, count in cut.items():
        if count % max(cfg.optimiser.microbatches, 1):
            yield f"config.optimiser.microbatches={cfg.optimiser.microbatches} must divide {name}={count}"
    rollouts = play.num_tasks * play.group_size
    if play.steps and rollouts % max(play.rollout_parts, 1):
        yield f"config.selfplay.rollout_parts={play.rollout_parts} must divide num_tasks × group_size={rollouts}"
    if cfg.eval.batch_size % max(cfg.eval.parts, 1):
        yield f"config.eval.parts={cfg.eval.parts} must divide batch_size={cfg.eval.batch_size}"


def _selfplay_problems(cfg: Config) -> Iterator[str]:
    play = cfg.selfplay
    if unknown := [name for name in play.kinds.split(",") if play.kinds and name.strip() not in KIND_NAMES]:
        yield f"config.selfplay.kinds={play.kinds}: no kind {unknown[0]!r}; there is: {', '.join(KIND_NAMES)}"
    if play.group_size < 2 and play.steps:
        yield f"config.selfplay.group_size={play.group_size} must be at least 2: the baseline leaves one out"
    if play.learnt_groups > play.num_tasks or play.learnt_groups % max(cfg.optimiser.microbatches, 1):
        yield (
            f"config.selfplay.learnt_groups={play.learnt_groups} must be at most num_tasks={play.num_tasks}, "
            f"and optimiser.microbatches={cfg.optimiser.microbatches} must divide it"
        )
    if play.level_budget and not play.learnt_groups:
        yield "config.selfplay.level_budget=True shares out the learnt_groups, and there are none: set that number"
    if play.steps and not min(play.min_sigma, play.temperature, play.answer_temperature) > 0:
        yield (
            f"config.selfplay.min_sigma={play.min_sigma}, temperature={play.temperature} and "
            f"answer_temperature={play.answer_temperature} must be above 0: rewards are divided by the first, and "
            "rollouts are drawn at the others"
        )
    if play.seed_tasks > play.ring:
        yield f"config.selfplay.seed_tasks={play.seed_tasks} must fit selfplay.ring={play.ring}"
    if play.history & (play.history - 1):
        yield f"config.selfplay.history={play.history} must be a power of two"


def _precision_problems(cfg: Config) -> Iterator[str]:
    precision, matrices, known = cfg.precision, promotable(cfg), list(kernel_shapes(cfg.model))
    if len(set(matrices)) != len(matrices) or not set(matrices) <= set(known):
        yield f"config.precision.kinds must be some of {','.join(known)}, each once; it is {precision.kinds!r}"
        return
    all_of_them, most = set(matrices) == set(known), budget_limit(cfg)
    budgets = {"budget": precision.budget}
    if precision.policy == "progressive":
        budgets["start_budget"] = precision.start_budget
    for name, budget in budgets.items():
        if budget < 2.0:
            yield f"config.precision.{name}={budget} must be at least 2.0, the stored bits of a ternary weight"
        if budget > most + 1e-9:
            yield (
                f"config.precision.{name}={budget} must be at most {most:.4f}, every block"
                f"{'' if all_of_them else f' of {precision.kinds}'} promoted, "
                f"with model.max_tier={cfg.model.max_tier}"
            )
    if cfg.model.weights != "ternary" and precision.budget > 2.0:
        yield f"config.precision.budget={precision.budget} needs model.weights=ternary, not {cfg.model.weights}"
    if spends(cfg) and precision.scope == "kind" and precision.signal in ("static", "attention"):
        yield f"config.precision.signal={precision.signal} needs scope=model: it says nothing of some kinds"
    if spends(cfg) and precision.signal == "attention" and "qkv" not in matrices:
        yield f"config.precision.signal=attention is about q, k and v: precision.kinds={precision.kinds} must hold qkv"
    if spends(cfg) and precision.signal in MEASURED_SIGNALS and not cfg.warmup.ramp_end:
        yield f"config.precision.signal={precision.signal} is measured before λ = 1: warmup.ramp_end must be above 0"
    if precision.policy != "fixed":
        yield from _policy_problems(cfg)
    if not (0 < precision.settle <= 1 and precision.max_swaps <= 1 <= precision.hysteresis):
        yield "config.precision needs 0 < settle ≤ 1, max_swaps ≤ 1 and hysteresis ≥ 1"


def _policy_problems(cfg: Config) -> Iterator[str]:
    """Policies that would never act."""
    precision, steps = cfg.precision, steps_in_all(cfg) - ramp_steps(cfg)[1]
    if not cfg.model.max_tier or cfg.model.weights != "ternary":
        yield f"config.precision.policy={precision.policy} needs model.max_tier=4 or 8 and model.weights=ternary"
    elif refresh_period(cfg) >= steps or (precision.policy == "progressive" and not last_fall(cfg)):
        yield (
            f"config.precision.policy={precision.policy} never comes to a refresh: phase_steps × refresh_every is "
            f"{refresh_period(cfg)} and λ is 1 for {steps} steps; make phases shorter"
        )
    if precision.policy == "progressive" and precision.start_budget < precision.budget:
        yield f"config.precision.start_budget={precision.start_budget} must not be below budget={precision.budget}"


def _schedule_problems(cfg: Config) -> Iterator[str]:
    warm, run = cfg.warmup, cfg.run
    shares = warm.deduction + warm.abduction + warm.induction + warm.propose
    if abs(shares - 1) > 1e-6:
        yield f"config.warmup.deduction, abduction, induction and propose must sum to 1; they sum to {shares:g}"
    for name, share in {
        "optimiser.lr_flat": cfg.optimiser.lr_flat,
        "selfplay.lr_flat": cfg.selfplay.lr_flat,
        "selfplay.stale": cfg.selfplay.stale,
        "selfplay.off_level": cfg.selfplay.off_level,
    }.items():
        if not share <= 1:
            yield f"config.{name}={share} must be at most 1: it is a share"
    if not 0 <= warm.ramp_start <= warm.ramp_end <= 1:
        yield f"config.warmup needs 0 ≤ ramp_start={warm.ramp_start} ≤ ramp_end={warm.ramp_end} ≤ 1"
    for key, steps in (
        ("run.save_every", run.save_every),
        ("tasks.unlock_every", cfg.tasks.unlock_every),
        ("warmup.steps", warm.steps),
        ("warmup.ramp_start × warmup.steps", ramp_steps(cfg)[0]),
        ("warmup.ramp_end × warmup.steps", ramp_steps(cfg)[1]),
        ("selfplay.steps", cfg.selfplay.steps),
        ("selfplay.dev_every", cfg.selfplay.dev_every if cfg.selfplay.steps else 0),
        ("run.until", run.until),
        ("precision.phase_steps", cfg.precision.phase_steps if cfg.model.max_tier else 0),
    ):
        if steps % run.chunk:
            yield f"config.run.chunk={run.chunk} must divide {key}={steps}: chunks end at every boundary"


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings of a nested dict."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name
