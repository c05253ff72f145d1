"""The machine under a run: described for ``run.json``, measured once."""

import dataclasses
import os

import jax
import pytest

from bitzero.config import OPERANDS, Model
from bitzero.run import device

MODEL = Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_configured_operand_is_not_measured(cache):
    assert device.choose_operand(dataclasses.replace(MODEL, compute="int8")) == "int8"
    assert not list(cache.rglob("operand-*"))


def test_the_operand_is_measured_once_and_kept(cache):
    first = device.choose_operand(MODEL)
    assert first in OPERANDS
    (file,) = cache.rglob("operand-*")
    other = next(name for name in OPERANDS if name != first)
    file.write_text(other)  # what is kept counts, not a second measurement
    assert device.choose_operand(MODEL) == other
    file.write_text("nonsense")
    assert device.choose_operand(MODEL) in OPERANDS


def test_processes_with_other_threads_or_cores_share_no_compiled_code(cache, monkeypatch):
    def place(threads: str, cores: set[int]) -> str:
        monkeypatch.setenv("PJRT_NPROC", threads)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
        return str(device.cache_directory())

    one = place("2", {0, 1})
    assert place("2", {1, 3}) == one
    assert len({one, place("4", {0, 1}), place("4", {0})}) == 3


def test_the_description_names_what_a_figure_depends_on():
    found = device.describe_machine()
    assert found["versions"]["jax"] == jax.__version__ and found["cores"] >= 1
    assert found["devices"] == [jax.devices()[0].device_kind]
    assert found["commit"] == device.source_commit()
