"""The library in C++, or no test of it where there is no compiler."""

import pytest

from bitzero.native import build
from bitzero.run import device


@pytest.fixture(scope="session", autouse=True)
def _loaded():
    try:
        build.load(device.cache_directory())
    except build.Unavailable as error:
        pytest.skip(str(error))
