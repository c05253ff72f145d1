"""Evaluating a run: asks everything, prints the table and the sentences below it, writes ``eval.json``.

What is asked and how it is judged is ``bitzero.evaluation``; files, the clock and the terminal are here. Test programs
decide nothing: modes and levels were chosen on dev.
"""

import functools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import rich.markup
import rich.table

from bitzero.config import Config
from bitzero.evaluation import heldout, operations, precisions, proposing, questions
from bitzero.evaluation.questions import Solver
from bitzero.evaluation.table import (
    RULE_ITEMS,
    AnsweredGroup,
    digits_by_item,
    gains_of_selfplay,
    items_by_level,
    measure_row,
    table_questions,
    unseen_row,
)  # fmt: skip
from bitzero.generator.stream import Stream
from bitzero.run import device, fit, layers, workdir
from bitzero.run.checkpoint import Checkpoints
from bitzero.run.metrics import Metrics
from bitzero.run.progress import Progress
from bitzero.run.sitting import Ledger, Meters, Sitting, go_on, known_of_heldout, open_sandbox
from bitzero.run.stop import Stop
from bitzero.run.workdir import RunError
from bitzero.selfplay.verify import Door
from bitzero.state import TrainState


def main(cfg: Config, home: pathlib.Path) -> int:
    """Evaluates the newest checkpoint in ``home``; raises ``RunError`` where there is none."""
    with workdir.owned(home), Progress() as progress:
        workdir.settle_config(home, cfg, progress.say)
        device.configure_jax(progress.say)
        with Checkpoints(home / "checkpoints", keep=cfg.run.keep, exempt=[cfg.warmup.steps], say=progress.say) as store:
            found = store.latest(questions.checkpoint_structure(cfg))
            if not found:
                raise RunError(f"no checkpoint in {store.path}; train first, with --mode=train")
            state, meta = found
            progress.say(f"evaluating step {int(state.step):,}")
            with open_sandbox(cfg) as sandbox, Stream(cfg) as stream, Metrics(home / "tb", int(state.step)) as metrics:
                ledger = Ledger(**meta)
                cfg = fit.fit_run(layers.with_layers(cfg, ledger), ledger, progress, ("asking",))
                sitting = Sitting(
                    cfg=cfg, home=home, store=store, stream=stream, sandbox=sandbox, door=Door(sandbox, cfg),
                    metrics=metrics, progress=progress, stop=Stop(progress.say), meters=Meters(ledger=ledger),
                    began=time.monotonic(),
                )  # fmt: skip
                evaluate_state(sitting, state)
    return 0


def evaluate_state(sitting: Sitting, state: TrainState) -> dict[str, Any]:
    """Asks everything, prints the table, writes ``eval.json`` and ``items.json``; returns the former's value.

    Raises ``StopAsked``, and nothing is written, if the sitting is asked to end meanwhile.
    """
    began, cfg, stream = time.monotonic(), sitting.cfg, sitting.stream
    now, before = _solver(sitting, state), _solver_before_selfplay(sitting, state)
    answered: list[AnsweredGroup] = []
    request_heldout_programs(stream, cfg, int(state.open_levels))
    for group in table_questions(stream.heldout_draws, cfg, int(state.open_levels)):
        go_on(sitting)
        sitting.progress.say(f"asking L{group.level} {group.kind.name} ({len(group.tasks)} items)")
        row, right, earlier = measure_row(group, now, before, sitting.sandbox)
        answered.append((group, row | unseen_row(group, right, state.skeletons), right, earlier))
    rows = [row for _, row, _, _ in answered]
    result: dict[str, Any] = {
        "commit": device.source_commit(),
        "step": int(state.step),
        "rows": rows,
        "proposer": _measure_proposer(sitting, state, now) if rows else None,
        "precision": _measure_precisions(sitting, state),
        "operations": operation_rows(now, stream, sitting.progress),
        "gain_of_selfplay": gains_of_selfplay(answered),
        "seconds": round(time.monotonic() - began, 1),
    }
    workdir.write_json(sitting.home / "eval.json", result)
    workdir.write_json(
        sitting.home / "items.json", {"seed": cfg.seed, "step": result["step"], "rows": digits_by_item(answered)}
    )
    _print_tables(result, sitting.progress)
    _write_scalars(sitting.metrics, cfg, result)
    return result


