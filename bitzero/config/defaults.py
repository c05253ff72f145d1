"""Every default, once, with its unit or effect: frozen dataclasses. A choice is a `Literal` with all it may be."""

import dataclasses
from typing import Any, Literal, get_args, get_origin

# Every choice, once: an experiment that sets anything else is refused, and code that forgets one fails its type check.
Operand = Literal["f32", "bf16", "int8"]
Compute = Literal["auto", "f32", "bf16", "int8"]
Layers = Literal["auto", "xla", "native", "native_bf16"]
Weights = Literal["ternary", "int4", "full"]
TierBits = Literal[0, 4, 8]
Decay = Literal["linear", "cosine"]
Reward = Literal["paper", "code", "balanced"]
Replay = Literal["even", "spread"]
Ablation = Literal["none", "supervised", "generator", "shuffled"]
AdvantageForm = Literal["group", "task_relative"]
Signal = Literal["fisher", "activation", "attention", "magnitude", "static", "random"]
Scope = Literal["model", "kind"]
Grain = Literal["block", "matrix"]
Policy = Literal["fixed", "refresh", "progressive", "by_level"]
Split = Literal["test", "dev"]
Preference = Literal["even", "errors", "learnable"]
LevelMix = Literal["frontier", "errors", "learnable"]


class ConfigError(ValueError):
    """A configuration that cannot run; the message is one line: what, where, what to do."""


def called(type_: type) -> str:
    """A type's name in error messages."""
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[type_]


