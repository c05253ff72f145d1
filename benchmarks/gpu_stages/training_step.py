"""Stage 4: a training step of a model, of the same model in plain dense weights, and of its peer in PyTorch.

The step is the run's own (``warmup.run_chunk``): at λ = 1 with ternary weights and int8 activations, and without any
quantisation. Rows are random text. An update is cut into as many parts as fit the card. Tokens are all positions.
"""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu_stages import ahead, models
from benchmarks.gpu_stages.card import fits
from benchmarks.gpu_stages.record import Box, Record, Told
from bitzero.config import Config
from bitzero.run import memory
from bitzero.selfplay import warmup

SIDE = {"gpu": 8_192, "cpu": 256}  # of the product whose rate stands for the card's peak
SMALL = 32  # rows of the first try: a whole update may take longer than the box
COMPILING = 0.8  # of what is left of the box, at most, for each
NOMINAL = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16 operations a second of the data sheets


def run(part: str, box: Box, record: Record, told: Told) -> None:
    """Measures the variants of one model; ``torch`` its peer in PyTorch."""
    if part == "torch":
        from benchmarks.gpu_stages import torch_peer

        return torch_peer.run(part, box, record, told)
    cfg, operand = models.config_of(part), models.fast_operand(told)
    variants = {
        f"ternary {operand}": (models.variant(cfg, operand), "integer"),
        "plain bf16": (models.variant(cfg, "bf16", "full"), "integer"),  # which is λ = 1: no weight is rounded at all
        "ternary int8": (models.variant(cfg, "int8"), "integer"),
    }
    if told.rehearse:
        variants.pop("ternary int8")
    peak = peak_rate(operand, told)
    record.note(peak_flops=peak, peak_operand=operand, nominal_flops=nominal(told), parameters=models.parameters(cfg))
    rows = min(SMALL, cfg.warmup.batch_size)
    for name, pair in variants.items():  # one by one: those that compile beside it would hold up the card
        record.doing(f"compiling {part} {name}")
        program = ahead.compile_in_time(functools.partial(compile_step, *pair, rows, 1), box, COMPILING)
        time_program(part, name, pair[0], program, rows, 1, box, record, told)
    for name in (f"ternary {operand}", "plain bf16"):
        whole(part, name, *variants[name], box, record, told)


def whole(part: str, name: str, cfg: Config, phase: str, box: Box, record: Record, told: Told) -> None:
    """The shipped number of rows, in as many parts as fit, where the box has room for it."""
    rows = cfg.warmup.batch_size
    parts = models.parts_that_fit(cfg, rows, told.card["pool_bytes"])
    small = [row["step_s"] for row in record.rows() if row["variant"] == name]
    if rows <= SMALL and parts == 1:
        return
    needed = 20.0 + (4 * small[0] * rows / SMALL if small else 0.0)  # 20 s to compile
    if not small or not box.has(needed):
        record.cut(f"{part} {name} with {rows} rows: {needed:.0f} s needed, {box.left():.0f} s left")
        return
    record.doing(f"compiling {part} with {rows} rows in {parts} parts")
    try:
        program = compile_step(cfg, phase, rows, parts)
    except Exception as error:
        program = error
    time_program(part, name, cfg, program, rows, parts, box, record, told)


def compile_step(cfg: Config, phase: str, rows: int, parts: int) -> Any:
    """The compiled step."""
    cut = models.with_parts(cfg, parts)
    state = jax.eval_shape(functools.partial(warmup.init_state, cut))
    return warmup.run_chunk.lower(state, memory.generated(cut, rows, (1,)), cut, phase).compile()


def time_program(
    part: str, name: str, cfg: Config, program: Any, rows: int, parts: int, box: Box, record: Record, told: Told
) -> None:
    """Writes the row of one compiled step, or why there is none. Nine arguments: what is measured, and for whom."""
    what = f"{part} {name}, {rows} rows in {parts} parts"
    if isinstance(program, Exception):
        return record.cut(f"{what}: {ahead.first_line(program)}")
    bytes_needed = memory_of(program)
    if not fits(told.card, bytes_needed):
        return record.cut(f"{what}: needs {bytes_needed / 1e9:.1f} GB")
    record.doing(what)
    try:
        seconds, at = step_seconds(program, cfg, rows, parts, box)
    except Exception as error:  # too little memory, or a fault of the card, in many types
        return record.cut(f"{what}: {ahead.first_line(error)}")
    tokens = rows * cfg.tasks.context
    used = tokens / seconds * models.flops_of_a_token(cfg)
    record.row(
        config=part, variant=name, rows=rows, parts=parts, tokens=tokens, step_s=seconds, tokens_per_s=tokens / seconds,
        flops=used, flop_use=used / record.noted("peak_flops"), bytes=bytes_needed, at=at,
        flop_use_nominal=used / record.noted("nominal_flops") if record.noted("nominal_flops") else None,
    )  # fmt: skip


def step_seconds(program: Any, cfg: Config, rows: int, parts: int, box: Box) -> tuple[float, tuple[float, float]]:
    """Least seconds of a step, and when they were measured; after one that counts for nothing, up to 10 or 4 s."""
    state, batch = models.random_state(models.with_parts(cfg, parts)), models.random_batch(cfg, 1, rows)
    state, metrics = program(state, batch)
    jax.block_until_ready(metrics)
    if not jnp.isfinite(metrics["loss/total"]).all():
        raise ArithmeticError("the loss is not finite")
    least, began = float("inf"), time.time()
    for _ in range(10):
        start = time.perf_counter()
        state, metrics = program(state, batch)
        jax.block_until_ready(metrics)
        least = min(least, time.perf_counter() - start)
        if time.time() - began > 4.0 or not box.has(2 * least):
            break
    return least, (began, time.time())


def memory_of(program: Any) -> int:
    """Bytes that a compiled program needs on the device, by the compiler's count; 0 where it does not say."""
    told = program.memory_analysis()
    if told is None:
        return 0
    return told.argument_size_in_bytes + told.output_size_in_bytes + told.temp_size_in_bytes - told.alias_size_in_bytes


def peak_rate(operand: str, told: Told) -> float:
    """Operations a second (two for each product of numbers) of a large product in that type, the best of five."""
    side = 64 if told.rehearse else SIDE.get(told.card["platform"], SIDE["cpu"])
    a = jax.random.normal(jax.random.key(0), (side, side)).astype(jnp.bfloat16 if operand == "bf16" else jnp.float32)
    dot = jax.jit(lambda a: jnp.dot(a, a, preferred_element_type=jnp.float32))
    jax.block_until_ready(dot(a))
    least = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(dot(a))
        least = min(least, time.perf_counter() - start)
    return 2 * side**3 / least


def nominal(told: Told) -> float | None:
    """The data sheet's rate of the card, where it is known here."""
    return next((rate for name, rate in NOMINAL.items() if name in told.card["name"]), None)
