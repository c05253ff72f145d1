"""One sandbox for all tests of this room: starting zygotes once keeps the suite quick."""

from collections.abc import Iterator

import pytest

from bitzero.sandbox import Limits, Sandbox


@pytest.fixture(scope="session")
def box() -> Iterator[Sandbox]:
    with Sandbox(Limits(cpu_s=0.2), cache=0) as sandbox:
        yield sandbox
