"""A sandbox and a few test programs, shared by the room's tests."""

import pytest

from bitzero.generator import programs
from bitzero.sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def test_programs():
    return [programs.generate(0, 0, i, i % 2, "test") for i in range(6)]
