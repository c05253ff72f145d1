"""``--mode=eval --model=FILE``: the held-out table of a packed model, which needs no run and no checkpoint.

python launch.py --mode=eval --model=runs/azr_small/packed.npz [--workdir=FOLDER]

The same questions, judged in the same way, as at the end of its run. What only a checkpoint knows is left out.
"""

import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from bitzero.config import Config
from bitzero.evaluation.questions import Solver
from bitzero.evaluation.table import measure_row, table_questions
from bitzero.generator.stream import Stream
from bitzero.model import packing, quant
from bitzero.run import device, evaluate, fit, layers, packed_file, workdir
from bitzero.run.experiment import Override, read_packed_config
from bitzero.run.progress import Progress
from bitzero.run.sitting import Ledger, open_sandbox
from bitzero.run.workdir import RunError
from bitzero.sandbox import Sandbox

LEFT_OUT = ("skeletons never trained on", "the proposer", "several precisions", "before self-play")


def main(file: pathlib.Path, overrides: Sequence[Override], home: pathlib.Path | None) -> int:
    """Asks the model in ``file``, prints the table, and writes ``home/eval.json`` where a folder is given.

    Raises ``RunError`` for a file that is no packed model or a folder that is a run's, ``ConfigError`` for settings.
    """
    if home is None:
        _evaluate(file, overrides, None)
        return 0
    if (home / "checkpoints").exists():
        raise RunError(f"{home} is a run, with an eval.json of its own; choose another --workdir")
    with workdir.owned(home):
        _evaluate(file, overrides, home)
    return 0


def _evaluate(file: pathlib.Path, overrides: Sequence[Override], home: pathlib.Path | None) -> None:
    began = time.monotonic()
    with Progress() as progress:
        device.configure_jax(progress.say)
        loaded = packed_file.load(file, say=progress.say)
        step, commit, open_levels = packed_file.origin(file, loaded.cfg)
        cfg = layers.asking(read_packed_config(loaded.cfg, overrides))
        cfg = fit.fit_run(cfg, Ledger(operand=quant.operand_of(cfg.model)), progress, ("asking",))
        solver = dense_solver(loaded, cfg)
        progress.say(f"evaluating {file}, step {step:,}, made at commit {commit}")
        with open_sandbox(cfg) as sandbox, Stream(cfg) as stream:
            rows = _measure_rows(solver, open_levels, stream, sandbox, progress)
            found = evaluate.operation_rows(solver, stream, progress)
        result: dict[str, Any] = {
            "commit": device.source_commit(), "model": file.name, "model_commit": commit, "step": step, "rows": rows,
            "operations": found, "left_out": list(LEFT_OUT), "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip
        if home is not None:
            workdir.write_json(home / "eval.json", result)
        _print(result, progress)


def dense_solver(loaded: Solver, cfg: Config) -> Solver:
    """The packed model as plain integers, which answer batches faster; in C++ with sums in another order."""
    weights = packing.to_dense(loaded.weights, quant.operand_of(loaded.cfg.model))
    return dataclasses.replace(
        loaded, weights=weights, cfg=cfg, batch_size=cfg.eval.batch_size, parts=max(cfg.eval.parts, 1)
    )


def _measure_rows(
    solver: Solver, open_levels: int, stream: Stream, sandbox: Sandbox, progress: Progress
) -> list[dict[str, Any]]:
    evaluate.request_heldout_programs(stream, solver.cfg, open_levels)
    rows = []
    for group in table_questions(stream.heldout_draws, solver.cfg, open_levels):
        progress.say(f"asking L{group.level} {group.kind.name} ({len(group.tasks)} items)")
        row, _, _ = measure_row(group, solver, None, sandbox)
        rows.append(row)
    return rows


def _print(result: dict[str, Any], progress: Progress) -> None:
    if result["rows"]:
        progress.console.print(evaluate.accuracy_table(result["rows"]))
    if result["operations"]:
        progress.console.print(evaluate.operations_table(result["operations"]))
    for sentence in evaluate.row_sentences(result["rows"]):
        progress.say(sentence)
    progress.say(f"left out, a packed file does not hold what it takes: {', '.join(LEFT_OUT)}")
