"""Every default, once: frozen dataclasses inside, a locked ConfigDict outside.

An experiment file edits the locked ``ConfigDict`` of ``default()``; ``freeze`` checks it and returns the hashable
``Config`` that the code reads. A wrong key, type or size raises ``ConfigError`` with one line a person can act on.
"""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterator
from typing import Any

import ml_collections

BLOCK_ROWS = 16  # output rows that share a tier
INDEX_BITS = 32  # of a promoted block: its place in its matrix


class ConfigError(ValueError):
    """A configuration that cannot run; the message is one line: what, where, what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """Shape of the ternary transformer; 0.1M to 200M parameters by changing numbers only."""

    num_layers: int = 4
    width: int = 128  # D, residual stream
    num_heads: int = 4  # H, query heads
    num_kv_heads: int = 2  # grouped-query attention; divides num_heads
    head_dim: int = 32  # K
    ffn_width: int = 384  # gated ReLU² hidden width
    rope_theta: float = 10_000.0
    smear: int = 0  # preceding tokens whose embeddings are mixed into each input: 0 is plain BitNet
    remat: bool = False  # recompute each layer's forward in the backward pass
    compute: str = "auto"  # operand type of the products: auto (measured once) | f32 | bf16 | int8
    max_tier: int = 8  # largest residual tier the state may hold: 0 | 4 | 8 (bits)
    weights: str = (
        "ternary"  # ternary | int4 (absmax of each row, no ternary base) | full (unquantised); last two: controls
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimiser:
    """Muon on the latent matrices, Adam on embedding and norm gains."""

    lr: float = 6e-3  # peak, warm-up phase
    lr_warmup: int = 100  # steps of linear rise
    lr_end: float = 0.1  # last learning rate of warm-up ÷ peak
    lr_gains: float = 0.5  # learning rate of embedding and norm gains ÷ that of the matrices
    momentum: float = 0.95  # of Muon
    beta1: float = 0.9  # of Adam
    beta2: float = 0.95
    weight_decay: float = 0.0
    clip: float = 1.0  # global gradient norm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warmup:
    """Supervised phase on executor-labelled programs of the generator."""

    steps: int = 3_000
    batch_size: int = 32  # sequences a step
    ramp_start: float = 0.4  # share of steps with λ = 0
    ramp_end: float = 0.7  # λ = 1 from here on
    deduction: float = 0.6  # shares of the batch; they sum to 1
    abduction: float = 0.15
    induction: float = 0.15
    propose: float = 0.1
    trace: float = 0.7  # share of deduction answers written as a trace


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfPlay:
    """Absolute-Zero phase: propose, verify, solve, verify, advantage, update."""

    steps: int = 160
    num_tasks: int = 16  # N, proposals and solver slots a step
    group_size: int = 8  # G, solver rollouts a slot
    supervised_batch: int = 48  # generator sequences in every update
    lr: float = 1e-4  # latents move discretely: α/2 to a flip
    temperature: float = 1.0
    entropy: float = 1e-3
    kl: float = 0.0  # weight of KL to the integers frozen at self-play start
    max_weight: float = 2.0  # cap of exp(train − sampler)
    supervised: float = 1.0  # weight of the generator loss
    proposer: float = 1.0  # weight of the proposer role's loss
    ring: int = 4_096  # tasks kept on the device
    seed_tasks: int = 192  # generator tasks put into the ring before the first step
    history: int = 1 << 17  # entries of the set of seen hashes
    reward: str = "paper"  # proposer reward: paper | code | balanced (azr eq. 4, azr code, min(r̄, 1 − r̄))
    advantage: str = "group"  # group (leave-one-out) | task_relative (REINFORCE++ of AZR)
    ema: float = 0.95  # decay of the baselines' mean and σ
    min_sigma: float = 0.1
    min_confidence: float = 0.7  # a task below is rejected and counted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Precision:
    """Where bits beyond the ternary base go, and how many; budgets are mean stored bits a ternary-able weight."""

    budget: float = 2.0  # 2.0: all ternary; `largest_budget` is the most a model can hold
    signal: str = "fisher"  # fisher | activation | attention | magnitude | static | random
    scope: str = "model"  # the budget holds over the whole model, or over each matrix kind by itself: model | kind
    grain: str = "block"  # what is promoted: 16 rows, or a whole matrix of one layer: block | matrix
    policy: str = "fixed"  # fixed | refresh | progressive | by_level
    phase_steps: int = 400  # steps of a precision phase, counted from λ = 1; masks change only at its end
    refresh_every: int = 1  # phases from one allocation to the next
    start_budget: float = 4.0  # progressive: the budget at λ = 1
    settle: float = 0.7  # progressive: share of the steps from λ = 1 to the end after which `budget` is reached
    level_bits: float = 0.5  # by_level: bits added for each level up to the frontier while that is not mastered
    max_swaps: float = 0.1  # share of the promoted blocks that one allocation may demote by choice
    hysteresis: float = 1.5  # a newcomer's benefit a bit must be that many times an incumbent's
    ramp_steps: int = 100  # updates over which a promoted block's residual fades in
    decay: float = 0.95  # of the signals' moving averages


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tasks:
    """Programs, prompts and the curriculum."""

    context: int = 160  # tokens of a packed training sequence
    prompt: int = 96  # P, tokens of a prompt
    completion: int = 64  # C, new tokens of a rollout in self-play
    answer: int = 96  # new tokens of a rollout in evaluation (a trace of an L2 program fits)
    record: int = 192  # tokens of a task in the ring
    pairs: int = 6  # inputs a generated program is run on
    packed: int = 2  # pairs of one program in a training example; more would be answered by analogy
    shown: int = 3  # pairs an induction task shows; the others are hidden
    fuel: int = 2_000  # ticks a generated program may use
    open_levels: int = 3  # L0 … are open from the start
    unlock_every: int = 400  # steps between dev measurements
    unlock_at: float = 0.7  # dev accuracy of the frontier that opens the next level
    dev_items: int = 64  # programs a dev measurement asks
    workers: int = 1  # generator processes
    nice: int = 5  # their niceness


@dataclasses.dataclass(frozen=True, kw_only=True)
class Executor:
    """Limits of model-written programs."""

    fuel: int = 20_000  # ticks: loop bodies, calls, comprehension items
    cpu_s: float = 0.5
    memory_mb: int = 256
    value_bytes: int = 512  # canonical text of one value; longer is oversize
    workers: int = 2
    allow_unsafe: bool = False  # run without seccomp; only on a machine that may be lost


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval:
    """Held-out evaluation."""

    items: int = 200  # test programs per unlocked level and kind
    locked_items: int = 50
    passk: int = 8
    passk_items: int = 50
    shuffled_items: int = 100
    precision_items: int = 200  # dev programs asked at several precisions
    batch_size: int = 100  # questions decoded together; n, half of n and k times its items fill batches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One sitting after another."""

    chunk: int = 20  # steps of one dispatch; divides every boundary
    save_every: int = 200  # steps
    keep: int = 3  # checkpoints kept beside the one from before self-play
    minutes: float = 0.0  # ends a sitting (saves, says how to go on); 0: never
    until: int = 0  # ends a sitting at this step, likewise; 0: never
    nice: int = 0  # niceness of the whole run, for background sittings
    samples_every: int = 100  # steps between task samples written as text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One experiment."""

    name: str = "unnamed"
    seed: int = 0
    model: Model = Model()
    optimiser: Optimiser = Optimiser()
    warmup: Warmup = Warmup()
    selfplay: SelfPlay = SelfPlay()
    precision: Precision = Precision()
    tasks: Tasks = Tasks()
    sandbox: Executor = Executor()
    eval: Eval = Eval()
    run: Run = Run()


