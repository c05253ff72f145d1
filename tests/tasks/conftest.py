"""One sandbox for the room's tests, and the two questions they ask it."""

import dataclasses

import pytest

from bitzero.config import Config
from bitzero.sandbox import Limits, Sandbox
from bitzero.tasks.gates import GATES, Proposal, validate
from bitzero.tasks.judge import judge
from bitzero.tasks.kinds import DEDUCTION

LIMITS = Limits(cpu_s=0.3, memory_mb=128, value_bytes=512)


@pytest.fixture(scope="session")
def box():
    with Sandbox(LIMITS, workers=2) as sandbox:
        yield sandbox


@pytest.fixture
def gate(box):
    """Name of the gate that a single proposal ends at."""

    def ask(code, given="[1, 2, 3], 4", kind=DEDUCTION, **selfplay):
        cfg = Config(selfplay=dataclasses.replace(Config().selfplay, **selfplay))
        inputs = (given,) if isinstance(given, str) else given
        [verdict] = validate(box, [Proposal(kind=kind, code=code, inputs=inputs)], cfg)
        return GATES[verdict.gate]

    return ask


@pytest.fixture
def right(box):
    """Which answers to a task are judged correct."""
    return lambda task, *answers: [verdict.correct for verdict in judge(box, [task], [answers])[0]]
