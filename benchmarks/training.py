"""Where a training step's time goes: QAT against full precision, tiers and their signals, parts of a self-play step.

    python benchmarks/training.py [--config=experiments/azr_small.py] [--repeats=5]

Prints three tables and writes benchmarks/results/training.json. Every figure is the best of the repeats, in one run;
the parts of a self-play step are its stages compiled apart, on a freshly initialised model, so their sum is not the
step's time to the last per cent.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("PJRT_NPROC", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import jax
import jax.numpy as jnp
import rich.console
import rich.table

from bitzero.config import Config, with_operand
from bitzero.generator.stream import BatchOrder, Stream
from bitzero.model import precision, quant
from bitzero.run import device
from bitzero.run.experiment import read_config
from bitzero.run.sitting import sandbox_workers
from bitzero.sandbox import Limits, Sandbox
from bitzero.selfplay import loop, verify, warmup
from bitzero.state import Judged, Supervised

STEPS = 8  # of a timed warm-up chunk


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="experiments/azr_small.py")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    cfg = read_config(str(ROOT / given.config))
    with Sandbox(Limits(value_bytes=cfg.sandbox.value_bytes), workers=sandbox_workers(cfg)) as sandbox:
        with Stream(cfg) as stream:
            batch = batch_of(stream, cfg, "warmup", STEPS, cfg.warmup.batch_size)
            qat = warm(cfg, batch, given.repeats)
            tiers = tiered(cfg, batch, given.repeats)
            parts = play(cfg, stream, sandbox, given.repeats)
    result = {
        "config": given.config, "warmup": qat, "precision": tiers, "selfplay_seconds": parts,
        "machine": device.describe_machine(),
    }  # fmt: skip
    show(result)
    path = ROOT / "benchmarks" / "results" / "training.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


def batch_of(stream: Stream, cfg: Config, phase: str, steps: int, rows: int) -> Supervised:
    """Generator sequences, as training takes them."""
    order = BatchOrder(
        step=0, steps=steps, batch_size=rows, context=cfg.tasks.context, open_levels=3, frontier=0, phase=phase
    )  # fmt: skip
    batch = stream.take_batch(order)
    return Supervised(tokens=batch.tokens, mask=batch.mask, kind=batch.kind, level=batch.level)


def best(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Least wall and processor seconds of a call, after one to compile."""
    jax.block_until_ready(call())
    wall = cpu = float("inf")
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        wall, cpu = min(wall, time.perf_counter() - started), min(cpu, time.process_time() - used)
    return wall, cpu


def warm(cfg: Config, batch: Supervised, repeats: int) -> list[dict[str, Any]]:
    """Wall and processor µs a token position of each phase and float operand type."""
    rows = []
    positions = batch.tokens.size
    for operand in ("bf16", "f32", "int8"):
        for phase in ("full", "integer"):
            fresh = warmup.init_state(cfg)
            call = functools.partial(run_copy, fresh, batch, with_operand(cfg, operand), phase)
            wall, cpu = best(call, repeats)
            rows.append(
                {"operand": operand, "phase": phase, "wall_us": 1e6 * wall / positions, "cpu_us": 1e6 * cpu / positions}
            )
    return rows