def default() -> ml_collections.ConfigDict:
    """The defaults as a locked ``ConfigDict``, for an experiment file to edit."""
    return ml_collections.ConfigDict(dataclasses.asdict(Config())).lock()


def freeze(config: ml_collections.ConfigDict | dict[str, Any]) -> Config:
    """The checked, hashable ``Config`` of an experiment; raises ``ConfigError`` with one line."""
    cfg = _build(Config, config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config, "config")
    for problem in _problems(cfg):
        raise ConfigError(problem)
    return cfg


def steps_in_all(cfg: Config) -> int:
    """Steps of warm-up and self-play together: the step at which a run is done."""
    return cfg.warmup.steps + cfg.selfplay.steps


def refresh_period(cfg: Config) -> int:
    """Steps from one allocation of precision tiers to the next."""
    return cfg.precision.phase_steps * cfg.precision.refresh_every


def last_fall(cfg: Config) -> int:
    """Steps from λ = 1 to the refresh at which a progressive budget has come down; 0 where there is none."""
    steps = steps_in_all(cfg) - round(cfg.warmup.ramp_end * cfg.warmup.steps)
    return min(int(cfg.precision.settle * steps), steps - 1) // refresh_period(cfg) * refresh_period(cfg)


def kernel_shapes(model: Model) -> dict[str, tuple[int, int]]:
    """Rows and columns of each ternary-able kernel of a layer; q, k, v and gate, up are merged."""
    heads, groups = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    return {
        "qkv": (heads + 2 * groups, model.width),
        "o": (model.width, heads),
        "gate_up": (2 * model.ffn_width, model.width),
        "down": (model.width, model.ffn_width),
    }


