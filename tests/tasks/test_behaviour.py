"""What a program does as a number: types, fixed inputs, and that generator and sandbox find the same."""

import ast
import json
import subprocess
import sys
import time

import pytest

from bitzero.config import Config
from bitzero.generator import programs
from bitzero.sandbox import Job
from bitzero.tasks import behaviour
from bitzero.tasks.alpha import canonical

CFG = Config()
APART = """
import json, sys
from bitzero.config import Executor
from bitzero.generator import behaviours, programs
from bitzero.generator.behaviours import behaviours_of
from bitzero.tasks.alpha import canonical
print(json.dumps(eval(sys.argv[1])))
"""


def apart(expression):
    """The value of an expression in a process without JAX, as a worker is: it forks."""
    done = subprocess.run([sys.executable, "-c", APART, expression], capture_output=True, check=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("given", "types"),
    [
        ("1, -2, 1.5, True, None, 'a, [b'", "int, int, float, bool, None, str"),
        ("[], [[1], 2], ['x']", "list[int], list[list[int]], list[str]"),
        ("(1, 'x'), (2,), ()", "tuple[int, str], tuple[int], tuple[]"),
        ("{'a': [1]}, {}, {3, 4}, set()", "dict[str, list[int]], dict[int, int], set[int], set[int]"),
        ("1e-05, inf, nan", "float, float, float"),
    ],
)
def test_types_are_read_off_the_text(given, types):
    assert behaviour.signature_of(given) == types


@pytest.mark.parametrize("types", ["int", "list[int], str", "dict[str, int], bool", "tuple[int, str], set[int], None"])
def test_fixed_inputs_are_values_of_those_types(types):
    parts = behaviour.fixed_inputs(types)
    assert parts == behaviour.fixed_inputs(types) and len(parts) == behaviour.PARTS
    for part in parts:
        rows = ast.literal_eval(part)
        assert len(rows) == behaviour.ROWS
        for row in rows:
            assert behaviour.signature_of(repr(row)[1:-1].removesuffix(",")).count(",") == types.count(",")


def test_the_generator_and_the_sandbox_agree(box):
    found = [programs.generate(5, 0, i, level) for level in range(6) for i in range(6)]
    theirs = apart(
        "[sorted(behaviours_of(program.code, program.inputs, Executor())) for program in "
        "[programs.generate(5, 0, i, level) for level in range(6) for i in range(6)]]"
    )
    for program, known in zip(found, theirs, strict=True):
        signature = behaviour.signature_of(program.inputs[0])
        job = Job(id=0, code=behaviour.rows_program(program.code), inputs=behaviour.fixed_inputs(signature))
        parts = [(outcome.kind, outcome.value or "") for outcome in box.run([job])[0]]
        assert behaviour.behaviour_hash(signature, parts, canonical(program.code)) in known, program.code


def test_what_fuel_does_not_bound_ends_by_processor_time():
    """Digits that double with every turn, and an endless loop inside a built-in; the parts beside them are told."""
    doubling = "def f(z):\n    b = 1\n    for p in range(z):\n        b *= p + b\n    return b > 0"
    endless = "def f(n):\n    return sum(range(n ** 12))"
    for code, least, most in ((doubling, 3, 60), (endless, 2, 99)):
        inputs = (f"[({least},)]", f"[({most},)]", f"[({least},)]")
        began = time.monotonic()
        told = apart(f"behaviours.run_parts({behaviour.rows_program(code)!r}, {inputs!r}, Executor())")
        assert [kind for kind, _ in told] in (["ok", "timeout", "ok"], ["ok", "memory", "ok"])
        assert told[0] == told[2]
        assert time.monotonic() - began < 30


def test_programs_that_only_fail_are_told_by_their_text():
    parts = [("ok", "[(False, None)]")] * behaviour.PARTS
    hashes = {behaviour.behaviour_hash("int", parts, text) for text in ("a", "b")}
    assert len(hashes) == 2
