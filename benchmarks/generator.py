"""Speed and make-up of the program generator, by level: `python benchmarks/generator.py`.

With `--feed=1000000` only how many cores a trainer of so many tokens a second needs for its training rows, which
workers of the generator make (`--config` says of which shape).

One process, one core: candidates and kept programs a second of processor time (after deduplication within the run),
what became of the candidates, and token lengths. Writes `benchmarks/results/generator.json` with machine and commit.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
REASONS = ("dead", "split", "failed", "constant", "trivial", "level")  # why a candidate is not kept
sys.path.insert(0, str(ROOT))

from bitzero.config import Config  # noqa: E402
from bitzero.generator.orders import BatchOrder, pack_step  # noqa: E402
from bitzero.generator.programs import Counts, Program, generate  # noqa: E402
from bitzero.run.experiment import read_config  # noqa: E402
from bitzero.tasks import levels  # noqa: E402
from bitzero.tasks.tokens import encode  # noqa: E402
from bitzero.tasks.trivial import CONSTANTS  # noqa: E402


def main() -> None:
    """Measure every level, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=1000, help="programs a level")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=0, help="programs of each level to print")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "benchmarks" / "results" / "generator.json")
    parser.add_argument("--feed", type=float, default=0, help="tokens a second: says the cores they need, and no more")
    parser.add_argument("--config", default="experiments/azr_small.py", help="with --feed: shape of the rows")
    flags = parser.parse_args()
    if flags.feed:
        feed(flags.feed, read_config(str(ROOT / flags.config)))
        return
    rows = []
    for level in range(levels.NUM_LEVELS):
        programs, row = measure_level(level, flags.n, flags.seed)
        rows.append(row)
        show(row, first=level == 0)
        for program in programs[: flags.samples]:
            print("\n".join(["", program.code, *map(pair, program.inputs, program.outputs, program.traces)]))
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    flags.out.write_text(json.dumps({**machine(), "seed": flags.seed, "programs": flags.n, "levels": rows}, indent=1))


def feed(rate: float, cfg: Config, tokens: int = 50_000) -> None:
    """Prints how many cores make `rate` tokens a second, at the start of a run and with every level open."""
    for open_levels in (cfg.tasks.open_levels, levels.NUM_LEVELS):
        order = BatchOrder(
            step=0, steps=1, batch_size=16, context=cfg.tasks.context, open_levels=open_levels,
            frontier=open_levels - 1,
        )  # fmt: skip
        pack_step(cfg, order, 0)  # imports and tables
        made, step, began = 0, 0, time.process_time()
        while made < tokens:
            step += 1
            made += int((pack_step(cfg, order, step)[1]["tokens"] != 0).sum())
        speed = made / (time.process_time() - began)
        print(
            f"L0 to L{open_levels - 1}: one worker makes {speed:,.0f} tokens a second of processor time; "
            f"{rate:,.0f} tokens/s need {math.ceil(rate / speed)} cores"
        )


def pair(given: str, value: str, trace: str) -> str:
    """One line of a sample."""
    return f"  f({given}) = {value}    {trace}"


def measure_level(level: int, n: int, seed: int) -> tuple[list[Program], dict[str, float]]:
    """Programs of a level and what they cost and are like."""
    counts = Counts()
    began = time.process_time()
    programs = [generate(seed, 0, index, level, counts=counts) for index in range(n)]
    seconds = time.process_time() - began
    distinct = len({program.hash for program in programs})
    shares = {
        name: value / counts.drawn
        for name, value in dataclasses.asdict(counts).items()
        if name not in ("drawn", "kept")
    }
    return programs, {
        "level": level,
        "candidates_s": counts.drawn / seconds,
        "kept_s": distinct / seconds,
        "repeated": 1 - distinct / n,
        **{f"rejected_{name}": share for name, share in shares.items()},
        "trivial": sum(map(trivial, programs)) / n,
        **lengths("code", [program.code for program in programs]),
        **lengths(
            "pair",
            [text + value for program in programs for text, value in zip(program.inputs, program.outputs, strict=True)],
        ),
        **lengths("trace", [trace for program in programs for trace in program.traces]),
    }


def trivial(program: Program) -> bool:
    """Whether a constant, or a copy of one argument, answers more than a third of the pairs."""
    hits = 0
    for text, value in zip(program.inputs, program.outputs, strict=True):
        hits += value in CONSTANTS or value == text or text.startswith(value + ", ") or text.endswith(", " + value)
    return 3 * hits > len(program.outputs)


def lengths(name: str, texts: list[str]) -> dict[str, float]:
    """Median and 95th percentile of the texts' tokens."""
    sizes = sorted(len(encode(text)) for text in texts)
    return {f"{name}_p50": statistics.median(sizes), f"{name}_p95": sizes[int(0.95 * (len(sizes) - 1))]}


def show(row: dict[str, float], first: bool) -> None:
    """One line of the table, under a heading before the first."""
    if first:
        print("level  cand/s  kept/s  repeated  trivial |   " + "  ".join(REASONS) + " |  code   pair  trace (p50/p95)")
    gone = " ".join(f"{100 * row['rejected_' + name]:{len(name)}.1f}%" for name in REASONS)
    sizes = " ".join(f"{row[k + '_p50']:3.0f}/{row[k + '_p95']:<3.0f}" for k in ("code", "pair", "trace"))
    print(
        f"L{row['level']:<4} {row['candidates_s']:8.0f} {row['kept_s']:7.0f} {100 * row['repeated']:8.1f}% "
        f"{100 * row['trivial']:7.1f}% | {gone} | {sizes}",
        flush=True,
    )


def machine() -> dict[str, object]:
    """Where and on what the figures were taken."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    return {
        "machine": model or platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    main()
