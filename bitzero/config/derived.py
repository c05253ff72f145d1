"""What follows from the settings: steps, the matrices of a layer, stored bits; and the constants rooms share."""

import dataclasses
import math
from collections.abc import Iterable
from typing import NamedTuple, get_args

from bitzero.config.defaults import Config, Model, Operand, Signal, TierBits

OPERANDS: tuple[Operand, ...] = get_args(Operand)
NUM_LEVELS = 6  # of the curriculum
NUM_PRODUCTIONS = 234  # of the generator's grammar
VOCAB_SIZE = 512  # token ids
PAD = 0  # the id that fills sequences up
BLOCK_ROWS = 16  # output rows that share a tier
TERNARY_BITS = math.log2(3)  # information in a ternary weight; 2 bits are stored
MEASURED_SIGNALS: tuple[Signal, ...] = ("fisher", "activation", "attention")  # the others need no data
INDEX_BITS = 32  # of a promoted block: its place in its matrix


def with_operand(cfg: Config, operand: str) -> Config:
    """``cfg`` with the operand type of its products settled, where ``model.compute`` leaves it to a measurement.

    Raises ValueError for a type that does not exist.
    """
    for known in OPERANDS:
        if operand == known:
            return dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, compute=known))
    raise ValueError(f"operand {operand!r} is not one of {', '.join(OPERANDS)}")


def update_parts(cfg: Config) -> int:
    """Parts of an update: ``optimiser.microbatches``, or 1 while that is to be chosen (0)."""
    return max(cfg.optimiser.microbatches, 1)


def rollout_parts(cfg: Config) -> int:
    """Parts of the answers' rollouts: ``selfplay.rollout_parts``, or 1 while that is to be chosen (0)."""
    return max(cfg.selfplay.rollout_parts, 1)


def with_parts(cfg: Config, *, updates: int, rollouts: int, asking: int) -> Config:
    """``cfg`` with the parts of updates, of rollouts and of a batch of questions settled."""
    return dataclasses.replace(
        cfg,
        optimiser=dataclasses.replace(cfg.optimiser, microbatches=updates),
        selfplay=dataclasses.replace(cfg.selfplay, rollout_parts=rollouts),
        eval=dataclasses.replace(cfg.eval, parts=asking),
    )


def steps_in_all(cfg: Config) -> int:
    """Steps of warm-up and self-play together: the step at which a run is done."""
    return cfg.warmup.steps + cfg.selfplay.steps


def ramp_steps(cfg: Config) -> tuple[int, int]:
    """First step with λ > 0 and first step with λ = 1."""
    return round(cfg.warmup.ramp_start * cfg.warmup.steps), round(cfg.warmup.ramp_end * cfg.warmup.steps)


def refresh_period(cfg: Config) -> int:
    """Steps from one allocation of precision tiers to the next."""
    return cfg.precision.phase_steps * cfg.precision.refresh_every


def last_fall(cfg: Config) -> int:
    """Steps from λ = 1 to the refresh at which a progressive budget has come down; 0 where there is none."""
    steps = steps_in_all(cfg) - ramp_steps(cfg)[1]
    return min(int(cfg.precision.settle * steps), steps - 1) // refresh_period(cfg) * refresh_period(cfg)


class Kernel(NamedTuple):
    """A ternary-able kernel of a layer: matrices with the same input, one below the other."""

    parts: tuple[int, ...]  # rows of each
    columns: int


def kernels(model: Model) -> dict[str, Kernel]:
    """The ternary-able kernels of a layer. Everything that knows of them knows it from this table."""
    queries, keys = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    return {
        "qkv": Kernel((queries, keys, keys), model.width),
        "o": Kernel((model.width,), queries),
        "gate_up": Kernel((model.ffn_width, model.ffn_width), model.width),
        "down": Kernel((model.width,), model.ffn_width),
    }


def kernel_parts(model: Model) -> dict[str, tuple[int, ...]]:
    """Row counts of the merged matrices of each kernel."""
    return {name: kernel.parts for name, kernel in kernels(model).items()}


def kernel_shapes(model: Model) -> dict[str, tuple[int, int]]:
    """Rows and columns of each kernel."""
    return {name: (sum(kernel.parts), kernel.columns) for name, kernel in kernels(model).items()}


def promotable(cfg: Config) -> tuple[str, ...]:
    """The kernels whose blocks may hold a tier, as ``precision.kinds`` names them."""
    return tuple(name.strip() for name in cfg.precision.kinds.split(","))


def spends(cfg: Config) -> bool:
    """Whether the run may ever promote a block: its budget is above 2, or its policy begins or goes above it."""
    return cfg.precision.budget > 2.0 or cfg.precision.policy in ("progressive", "by_level")


def budget_limit(cfg: Config) -> float:
    """The largest ``precision.budget`` that can be spent; under scope "kind" each kernel has a budget of its own."""
    return largest_budget(cfg.model, matrices=None if cfg.precision.scope == "kind" else promotable(cfg))


def largest_budget(model: Model, tier: TierBits | None = None, matrices: Iterable[str] | None = None) -> float:
    """Mean stored bits a ternary-able weight with every block at ``tier`` bits (None: at ``max_tier``).

    With ``matrices`` every block of these kernels; the others stay ternary.
    """
    tier = model.max_tier if tier is None else tier
    shapes = kernel_shapes(model)
    promoted = [shapes[name] for name in (shapes if matrices is None else matrices)]
    more = sum(tier * n * k + (INDEX_BITS * n / BLOCK_ROWS if tier else 0.0) for n, k in promoted)
    return 2.0 + more / sum(n * k for n, k in shapes.values())
