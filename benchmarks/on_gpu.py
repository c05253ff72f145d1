"""Every number of this project that needs a GPU, in minutes: correctness, products, tiles, training, rollouts, watts.

    python benchmarks/on_gpu.py --minutes=9 [--stages=exactness,products] [--out=FILE.json]
    python benchmarks/on_gpu.py --rehearse          every stage at toy size, on a CPU, in about a minute

The stages and their shares of the minutes are in ``gpu_stages/__init__.py``, in order of worth. Each part of a stage
is a process of its own with a time box: one that crashes, hangs or needs too much memory ends alone. The JSON
(benchmarks/results/on_gpu-CARD.json) is written after each; what a box cut is in it. Stages that an earlier run left
there, and that this one does not ask for, stay. At the end comes one table. The exit code is 0 if every stage ran, 1 if
some failed, 2 if nothing could begin.

``python -m pallas_kernels.tuning --from=FILE.json`` turns the JSON into the table that the products are chosen by.
"""

import argparse
import concurrent.futures
import contextlib
import functools
import json
import os
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_stages import STAGES, Stage, processes, table, watts  # noqa: E402
from benchmarks.gpu_stages.record import write_json  # noqa: E402

CARD_BOX_S = 60.0  # to start JAX and the card, for the first time on this machine
REHEARSAL_MINUTES = 40.0  # its boxes only end what hangs
QUICK = "--xla_cpu_use_fusion_emitters=false"  # half the time of compiling, most of a rehearsal's

Start = Callable[[Stage, float], dict[str, Any]]
Outcome = tuple[Stage, dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the stages; the value is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="for everything together; 9 unless it is a rehearsal")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--stages", default=",".join(stage.name for stage in STAGES))
    parser.add_argument("--out", type=pathlib.Path)
    given = parser.parse_args(arguments)
    chosen = given.stages.split(",")
    unknown = set(chosen) - {stage.name for stage in STAGES}
    if unknown:
        parser.error(f"no stage {', '.join(sorted(unknown))}; there is: {', '.join(s.name for s in STAGES)}")
    if given.rehearse:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    ends = time.monotonic() + 60 * (given.minutes or (REHEARSAL_MINUTES if given.rehearse else 9.0))
    with tempfile.TemporaryDirectory() as folder:
        return run_stages([s for s in STAGES if s.name in chosen], given, ends, pathlib.Path(folder))


def run_stages(stages: Sequence[Stage], given: argparse.Namespace, ends: float, folder: pathlib.Path) -> int:
    """The card, every stage, the table; the value is the exit code."""
    began = time.monotonic()
    more = ["--rehearse"] if given.rehearse else []
    found = ask_card(folder, more)
    card = found["notes"]
    if not card or not (given.rehearse or re.fullmatch(r"\d+\.\d+", card["capability"])):
        reason = f"the device is a {card['platform']}" if card else found["failed"]
        print(f"on_gpu.py: needs an NVIDIA GPU that JAX can use ({reason}); --rehearse runs on a CPU", file=sys.stderr)
        return 2
    out = given.out or default_out(card["name"], given.rehearse)
    out.parent.mkdir(parents=True, exist_ok=True)
    run: dict[str, Any] = {
        "card": card, "commit": card["machine"]["commit"], "rehearsal": given.rehearse,
        "minutes": round((ends - began) / 60, 2), "stages": earlier(out, card["name"], given.rehearse),
    }  # fmt: skip
    write_json(out, run)
    print(f"{card['name']} · {out}", flush=True)
    turns = side_by_side if given.rehearse else one_by_one
    for stage, outcome in turns(stages, ends, functools.partial(run_stage, run=run, folder=folder, out=out, more=more)):
        run["stages"][stage.name] = outcome | {"commit": run["commit"]}
        run["seconds"] = round(time.monotonic() - began, 1)
        write_json(out, run)
        print(f"{stage.name:10} {table.outcome(outcome)}", flush=True)
    text = table.table(run)
    print(text, flush=True)
    write_json(out, run | {"table": text.splitlines()})
    return int(any(run["stages"][stage.name]["failed"] for stage in stages))


