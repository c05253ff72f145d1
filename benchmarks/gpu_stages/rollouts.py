"""Stage 5: tokens a second of rollouts (``rollout.sample``) as self-play samples them, at two batch sizes.

The weights are random, so a row ends by chance at one token in 512. Tokens are those that were drawn, not the prompt's.
Beside the materialised integers that self-play uses: the packed matrices, and the same model in plain bf16.
"""

import functools
import itertools
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu_stages import ahead, models
from benchmarks.gpu_stages.card import fits
from benchmarks.gpu_stages.record import Box, Record, Told
from benchmarks.gpu_stages.training_step import memory_of
from bitzero.config import Config
from bitzero.model import packing, quant, transformer
from bitzero.selfplay import rollout

BATCHES, TOY_BATCHES = (512, 64), (2,)
FORMS = ("dense", "plain", "packed")  # in order of worth
COMPILING = 0.8  # of what is left of the box, at most, for each
REPEATS = 3


def run(part: str, box: Box, record: Record, told: Told) -> None:
    """Measures every form at every batch size that the box allows."""
    cfg = models.config_of(part)
    shaped = {form: model_of(cfg, form, told) for form in FORMS}
    weights = {form: weights_of(shaped[form], form) for form in FORMS}
    cases = list(itertools.product(FORMS, TOY_BATCHES if told.rehearse else BATCHES))
    for form, batch in cases:  # one by one: those that compile beside it would hold up the card
        what = f"{part} {form}, batch {batch}"
        record.doing(f"compiling {what}")
        compiled = functools.partial(compile_sample, shaped[form], weights[form], batch)
        program = ahead.compile_in_time(compiled, box, COMPILING)
        if not isinstance(program, Exception) and not fits(told.card, memory_of(program)):
            program = MemoryError(f"needs {memory_of(program) / 1e9:.1f} GB")
        if not isinstance(program, Exception) and not box.has(1.0):
            program = ahead.NotInTime("no time to measure it")
        if isinstance(program, Exception):
            record.cut(f"{what}: {ahead.first_line(program)}")
            continue
        record.doing(what)
        try:
            row = timed_sampling(program, shaped[form], weights[form], batch, box)
        except Exception as error:  # too little memory, or a fault of the card, in many types
            record.cut(f"{what}: {ahead.first_line(error)}")
            continue
        record.row(config=part, form=form, batch=batch, bytes=memory_of(program), **row)


def model_of(cfg: Config, form: str, told: Told) -> Config:
    """The configuration of a form."""
    return models.variant(cfg, "bf16", "full") if form == "plain" else models.variant(cfg, models.fast_operand(told))


def weights_of(cfg: Config, form: str) -> Any:
    """The tree of random weights in a form."""
    params, tiers = jax.jit(transformer.init, static_argnames="model")(jax.random.key(0), cfg.model)
    if form == "packed":
        return packing.pack(params, tiers, cfg.model)
    if form == "plain":  # as the products want them, not converted at every token
        half = lambda leaf: (
            quant.Full(weight=leaf.weight.astype(jnp.bfloat16)) if isinstance(leaf, quant.Full) else leaf
        )
        whole = quant.unquantised(params, cfg.model)
        return jax.tree.map(half, whole, is_leaf=lambda leaf: isinstance(leaf, quant.Full))
    return jax.jit(quant.materialise, static_argnames="model")(params, tiers, cfg.model)


def compile_sample(cfg: Config, weights: Any, batch: int) -> Any:
    """The compiled sampler of a form."""
    sample = jax.jit(rollout.sample, static_argnames=("model", "max_new"))
    shape = lambda tree: jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
    prompts = jax.ShapeDtypeStruct((batch, cfg.tasks.prompt), jnp.int32)
    key, temperature = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), jnp.float32)
    wanted = {"max_new": cfg.tasks.completion, "temperature": temperature}
    return sample.lower(key, shape(weights), prompts, cfg.model, **wanted).compile()


def timed_sampling(program: Any, cfg: Config, weights: Any, batch: int, box: Box) -> dict[str, Any]:
    """Tokens a second of the fastest of a few calls, after one that counts for nothing."""
    prompts = jax.random.randint(jax.random.key(1), (batch, cfg.tasks.prompt), 64, 500)
    call = lambda key: jax.block_until_ready(program(key, weights, prompts, temperature=jnp.float32(1)))
    call(jax.random.key(2))
    began, best = time.time(), {"tokens_per_s": 0.0}
    for repeat in range(REPEATS):
        start = time.perf_counter()
        drawn = call(jax.random.key(3 + repeat))
        seconds = time.perf_counter() - start
        tokens = int(drawn.mask.sum())
        if tokens / seconds > best["tokens_per_s"]:
            best = {"tokens_per_s": tokens / seconds, "seconds": seconds, "tokens": tokens}
        if not box.has(2 * seconds):
            break
    return best | {"at": (began, time.time())}
