"""The library in C++, or no test of it where there is no compiler."""

import pytest

from bitzero.native import build
from bitzero.run import device


@pytest.fixture(params=[False, True], ids=["f32", "bf16"])
def half(request):
    """Whether factors are rounded to bf16, where the processor has such products."""
    if request.param and not build.has_halves():
        pytest.skip("no products of bf16 here")
    return request.param


@pytest.fixture(scope="session", autouse=True)
def _loaded():
    try:
        build.load(device.cache_directory())
    except build.Unavailable as error:
        pytest.skip(str(error))
