"""The table beside others: its rows with the peers and without them, whose turn it is, and what it is written into."""

import importlib
import json
import subprocess
import sys

import pytest

from benchmarks import beside, peers, training
from bitzero import config as configuration

TOY = {"steps": 1, "sampled": (4, 6, 3)}  # rows, prompt, new tokens


@pytest.fixture(scope="module")
def cfg():
    return configuration.freeze(importlib.import_module("experiments.smoke").get_config())


@pytest.fixture
def told(cfg):
    return beside.told_of(cfg, "step", "f32", 2, 1) | {"compiled": False}


def without(name, tmp_path, monkeypatch):
    """A Python in which no such package is installed."""
    (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError(name={name!r})\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_without_the_peers_ours_is_measured_and_theirs_has_its_reason(cfg, tmp_path, monkeypatch, capsys):
    without("torch", tmp_path, monkeypatch)
    monkeypatch.setitem(training.TABLES, "beside", (lambda cfg, n: beside.beside(cfg, n, **TOY), beside.show))
    out = tmp_path / "training.json"
    out.write_text('{"warmup": {"rows": []}}')
    training.main(["--config=experiments/smoke.py", "--repeats=1", "--tables=beside", f"--out={out}"])
    written = json.loads(out.read_text())
    table = written["beside"]
    assert written["warmup"] == {"rows": []} and table["machine"]["commit"] and table["repeats"] == 1
    rows = {(row["by"], row["variant"], row["operand"]): row for row in table["training"] + table["sampling"]}
    ours = [("BitZero", variant, "f32") for variant in ("λ = 0", "λ = 1", "rollout")]
    theirs = [("PyTorch", "eager", "f32"), ("PyTorch", "compiled", "f32"), ("transformers", "generate", "f32")]
    assert set(rows) == {*ours, *theirs}
    for name, tokens in zip(ours, (8 * 160, 8 * 160, 4 * 3), strict=True):
        row = rows[name]
        assert row["tokens_per_s"] * row["seconds"] == pytest.approx(tokens) and row["over_peer"] is None
    for name in theirs:
        row = rows[name]
        assert (row["seconds"], row["tokens_per_s"], row["over_peer"]) == (None, None, None)
        assert row["absent"] == "torch is not installed"
    assert "PyTorch compiled f32: torch is not installed" in capsys.readouterr().out


def test_a_table_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        training.main(["--tables=beside,warp"])
    assert ended.value.code == 2
    assert "no table warp; there is: warmup, precision, selfplay, beside" in capsys.readouterr().err


def test_rounds_take_turns_and_each_keeps_its_best():
    order, times = [], {"a": iter([3.0, 1.0, 2.0]), "b": iter([4.0, 5.0, 6.0])}

    def turn(name):
        order.append(name)
        return next(times[name])

    rows = [beside.row_of("", name, "f32") for name in "ab"] + [beside.row_of("", "c", "f32", absent="not here")]
    beside.in_turns(rows, [lambda: turn("a"), lambda: turn("b"), lambda: turn("c")], 3)
    assert order == ["a", "b"] * 3 and [row["seconds"] for row in rows] == [1.0, 4.0, None]


def test_rates_are_compared_with_the_reference_of_the_same_operands():
    row = lambda variant, operand, seconds: beside.row_of("", variant, operand) | {"seconds": seconds}
    rows = [row("own", "f32", 1.0), row("own", "bf16", 0.5), row("own", "int8", 0.1), row("compiled", "f32", 2.0)]
    found = beside.compared([*rows, row("compiled", "bf16", None)], 100, "compiled")
    assert [r["tokens_per_s"] for r in found] == pytest.approx([100, 200, 1000, 50, None])
    assert [r["over_peer"] for r in found] == [2.0, None, None, 1.0, None]


def test_a_peer_that_dies_among_its_rounds_is_absent_and_the_others_go_on(told, tmp_path, monkeypatch):
    """PyTorch is made one whose second round takes the process with it."""
    (tmp_path / "torch.py").write_text(
        "import os\n__version__ = '0'\nset_num_threads = lambda n: None\n"
        "from benchmarks.gpu_stages import torch_peer\ncalls = []\n"
        "def step():\n    calls.append(1)\n    if len(calls) == 4:\n"
        "        os.write(2, b'RuntimeError: corrupted\\n')\n        os._exit(7)\n    return 1.0\n"
        "torch_peer.training_step = lambda *a, **k: (step, 5)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with peers.started(told) as peer:
        rows = [beside.row_of("PyTorch", "eager", "f32", **peer.hello), beside.row_of("", "own", "f32")]
        assert peer.hello == {"parameters": 5, "version": "torch 0"}
        beside.in_turns(rows, [peer.round, lambda: 1.0], 3)
    assert rows[0]["absent"] == "its process ended with code 7: RuntimeError: corrupted"
    assert [row["seconds"] for row in rows] == [None, 1.0] and peer.process.returncode == 7


@pytest.mark.long
@pytest.mark.timeout(900)
def test_beside_pytorch_and_transformers_where_they_are_installed(cfg):
    """Also what a peer has of parameters: of the bare block no more and no less than BitZero's."""
    for package in ("torch", "transformers"):
        pytest.importorskip(package)
    found = beside.beside(cfg, 1, **TOY)
    rows = {(row["by"], row["variant"]): row for row in found["training"] + found["sampling"]}
    eager = rows["PyTorch", "eager"]
    assert eager["seconds"] > 0 and eager["version"].startswith("torch ")
    assert eager["parameters"] == rows["BitZero", "λ = 1"]["parameters"]
    compiled = rows["PyTorch", "compiled"]  # where there is a C++ compiler
    assert "absent" in compiled or (compiled["over_peer"] == 1.0 and rows["BitZero", "λ = 1"]["over_peer"] > 0)
    assert rows["transformers", "generate"]["over_peer"] == 1.0 and rows["BitZero", "rollout"]["over_peer"] > 0


def test_a_peers_process_never_imports_jax():
    """Its threads are its own; so is what it does to floating-point and memory settings."""
    code = "import benchmarks.peers, sys; assert 'jax' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=peers.ROOT).returncode == 0
