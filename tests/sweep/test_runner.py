"""Sweeps as a person starts them: real runs at toy size, stopped and resumed, with a point that cannot run."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import rich.console

from bitzero.config import ConfigError
from bitzero.run.accelerator import Choice
from bitzero.run.workdir import RunError, owned
from bitzero.sweep import results, runner
from bitzero.sweep.plan import SweepOrder, read_plan, run_command
from bitzero.sweep.view import SweepStatus, SweepView, last_line

ROOT = pathlib.Path(__file__).parents[2]
SMOKE = "experiments/smoke.py"
pytestmark = pytest.mark.timeout(600)

# A warm-up of 8 steps for both points, then 8 more; the third point's executor has less memory than it can run in.
TINY = '''"""Two ramps."""
BASE = {
    "warmup.steps": 16, "warmup.ramp_start": 0.5, "warmup.ramp_end": 0.75, "selfplay.steps": 0, "eval.items": 0,
    "eval.precision_items": 4, "tasks.dev_items": 1, "tasks.open_levels": 1,
}
BRANCH = 8
AFTER_BRANCH = ("warmup.ramp_end", "sandbox")


def points():
    yield "ternary", "ternary", 2.0, {}
    yield "long", "long", 2.0, {"warmup.ramp_end": 1.0}
    yield "broken", "broken", 2.0, {"sandbox.memory_mb": 1}
'''


class Started:
    """``python launch.py --mode=sweep`` in the background."""

    def __init__(self, file, home, *more):
        words = [f"--config={SMOKE}", "--mode=sweep", f"--sweep={file}", f"--workdir={home}", "--seeds=1", *more]
        self.process = subprocess.Popen(
            [sys.executable, "launch.py", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    def end(self):
        """The exit code and the lines it said."""
        try:
            text = self.process.communicate(timeout=500)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()  # its runs save and end by themselves
            pytest.fail(f"still running:\n{self.process.communicate()[0]}")
        assert "Traceback" not in text
        return self.process.returncode, text.splitlines()


def table(home):
    """The lines of ``runner.csv`` without the timing columns."""
    with open(home / "sweep.csv", newline="") as handle:
        return [{k: v for k, v in row.items() if k not in results.TIMING} for row in csv.DictReader(handle)]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("sweep") / "tiny.py"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="module")
def whole(file, tmp_path_factory):
    """An undisturbed sweep: where it lives, its exit code and what it said."""
    home = tmp_path_factory.mktemp("runs") / "whole"
    return home, *Started(file, home).end()


def planned(file, home):
    return read_plan(SweepOrder(spec=str(ROOT / SMOKE), file=file, home=home, seeds=1))


@pytest.mark.long
def test_a_failing_point_is_named_and_the_others_finish(whole):
    home, code, lines = whole
    assert code == 1
    failure = next(line for line in lines if line.startswith("broken seed 0 failed: exit code 1: launch.py: "))
    assert failure.endswith(f"({home}/points/broken/seed0/log.txt)")
    assert lines[-1] == "1 run failed; the same command tries it again"
    assert [row["name"] for row in table(home)] == ["ternary", "long"]
    assert {row["stored_bits"] for row in table(home)} == {"2.0"}
    assert (home / "report.html").exists() and (home / "report.png").exists()


@pytest.mark.long
def test_a_point_goes_on_from_the_shared_warm_up_as_if_it_had_run_it(whole, file, tmp_path):
    home, _, _ = whole
    (base,) = (home / "bases").iterdir()
    assert (base / "checkpoints" / "8").is_dir() and not (base / "eval.json").exists()
    plan = planned(file, home)
    job = next(job for job in plan.runs() if job.point.name == "long")
    assert "resuming at step 8 of 16" in (job.home / "log.txt").read_text()
    words = [word for word in run_command(plan.order, job) if not word.startswith("--workdir")]
    command = runner.settled_command(runner.core_shares(1)[0], ["launch.py", *words, f"--workdir={tmp_path}"])
    env = os.environ | {"PJRT_NPROC": "2"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    alone = json.loads((tmp_path / "run.json").read_text())
    assert alone["parameter_hash"] == table(home)[1]["parameter_hash"] != table(home)[0]["parameter_hash"]


@pytest.mark.long
def test_stopped_and_started_again_it_gives_the_same_table(whole, file, tmp_path):
    home, bases = tmp_path / "stopped", f"--bases={whole[0] / 'bases'}"
    started = Started(file, home, bases)
    log = home / "points" / "long" / "seed0" / "log.txt"
    while not log.exists() or "compiling" not in log.read_text():
        assert started.process.poll() is None, started.end()
        time.sleep(0.02)
    started.process.send_signal(signal.SIGTERM)
    code, lines = started.end()
    assert code == 0 and not (home / "sweep.csv").exists() and not (home / "points" / "broken").exists()
    assert lines[-1].startswith("SIGTERM: ") and lines[-1].endswith("the same command goes on")
    assert not runner.is_owned(log.parent)  # nothing it started is left
    before = (home / "points" / "ternary" / "seed0" / "result.json").stat().st_mtime_ns
    code, lines = Started(file, home, bases).end()
    assert code == 1 and lines[1] in ("4 runs, 2 finished already", "4 runs, 3 finished already")
    assert table(home) == table(whole[0])
    assert (home / "points" / "ternary" / "seed0" / "result.json").stat().st_mtime_ns == before


@pytest.mark.long
def test_a_finished_sweep_only_writes_its_report_again(whole, file, tmp_path):
    home = pathlib.Path(shutil.copytree(whole[0], tmp_path / "copy"))
    for place in ("sweep.csv", "report.html"):
        (home / place).unlink()
    good = tmp_path / "tiny.py"
    good.write_text(TINY[: TINY.index('    yield "broken"')])
    code, lines = Started(good, home).end()
    assert code == 0 and lines[1] == "3 runs, 3 finished already"
    assert table(home) == table(whole[0]) and (home / "report.html").exists()


def test_a_dry_run_runs_nothing(file, tmp_path):
    code, lines = Started(file, tmp_path / "home", "--dry_run").end()
    assert code == 0 and not (tmp_path / "home").exists()
    assert lines[-1] == "3 runs after 1 shared warm-up to step 8; finished already: 0"


def test_another_sweep_on_the_same_directory_is_refused(file, tmp_path):
    with owned(tmp_path):
        code, lines = Started(file, tmp_path).end()
    assert code == 1 and lines[-1].startswith(f"launch.py: another run is using {tmp_path} (process {os.getpid()})")


def test_a_broken_sweep_file_is_one_line(tmp_path):
    (tmp_path / "bad.py").write_text("def points(:\n")
    code, lines = Started(tmp_path / "bad.py", tmp_path / "home").end()
    assert code == 2 and lines[1:] == [f"launch.py: {tmp_path}/bad.py, line 1: invalid syntax"]


NAMES = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION")  # of the share of a card's memory
# Stands for launch.py where only the order of things is asked: leaves what a run leaves, at once.
FAKE = """
import json, os, pathlib, sys
NAMES = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION")
words = dict(word[2:].split("=", 1) for word in sys.argv[1:])
home, until = pathlib.Path(words["workdir"]), int(words["config.run.until"])
print(sorted(os.sched_getaffinity(0)), os.environ["PJRT_NPROC"], words["config.seed"])
if words.get("config.optimiser.lr") == "0.5":
    sys.exit("launch.py: collapsed")