def largest_budget(model: Model, tier: int | None = None) -> float:
    """Mean stored bits a ternary-able weight with every block at ``tier`` bits (None: at ``max_tier``)."""
    tier = model.max_tier if tier is None else tier
    shapes = kernel_shapes(model).values()
    weights = sum(n * k for n, k in shapes)
    index_bits = INDEX_BITS * sum(n / BLOCK_ROWS for n, _ in shapes)
    return 2.0 + tier + (index_bits / weights if tier else 0.0)


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings of a nested dict."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def called(kind: type) -> str:
    """What a setting of that type is called in a sentence."""
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[kind]


def _build(kind: type, tree: dict[str, Any], where: str) -> Any:
    """Dataclass ``kind`` from the nested dict ``tree``; every leaf must have the type its field is annotated with."""
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    for name in tree:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            raise ConfigError(f"unknown key {where}.{name}" + (f"; did you mean {where}.{near[0]}?" if near else ""))
    values = {}
    for name, value in tree.items():
        want: Any = fields[name]
        here = f"{where}.{name}"
        if dataclasses.is_dataclass(want):
            if not isinstance(value, dict):
                raise ConfigError(f"{here} is a group of settings, not {value!r}")
            values[name] = _build(typing.cast(type, want), value, here)
        elif want is float and type(value) is int:
            values[name] = float(value)
        elif type(value) is not want:
            raise ConfigError(f"{here} must be {called(want)}, not {value!r}")
        elif want is float and not math.isfinite(value):
            raise ConfigError(f"{here} must be finite, not {value!r}")
        else:
            values[name] = value
    return kind(**values)


# Whole numbers that may be 0; every other one counts something there must be at least one of.
_MAY_BE_ZERO = frozenset({
    "seed", "model.max_tier", "optimiser.lr_warmup", "selfplay.steps", "selfplay.seed_tasks", "tasks.nice", "run.nice",
    "eval.items", "eval.locked_items", "eval.passk_items", "eval.shuffled_items", "eval.precision_items", "model.smear",
    "run.until",
})  # fmt: skip
_CHOICES = {
    "model.compute": ("auto", "f32", "bf16", "int8"),
    "model.max_tier": (0, 4, 8),
    "model.weights": ("ternary", "int4", "full"),
    "precision.signal": ("fisher", "activation", "attention", "magnitude", "static", "random"),
    "precision.scope": ("model", "kind"),
    "precision.grain": ("block", "matrix"),
    "precision.policy": ("fixed", "refresh", "progressive", "by_level"),
    "selfplay.reward": ("paper", "code", "balanced"),
    "selfplay.advantage": ("group", "task_relative"),
}


def _problems(cfg: Config) -> Iterator[str]:
    """Every sentence about what makes ``cfg`` impossible to run."""
    tree = dataclasses.asdict(cfg)
    for key in leaves(tree):
        group, _, name = key.rpartition(".")
        value = tree[group][name] if group else tree[name]
        if key in _CHOICES and value not in _CHOICES[key]:
            yield f"config.{key} must be one of {', '.join(map(str, _CHOICES[key]))}; it is {value!r}"
        if type(value) is int and value < (0 if key in _MAY_BE_ZERO else 1):
            yield f"config.{key} must be at least {0 if key in _MAY_BE_ZERO else 1}; it is {value}"
        if type(value) is float and value < 0:
            yield f"config.{key} must not be negative; it is {value}"
    yield from _shape_problems(cfg)
    yield from _precision_problems(cfg)
    yield from _schedule_problems(cfg)


