"""What a run says to a person: ratios beside the rows, a line a stage, one table at the end."""

import itertools
import statistics
from collections.abc import Iterator
from typing import Any

Rows = list[dict[str, Any]]


def compare(stage: str, merged: dict[str, Any]) -> None:
    """Adds to rows what only shows beside others: against cuBLAS bf16 and a copy, against the unquantised model."""
    rows: Rows = merged["rows"]
    if stage == "products":
        copied = merged["notes"].get("library", {}).get("copy_bytes_per_s")
        dense = {(row["m"], row["n"], row["k"]): row for row in rows if row["product"] == "dense bf16"}
        for row in rows:
            beside = dense.get((row["m"], row["n"], row["k"]))
            if beside:
                row["over_bf16"] = round(beside["cold_s"] / row["cold_s"], 3)
                row["over_bf16_warm"] = round(beside["warm_s"] / row["warm_s"], 3)
            if copied:
                row["of_copy"] = round(row["bytes"] / row["cold_s"] / copied, 4)
    if stage == "training":
        peers = {"plain bf16": "over_plain", "torch": "over_torch", "torch compiled": "over_compiled"}
        speeds = {(row["config"], row["rows"], row["variant"]): row["tokens_per_s"] for row in rows}
        for row, (name, field) in itertools.product(rows, peers.items()):
            beside = speeds.get((row["config"], row["rows"], name))
            if beside:
                row[field] = round(row["tokens_per_s"] / beside, 3)


def outcome(stage: dict[str, Any]) -> str:
    """One line: rows, seconds, what failed, what was cut."""
    words = [f"{len(stage['rows'])} rows in {stage['seconds']:.0f} s"]
    words += [f"FAILED {part}: {line}" for part, line in stage["failed"].items()]
    words += [f"{len(stage['cut'])} cut"] if stage["cut"] else []
    words += [f"no {name} ({why})" for name, why in stage["absent"].items()]
    return " · ".join(words)


def table(run: dict[str, Any]) -> str:
    """Everything on one page."""
    head = f"{run['card']['name']} · JAX {run['card']['versions']['jax']} · commit {run['commit']}"
    lines = [
        head,
        f"{run['seconds']:.0f} of {60 * run['minutes']:.0f} s" + (" · REHEARSAL" if run["rehearsal"] else ""),
    ]
    writers = {
        "exactness": _exactness, "products": _products, "tiles": _tiles, "training": _training, "rollouts": _rollouts,
        "selfplay": _selfplay, "run": _run,
    }  # fmt: skip
    for name, stage in run["stages"].items():
        lines += ["", f"── {name}: {outcome(stage)}"]
        lines += list(writers[name](stage))
        lines += [f"   cut: {sentence[:200]}" for sentence in stage["cut"]]
    return "\n".join(lines)


def _exactness(stage: dict[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys(row["backend"] for row in stage["rows"]):
        mine = [row for row in stage["rows"] if row["backend"] == name]
        wrong = [row for row in mine if not row["exact"]]
        first = f"; the first that is not: {wrong[0]}" if wrong else ""
        yield f"   {name:8} {len(mine) - len(wrong)} of {len(mine)} exact{first}"


def _products(stage: dict[str, Any]) -> Iterator[str]:
    note = stage["notes"].get("library")
    if note:
        int8 = note.get("int8_operations_per_s")
        rate = f" · dense int8 {int8 / 1e12:.1f} T operations/s" if int8 else ""
        yield f"   copy {note['copy_bytes_per_s'] / 1e9:.0f} GB/s{rate}"
    yield f"   {'N×K':>11} {'M':>5} {'product':11}   cold µs   warm µs  host µs  × bf16  of copy"
    rows = sorted(stage["rows"], key=lambda row: (row["n"] * row["k"], row["m"]))
    for row in rows:
        cold, warm, host = (1e6 * row[name] for name in ("cold_s", "warm_s", "host_s"))
        size, of_copy = f"{row['n']}×{row['k']}", f"{100 * row['of_copy']:7.1f}%" if "of_copy" in row else ""
        yield (
            f"   {size:>11} {row['m']:5} {row['product']:11} {cold:9.1f} {warm:9.1f} {host:8.1f} "
            f"{row.get('over_bf16', 0):7.2f} {of_copy}"
        ).rstrip()
    for name in dict.fromkeys(row["product"] for row in rows):
        over = [row["over_bf16"] for row in rows if row["product"] == name and "over_bf16" in row]
        if over and name != "dense bf16":
            mean = statistics.geometric_mean(over)
            yield f"   {name}: {mean:.2f} × cuBLAS bf16 over {len(over)} products (geometric mean)"


def _tiles(stage: dict[str, Any]) -> Iterator[str]:
    for row in stage["rows"]:
        gain, tile = row["default_s"] / row["cold_s"], " ".join(f"{key} {value}" for key, value in row["tile"].items())
        yield f"   {row['n']}×{row['k']} M={row['m']}: {gain:.2f} × the default tile, of {row['tried']}: {tile}"


def _training(stage: dict[str, Any]) -> Iterator[str]:
    yield (
        f"   {'config':9} {'variant':15} {'rows':>5} {'parts':>5} {'step s':>8} {'tokens/s':>9} {'FLOP use':>8} "
        f"{'× plain':>7} {'× torch':>7} {'watts':>6} {'tokens/J':>8}"
    )
    for row in stage["rows"]:
        used = f"{100 * row['flop_use']:7.1f}%" if row.get("flop_use") else " " * 8
        yield (
            f"   {row['config']:9} {row['variant']:15} {row['rows']:5} {row['parts']:5} {row['step_s']:8.3f} "
            f"{row['tokens_per_s']:9.0f} {used} {row.get('over_plain', ''):>7} {row.get('over_torch', ''):>7} "
            f"{row.get('watts', ''):>6} {row.get('tokens_per_joule', ''):>8}"
        ).rstrip()


def _rollouts(stage: dict[str, Any]) -> Iterator[str]:
    for row in stage["rows"]:
        power = f" · {row['watts']} W" if "watts" in row else ""
        yield f"   {row['config']:9} {row['form']:7} batch {row['batch']:4}: {row['tokens_per_s']:9.0f} tokens/s{power}"


def _selfplay(stage: dict[str, Any]) -> Iterator[str]:
    for row in stage["rows"]:
        yield (
            f"   {row['config']:9} {row['texts']:20} {row['step_s']:7.2f} s a step, {row['host_s']:.2f} s "
            f"({100 * row['host_share']:.0f} %) of it waiting for the host"
        )


def _run(stage: dict[str, Any]) -> Iterator[str]:
    for row in stage["rows"]:
        if "accuracy" in row:
            of = f"of {row['n']} ({100 * row['ci_low']:.1f}–{100 * row['ci_high']:.1f})"
            cell = f"L{row['level']} {row['kind']:9} {100 * row['accuracy']:5.1f} % {of}"
            yield f"   {cell}, trivial {100 * row['trivial']:.1f}"
        else:
            speed = f"{row['tokens']:,} tokens, {row['tokens_per_second']:.0f} tokens/s"
            yield f"   {row['config']}: {row['step']} of {row['steps']} steps, {speed}"
