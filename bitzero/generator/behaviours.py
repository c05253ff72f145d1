"""What generated programs do on the fixed inputs of ``tasks.behaviour``: the same numbers that the sandbox finds.

For held-out programs, which proposals must not come back to. They are the generator's own, so they run here, in its
worker, under the sandbox's fuel and canonical values.
"""

import ast
from typing import Any

from bitzero.generator.templates import BUILTINS
from bitzero.sandbox import fuel
from bitzero.sandbox.values import Oversize, Unsupported, canonical
from bitzero.tasks import behaviour
from bitzero.tasks.kinds import LabelledProgram

FUEL = 20_000  # of a part, as ``config.sandbox.fuel`` has it
_CAUGHT = {"Exception": Exception, "MemoryError": MemoryError}  # names that ``behaviour.rows_program`` reads


class _OutOfFuel(BaseException):
    """Not an Exception: no row of a program may swallow it."""


def behaviours_of(program: LabelledProgram, canonical_source: str, value_bytes: int) -> set[int]:
    """The behaviour hash for each combination of argument types among the program's inputs."""
    source = behaviour.rows_program(program.code)
    found = set()
    for signature in {behaviour.signature_of(given) for given in program.inputs}:
        parts = [_run(source, rows, value_bytes) for rows in behaviour.fixed_inputs(signature)]
        found.add(behaviour.behaviour_hash(signature, parts, canonical_source))
    return found


def _run(source: str, rows: str, value_bytes: int) -> tuple[str, str]:
    """Outcome and value of one part, in the sandbox's words."""
    tree = ast.parse(source)
    fuel.instrument(list(ast.walk(tree)))
    left = iter(range(FUEL))

    def tick() -> bool:
        if next(left, None) is None:
            raise _OutOfFuel
        return True

    space: dict[str, Any] = {"__builtins__": {**BUILTINS, **_CAUGHT}, fuel.TICK: tick}
    try:
        exec(compile(tree, "<behaviour>", "exec"), space)
        return "ok", canonical(space["f"](ast.literal_eval(rows)), value_bytes)
    except _OutOfFuel:
        return "timeout", ""
    except Oversize:
        return "oversize", ""
    except Unsupported:
        return "forbidden", ""
    except MemoryError:
        return "memory", ""
