"""Every schedule, a function of the step and never of the clock."""

from typing import Literal, assert_never, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bitzero.config import Config, ramp_steps, steps_in_all

WarmupPhase = Literal["full", "ramp", "integer"]
Phase = WarmupPhase | Literal["selfplay", "done"]
WARMUP_PHASES: tuple[WarmupPhase, ...] = get_args(WarmupPhase)  # in the order in which a run comes to them


def phase(step: int, cfg: Config) -> Phase:
    """Phase of update number ``step``: full (λ = 0) · ramp (0 < λ < 1) · integer (λ = 1) · selfplay · done."""
    if step >= steps_in_all(cfg):
        return "done"
    if step >= cfg.warmup.steps:
        return "selfplay"
    start, end = ramp_steps(cfg)
    return "integer" if step >= end else "ramp" if step >= start else "full"


def is_ternary(step: int, cfg: Config) -> bool:
    """Whether the weights are integers at that step: λ = 1."""
    return phase(step, cfg) not in ("full", "ramp")


def phase_boundaries(cfg: Config) -> list[int]:
    """Steps at which the phase changes; no chunk crosses one."""
    return sorted({*ramp_steps(cfg), cfg.warmup.steps, steps_in_all(cfg)})


def lam(step: Int[Array, ""] | int, cfg: Config) -> Float[Array, ""]:
    """λ of the full → ternary ramp: 0, then linear, then 1."""
    start, end = ramp_steps(cfg)
    return jnp.clip((jnp.asarray(step, jnp.float32) - start) / max(end - start, 1), 0.0, 1.0)


def lr(step: Int[Array, ""] | int, cfg: Config) -> Float[Array, ""]:
    """Learning rate: linear rise, flat, then a fall to ``lr_end`` at the end of the warm-up; self-play flat, then to 0.

    Flat and then linear to zero: arXiv 2405.18392 (the cooldown), 2502.15938 (to zero).
    """
    opt, at = cfg.optimiser, jnp.asarray(step, jnp.float32)
    start, end = opt.lr_flat * cfg.warmup.steps, max(cfg.warmup.steps, 1)
    rise = jnp.minimum((at + 1) / max(opt.lr_warmup, 1), 1.0)
    done = jnp.clip((at - start) / max(end - start, 1.0), 0.0, 1.0)
    match opt.lr_decay:
        case "linear":
            left = 1 - done
        case "cosine":
            left = 0.5 * (1 + jnp.cos(jnp.pi * done))
        case _:
            assert_never(opt.lr_decay)
    warm = opt.lr * rise * (opt.lr_end + (1 - opt.lr_end) * left)
    played, falls = at - cfg.warmup.steps, (1 - cfg.selfplay.lr_flat) * cfg.selfplay.steps
    of_selfplay = jnp.clip((cfg.selfplay.steps - played) / max(falls, 1e-6), 0.0, 1.0)
    return jnp.where(at < cfg.warmup.steps, warm, cfg.selfplay.lr * of_selfplay)