def chosen(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    """``value``, if it is one of the ``choices``; raises ``ConfigError`` else, which names ``where``."""
    if type(value) is not type(choices[0]):
        raise ConfigError(f"{where} must be {called(type(choices[0]))}, not {value!r}")
    if value not in choices:
        raise ConfigError(f"{where} must be one of {', '.join(map(str, choices))}; it is {value!r}")
    return value


class _Settings:
    """A group of settings. None can be made, by whomever, whose choice is unknown: so no `if` falls through to another
    choice's code."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if get_origin(field.type) is Literal:
                chosen(getattr(self, field.name), get_args(field.type), f"{type(self).__name__}.{field.name}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(_Settings):
    """Shape of the ternary transformer; 0.1M to 200M parameters by changing numbers only."""

    num_layers: int = 4
    width: int = 128  # D, residual stream
    num_heads: int = 4  # H, query heads
    num_kv_heads: int = 2  # grouped-query attention; divides num_heads
    head_dim: int = 32  # K
    ffn_width: int = 384  # gated ReLU² hidden width
    rope_theta: float = 10_000.0
    smear: int = 0  # preceding tokens whose embeddings are mixed into each input: 0 is plain BitNet
    value_embeddings: bool = False  # a table of tokens in each layer, added to the values under a learned gain
    input_skips: bool = False  # the embeddings again before each layer, under a learned gain
    qk_norm: bool = False  # queries and keys of RMS 1, queries times a learned gain a head
    conv: int = 0  # taps of a causal depthwise convolution on q, k and v; 0: none
    zero_outputs: bool = False  # attention's and FFN's last matrices begin at 0, so that a layer begins as the identity
    remat: bool = False  # recompute each layer's forward in the backward pass
    compute: Compute = "auto"  # operand type of the products; auto: the fastest, measured once
    layers: Layers = "auto"  # training's layers: XLA's code; C++ with products in f32 or bf16; auto: as measured
    max_tier: TierBits = 8  # largest residual tier the state may hold
    weights: Weights = "ternary"  # controls: int4 (absmax of each row, no ternary base), full (unquantised)

    @property
    def native(self) -> bool:
        """Whether its layers are in C++."""
        return self.layers in ("native", "native_bf16")

    @property
    def bf16_products(self) -> bool:
        """Whether products of its layers in C++ have bf16 factors, where integers do not do."""
        return self.layers == "native_bf16"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimiser(_Settings):
    """Muon on the latent matrices, Adam on all else: embeddings, convolution, gains."""

    lr: float = 6e-3  # peak, warm-up phase
    lr_warmup: int = 100  # steps of linear rise
    lr_decay: Decay = "linear"  # how the learning rate falls from its peak to lr_end × peak
    lr_flat: float = 0.65  # share of the warm-up's steps after which it begins to fall
    lr_end: float = 0.0  # last learning rate of warm-up ÷ peak
    lr_gains: float = 0.5  # learning rate of all that is no matrix of a layer ÷ that of those
    momentum: float = 0.95  # of Muon
    row_beta: float = 1.0  # decay of the mean squares by which the rows of Muon's steps are evened; 1: they are not
    beta1: float = 0.9  # of Adam
    beta2: float = 0.95
    weight_decay: float = 0.0
    clip: float = 1.0  # global gradient norm
    microbatches: int = 0  # equal parts of an update's rows, a backward pass each: less memory; 0: as many as it takes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warmup(_Settings):
    """Supervised phase on programs of the generator, labelled by running them."""

    steps: int = 3_000
    batch_size: int = 32  # sequences a step
    ramp_start: float = 0.4  # share of steps with λ = 0
    ramp_end: float = 0.7  # λ = 1 from here on
    deduction: float = 0.6  # shares of the batch; they sum to 1
    abduction: float = 0.15
    induction: float = 0.15
    propose: float = 0.1
    trace: float = 0.7  # share of deduction answers written as a trace
    simplest: bool = False  # abductions are answered by the simplest input found, not by the one that was drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfPlay(_Settings):
    """Absolute-Zero phase: propose, verify, solve, verify, advantage, update."""

    steps: int = 160
    num_tasks: int = 16  # N, proposals and solver slots a step
    kinds: str = ""  # of task in these slots, by name, with commas, as often as each stands there; "": all in turn
    group_size: int = 8  # G, solver rollouts a slot
    learnt_groups: int = 0  # slots whose answers are learned from, those of the most spread; 0: all
    level_budget: bool = False  # of those slots as many of each level as of any other, where they have spread
    rollout_parts: int = 0  # equal parts of the N × G rollouts, in turn: less memory; 0: as many as it takes
    supervised_batch: int = 48  # generator sequences in every update
    dev_every: int = 40  # steps between dev readings of all kinds; 0: none
    dev_items: int = 99  # dev questions a kind in such a reading
    lr: float = 1e-4  # latents move discretely: α/2 to a flip
    lr_flat: float = 1.0  # share of its steps after which the learning rate falls linearly to 0
    lr_gains: float = 0.5  # as ``optimiser.lr_gains``, of its own updates
    temperature: float = 1.0  # of proposals, drawn and trained
    answer_temperature: float = 1.0  # of answers, drawn and trained: below 1 they are nearer the greedy ones
    entropy: float = 1e-3
    kl: float = 0.0  # weight of KL to the integers frozen at self-play start
    max_weight: float = 2.0  # cap of exp(train − sampler)
    supervised: float = 1.0  # weight of the generator loss
    proposer: float = 1.0  # weight of the proposer role's loss
    own_answers: float = 0.0  # weight of the cross-entropy on own right answers where a task has several
    ring: int = 4_096  # tasks kept on the device
    seed_tasks: int = 192  # generator tasks put into the ring before the first step
    replay: Replay = "even"  # tasks that fill slots from the ring: all alike, or by the spread of their last answers
    history: int = 1 << 17  # entries of the set of seen hashes
    reward: Reward = "paper"  # of the proposer: AZR's eq. 4, AZR's code, or min(r̄, 1 − r̄)
    stale: float = 1.0  # what a program seen before pays its proposer ÷ what a new one pays
    off_level: float = 1.0  # likewise one that is not of the level asked for
    advantage: AdvantageForm = "group"  # leave-one-out in the group, or REINFORCE++ of AZR
    ablation: Ablation = "none"  # controls: supervised rows alone; the generator's tasks alone; rewards shuffled
    ema: float = 0.95  # decay of the baselines' mean and σ
    min_sigma: float = 0.1
    min_confidence: float = 0.7  # a task below is rejected and counted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Precision(_Settings):
    """Where bits beyond the ternary base go, and how many; budgets are mean stored bits a ternary-able weight."""

    budget: float = 2.0  # 2.0: all ternary; `largest_budget` is the most a model can hold
    signal: Signal = "fisher"  # what makes a block deserving
    scope: Scope = "model"  # the budget holds over the whole model, or over each matrix by itself
    kinds: str = "qkv,o,gate_up,down"  # matrix kinds that may be promoted at all
    grain: Grain = "block"  # what is promoted: 16 rows, or a whole matrix of one layer
    policy: Policy = "fixed"  # when and at which budget tiers are allocated
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
class Tasks(_Settings):
    """Programs, prompts and the curriculum."""

    context: int = 160  # tokens of a packed training sequence
    prompt: int = 96  # P, tokens of a prompt
    completion: int = 64  # C, new tokens of a rollout in self-play
    answer: int = 96  # new tokens of a rollout in evaluation (a trace of an L2 program fits)
    record: int = 192  # tokens of a task in the ring
    pairs: int = 6  # inputs a generated program is run on
    packed: int = 2  # pairs of one program in a training example; more would be answered by analogy
    shown: int = 3  # pairs an induction task shows; the others are hidden
    open_levels: int = 3  # L0 … are open from the start
    productions: Preference = "even"  # of the grammar, in training programs: alike, or by what training gets right
    levels: LevelMix = "frontier"  # of training programs: half at the frontier, or by what training gets right
    unlock_every: int = 400  # steps between dev measurements, and from one mix to the next
    unlock_at: float = 0.7  # dev accuracy of the frontier that opens the next level
    dev_items: int = 64  # programs a dev measurement asks below λ = 1
    mastery_items: int = 200  # and at λ = 1, where it decides what is mastered
    guarded: int = 400  # held-out programs of a level and split that no proposal may behave like
    workers: int = 0  # generator processes; 0: one, and more while the trainer waits for them, within the cores
    nice: int = 19  # their niceness; 19: an idle core is theirs, and the trainer waits where that is not enough


@dataclasses.dataclass(frozen=True, kw_only=True)
class Executor(_Settings):
    """Limits of model-written programs."""

    fuel: int = 20_000  # ticks: loop bodies, calls, comprehension items
    cpu_s: float = 0.5
    memory_mb: int = 256
    value_bytes: int = 512  # canonical text of one value; longer is oversize
    workers: int = 0  # programs run at once; 0: as many as cores, 2 to 16
    allow_unsafe: bool = False  # run without seccomp; only on a machine that may be lost


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval(_Settings):
    """Held-out evaluation."""

    split: Split = "test"  # dev where something is to be chosen by what comes out
    items: int = 200  # programs of that split per unlocked level and kind
    locked_items: int = 50
    passk: int = 8
    passk_items: int = 50
    shuffled_items: int = 100
    precision_items: int = 200  # dev programs asked at several precisions
    operation_items: int = 600  # dev deductions by whose operations errors are counted
    batch_size: int = 100  # questions decoded together; n, half of n and k times its items fill batches
    parts: int = 0  # equal parts of such a batch, one after the other: less memory; 0: as many as it takes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(_Settings):
    """One sitting after another."""

    chunk: int = 20  # steps from one report to the next, and of one dispatch at most; divides every boundary
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
