"""The picture of a run (``benchmarks/learning_curve.py``): what is read of its records, and what is drawn of them."""

import importlib.util
import json
import pathlib
import struct

import pytest

from bitzero.run.metrics import Metrics

FILE = pathlib.Path(__file__).parents[2] / "benchmarks" / "learning_curve.py"
MACHINE = {"processor": "abacus", "cores": 2, "commit": "0123456789ab"}


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("learning_curve", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of ten warm-up steps and two of self-play, by its records alone."""
    home = tmp_path_factory.mktemp("runs") / "tiny"
    home.mkdir()
    config = {
        "name": "tiny",
        "seed": 7,
        "warmup": {"steps": 10, "ramp_start": 0.4, "ramp_end": 0.7, "a key of another version": 1},
        "tasks": {"dev_items": 16},
    }
    (home / "config.json").write_text(json.dumps(config))
    (home / "run.json").write_text(json.dumps({"step": 12, "parameter_hash": "ab", "machine": MACHINE}))
    with Metrics(home / "tb", 0) as metrics:
        for step in range(2, 11, 2):
            metrics.scalars(step, {"loss/total": 8.0 / step, "loss/token_accuracy_L0": step / 20})
        metrics.scalars(5, {"eval/dev_L0": 0.25})
        metrics.scalars(10, {"eval/dev_L0": 0.5, "eval/dev_L1": 0.125, "eval/dev_trace": 0.9})
        for step in (11, 12):
            metrics.scalars(step, {"loss/total": -50.0, "loss/supervised": 0.75})
        metrics.scalars(12, {"eval/test_L2_deduction": 0.375, "eval/test_L2_abduction": 0.875})
    return home


def test_the_points_are_those_the_run_recorded(command, run):
    data = command.read_run(run)
    assert (data["ramp"], data["selfplay"], data["commit"]) == ([4, 7], 10, "0123456789ab")
    curves = data["curves"]
    assert curves["dev accuracy"] == {"L0": [(5, 0.25), (10, 0.5)], "L1": [(10, 0.125)]}
    assert curves["test accuracy"] == {"L2": [(12, 0.375)]}
    assert curves["token accuracy"] == {"L0": [(2, 0.1), (4, 0.2), (6, 0.3), (8, 0.4), (10, 0.5)]}
    assert curves["loss"]["warm-up"] == [(2, 4.0), (4, 2.0), (6, 1.33333), (8, 1.0), (10, 0.8)]
    assert curves["loss"]["self-play"] == [(11, 0.75), (12, 0.75)]  # not the total, which holds the policy losses


def test_long_curves_are_averaged_and_keep_their_mean_and_end(command):
    points = [(step, float(step % 2)) for step in range(1, 1001)]
    few = command.averaged(points, 100)
    assert len(few) == 100 and few[-1][0] == 1000
    assert {value for _, value in few} == {0.5}
    assert command.averaged([], 100) == [] and command.averaged([(3, 1.0)], 100) == [(3, 1.0)]


def test_the_charts_show_every_curve_the_ramp_and_the_start_of_selfplay(command, run):
    held_out, tokens, loss = command.draw(command.read_run(run)).axes
    names = lambda axes: set(axes.get_legend_handles_labels()[1])
    marks = {"λ: 0 to 1", "self-play"}
    assert names(held_out) == {"L0 dev", "L1 dev", "L2 test, at the end"} | marks
    assert names(tokens) == {"L0"} | marks
    drawn = {line.get_label(): line.get_xydata().tolist() for line in held_out.lines}
    assert drawn["L0 dev"] == [[5, 25], [10, 50]] and drawn["L2 test, at the end"] == [[12, 37.5]]
    assert [line.get_xdata()[0] for line in loss.lines if line.get_label() == "self-play"][-1] == 10


def test_a_png_and_its_points_are_written(command, run, tmp_path):
    out = tmp_path / "curve.png"
    command.main([str(run), f"--out={out}"])
    head = out.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and min(struct.unpack(">II", head[16:])) > 500  # pixels
    data = json.loads(out.with_suffix(".json").read_text())
    assert data["machine"] == MACHINE and data["curves"]["dev accuracy"]["L0"] == [[5, 0.25], [10, 0.5]]


def test_a_folder_without_a_run_is_one_line(command, tmp_path):
    with pytest.raises(SystemExit, match=r"config\.json is not there; give the folder of a run"):
        command.main([str(tmp_path)])