def earlier(out: pathlib.Path, card: str, rehearsal: bool) -> dict[str, Any]:
    """What a run before found on this card, by stage, each with its commit; nothing in a rehearsal."""
    if rehearsal or not out.exists():
        return {}
    run = json.loads(out.read_text())
    same = run["card"]["name"] == card and not run["rehearsal"]
    return {name: {"commit": run["commit"]} | stage for name, stage in run["stages"].items()} if same else {}


def ask_card(folder: pathlib.Path, more: list[str]) -> dict[str, Any]:
    """What ``card`` tells; a rehearsal finds out by it whether this JAX knows the flag that it compiles faster with."""
    ask = lambda: processes.wait(processes.start("card", "card", CARD_BOX_S, folder, folder / "none", more))
    if not more or "XLA_FLAGS" in os.environ:
        return ask()
    os.environ["XLA_FLAGS"] = QUICK
    found = ask()
    if not found["notes"]:  # an unknown flag ends the process
        del os.environ["XLA_FLAGS"]
        found = ask()
    return found


def one_by_one(stages: Sequence[Stage], ends: float, start: Start) -> Iterator[Outcome]:
    """Each stage with what it found, in its share of what those before it left."""
    for at, stage in enumerate(stages):
        box = max(ends - time.monotonic(), 0.0) * stage.share / sum(later.share for later in stages[at:])
        print(f"{stage.name:10} {stage.title}, in {box:.0f} s", flush=True)
        yield stage, start(stage, box)


def side_by_side(stages: Sequence[Stage], ends: float, start: Start) -> Iterator[Outcome]:
    """The same, two at a time, without shares: a rehearsal times nothing, and most of it is compiled on one core."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(start, stage, max(ends - time.monotonic(), 0.0)) for stage in stages]
        for stage, future in zip(stages, futures, strict=True):
            yield stage, future.result()


def run_stage(
    stage: Stage, box: float, run: dict[str, Any], folder: pathlib.Path, out: pathlib.Path, more: list[str]
) -> dict[str, Any]:
    """All parts of a stage, merged: rows with their ``part``, and by part what failed and what is absent, and why."""
    began = time.monotonic()
    merged: dict[str, Any] = {"box_s": round(box, 1), "rows": [], "notes": {}, "cut": [], "absent": {}, "failed": {}}
    parts = list(stage.rehearsed if run["rehearsal"] else stage.parts)
    for part in parts[:]:
        reason = processes.missing_backend(part, run["card"])
        if reason:
            merged["absent"][part] = reason
            parts.remove(part)
    meter = watts.PowerMeter()
    with meter if stage.power else contextlib.nullcontext():
        if stage.at_once:
            started = [processes.start(stage.name, part, box, folder, out, more) for part in parts]
            for one in started:
                merge(merged, one.name, processes.wait(one))
        else:
            for at, part in enumerate(parts):
                left = (box - (time.monotonic() - began)) / (len(parts) - at)
                merge(
                    merged, part, processes.wait(processes.start(stage.name, part, max(left, 1.0), folder, out, more))
                )
    if stage.power:
        watts.annotate(merged["rows"], meter.samples)
        if not meter.samples:
            merged["absent"]["watts"] = meter.absent or "no sample was taken"
    table.compare(stage.name, merged)
    return merged | {"seconds": round(time.monotonic() - began, 1)}


def merge(merged: dict[str, Any], part: str, found: dict[str, Any]) -> None:
    """Adds what a part found to its stage."""
    merged["rows"] += [{"part": part} | row for row in found["rows"]]
    merged["cut"] += found["cut"]
    merged["absent"] |= found["absent"]
    if found["notes"]:
        merged["notes"][part] = found["notes"]
    if found["failed"]:
        merged["failed"][part] = found["failed"]


def default_out(card: str, rehearsal: bool) -> pathlib.Path:
    """Where the JSON of a card goes, or that of a rehearsal."""
    name = "-".join(re.findall(r"[a-z0-9]+", card.lower()))
    return ROOT / ("build/on_gpu-rehearsal.json" if rehearsal else f"benchmarks/results/on_gpu-{name}.json")


if __name__ == "__main__":
    sys.exit(main())
