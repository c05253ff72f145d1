"""BitZero's training step and sampler beside PyTorch's and transformers', of one shape, in turns in one run.

Training: positions a second of a whole step on the configuration's batch. BitZero's is the run's own step
(``warmup.run_chunk``) with its optimiser, segments and metrics, at λ = 0 and λ = 1; PyTorch's is the plain block of the
same shape under fused AdamW, eager and compiled. Sampling: tokens a second of ``rollout.sample`` on materialised
integers and of ``generate``; both compute every position of every row, BitZero's also where a row has ended. BitZero's
model has its additions (smear, value embeddings, …), a peer's has none: ``parameters`` says how many numbers each has,
and experiments/bitnet_plain.py leaves them out on both sides.

Operands are f32 and, where a run would take other ones here, those; a peer has bf16 beside bf16. Where BitZero's layers
can be had in C++ they have rows of their own. Every peer is a process of its own (``peers``) with as many threads as
XLA has, and waits while another one has its round.
"""

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import rich.console
import rich.table

from benchmarks import peers
from benchmarks.gpu_stages import models, rollouts
from bitzero.config import Config
from bitzero.generator.workforce import usable_cores
from bitzero.run import device, layers
from bitzero.run.sitting import Ledger
from bitzero.selfplay import rollout, warmup

Row = dict[str, Any]
Turn = Callable[[], float]  # seconds of a step, or of a batch of samples, over one round

STEPS = 8  # of a round of training
PHASES = {"λ = 0": "full", "λ = 1": "integer"}
ROWS, PROMPT, NEW = 128, 80, 48  # of sampling


def beside(
    cfg: Config, rounds: int, *, steps: int = STEPS, sampled: tuple[int, int, int] = (ROWS, PROMPT, NEW)
) -> dict[str, list[Row]]:
    """The rows of "training" and "sampling", each the best of the rounds; ``sampled``: rows, prompt, new tokens.

    A row that could not be measured has None for its figures and the reason in "absent"; "over_peer" is its rate to
    that of compiled PyTorch, or of ``generate``, with the same operands.
    """
    operands = list(dict.fromkeys(["f32", device.choose_operand(cfg.model)]))
    return {
        "training": training(cfg, operands, rounds, steps),
        "sampling": sampling(cfg, operands, rounds, *sampled),
    }


def training(cfg: Config, operands: list[str], rounds: int, steps: int) -> list[Row]:
    """A training step of everyone."""
    rows, turns = [], []
    for settled, named in own_sides(cfg, operands):
        for variant, phase in PHASES.items():
            rows.append(
                row_of("BitZero", variant + named, settled.model.compute, parameters=models.parameters(settled))
            )
            turns.append(own_step(settled, phase, steps))
    with contextlib.ExitStack() as stack:
        for operand in [operand for operand in operands if operand != "int8"]:
            for compiled in (False, True):
                told = told_of(cfg, "step", operand, cfg.warmup.batch_size, steps) | {"compiled": compiled}
                peer = stack.enter_context(peers.started(told))
                rows.append(row_of("PyTorch", "compiled" if compiled else "eager", operand, **peer.hello))
                turns.append(peer.round)
        in_turns(rows, turns, rounds)
    return compared(rows, cfg.warmup.batch_size * cfg.tasks.context, "compiled")


def sampling(cfg: Config, operands: list[str], rounds: int, count: int, prompt: int, new: int) -> list[Row]:
    """A batch of samples of everyone."""
    rows, turns = [], []
    for settled, named in own_sides(cfg, operands):
        rows.append(row_of("BitZero", "rollout" + named, settled.model.compute, parameters=models.parameters(settled)))
        turns.append(own_samples(settled, count, prompt, new))
    with contextlib.ExitStack() as stack:
        for operand in [operand for operand in operands if operand != "int8"]:
            told = told_of(cfg, "generate", operand, count, 1) | {"prompt": prompt, "new": new}
            peer = stack.enter_context(peers.started(told))
            rows.append(row_of("transformers", "generate", operand, **peer.hello))
            turns.append(peer.round)
        in_turns(rows, turns, rounds)
    return compared(rows, count * new, "generate")


def own_sides(cfg: Config, operands: list[str]) -> list[tuple[Config, str]]:
    """BitZero with XLA's layers at each operand type, and with those in C++ where they can be had; what to call it."""
    in_cpp = [("f32", "native", ", layers in C++"), ("f32", "native_bf16", ", layers in C++, products in bf16")]
    native = [side for side in in_cpp if layers.why_not(cfg.model, side[1]) is None]
    return [
        (layers.with_layers(cfg, Ledger(operand=operand, layers=whose)), named)
        for operand, whose, named in [*((operand, "xla", "") for operand in operands), *native]
    ]


