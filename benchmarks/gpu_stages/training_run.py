"""Stage 8: a model trained for what is left of the minutes, and its held-out table, by ``launch.py`` as a user would.

As many steps of warm-up as the time allows by the measured step, so the figures are those of a very short training: at
λ = 1 from the first step on, or with the ramp where there are minutes for it. No self-play: its compiling would take
what time there is, and its step was measured.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from benchmarks.gpu_stages.record import Box, Record, Told

ROOT = pathlib.Path(__file__).parents[2]
CHUNK = 2  # steps of a dispatch
STARTING = 0.55  # of the box: starting, compiling three phases, the table
ROWS = {"azr_25m": 128}  # of a step: with few steps, more of them are worth more than large ones
STEPS = (20, 4_000)  # least and most; a multiple of 10 chunks, as λ turns after 4 and 7 tenths
TABLE = ("items=40", "locked_items=0", "passk_items=0", "shuffled_items=0", "precision_items=0")
TOY_TABLE = ("items=2", *TABLE[1:])
AT_ONCE = ("warmup.ramp_start=0.0", "warmup.ramp_end=0.0", "tasks.dev_items=4")  # λ = 1: one program to compile, not 3
RAMP_S = 300.0  # of the box, from which on there is time for λ to rise as it is shipped


def run(part: str, box: Box, record: Record, told: Told) -> None:
    """Trains and writes the run's own figures, then the rows of its table. Raises SystemExit with its last line."""
    rows = ROWS.get(part, 8)
    steps = steps_that_fit(part, rows, box, told)
    table = TOY_TABLE if told.rehearse else TABLE
    at_once = AT_ONCE if told.rehearse or box.seconds < RAMP_S else ()
    settings = [
        f"warmup.steps={steps}", f"warmup.batch_size={rows}", "selfplay.steps=0", f"run.chunk={CHUNK}",
        f"run.save_every={steps}", f"tasks.unlock_every={steps}", f"run.minutes={0.75 * box.seconds / 60:.2f}",
        "optimiser.lr_warmup=10", *(f"eval.{word}" for word in table), *at_once,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        record.doing(f"training {part} for {steps} steps of {rows} rows")
        command = [sys.executable, "launch.py", f"--config=experiments/{part}.py", f"--workdir={folder}/run"]
        command += [f"--config.{setting}" for setting in settings]
        code, lines = outcome(command, box, told)
        report(part, pathlib.Path(folder) / "run", record)
    record.note(settings=settings, last_lines=lines[-12:])
    if code is None:
        record.cut(f"{part}: launch.py was ended with the box, after: {lines[-1] if lines else 'nothing'}")
    elif code or not (record.noted("table") or record.noted("stopped")):
        raise SystemExit((lines or [f"launch.py: exit code {code}"])[-1])


def outcome(command: list[str], box: Box, told: Told) -> tuple[int | None, list[str]]:
    """Exit code and output of a command; None as the code where the box ended first."""
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        ran = subprocess.run(command, cwd=ROOT, env=environment(told), timeout=max(box.left(), 1.0), **both)
        code, output = ran.returncode, ran.stdout
    except subprocess.TimeoutExpired as late:
        code, output = None, late.stdout or b""
    return code, output.decode(errors="replace").splitlines()


def environment(told: Told) -> dict[str, str]:
    """As a user's: launch.py chooses platforms and memory itself."""
    ours = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "PJRT_NPROC")
    return {name: value for name, value in os.environ.items() if name not in ours or told.rehearse}


def steps_that_fit(part: str, rows: int, box: Box, told: Told) -> int:
    """Steps for which there is time, by the step that was measured; the least where none was."""
    least, most = STEPS
    measured = [
        row["tokens_per_s"] / (row["tokens"] / row["rows"])
        for row in told.stages.get("training", {}).get("rows", [])
        if row["config"] == part and row["variant"].startswith("ternary") and row["rows"] <= rows
    ]
    if told.rehearse or not measured:
        return least
    seconds = rows / max(measured)  # rows a second are those of the fastest operand
    return int(min(max((1 - STARTING) * box.left() / seconds // least * least, least), most))


def report(part: str, home: pathlib.Path, record: Record) -> None:
    """The figures of ``run.json`` and the rows of ``eval.json``, as far as the run came."""
    told, table = home / "run.json", home / "eval.json"
    if told.exists():
        figures = json.loads(told.read_text())
        names = ("step", "steps", "minutes", "tokens", "tokens_per_second", "seconds", "operand", "parameter_hash")
        record.row(config=part, **{name: figures[name] for name in names})
        if figures["step"] < figures["steps"]:
            record.note(stopped=figures["step"])
            record.cut(f"training at step {figures['step']} of {figures['steps']}, so there is no table")
    if table.exists():
        record.note(table=True)
        for row in json.loads(table.read_text())["rows"]:
            names = ("level", "kind", "n", "accuracy", "ci_low", "ci_high", "trivial")
            record.row(**{name: row[name] for name in names})
