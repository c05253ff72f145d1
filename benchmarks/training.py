"""Where a training step's time goes: QAT against full precision, tiers, a self-play step, and all beside others.

    python benchmarks/training.py [--config=experiments/azr_small.py] [--repeats=5]
    python benchmarks/training.py --tables=beside          beside PyTorch and transformers, where they are installed

Prints the tables (warmup, precision, selfplay, beside) and writes each into benchmarks/results/training.json when it is
done, with machine and commit; a table that did not run stays as it was. Every figure is the best of the repeats, in one
run; the parts of a self-play step are its stages compiled apart, on a freshly initialised model, so their sum is not
the step's time to the last per cent.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("PJRT_NPROC", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import jax
import jax.numpy as jnp
import rich.console
import rich.table

from benchmarks import beside
from benchmarks.gpu_stages.record import write_json
from bitzero.config import Config, with_operand
from bitzero.generator.stream import BatchOrder, Stream
from bitzero.model import precision, quant
from bitzero.run import device, memory
from bitzero.run.experiment import read_config
from bitzero.run.sitting import sandbox_workers
from bitzero.run.train import supervised
from bitzero.sandbox import Limits, Sandbox
from bitzero.selfplay import loop, verify, warmup
from bitzero.state import Judged, Supervised

Found = dict[str, Any]  # a table's fields in the JSON

STEPS = 8  # of a timed warm-up chunk


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints and writes, a table at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="experiments/azr_small.py")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "benchmarks" / "results" / "training.json")
    given = parser.parse_args(arguments)
    chosen = given.tables.split(",")
    if unknown := set(chosen) - set(TABLES):
        parser.error(f"no table {', '.join(sorted(unknown))}; there is: {', '.join(TABLES)}")
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    cfg = read_config(str(ROOT / given.config))
    console = rich.console.Console()
    for name in [name for name in TABLES if name in chosen]:
        measure, show = TABLES[name]
        found = measure(cfg, given.repeats)
        show(found, console)
        about = {"config": given.config, "repeats": given.repeats, "machine": device.describe_machine()}
        earlier = json.loads(given.out.read_text()) if given.out.exists() else {}
        write_json(given.out, earlier | {name: about | found})


def batch_of(stream: Stream, cfg: Config, phase: str, steps: int, rows: int) -> Supervised:
    """Generator sequences, as training takes them."""
    order = BatchOrder(
        step=0, steps=steps, batch_size=rows, context=cfg.tasks.context, open_levels=3, frontier=0, phase=phase
    )  # fmt: skip
    batch = stream.take_batch(order)
    return supervised(batch, productions=memory.state_of(cfg).mix is not None)


def warmup_batch(cfg: Config) -> Supervised:
    """A chunk of warm-up."""
    with Stream(cfg) as stream:
        return batch_of(stream, cfg, "warmup", STEPS, cfg.warmup.batch_size)


def best(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Least wall and processor seconds of a call, after one to compile."""
    jax.block_until_ready(call())
    wall = cpu = float("inf")
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        wall, cpu = min(wall, time.perf_counter() - started), min(cpu, time.process_time() - used)
    return wall, cpu


def warm(cfg: Config, repeats: int) -> Found:
    """Wall and processor µs a token position of each phase and float operand type."""
    rows, batch = [], warmup_batch(cfg)
    positions = batch.tokens.size
    for operand in ("bf16", "f32", "int8"):
        for phase in ("full", "integer"):
            fresh = warmup.init_state(cfg)
            call = functools.partial(run_copy, fresh, batch, with_operand(cfg, operand), phase)
            wall, cpu = best(call, repeats)
            rows.append(
                {"operand": operand, "phase": phase, "wall_us": 1e6 * wall / positions, "cpu_us": 1e6 * cpu / positions}
            )
    return {"rows": rows}


def tiered(cfg: Config, repeats: int) -> Found:
    """Milliseconds of a λ = 1 step without tiers, with them (half of the blocks at 4 bits), and with their signals.

    The variants take turns, three times ``repeats`` rounds, so that the machine's noise falls on all alike; "ratio" is
    to the first one, of the least times.
    """
    batch = warmup_batch(cfg)
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
    rows = [
        {"variant": name, "ms": 1e3 * wall / STEPS, "ratio": wall / least["ternary"], "stored_bits": bits[name]}
        for name, wall in least.items()
    ]
    return {"rows": rows}


def run_copy(state: Any, batch: Supervised, cfg: Config, phase: str) -> Any:
    """A chunk on a copy of the state, which the call gives away."""
    return warmup.run_chunk(jax.tree.map(jnp.copy, state), batch, cfg, phase)[1]["loss/total"]


def play(cfg: Config, repeats: int) -> Found:
    """Wall seconds of each stage of one self-play step, and of the step as a whole."""
    limits = Limits(value_bytes=cfg.sandbox.value_bytes)
    with Sandbox(limits, workers=sandbox_workers(cfg)) as sandbox, Stream(cfg) as stream:
        return {"seconds": stage_seconds(cfg, stream, sandbox, repeats)}


def stage_seconds(cfg: Config, stream: Stream, sandbox: Sandbox, repeats: int) -> dict[str, float]:
    """Of every stage, and of the whole step."""
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


def show_warm(found: Found, console: rich.console.Console) -> None:
    """The table of phases and operand types."""
    table = rich.table.Table("operand", "phase", "wall µs/token", "cpu µs/token", title="warm-up step", box=None)
    for row in found["rows"]:
        table.add_row(row["operand"], row["phase"], f"{row['wall_us']:.1f}", f"{row['cpu_us']:.1f}")
    console.print(table)


def show_tiered(found: Found, console: rich.console.Console) -> None:
    """The table of tiers and signals."""
    table = rich.table.Table("step at λ = 1", "ms", "ratio", title="precision tiers", box=None)
    for row in found["rows"]:
        table.add_row(row["variant"], f"{row['ms']:.1f}", f"{row['ratio']:.3f}")
    console.print(table)


def show_play(found: Found, console: rich.console.Console) -> None:
    """The table of a self-play step's stages."""
    table = rich.table.Table("stage", "seconds", title="self-play step", box=None)
    for name, seconds in found["seconds"].items():
        table.add_row(name, f"{seconds:.3f}")
    console.print(table)


TABLES: dict[str, tuple[Callable[[Config, int], Found], Callable[[Found, rich.console.Console], None]]] = {
    "warmup": (warm, show_warm),
    "precision": (tiered, show_tiered),
    "selfplay": (play, show_play),
    "beside": (lambda cfg, repeats: beside.beside(cfg, 3 * repeats), beside.show),
}

if __name__ == "__main__":
    main()
