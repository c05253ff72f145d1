"""Nats per answer token on held-out programs: the measure with the least noise, and the distance between two policies.

Dev programs in the solver's three forms, one pair each, teacher-forced. Test programs are for the final table alone.
"""

import dataclasses
import functools
import random
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, UInt16

from bitzero.config import Config, Model
from bitzero.evaluation.questions import Heldout
from bitzero.generator.programs import Program
from bitzero.model import transformer
from bitzero.selfplay import objective
from bitzero.tasks import tokens
from bitzero.tasks.kinds import TASK_KINDS, TooLong
from bitzero.tasks.sequences import training_example

ROWS = 16  # sequences of a batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerRows:
    """Held-out answers as rows of packed examples, in batches of one shape."""

    tokens: UInt16[np.ndarray, "n rows T"]
    mask: Bool[np.ndarray, "n rows T"]  # True: a token of an answer


def programs_by_level(cfg: Config, items: int) -> dict[int, int]:
    """For each level open from the start its even share of ``items`` dev programs, rounded up."""
    return {level: -(-items // cfg.tasks.open_levels) for level in range(cfg.tasks.open_levels)}


def dev_programs(heldout: Heldout, cfg: Config, items: int) -> list[Program]:
    """The first dev questions of the levels open from the start: the same ones all through a run."""
    return [made for level, n in programs_by_level(cfg, items).items() for made in heldout("dev", level, n)[:n]]


def answer_rows(found: Sequence[Program], cfg: Config) -> AnswerRows:
    """The programs in all three forms, one pair each, packed into rows; forms that do not fit are left out."""
    single = dataclasses.replace(cfg, tasks=dataclasses.replace(cfg.tasks, packed=1))
    rows: list[tuple[list[int], list[bool]]] = [([], [])]
    for program in found:
        for form in range(len(TASK_KINDS)):
            rng = random.Random(f"heldout/{program.hash}/{form}")
            try:
                ids, mask = training_example(form, program, rng, single)
            except TooLong:
                continue
            if len(rows[-1][0]) + len(ids) > cfg.tasks.context:
                rows.append(([], []))
            rows[-1][0].extend(ids)
            rows[-1][1].extend(mask)
    count = -(-len(rows) // ROWS)
    ids_array = np.full((count * ROWS, cfg.tasks.context), tokens.PAD, np.uint16)
    mask_array = np.zeros(ids_array.shape, bool)
    for i, (ids, mask) in enumerate(rows):
        ids_array[i, : len(ids)], mask_array[i, : len(mask)] = ids, mask
    shape = (count, ROWS, cfg.tasks.context)
    return AnswerRows(tokens=ids_array.reshape(shape), mask=mask_array.reshape(shape))


def nats_per_token(
    params: dict[str, Any], precision: dict[str, Any], held: AnswerRows, cfg: Config
) -> tuple[float, int]:
    """Mean cross-entropy in nats an answer token at λ = 1, and how many tokens it is the mean of."""
    total = count = 0.0
    for ids, mask in zip(held.tokens, held.mask, strict=True):
        loss, (_, target) = _loss(params, precision, ids, mask, cfg)
        tokens = float(target.sum())
        total, count = total + float(loss) * tokens, count + tokens
    return total / max(count, 1.0), int(count)


_loss = jax.jit(
    lambda params, precision, ids, mask, cfg: objective.supervised_loss(params, precision, ids, mask, cfg, None),
    static_argnames="cfg",
)


def divergence_of_precisions(
    params: dict[str, Any], old: dict[str, Any], new: dict[str, Any], held: AnswerRows, model: Model
) -> float:
    """Mean KL(old‖new) in nats an answer token between the same weights under two ``precision`` collections."""
    total = count = 0.0
    for ids, mask in zip(held.tokens, held.mask, strict=True):
        before, target = _answer_logprobs(params, old, ids, mask, model)
        after, _ = _answer_logprobs(params, new, ids, mask, model)
        kl = jnp.sum(jnp.exp(before) * (before - after), axis=-1)
        total, count = total + float(jnp.sum(kl * target)), count + float(jnp.sum(target))
    return total / max(count, 1.0)


@functools.partial(jax.jit, static_argnames="model")
def _answer_logprobs(
    params: dict[str, Any],
    precision: dict[str, Any],
    ids: Integer[Array, "rows T"],
    mask: Bool[Array, "rows T"],
    model: Model,
) -> tuple[Float[Array, "rows T V"], Bool[Array, "rows T"]]:
    """log p of every next token, and which next tokens are answers."""
    ids = ids.astype(jnp.int32)
    logits = transformer.apply(params, precision, ids, objective.segments_of(ids), model)
    return jax.nn.log_softmax(logits), jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