step = until or 16
(home / "checkpoints" / str(step)).mkdir(parents=True)
memory = {name: value for name, value in os.environ.items() if name in NAMES}
(home / "memory.json").write_text(json.dumps(memory))
run = {"step": step, "steps": 16, "tokens": 10, "seconds": {}, "minutes": 0.1, "parameter_hash": "h"}
(home / "run.json").write_text(json.dumps(run))
held = {"stored_bits": 2.0, "nats": 1.0, "accuracy": 0.5, "weights": 64}
if not until and words.get("config.optimiser.lr") != "0.25":
    (home / "eval.json").write_text(json.dumps({"step": 16, "commit": "abc", "precision": held}))
"""
MANY = (
    TINY[: TINY.index('    yield "broken"')]
    + """
    yield "collapses", "lr", 2.0, {"optimiser.lr": 0.5}
    yield "lost", "lr", 2.0, {"optimiser.lr": 0.25}
"""
)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A sweep file whose runs take no time, and a function that runs the sweep."""
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "many.py").write_text(MANY)
    monkeypatch.setattr(runner, "LAUNCH", tmp_path / "fake.py")
    spec, file, home = str(ROOT / SMOKE), tmp_path / "many.py", tmp_path / "home"
    order = lambda jobs: SweepOrder(spec=spec, file=file, home=home, seeds=2, jobs=jobs)
    return lambda jobs=1, **more: runner.main(order(jobs), **more)