def _print_tables(result: dict[str, Any], progress: Progress) -> None:
    """The tables and what they do not say."""
    if result["rows"]:
        progress.console.print(accuracy_table(result["rows"]))
    if result["precision"]:
        progress.console.print(precision_table(result["precision"]))
    if result["operations"]:
        progress.console.print(operations_table(result["operations"]))
    for sentence in summary_sentences(result):
        progress.say(sentence)


def _measure_proposer(sitting: Sitting, state: TrainState, now: Solver) -> dict[str, Any]:
    levels = range(int(state.open_levels))
    references = [program for level in levels for program in sitting.stream.heldout("train", level, 24)]
    return proposing.measure_proposer(state, now, references, sitting.sandbox, known_of_heldout(sitting))


def _measure_precisions(sitting: Sitting, state: TrainState) -> dict[str, Any] | None:
    if not sitting.cfg.eval.precision_items:
        return None
    items = sum(heldout.programs_by_level(sitting.cfg, sitting.cfg.eval.precision_items).values())
    sitting.progress.say(f"asking at several precisions ({items} dev items each)")
    go = functools.partial(go_on, sitting)
    return precisions.measure_precisions(state, sitting.cfg, sitting.stream.heldout_draws, sitting.sandbox, go)


def operation_rows(now: Solver, stream: Stream, progress: Progress) -> list[dict[str, Any]]:
    """The rows of ``operations.measure_operations`` on dev programs; none where none are to be asked about."""
    cfg = now.cfg
    if not cfg.eval.operation_items:
        return []
    asked = heldout.dev_programs(stream.heldout_draws, cfg, cfg.eval.operation_items)
    progress.say(f"asking for errors by operation ({len(asked)} dev items)")
    training = [program for level in range(cfg.tasks.open_levels) for program in stream.heldout("train", level, 100)]
    return operations.measure_operations(now, asked, training)


def request_heldout_programs(stream: Stream, cfg: Config, open_levels: int) -> None:
    """Has the generator make the held-out programs in the background, whenever no training data is wanted."""
    for level, n in items_by_level(cfg, open_levels).items():
        stream.request_heldout(cfg.eval.split, level, n)
        stream.request_heldout("train", level, min(n, RULE_ITEMS))
    for level, n in heldout.programs_by_level(cfg, max(cfg.eval.precision_items, cfg.eval.operation_items)).items():
        stream.request_heldout("dev", level, n)


def accuracy_table(rows: Sequence[dict[str, Any]]) -> rich.table.Table:
    """The rows as a table for people, 80 columns wide."""
    title = "held-out accuracy, % (maj: majority of samples; before: before self-play)"
    out = rich.table.Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    passk = next((name for row in rows for name in row if name.startswith("pass@")), "pass@k")
    for name in ("", "kind", "mode"):
        out.add_column(name, no_wrap=True)
    for name in ("n", "right", "95 % range", "trivial", "shuffled", passk, "maj", "before"):
        out.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        out.add_row(
            f"L{row['level']}", row["kind"], row["mode"], str(row["n"]), _percent_text(row["accuracy"]),
            f"{_percent_text(row['ci_low'])}–{_percent_text(row['ci_high'])}", _percent_text(row["trivial"]),
            _percent_text(row["shuffled"]), _percent_text(row.get(passk)),
            _percent_text(row.get(passk.replace("pass", "majority"))), _percent_text(row["before_selfplay"]),
        )  # fmt: skip
    return out


def precision_table(measured: dict[str, Any]) -> rich.table.Table:
    """The same weights at several precisions; an asterisk marks the one they were trained at."""
    title = (
        f"the same weights at several precisions ({measured['n']} dev deductions, {measured['tokens']:,} answer tokens)"
    )
    out = rich.table.Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in ("", "stored bits", "nats a token", "right, %"):
        out.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in measured["levels"]:
        mark = "*" if row["name"] == measured["trained_as"] else ""
        out.add_row(
            row["name"] + mark, f"{row['stored_bits']:.3f}", f"{row['nats']:.4f}", _percent_text(row["accuracy"])
        )
    return out


