"""Whatever ends a sitting or takes its listener away, what was trained is on disk: the real program, cut off."""

import json
import os
import pathlib
import signal

import pytest
from tensorboard.backend.event_processing import event_accumulator

from bitzero.run.checkpoint import Checkpoints

pytestmark = pytest.mark.timeout(600)

SHORT = (
    "--config.selfplay.steps=0",
    "--config.precision.policy=fixed",
    "--config.tasks.open_levels=1",
    "--config.tasks.dev_items=1",
)
ONE_QUESTION = (
    "--config.eval.items=1", "--config.eval.locked_items=0", "--config.eval.passk_items=0",
    "--config.eval.shuffled_items=0", "--config.eval.precision_items=0",
)  # fmt: skip
LONG = ("--config.warmup.steps=4000", "--config.run.save_every=4000", "--config.tasks.unlock_every=4000")


def saved(home: pathlib.Path) -> list[int]:
    """Steps whose checkpoints can be opened."""
    with Checkpoints(home / "checkpoints", keep=9) as store:
        return store.steps()


def test_a_reader_that_goes_away_and_then_an_interrupt(launch, tmp_path):
    """``launch.py … | tee log`` and Ctrl-C, which ends ``tee`` too."""
    run = launch(tmp_path / "run", *SHORT, *LONG)
    run.until_line("compiling the warm-up")
    run.process.stdout.close()
    run.interrupt()
    assert run.process.wait(240) == 0
    (step,) = saved(run.workdir)  # of the first dispatch, which is within the first chunk
    assert 1 <= step <= 4


def test_a_terminal_that_is_closed(launch, tmp_path):
    """Its last writes fail, and the hang-up comes more than once, to the generator's processes too."""
    ours, its = os.openpty()
    run = launch(tmp_path / "run", *SHORT, *LONG, stdout=its)
    os.close(its)
    run.until_file("tb")
    os.close(ours)
    for _ in range(2):
        os.killpg(run.process.pid, signal.SIGHUP)
    assert run.process.wait(240) == 0
    (step,) = saved(run.workdir)
    assert json.loads((run.workdir / "run.json").read_text())["step"] == step


@pytest.fixture(scope="module")
def unheard(launch, tmp_path_factory):
    """A run to its end without self-play whose log is on a full disk, in a directory named like a pattern."""
    home = tmp_path_factory.mktemp("runs") / "lr[3]" / "a\\b"
    with open("/dev/full", "w") as full:
        run = launch(home, *SHORT, *ONE_QUESTION, stdout=full)
        assert run.process.wait(240) == 0
    return run


def test_a_log_on_a_full_disk_costs_the_log_alone(unheard):
    assert saved(unheard.workdir)[-1] == 20
    assert json.loads((unheard.workdir / "eval.json").read_text())["step"] == 20


def test_a_directory_named_like_a_pattern_is_read_again(unheard, launch):
    export = launch(unheard.workdir, *SHORT, "--mode=export")
    assert export.end() == 0, export.text
    events = event_accumulator.EventAccumulator(str(unheard.workdir / "tb"))
    events.Reload()
    assert "loss/total" in events.Tags()["scalars"]


def test_export_with_other_settings_is_refused_in_one_line(unheard, launch):
    export = launch(unheard.workdir, *SHORT, "--mode=export", "--config.model.rope_theta=5")
    assert export.end() == 2
    (line,) = [line for line in export.text.splitlines() if line.startswith("launch.py: ")]
    assert "was started with config.model.rope_theta=10000.0, this command says 5.0" in line


def test_the_table_in_ascii(finished, launch, tmp_path):
    run = launch(finished.copy(tmp_path / "copy"), "--mode=eval", env={"PYTHONIOENCODING": "ascii"})
    assert run.end() == 0, run.text
    assert "held-out accuracy" in run.text and run.text.isascii()