def tiered(cfg: Config, batch: Supervised, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of a λ = 1 step without tiers, with them (half of the blocks at 4 bits), and with their signals.

    The variants take turns, three times ``repeats`` rounds, so that the machine's noise falls on all alike; "ratio" is
    to the first one, of the least times.
    """
    with_tiers = dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, max_tier=4))
    plain = warmup.init_state(dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, max_tier=0)))
    signals = warmup.init_state(with_tiers)
    half = jax.tree.map(lambda a: a.at[:, ::2].set(4) if a.dtype == jnp.int8 else a, signals.precision)
    signals = dataclasses.replace(signals, precision=half)
    variants = {
        "ternary": (plain, dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, max_tier=0))),
        "tiers": (dataclasses.replace(signals, allocation=None), with_tiers),
        "tiers and signals": (signals, with_tiers),
    }
    calls = {
        name: functools.partial(run_copy, s, batch, with_operand(c, "bf16"), "integer")
        for name, (s, c) in variants.items()
    }
    least = {name: best(call, 1)[0] for name, call in calls.items()}
    for _ in range(3 * repeats):
        for name, call in calls.items():
            least[name] = min(least[name], best(call, 1)[0])
    bits = {name: float(precision.mean_stored_bits(s.precision, with_tiers.model)) for name, (s, _) in variants.items()}
    return [
        {"variant": name, "ms": 1e3 * wall / STEPS, "ratio": wall / least["ternary"], "stored_bits": bits[name]}
        for name, wall in least.items()
    ]


def run_copy(state: Any, batch: Supervised, cfg: Config, phase: str) -> Any:
    """A chunk on a copy of the state, which the call gives away."""
    return warmup.run_chunk(jax.tree.map(jnp.copy, state), batch, cfg, phase)[1]["loss/total"]


def play(cfg: Config, stream: Stream, sandbox: Sandbox, repeats: int) -> dict[str, float]:
    """Wall seconds of each stage of one self-play step, and of the step as a whole."""
    cfg = with_operand(cfg, device.measure_operand(cfg.model))
    door = verify.Door(sandbox, cfg)
    tasks = [task for task, _ in stream.tasks(cfg.selfplay.seed_tasks, 0, open_levels=3)]
    state = loop.start_selfplay(warmup.init_state(cfg), verify.ring_rows(tasks, True, cfg), cfg)
    chunk = batch_of(stream, cfg, "selfplay", 1, cfg.selfplay.supervised_batch)
    items = jax.tree.map(lambda a: jnp.asarray(a[0]), chunk)
    key = jax.random.key(0)
    jit = functools.partial(jax.jit, static_argnames="cfg")
    weights = quant.materialise(state.params, state.precision, cfg.model)
    propose, solve, learn = jit(loop.propose), jit(loop.solve), jit(loop.learn)
    proposals = propose(key, state, weights, cfg)
    verdict = door.propose(
        proposals.prompt, proposals.rollout.tokens, proposals.kind, proposals.level, state.step, state.trace_mode
    )
    state, slots = jax.jit(loop.admit)(key, state, proposals, {k: jnp.asarray(v) for k, v in verdict.items()})
    answers = solve(key, weights, slots, cfg)
    shape = (cfg.selfplay.num_tasks, cfg.selfplay.group_size)
    judged = Judged(
        reward=jnp.zeros(shape).at[:, 0].set(1.0), counted=jnp.ones(shape, bool), trivial=jnp.zeros(shape[:1], bool)
    )
    state, credit = loop.advantage(state, slots, judged, cfg)
    tokens = answers.tokens.reshape(*shape, -1)
    stages = {
        "propose": lambda: propose(key, state, weights, cfg),
        "verify proposals": lambda: door.propose(
            proposals.prompt, proposals.rollout.tokens, proposals.kind, proposals.level, state.step, state.trace_mode
        )["gate"],
        "solve": lambda: solve(key, weights, slots, cfg),
        "verify answers": lambda: door.solve(slots.record, tokens, state.step)["reward"],
        "update": lambda: learn(state, proposals, slots, answers, judged, credit, items, cfg)[1],
    }
    seconds = {name: best(stage, repeats)[0] for name, stage in stages.items()}
    whole = lambda: loop.run_chunk(jax.tree.map(jnp.copy, state), chunk, cfg, door)[1]["loss/total"]
    return seconds | {"whole step": best(whole, repeats)[0]}


def show(result: dict[str, Any]) -> None:
    """The three tables."""
    console = rich.console.Console()
    table = rich.table.Table("operand", "phase", "wall µs/token", "cpu µs/token", title="warm-up step", box=None)
    for row in result["warmup"]:
        table.add_row(row["operand"], row["phase"], f"{row['wall_us']:.1f}", f"{row['cpu_us']:.1f}")
    console.print(table)
    table = rich.table.Table("step at λ = 1", "ms", "ratio", title="precision tiers", box=None)
    for row in result["precision"]:
        table.add_row(row["variant"], f"{row['ms']:.1f}", f"{row['ratio']:.3f}")
    console.print(table)
    table = rich.table.Table("stage", "seconds", title="self-play step", box=None)
    for name, seconds in result["selfplay_seconds"].items():
        table.add_row(name, f"{seconds:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
