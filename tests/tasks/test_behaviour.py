"""What a program does as a number: types, fixed inputs, and that generator and sandbox find the same."""

import ast

import pytest

from bitzero.config import Config
from bitzero.generator import programs
from bitzero.generator.behaviours import behaviours_of
from bitzero.sandbox import Job
from bitzero.tasks import behaviour
from bitzero.tasks.alpha import canonical

CFG = Config()


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
    for program in found:
        signature = behaviour.signature_of(program.inputs[0])
        job = Job(id=0, code=behaviour.rows_program(program.code), inputs=behaviour.fixed_inputs(signature))
        parts = [(outcome.kind, outcome.value or "") for outcome in box.run([job])[0]]
        form = canonical(program.code)
        assert behaviour.behaviour_hash(signature, parts, form) in behaviours_of(program, form, 512), program.code


def test_programs_that_only_fail_are_told_by_their_text():
    parts = [("ok", "[(False, None)]")] * behaviour.PARTS
    hashes = {behaviour.behaviour_hash("int", parts, text) for text in ("a", "b")}
    assert len(hashes) == 2
