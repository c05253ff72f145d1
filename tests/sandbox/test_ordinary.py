"""Ordinary functions give the same values in the sandbox as in plain Python; none is refused."""

import json
import subprocess
import sys
from pathlib import Path

from bitzero.sandbox import Job, Sandbox
from tests.sandbox.ordinary import programs

ROOT = Path(__file__).parents[2]
# The plain side: no ticks, no screen, all built-ins. The programs are this project's own.
PLAIN = """
import io, json, sys
from bitzero.sandbox.values import canonical
out, sys.stdout, found = sys.stdout, io.StringIO(), []
for code, inputs in json.load(sys.stdin):
    values = []
    for text in inputs:
        names = {"__name__": "plain"}
        try:
            exec(compile(code, "<plain>", "exec", dont_inherit=True), names)
            values.append(canonical(eval(f"f({text})", names)))
        except Exception as error:
            values.append(type(error).__name__)
    found.append(values)
json.dump(found, out)
"""


def plainly(jobs: list[tuple[str, tuple[str, ...]]]) -> list[list[str]]:
    """Value, or name of the exception, of each input."""
    command = [sys.executable, "-c", PLAIN]
    done = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert not done.returncode, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_two_hundred_ordinary_functions(box: Sandbox) -> None:
    suite = programs()
    assert len({program.code for program in suite}) == len(suite) >= 200
    wanted = plainly([(program.code, program.inputs) for program in suite])
    outcomes = box.validate([Job(id=0, code=program.code, inputs=program.inputs) for program in suite])
    wrong = []
    for program, values, found in zip(suite, wanted, outcomes, strict=True):
        for text, value, outcome in zip(program.inputs, values, found, strict=True):
            if value != (outcome.exc if outcome.kind == "exception" else outcome.value):
                wrong.append((program.theme, program.code, text, value, outcome))
    assert not wrong, wrong
