"""A worker process of the generator: questions on its standard input, answers on its standard output (`wire`)."""

import dataclasses
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
from typing import Any

import numpy as np

from bitzero import config as configuration
from bitzero.config import Config
from bitzero.generator import orders
from bitzero.generator.orders import BatchOrder
from bitzero.generator.wire import lists_to_tuples, send_answer

MEMORY = 2 << 30  # bytes of address space a worker may have
IDLE = 19  # the last niceness
ROOT = pathlib.Path(__file__).parents[2]


def spawn_worker(cfg: Config) -> subprocess.Popen[bytes]:
    """A worker process that has its configuration and waits for questions."""
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "bitzero.generator.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdin
    process.stdin.write(json.dumps(dataclasses.asdict(cfg)).encode() + b"\n")
    process.stdin.flush()
    return process


def answer_question(cfg: Config, question: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a worker computes for one slice. Raises ValueError for a question it does not know."""
    match question.pop("what"):
        case "rows":
            return orders.pack_step(cfg, BatchOrder(**lists_to_tuples(question.pop("unit"))), **question)
        case "tasks":
            return orders.draw_tasks(cfg, **question), {}
        case "heldout":
            return orders.heldout_slice(cfg, **question), {}
        case what:
            raise ValueError(f"no answer to {what!r}")


def _give_way(niceness: int) -> None:
    """Lowers the process's priority; the last niceness also means what is idle and nothing else, where Linux has that.

    Threads of the trainer that wake up for a part of a pass then take the core at once. From a worker that was merely
    nice they got it a time slice later, when the part was long done by the other thread.
    """
    os.nice(niceness)
    if niceness >= IDLE and hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def serve() -> None:
    """The worker process: questions on standard input until it ends. Ctrl-C is for the trainer, not for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    cfg = configuration.freeze(json.loads(questions.readline()))
    _give_way(cfg.tasks.nice)
    for line in questions:
        try:
            head, arrays = answer_question(cfg, json.loads(line))
        except (ValueError, RuntimeError) as error:  # cannot be filled with this configuration: asking again is no use
            head, arrays = {"error": f"{type(error).__name__}: {error}"}, {}
        send_answer(answers, head, arrays)


if __name__ == "__main__":
    serve()
