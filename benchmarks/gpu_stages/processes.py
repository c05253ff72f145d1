"""Runs a part in a process of its own, within its box, and says what became of it."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
GRACE_S = 3.0  # beyond its box, for a part to end by itself; as long again from SIGTERM to SIGKILL
NOTHING: dict[str, Any] = {"rows": [], "notes": {}, "cut": [], "absent": {}, "doing": ""}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A started part."""

    name: str
    box_s: float
    began: float  # time.monotonic()
    process: subprocess.Popen[bytes]
    rows: pathlib.Path
    log: pathlib.Path


def start(stage: str, part: str, box_s: float, folder: pathlib.Path, told: pathlib.Path, more: list[str]) -> Part:
    """Starts a part; its rows and its output go to files in ``folder``."""
    rows, log = folder / f"{stage}-{part}.json", folder / f"{stage}-{part}.log"
    command = [sys.executable, "-m", "benchmarks.gpu_stages", stage, part, f"--seconds={box_s}", f"--out={rows}", *more]
    command += [f"--told={told}"] if told.exists() else []
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=environment(stage)
        )
    return Part(name=part, box_s=box_s, began=time.monotonic(), process=process, rows=rows, log=log)


def environment(stage: str) -> dict[str, str]:
    """What a part inherits: the numbering of cards that the driver has too, threads as a run has them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    fixed = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
    usual = {"CUDA_VISIBLE_DEVICES": "0"}  # other cards are left alone
    usual |= {"PJRT_NPROC": str(min(max(cores, 2), 8))}
    if not os.environ.get("XLA_CLIENT_MEM_FRACTION"):  # its new name; JAX refuses both at once
        usual["XLA_PYTHON_CLIENT_MEM_FRACTION"] = "0.85"
    if stage == "exactness":  # its parts share the card
        usual["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return usual | os.environ | fixed | {"PYTHONPATH": os.pathsep.join(paths)}


def wait(part: Part) -> dict[str, Any]:
    """What the part found once it has ended, or was ended after its box.

    ``NOTHING``'s fields, its seconds, and ``failed``: its last line, or None. A part that is ended among its rows is
    cut; one without any has failed.
    """
    code = _code_within(part, part.box_s + GRACE_S - (time.monotonic() - part.began))
    found = NOTHING | _read(part.rows)
    failed = None
    if code is None:
        end(part.process)
        while_ = f" while {found['doing']}" if found["doing"] else ""
        sentence = f"{part.name}: ended after {part.box_s:.0f} s{while_}"
        if found["rows"]:
            found["cut"] = [*found["cut"], sentence]
        else:
            failed = sentence
    elif code:
        failed = last_line(part.log) or f"{part.name}: exit code {code}"
        if code < 0:
            failed = f"{signal.Signals(-code).name}: {failed}"
    elif found["cut"] and not found["rows"]:
        failed = f"{part.name}: nothing was measured: {found['cut'][0]}"
    return found | {"seconds": round(time.monotonic() - part.began, 1), "failed": failed}


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a part and what it started."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
        except ProcessLookupError:
            pass
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            continue


def last_line(log: pathlib.Path) -> str:
    """The line of a part's output that says what ended it, up to 300 characters.

    XLA's last word before it aborts; or the last line of a traceback, ``package.SomeError: …``; or else the last one.
    """
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    for tells in (r"F\d{4} .*\] ", r"[\w.]*(Error|Exception|Unavailable|Failed)(:|$)", r"Fatal Python error"):
        found = [line for line in lines if re.match(tells, line)]
        if found:
            return found[-1][:300]
    return (lines or [""])[-1][:300]


def missing_backend(part: str, card: dict[str, Any]) -> str | None:
    """Why a part that is named like a kernel backend cannot run on this card, or None."""
    state = card["backends"].get(part, "available")
    return None if state == "available" else state


def _code_within(part: Part, seconds: float) -> int | None:
    """The exit code, None after so many seconds."""
    try:
        return part.process.wait(max(seconds, 0.1))
    except subprocess.TimeoutExpired:
        return None


def _read(path: pathlib.Path) -> dict[str, Any]:
    """What a part has written; nothing where it has not begun to."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
