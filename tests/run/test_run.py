"""A whole run, as a person starts it: what it leaves, and that killing and resuming it changes nothing."""

import json
import math
import pathlib
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from bitzero.evaluation.questions import checkpoint_structure
from bitzero.run.checkpoint import Checkpoints
from bitzero.run.experiment import read_config
from bitzero.run.metrics import _LAYOUT, GROUPS
from bitzero.run.played import FIGURES
from tests.run.conftest import TINY

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(600)


def last_state(launch):
    """Step of the newest checkpoint and the sha256 over every leaf of its state: weights, moments, ring, key, …"""
    step = max(int(path.name) for path in (launch.workdir / "checkpoints").iterdir())
    sealed = json.loads((launch.workdir / "checkpoints" / str(step) / "meta" / "metadata").read_text())
    return step, sealed["sha256"]


def test_a_run_leaves_its_files(finished):
    names = {path.name for path in finished.workdir.iterdir()}
    assert names == {"config.json", "checkpoints", "best", "tb", "eval.json", "items.json", "run.json", "lock"}
    steps = {path.name for path in (finished.workdir / "checkpoints").iterdir()}
    assert steps == {"20", "24", "28"}


def test_the_checkpoint_from_before_selfplay_outlives_pruning(finished):
    with Checkpoints(finished.workdir / "checkpoints", keep=9) as store:
        assert 20 in store.steps()


def test_run_json_says_what_it_cost_and_on_what(finished):
    run = json.loads((finished.workdir / "run.json").read_text())
    assert run["step"] == run["steps"] == 28
    assert run["tokens"] > 20 * 8 * 10 and run["tokens_per_second"] > 0
    assert {"full", "integer", "compile selfplay", "selfplay", "generator", "dev", "save"} <= set(run["seconds"])
    assert 0 < run["verify_share_of_selfplay"] < 1
    assert set(run["watched"]) == {"20", "24", "28"}  # before self-play, on the way, at its end
    best = max(run["watched"], key=lambda at: (run["watched"][at]["mean"], -int(at)))
    assert (finished.workdir / "best" / best / "state").is_dir()
    assert f"best on dev in self-play: step {best}," in finished.text
    assert run["audit_disagreements"] == 0
    assert run["sandbox"]["layers"]["seccomp"] == "active"
    assert run["operand"] == "f32" and run["machine"]["versions"]["jax"] == jax.__version__
    assert f"parameter hash {run['parameter_hash']}" in finished.text


def test_eval_json_has_a_row_for_each_level_and_kind(finished):
    result = json.loads((finished.workdir / "eval.json").read_text())
    assert result["step"] == 28 and result["commit"]
    rows = {(row["level"], row["kind"]): row for row in result["rows"]}
    assert set(rows) == {(level, kind) for level in range(3) for kind in ("deduction", "abduction", "induction")}
    for row in rows.values():
        assert row["n"] == 3 and 0 <= row["ci_low"] <= row["accuracy"] <= row["ci_high"] <= 1
        assert all(0 <= row[name] <= 1 for name in ("trivial", "shuffled", "before_selfplay"))
    assert {row["mode"] for (_, kind), row in rows.items() if kind != "deduction"} == {"direct"}
    assert set(result["proposer"]) >= {"valid", "learnable", "novel", "level_as_asked", "levels", "gates"}
    assert sum(result["proposer"]["gates"].values()) == result["proposer"]["n"]


