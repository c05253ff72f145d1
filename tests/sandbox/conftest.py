"""One sandbox for all tests of this room: starting zygotes once keeps the suite quick."""

from collections.abc import Iterator

import pytest

from bitzero.sandbox import Sandbox


@pytest.fixture(scope="session")
def box() -> Iterator[Sandbox]:
    with Sandbox(cache=0) as sandbox:
        yield sandbox
