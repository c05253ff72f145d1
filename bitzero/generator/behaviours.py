"""What generated programs do on the fixed inputs of ``tasks.behaviour``: the same numbers that the sandbox finds.

For held-out programs, which proposals must not come back to. They are the generator's own, so a fork of its worker may
run them, under the sandbox's fuel, canonical values and processor time: fuel alone does not bound a loop whose numbers
double their digits, or one inside a built-in.
"""

import ast
import json
import os
import signal
from collections.abc import Sequence
from types import CodeType
from typing import Any, NoReturn

from bitzero.config import Executor
from bitzero.generator.templates import BUILTINS
from bitzero.sandbox import fuel
from bitzero.sandbox.values import Oversize, Unsupported, canonical
from bitzero.tasks import alpha, behaviour

_CAUGHT = {"Exception": Exception, "MemoryError": MemoryError}  # names that ``behaviour.rows_program`` reads


class _OutOfFuel(BaseException):
    """Not an Exception: no row of a program may swallow it."""


def behaviours_of(code: str, given: Sequence[str], limits: Executor) -> set[int]:
    """The behaviour hash of a program for each combination of argument types among the inputs ``given``.

    ``limits`` are those of the run's sandbox (``config.sandbox``), of which each part has its own.
    """
    source, canonical_source = behaviour.rows_program(code), alpha.canonical(code)
    found = set()
    for signature in sorted({behaviour.signature_of(each) for each in given}):
        parts = run_parts(source, behaviour.fixed_inputs(signature), limits)
        found.add(behaviour.behaviour_hash(signature, parts, canonical_source))
    return found


def run_parts(source: str, inputs: Sequence[str], limits: Executor) -> list[tuple[str, str]]:
    """Outcome and value of the program on each input; a part that ends its process is a ``timeout``, as it is of one
    that the sandbox ends for its processor time.
    """
    tree = ast.parse(source)
    fuel.instrument(list(ast.walk(tree)))
    program = compile(tree, "<behaviour>", "exec")
    found: list[tuple[str, str]] = []
    while len(found) < len(inputs):
        told = _told_by_fork(program, inputs[len(found) :], limits)
        found += told
        if len(found) < len(inputs):
            found.append(("timeout", ""))
    return found


def _told_by_fork(program: CodeType, inputs: Sequence[str], limits: Executor) -> list[tuple[str, str]]:
    """What a fork of this process finds out about the inputs before it ends, in their order."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _tell(writer, program, inputs, limits)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        lines = pipe.read().splitlines(keepends=True)
    os.waitpid(pid, 0)
    return [tuple(json.loads(line)) for line in lines if line.endswith(b"\n")]


def _tell(writer: int, program: CodeType, inputs: Sequence[str], limits: Executor) -> NoReturn:
    """The fork: a line for each part, written whole before the next one begins."""
    try:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        for rows in inputs:
            signal.setitimer(signal.ITIMER_PROF, limits.cpu_s)
            data = json.dumps(_run(program, rows, limits)).encode() + b"\n"
            while data:
                data = data[os.write(writer, data) :]
    finally:
        os._exit(0)


def _run(program: CodeType, rows: str, limits: Executor) -> tuple[str, str]:
    """Outcome and value of one part, in the sandbox's words."""
    left = iter(range(limits.fuel))

    def tick() -> bool:
        if next(left, None) is None:
            raise _OutOfFuel
        return True

    space: dict[str, Any] = {"__builtins__": {**BUILTINS, **_CAUGHT}, fuel.TICK: tick}
    try:
        exec(program, space)
        return "ok", canonical(space["f"](ast.literal_eval(rows)), limits.value_bytes)
    except _OutOfFuel:
        return "timeout", ""
    except Oversize:
        return "oversize", ""
    except Unsupported:
        return "forbidden", ""
    except MemoryError:
        return "memory", ""
    except Exception:
        return "exception", ""