def test_items_pair_with_another_run(finished, tmp_path):
    """The same run against itself: no gain, and its bits are those behind the table; one that never played has less."""
    stored = json.loads((finished.workdir / "items.json").read_text())
    items = stored["rows"]
    rows = json.loads((finished.workdir / "eval.json").read_text())["rows"]
    for row in rows:
        bits = items[f"L{row['level']} {row['kind']}"]["right"]
        assert len(bits) == row["n"] and row["accuracy"] == round(bits.count("1") / row["n"], 4)
    unplayed = {name: {"right": row["right"]} for name, row in items.items()}
    (tmp_path / "items.json").write_text(json.dumps(stored | {"rows": unplayed}))
    over = "over the other run"
    for run, which in ((finished.workdir, {over, "over before self-play"}), (tmp_path, {over})):
        done = subprocess.run(
            [sys.executable, "benchmarks/gain.py", run, finished.workdir],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        gains = json.loads(done.stdout)
        assert {*gains["deduction"]} == which
        assert gains["abduction + induction"][over]["points"] == 0.0
        assert gains["deduction"][over]["items"] == 9


def test_the_last_lines_are_the_table_and_the_hash(finished):
    lines = finished.text.splitlines()
    assert lines[0].startswith("BitZero · smoke · train · ")
    at = next(i for i, line in enumerate(lines) if line.startswith("held-out accuracy, %"))
    row = json.loads((finished.workdir / "eval.json").read_text())["rows"][0]
    assert lines[at + 2].split()[:4] == ["L0", "deduction", row["mode"], "3"] and row["mode"] in ("trace", "direct")
    assert lines[-1].endswith(f"in all · {finished.workdir}")


def test_tensorboard_got_every_group(finished):
    events = event_accumulator.EventAccumulator(str(finished.workdir / "tb"))
    events.Reload()
    scalars = events.Tags()["scalars"]
    assert {tag.split("/")[0] for tag in scalars} >= set(GROUPS)
    assert all(math.isfinite(point.value) for tag in scalars for point in events.Scalars(tag))
    steps = [point.step for point in events.Scalars("selfplay/valid_rate")]
    assert steps == list(range(21, 29))
    told = json.loads((finished.workdir / "run.json").read_text())["played"]
    for end, step in (("first", 21), ("last", 28)):  # a tenth of eight steps is one
        assert told[end].pop("steps") == 1 and set(told[end]) == set(FIGURES)
        for name, value in told[end].items():
            [written] = [point.value for point in events.Scalars(FIGURES[name]) if point.step == step]
            assert math.isclose(value, written, rel_tol=1e-5), (name, end)
    assert told["largest"]["max_ratio"] >= max(told[end]["max_ratio"] for end in ("first", "last")) > 0
    assert "selfplay/samples/text_summary" in events.Tags()["tensors"]
    assert {"precision/kl_of_refresh", "precision/bits_qkv", "quant/alpha_drift"} <= set(scalars)
    assert {
        "precision/bits_layer_0",
        "quant/threshold_distance",
        "quant/flip_rate",
        "quant/max_ratio",
        "eval/nats_8-bit",
    } <= set(scalars)
    for charts in _LAYOUT.values():  # every chart shows a tag that there is
        for name, (_, patterns) in charts.items():
            assert any(re.fullmatch(pattern, tag) for pattern in patterns for tag in scalars), name
    literal = {tag for charts in _LAYOUT.values() for _, tags in charts.values() for tag in tags if tag.islower()}
    assert {tag for tag in literal if re.fullmatch(r"[a-z_/]+", tag)} <= set(scalars)
    for name in ("kl_of_refresh", "kl_when_faded_in"):
        found = {point.step: point.value for point in events.Scalars(f"precision/{name}")}
        assert set(found) == {12, 16, 20, 24} and all(value >= 0 for value in found.values())
        assert (found[12] == 0) == (name == "kl_of_refresh")  # a new residual fades in from nothing
    budgets = [(point.step, point.value) for point in events.Scalars("precision/budget")]
    assert budgets == [(12, 4.0), (16, 3.5), (20, 3.0), (24, 3.0)]
    assert "precision/map" in events.Tags()["images"]


@pytest.mark.long
def test_killed_and_resumed_is_bit_for_bit_uninterrupted(launch, finished, tmp_path):
    """kill -9 in warm-up, Ctrl-C in the middle of a self-play chunk, then to the end: the same state, every leaf.

    The second sitting has two workers of the generator, whose number may change in a running job.
    """
    workdir = tmp_path / "broken"
    first = launch(workdir)
    first.until_file("checkpoints/8")
    first.process.kill()
    assert first.end() == -signal.SIGKILL

    second = launch(workdir, "--config.tasks.workers=2")
    second.until_line("compiling the self-play step")
    second.interrupt()
    assert second.end() == 0, second.text
    assert "resuming at step" in second.text
    assert "SIGINT: saved step 21 in" in second.text and "the same command goes on" in second.text

    third = launch(workdir)
    assert third.end() == 0, third.text
    assert "resuming at step 21 of 28" in third.text
    assert last_state(third) == last_state(finished)
    run = json.loads((third.workdir / "run.json").read_text())
    begun, *later = [(one["step"], one["tasks.workers"]) for one in run["fitted"]]
    assert begun == (0, 0) and [workers for _, workers in later] == [2, 0] and later[1][0] == 21
    hashes = [json.loads((run.workdir / "run.json").read_text())["parameter_hash"] for run in (third, finished)]
    assert hashes[0] == hashes[1]


@pytest.mark.long
def test_another_chunk_in_a_running_job_changes_rounding_alone_and_is_recorded(launch, finished, tmp_path):
    """Of warm-up, whose step is compiled anew: by 1e-5. A single step more or less would move a weight by 2e-3."""
    first = launch(tmp_path / "run", "--config.run.until=8")
    assert first.end() == 0, first.text
    second = launch(tmp_path / "run", "--config.run.until=20", "--config.run.chunk=2")
    assert second.end() == 0, second.text
    assert "resuming at step 8 of 28" in second.text
    run, whole = (json.loads((each.workdir / "run.json").read_text()) for each in (second, finished))
    fitted = lambda run: [(one["step"], one["run.chunk"]) for one in run["fitted"]]
    assert (fitted(run), fitted(whole)) == ([(0, 4), (8, 2)], [(0, 4)])
    before, after = (jax.tree.leaves(weights_at(each, 20)) for each in (finished, second))
    for leaf, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other, leaf, rtol=0, atol=1e-3)