def test_a_sweep_that_can_never_run_is_refused_before_it_starts(fake, tmp_path, monkeypatch, capsys):
    """It may be looked at all the same, on a machine without the device."""
    monkeypatch.setattr(runner.accelerator, "choice_here", lambda environment: Choice(refusal="no such device"))
    with pytest.raises(ConfigError, match="no such device"):
        fake()
    assert not (tmp_path / "home").exists()
    assert fake(dry_run=True) == 0 and "finished already: 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("own", "name", "share"),
    [
        ({}, "XLA_PYTHON_CLIENT_MEM_FRACTION", "0.25"),
        ({"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}, "XLA_PYTHON_CLIENT_MEM_FRACTION", "0.3"),
        ({"XLA_CLIENT_MEM_FRACTION": "0.6"}, "XLA_CLIENT_MEM_FRACTION", "0.2"),
    ],
)
def test_runs_at_once_share_a_card_and_it_is_said(fake, tmp_path, monkeypatch, capsys, own, name, share):
    for variable in NAMES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in own.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(runner.accelerator, "choice_here", lambda environment: Choice(card="NVIDIA Abacus"))
    fake(3)
    said = f"3 runs at once share the NVIDIA Abacus; each gets {100 * float(share):g} % of its memory"
    assert said in capsys.readouterr().out.splitlines()
    (base, *_) = (tmp_path / "home" / "bases").glob("*/memory.json")
    (point, *_) = (tmp_path / "home" / "points").glob("ternary/seed0/memory.json")
    assert json.loads(base.read_text()) == json.loads(point.read_text()) == {name: share}


@pytest.mark.parametrize(("jobs", "card"), [(1, "NVIDIA Abacus"), (2, "")])
def test_nothing_is_said_of_a_card_that_is_not_shared(fake, monkeypatch, capsys, jobs, card):
    monkeypatch.setattr(runner.accelerator, "choice_here", lambda environment: Choice(card=card))
    fake(jobs)
    assert "share the" not in capsys.readouterr().out


@pytest.mark.parametrize("jobs", [1, 3])
def test_one_failure_costs_only_what_depends_on_it(fake, tmp_path, capsys, jobs):
    assert fake(jobs) == 1
    said = capsys.readouterr().out
    logs = {path.parent.parent.name: path for path in (tmp_path / "home" / "points").glob("*/seed1/log.txt")}
    assert re.search(r"warm-up \w+ seed 1 failed: exit code 1: launch.py: collapsed \(", said)
    assert re.search(r"collapses seed 1 failed: its warm-up \w+ seed 1 failed", said) and "collapses" not in logs
    assert f"lost seed 0 failed: it ended at step 16 of 16 without an evaluation ({tmp_path}" in said
    assert said.splitlines()[-1] == "6 runs failed; the same command tries them again"
    assert [(row["name"], row["seed"]) for row in table(tmp_path / "home")] == [
        ("ternary", "0"), ("ternary", "1"), ("long", "0"), ("long", "1"),
    ]  # fmt: skip
    assert logs["ternary"].read_text() == f"{sorted(runner.core_shares(1)[0])} 2 1\n"
    assert (tmp_path / "home" / "points" / "long" / "seed0" / "checkpoints" / "8").is_dir()


def test_what_is_finished_is_not_run_again(fake, tmp_path, capsys):
    fake()
    logs = [
        path for path in (tmp_path / "home" / "points").glob("*/*/log.txt") if path.parts[-3] in ("ternary", "long")
    ]
    (tmp_path / "home" / "points" / "long" / "seed0" / "result.json").unlink()  # killed before it was written
    before, first = {path: path.read_text() for path in logs}, table(tmp_path / "home")
    fake()
    assert len(logs) == 4 and {path: path.read_text() for path in logs} == before
    assert table(tmp_path / "home") == first
    assert "14 runs, 8 finished already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [("eval.json", '{"step": 16, "precision": null}', "its results lack"), ("run.json", "{", "run.json")],
)
def test_results_that_cannot_be_read_fail_their_run_alone(fake, tmp_path, capsys, name, content, why):
    fake()
    damaged = tmp_path / "home" / "points" / "long" / "seed0"
    (damaged / "result.json").unlink()
    (damaged / name).write_text(content)
    capsys.readouterr()
    assert fake() == 1
    (line,) = {line for line in capsys.readouterr().out.splitlines() if line.startswith("long seed 0 failed: ")}
    assert why in line and line.endswith(f"; remove {damaged} to run it again")
    assert [(row["name"], row["seed"]) for row in table(tmp_path / "home")] == [
        ("ternary", "0"), ("ternary", "1"), ("long", "1"),
    ]  # fmt: skip


def test_a_lost_warm_up_fails_its_points_alone(fake, tmp_path, capsys):
    fake()
    (done,) = {
        read_plan(SweepOrder(spec=str(ROOT / SMOKE), file=tmp_path / "many.py", home=tmp_path / "home")).jobs[0].home
    }
    shutil.rmtree(done / "checkpoints")
    shutil.rmtree(tmp_path / "home" / "points" / "long" / "seed0")
    capsys.readouterr()
    assert fake() == 1
    assert f"long seed 0 failed: no checkpoint {done}/checkpoints/8 to branch off" in capsys.readouterr().out


def test_a_run_that_another_process_owns_is_busy(tmp_path):
    assert not runner.is_owned(tmp_path)
    with owned(tmp_path):
        assert runner.is_owned(tmp_path)
    assert not runner.is_owned(tmp_path)


def test_a_branch_is_whole_or_absent(file, tmp_path):
    job = next(job for job in planned(file, tmp_path).runs())
    (job.base.home / "checkpoints" / "8").mkdir(parents=True)
    (job.base.home / "checkpoints" / "8" / "state").write_text("weights")
    (job.home / "checkpoints.part" / "8").mkdir(parents=True)  # left by a kill
    runner.branch_off(job.base, job, 8)
    assert [path.name for path in job.home.iterdir()] == ["checkpoints"]
    assert (job.home / "checkpoints" / "8" / "state").read_text() == "weights"
    (job.base.home / "checkpoints" / "8" / "state").write_text("others")
    runner.branch_off(job.base, job, 8)  # it has its own already
    assert (job.home / "checkpoints" / "8" / "state").read_text() == "weights"


def test_a_lost_warm_up_is_named(file, tmp_path):
    job = next(job for job in planned(file, tmp_path).runs())
    with pytest.raises(RunError, match=f"no checkpoint {job.base.home}/checkpoints/8 to branch off; remove"):
        runner.branch_off(job.base, job, 8)


@pytest.mark.parametrize(
    ("cores", "jobs", "wanted"),
    [
        ({0, 1}, 1, [{0, 1}]),
        ({0, 1}, 2, [{0, 1}, {0, 1}]),
        ({2, 3, 6, 7}, 2, [{2, 3}, {6, 7}]),
        ({0, 1, 2, 3, 4}, 3, [{0, 1}, {2, 3}, {4, 0}]),
        ({5}, 2, [{5}, {5}]),
    ],
)
def test_every_run_has_two_cores(monkeypatch, cores, jobs, wanted):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: cores)
    assert runner.core_shares(jobs) == wanted


def test_the_standing_in_one_line(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("first\nwarm-up · step 4/16\n\n")
    standing = SweepStatus(
        total=40, finished=12, failed=1, running=[("a seed 3", 61.0, log)], left_s=3_725.0
    )  # fmt: skip
    assert standing.line() == "12 of 40 runs finished · 1 failed · running a seed 3 · 1:02:05 left"
    console = rich.console.Console(width=100, file=io.StringIO(), force_terminal=True)
    with SweepView(console) as view:
        view.show(dataclasses.replace(standing, failed=0))
        time.sleep(1.1)
        view.show(standing)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())
    assert "12 of 40 runs finished · 1 failed" in shown and "a seed 3" in shown and "warm-up · step 4/16" in shown


def test_the_last_line_of_a_log(tmp_path):
    assert last_line(tmp_path / "none") == ""