def operations_table(rows: Sequence[dict[str, Any]], most: int = 10) -> rich.table.Table:
    """The operations with the worst and the best answers, of those that at least ten of the programs hold."""
    out = rich.table.Table(
        title="dev deductions by operation: the worst and the best", title_justify="left", box=None,
        padding=(0, 1, 0, 0),
    )  # fmt: skip
    for name in ("operation", "programs", "right, %", "its steps right, %", "goes wrong at it", "of programs, %"):
        out.add_column(name, justify="left" if name == "operation" else "right", no_wrap=True)
    often = [row for row in rows if row["programs"] >= 10]
    for row in often if len(often) <= 2 * most else [*often[:most], None, *often[-most:]]:
        if row is None:
            out.add_row("…")
            continue
        kept = row["items_right"] / row["items"] if row["items"] else None
        out.add_row(
            rich.markup.escape(row["operation"]), str(row["programs"]), _percent_text(row["right"]),
            _percent_text(kept), str(row["first_wrong"]), _percent_text(row["seen"]),
        )  # fmt: skip
    return out


def summary_sentences(result: dict[str, Any]) -> list[str]:
    """What the table does not say: more of its rows, the proposer, and the gain of self-play by kind."""
    p = result["proposer"]
    if p is None:
        return []
    lines = [
        *row_sentences(result["rows"]),
        f"proposer: {_percent_text(p['valid'])} % of {p['n']} proposals pass every gate; of these "
        f"{_percent_text(p['novel'])} % are new programs, {_percent_text(p['level_as_asked'])} % of the level asked "
        f"for and {_percent_text(p['learnable'])} % learnable",
    ]
    if p["levels"]:
        lines.append("levels of accepted proposals: " + " ".join(f"L{k} {n}" for k, n in p["levels"].items()))
    for kind, gain in result["gain_of_selfplay"].items():
        lines.append(
            f"self-play changed {kind} by {100 * gain['gain']:+.1f} points "
            f"(95 % {100 * gain['ci_low']:+.1f} to {100 * gain['ci_high']:+.1f}, {gain['n']} items)"
        )
    return lines


def row_sentences(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the rows hold beside their columns; skeletons only where a record of those trained on was at hand."""
    different: dict[str, list[str]] = {}
    for row in rows:
        different.setdefault(f"L{row['level']}", []).append(f"{row['kind']} {_percent_text(row['different'])}")
    shares = "; ".join(f"{level} {', '.join(by)}" for level, by in different.items())
    lines = [f"each program once, %: {shares}"] if different else []
    unseen = [
        f"L{row['level']} {row['kind']} {_percent_text(row['unseen'])} ({row['unseen_n']})"
        for row in rows
        if row.get("unseen_n")
    ]
    lines += [f"skeletons never trained on, % (questions): {', '.join(unseen)}"] if unseen else []
    cut = [f"L{row['level']} {row['kind']} {row['cut']}" for row in rows if row["cut"]]
    return lines + ([f"too long to ask, counted wrong: {', '.join(cut)}"] if cut else [])


def _solver(sitting: Sitting, state: TrainState, *, trace: bool | None = None) -> Solver:
    """The model of ``state``, which is asked until the sitting is asked to end."""
    return questions.solver_of(state, sitting.cfg, trace=trace, go_on=functools.partial(go_on, sitting))


def _solver_before_selfplay(sitting: Sitting, state: TrainState) -> Solver | None:
    """The model at the end of warm-up, asked in the same mode; None where the run has not come past it."""
    cfg, store = sitting.cfg, sitting.store
    if int(state.step) <= cfg.warmup.steps or cfg.warmup.steps not in store.steps():
        return None
    earlier, _ = store.read(cfg.warmup.steps, questions.checkpoint_structure(cfg))
    return _solver(sitting, earlier, trace=bool(state.trace_mode))


def _write_scalars(metrics: Metrics, cfg: Config, result: dict[str, Any]) -> None:
    scalars = {f"eval/test_L{row['level']}_{row['kind']}": row["accuracy"] for row in result["rows"]}
    if result["proposer"]:
        names = ("valid", "learnable", "novel", "level_as_asked")
        scalars |= {f"eval/proposer_{name}": result["proposer"][name] or 0.0 for name in names}
    for row in (result["precision"] or {"levels": []})["levels"]:
        scalars |= {f"eval/nats_{row['name']}": row["nats"], f"eval/accuracy_{row['name']}": row["accuracy"]}
    metrics.scalars(result["step"], scalars)
    metrics.hparams(cfg, scalars)


def _percent_text(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