def weights_at(launch, step):
    """The parameters in a checkpoint."""
    cfg = read_config(str(ROOT / "experiments" / "smoke.py"), [tuple(word[9:].split("=")) for word in TINY])
    with Checkpoints(launch.workdir / "checkpoints", keep=9) as store:
        return store.read(step, checkpoint_structure(cfg))[0].params


def test_a_finished_run_says_so_and_only_evaluates(launch, finished, tmp_path):
    again = launch(finished.copy(tmp_path / "copy"))
    assert again.end() == 0, again.text
    assert "this run is finished; evaluating it again" in again.text
    assert "held-out accuracy" in again.text and "self-play · step" not in again.text
    assert last_state(again) == last_state(finished)


def test_sigterm_in_warm_up_saves_the_dispatch_in_hand(launch, tmp_path):
    run = launch(tmp_path / "stopped")
    run.until_line("compiling the warm-up")
    run.process.terminate()
    assert run.end() == 0, run.text
    step, _ = last_state(run)
    assert 1 <= step <= 4  # a dispatch may be a part of a chunk, of which the first has four steps
    assert f"SIGTERM: saved step {step} in {run.workdir}/checkpoints/{step}; the same command goes on" in run.text


def test_minutes_end_a_sitting_and_the_schedule_stays(launch, tmp_path):
    sitting = launch(tmp_path / "short", "--config.run.minutes=0.0001")
    assert sitting.end() == 0, sitting.text
    assert "0.0001 minutes are over: saved step" in sitting.text
    run = json.loads((tmp_path / "short" / "run.json").read_text())
    assert run["step"] < run["steps"] == 28


def test_collapse_goes_back_twice_and_then_stops(launch, tmp_path):
    """A learning rate at which the weights overflow at once: three restores are asked for, two are given."""
    run = launch(tmp_path / "hot", "--config.optimiser.lr=1e38", "--config.optimiser.lr_warmup=0")
    assert run.end() == 1, run.text
    lines = run.text.splitlines()
    assert sum("non-finite steps in a row" in line for line in lines) == 2
    assert "retry 2 of 2 with half the learning rate" in run.text
    assert lines[-1].startswith("launch.py: training collapsed at step") and "Traceback" not in run.text


def test_evaluation_alone_by_the_runs_own_settings(launch, finished, tmp_path):
    alone = launch(finished.copy(tmp_path / "copy"), "--mode=eval", named=False)
    assert alone.end() == 0, alone.text
    assert "evaluating step 28" in alone.text and "held-out accuracy" in alone.text