def row_of(by: str, variant: str, operand: str, **known: Any) -> Row:
    """A row without its figures."""
    return {"by": by, "variant": variant, "operand": operand, "parameters": None, "seconds": None} | known


def told_of(cfg: Config, peer: str, operand: str, rows: int, calls: int) -> dict[str, Any]:
    """What ``peers.started`` is told of any peer."""
    return {
        "peer": peer, "shape": models.shape_of(cfg), "operand": operand, "rows": rows, "calls": calls,
        "threads": int(os.environ.get("PJRT_NPROC", 0)) or usable_cores(),
        "device": "cuda" if jax.default_backend() == "gpu" else "cpu",
    }  # fmt: skip


def own_step(cfg: Config, phase: str, steps: int) -> Turn:
    """Rounds of BitZero's training, one chunk each, compiled by one that counts for nothing."""
    state, batch = models.random_state(cfg), models.random_batch(cfg, steps, cfg.warmup.batch_size)

    def turn() -> float:
        nonlocal state
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(warmup.run_chunk(state, batch, cfg, phase))
        seconds = time.perf_counter() - began
        if not jnp.isfinite(metrics["loss/total"]).all():
            raise ArithmeticError("BitZero's loss is not finite")
        return seconds / steps

    turn()
    return turn


def own_samples(cfg: Config, count: int, prompt: int, new: int) -> Turn:
    """Rounds of BitZero's sampler, a batch each, compiled by one that counts for nothing."""
    weights = rollouts.weights_of(cfg, "dense")
    prompts = jax.random.randint(jax.random.key(1), (count, prompt), 64, 500)
    sample = jax.jit(rollout.sample, static_argnames=("model", "max_new"))
    key = jax.random.key(2)

    def turn() -> float:
        nonlocal key
        key, own = jax.random.split(key)
        began = time.perf_counter()
        drawn = jax.block_until_ready(sample(own, weights, prompts, cfg.model, max_new=new, temperature=jnp.float32(1)))
        seconds = time.perf_counter() - began
        if not drawn.mask[:, -1].any():
            raise ArithmeticError(f"every row ended before its {new} tokens: take more rows")
        return seconds

    turn()
    return turn


def in_turns(rows: list[Row], turns: list[Turn], rounds: int) -> None:
    """Fills in each row's least seconds; the rounds are interleaved, so that the machine's noise falls on all alike."""
    for _ in range(rounds):
        for row, turn in zip(rows, turns, strict=True):
            if "absent" in row:
                continue
            try:
                row["seconds"] = min(row["seconds"] or float("inf"), turn())
            except peers.Gone as reason:
                row |= {"seconds": None, "absent": str(reason)}


def compared(rows: list[Row], tokens: int, reference: str) -> list[Row]:
    """The rows with their rates, and the rates as multiples of the reference's."""
    for row in rows:
        row["tokens_per_s"] = tokens / row["seconds"] if row["seconds"] else None
    rates = {row["operand"]: row["tokens_per_s"] for row in rows if row["variant"] == reference}
    for row in rows:
        yardstick = rates.get(row["operand"])
        row["over_peer"] = row["tokens_per_s"] / yardstick if row["tokens_per_s"] and yardstick else None
    return rows


def show(found: dict[str, list[Row]], console: rich.console.Console) -> None:
    """Both tables, and a line for each peer that is absent."""
    for name, unit, peer in (("training", "positions/s", "compiled PyTorch"), ("sampling", "tokens/s", "generate")):
        head = ("", "variant", "operand", "parameters", "ms", unit, f"× {peer}")
        table = rich.table.Table(*head, title=f"{name} beside others", box=None)
        for row in found[name]:
            if "absent" not in row:
                ratio = f"{row['over_peer']:.2f}" if row["over_peer"] else "–"
                table.add_row(
                    row["by"], row["variant"], row["operand"], f"{row['parameters']:,}", f"{1e3 * row['seconds']:.1f}",
                    f"{row['tokens_per_s']:,.0f}", ratio,
                )  # fmt: skip
        console.print(table)
        for row in found[name]:
            if "absent" in row:
                console.print(f"{row['by']} {row['variant']} {row['operand']}: {row['absent']}", markup=False)
