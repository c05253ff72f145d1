"""Generated programs mean the same in the sandbox as in a plain interpreter: fuel and screen change no value."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from bitzero.sandbox import Job, Sandbox
from bitzero.sandbox.verdicts import MISS_EIGHT

ROOT = Path(__file__).parents[2]
# The plain side: no ticks, no screen, all built-ins, the argument list pasted into a call. Generated programs only.
PLAIN = """
import json, sys
from bitzero.sandbox.values import canonical
from bitzero.generator.programs import generate
start, count = map(int, sys.argv[1:])
for index in range(start, start + count):
    made = generate(11, 0, index, index % 6)
    values = []
    for text in made.inputs:
        names = {}
        exec(made.code, names)
        values.append(canonical(eval(f"f({text})", names)))
    print(json.dumps([made.code, made.inputs, made.outputs, values]))
"""


class Plain(NamedTuple):
    """A generated program with its labels and with what a plain interpreter made of it."""

    code: str
    inputs: list[str]
    labels: list[str]
    values: list[str]


def plainly(start: int, count: int) -> list[Plain]:
    """Programs ``start`` … of all levels, generated and run in a process that is thrown away afterwards."""
    command = [sys.executable, "-c", PLAIN, str(start), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=600)
    return [Plain(*json.loads(line)) for line in done.stdout.splitlines()]


def assert_equal_values(box: Sandbox, programs: list[Plain]) -> None:
    jobs = [Job(id=index, code=made.code, inputs=tuple(made.inputs)) for index, made in enumerate(programs)]
    for made, outcomes in zip(programs, box.run(jobs), strict=True):
        assert [outcome.value for outcome in outcomes] == made.values == made.labels, made.code


def test_a_thousand_generated_programs(box: Sandbox) -> None:
    programs = plainly(0, 1_000)
    assert len(programs) == 1_000
    assert_equal_values(box, programs)


@pytest.mark.slow
def test_nine_thousand_more(box: Sandbox) -> None:
    for start in range(1_000, 10_000, 1_000):
        assert_equal_values(box, plainly(start, 1_000))


def test_generated_programs_are_deterministic(box: Sandbox) -> None:
    programs = plainly(20_000, 60)
    jobs = [Job(id=index, code=made.code, inputs=tuple(made.inputs)) for index, made in enumerate(programs)]
    for made, outcomes in zip(programs, box.validate(jobs), strict=True):
        assert [outcome.value for outcome in outcomes] == made.labels, made.code
        assert min(outcome.confidence for outcome in outcomes) >= 1 - MISS_EIGHT
