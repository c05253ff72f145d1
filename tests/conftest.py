"""What every test stands on: one CPU device with a fixed thread pool, and no silent broadcasting between ranks."""

import os

# Before the first jax import: the pool size decides bits of a reduction and keeps host callbacks from starving.
os.environ.setdefault("PJRT_NPROC", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("PYTHONHASHSEED", "0")

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_cpu_enable_async_dispatch", False)

# A test's first call may compile, so time says nothing; a failing seed must come back the same the next time.
hypothesis.settings.register_profile("bitzero", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("bitzero")


@pytest.fixture(autouse=True)
def _no_stray_environment(monkeypatch):
    """A test that changes variables or the directory through ``monkeypatch`` leaves nothing behind."""
    yield
