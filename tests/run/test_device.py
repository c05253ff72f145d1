"""The machine under a run: described for ``run.json``, measured once."""

import dataclasses
import errno
import logging
import os
import pathlib
import subprocess
import sys
import types

import jax
import pytest

from bitzero.config import OPERANDS, ConfigError, Model
from bitzero.run import accelerator, device, workdir

MODEL = Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def start(monkeypatch, caplog):
    """Starts the platforms ``named``; what JAX logs and raises meanwhile is given. The value is what was said."""

    def start(named, *, logged="", raised=None):
        def devices():
            try:
                if logged:
                    raise RuntimeError(logged)
            except RuntimeError:
                logging.getLogger("jax._src.xla_bridge").exception("plugin")
            if raised:
                raise raised

        monkeypatch.setenv("JAX_PLATFORMS", named)
        monkeypatch.setattr(device.jax, "devices", devices)
        said = []
        device._start_platform(said.append)
        assert not caplog.records  # no traceback on the screen
        return said

    return start


UNKNOWN = RuntimeError("Unable to initialize backend 'cuda': Backend 'cuda' is not known (set JAX_PLATFORMS='' to …)")


@pytest.mark.parametrize(
    ("logged", "raised", "why"),
    [
        ("", AssertionError(), "no device of the NVIDIA driver is in /dev"),
        ("cuInit(0) failed.\nmore", AssertionError(), "cuInit(0) failed"),
        ("cuInit(0) failed", UNKNOWN, "cuInit(0) failed"),
        ("", UNKNOWN, "Unable to initialize backend 'cuda': Backend 'cuda' is not known"),
        ("cuInit(0) failed", RuntimeError("Unable to initialize backend 'x'"), "Unable to initialize backend 'x'"),
    ],
)
def test_a_platform_that_does_not_start_is_a_sentence_or_the_cpu_and_a_line(start, logged, raised, why):
    with pytest.raises(ConfigError) as refused:
        start("cuda", logged=logged, raised=raised)
    assert str(refused.value) == f"JAX_PLATFORMS=cuda cannot be had: {why}; unset it, or set it to cpu"
    assert start("cuda,cpu", logged=logged, raised=raised) == [f"device: CPU; {why}"]


def test_a_gpu_that_jax_passes_over_is_said(start):
    assert start("cuda,cpu") == ["device: CPU; no device of the NVIDIA driver is in /dev"]
    assert start("gpu,cpu", logged="cuInit(0) failed") == ["device: CPU; cuInit(0) failed"]
    assert start("cpu,cuda", logged="cuInit(0) failed") == start("cpu") == start("") == []


@pytest.mark.parametrize("named", ["cuda", "cuda,cpu"])
def test_jax_itself_without_a_gpu_ends_in_one_line(named):
    if not accelerator.ask_driver().trouble:
        pytest.skip("there is a GPU")
    code = "from bitzero.run import device; device.configure_jax()"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=pathlib.Path(__file__).parents[2], capture_output=True, text=True,
        timeout=120, env=os.environ | {"JAX_PLATFORMS": named},
    )  # fmt: skip
    if named == "cuda":
        assert ran.stderr.splitlines()[-1].startswith("bitzero.config.defaults.ConfigError: JAX_PLATFORMS=cuda cannot ")
        assert ran.stderr.count("Traceback") == 1  # this program's own
    else:
        assert ran.stdout.startswith("device: CPU; ") and ran.stdout.count("\n") == 1 and not ran.stderr


@pytest.mark.parametrize(
    ("compute", "kind", "reason"),
    [
        ("auto", "NVIDIA GeForce GTX 1660 SUPER", "NVIDIA GeForce GTX 1660 SUPER is slower at 16 bits"),
        ("auto", "NVIDIA H100 80GB HBM3", "the fastest measured"),
        ("f32", "NVIDIA GeForce GTX 1660 SUPER", "as configured"),
    ],
)
def test_why_the_operands_are_what_they_are_is_said(monkeypatch, compute, kind, reason):
    monkeypatch.setattr(device.jax, "devices", lambda: [types.SimpleNamespace(device_kind=kind)])
    assert device.operand_reason(dataclasses.replace(MODEL, compute=compute)) == reason


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


def test_a_full_disk_costs_the_next_process_a_measurement_and_not_this_one_its_run(cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(device, "measure_operand", lambda model: "int8")
    monkeypatch.setattr(workdir.os, "replace", full)
    assert device.choose_operand(MODEL) == "int8" and not list(cache.rglob("*operand-*"))


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