def _shape_problems(cfg: Config) -> Iterator[str]:
    model, tasks, play = cfg.model, cfg.tasks, cfg.selfplay
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
        if size % 16:
            yield f"config.model.{name}={size} must be a multiple of 16: precision tiers go by blocks of 16 rows"
    if tasks.shown >= tasks.pairs:
        yield f"config.tasks.shown={tasks.shown} must be below pairs={tasks.pairs}: the rest is hidden"
    if tasks.open_levels > 6:
        yield f"config.tasks.open_levels={tasks.open_levels} must be at most 6: levels are 0 to 5"
    if play.group_size < 2 and play.steps:
        yield f"config.selfplay.group_size={play.group_size} must be at least 2: the baseline leaves one out"
    if play.seed_tasks > play.ring:
        yield f"config.selfplay.seed_tasks={play.seed_tasks} must fit selfplay.ring={play.ring}"
    if play.history & (play.history - 1):
        yield f"config.selfplay.history={play.history} must be a power of two"
    if not all(0 <= b < 1 for b in (cfg.optimiser.beta1, cfg.optimiser.beta2, play.ema, cfg.precision.decay)):
        yield "config.optimiser.beta1, beta2, config.selfplay.ema and config.precision.decay must be in [0, 1)"


def _precision_problems(cfg: Config) -> Iterator[str]:
    held, most = cfg.precision, largest_budget(cfg.model)
    budgets = {"budget": held.budget}
    if held.policy == "progressive":
        budgets["start_budget"] = held.start_budget
    for name, budget in budgets.items():
        if budget < 2.0:
            yield f"config.precision.{name}={budget} must be at least 2.0, the stored bits of a ternary weight"
        if budget > most + 1e-9:
            yield (
                f"config.precision.{name}={budget} must be at most {most:.4f}, every block promoted, "
                f"with model.max_tier={cfg.model.max_tier}"
            )
    if cfg.model.weights != "ternary" and held.budget > 2.0:
        yield f"config.precision.budget={held.budget} needs model.weights=ternary, not {cfg.model.weights}"
    if held.budget > 2.0 and held.scope == "kind" and held.signal in ("static", "attention"):
        yield f"config.precision.signal={held.signal} needs scope=model: it says nothing of some kinds"
    if held.budget > 2.0 and held.signal in ("fisher", "activation", "attention") and not cfg.warmup.ramp_end:
        yield f"config.precision.signal={held.signal} is measured before λ = 1: warmup.ramp_end must be above 0"
    if held.policy != "fixed":
        yield from _policy_problems(cfg)
    if not (0 < held.settle <= 1 and held.max_swaps <= 1 <= held.hysteresis):
        yield "config.precision needs 0 < settle ≤ 1, max_swaps ≤ 1 and hysteresis ≥ 1"


def _policy_problems(cfg: Config) -> Iterator[str]:
    """Policies that would never act."""
    held, steps = cfg.precision, steps_in_all(cfg) - round(cfg.warmup.ramp_end * cfg.warmup.steps)
    if not cfg.model.max_tier or cfg.model.weights != "ternary":
        yield f"config.precision.policy={held.policy} needs model.max_tier=4 or 8 and model.weights=ternary"
    elif refresh_period(cfg) >= steps or (held.policy == "progressive" and not last_fall(cfg)):
        yield (
            f"config.precision.policy={held.policy} never comes to a refresh: phase_steps × refresh_every is "
            f"{refresh_period(cfg)} and λ is 1 for {steps} steps; make phases shorter"
        )
    if held.policy == "progressive" and held.start_budget < held.budget:
        yield f"config.precision.start_budget={held.start_budget} must not be below budget={held.budget}"


def _schedule_problems(cfg: Config) -> Iterator[str]:
    warm, run = cfg.warmup, cfg.run
    shares = warm.deduction + warm.abduction + warm.induction + warm.propose
    if abs(shares - 1) > 1e-6:
        yield f"config.warmup.deduction, abduction, induction and propose must sum to 1; they sum to {shares:g}"
    if not 0 <= warm.ramp_start <= warm.ramp_end <= 1:
        yield f"config.warmup needs 0 ≤ ramp_start={warm.ramp_start} ≤ ramp_end={warm.ramp_end} ≤ 1"
    for key, steps in (
        ("run.save_every", run.save_every),
        ("tasks.unlock_every", cfg.tasks.unlock_every),
        ("warmup.steps", warm.steps),
        ("warmup.ramp_start × warmup.steps", round(warm.ramp_start * warm.steps)),
        ("warmup.ramp_end × warmup.steps", round(warm.ramp_end * warm.steps)),
        ("selfplay.steps", cfg.selfplay.steps),
        ("run.until", run.until),
        ("precision.phase_steps", cfg.precision.phase_steps if cfg.model.max_tier else 0),
    ):
        if steps % run.chunk:
            yield f"config.run.chunk={run.chunk} must divide {key}={steps}: chunks end at every boundary"
