"""Real launches of the whole program at toy size, each in its own process."""

import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[2]

TINY = (
    "--config.warmup.steps=20",
    "--config.warmup.ramp_end=0.6",
    "--config.selfplay.steps=8",
    "--config.selfplay.dev_every=4",
    "--config.selfplay.dev_items=6",
    "--config.run.save_every=4",
    "--config.tasks.unlock_every=8",
    "--config.tasks.productions=learnable",
    "--config.tasks.levels=learnable",
    "--config.tasks.mastery_items=4",
    "--config.tasks.dev_items=4",
    "--config.precision.budget=3",
    "--config.precision.policy=progressive",
    "--config.precision.phase_steps=4",
    "--config.eval.items=3",
    "--config.eval.precision_items=6",
    "--config.eval.shuffled_items=2",
    "--config.eval.passk_items=2",
)


class Launch:
    """``python launch.py --config=experiments/smoke.py`` at its smallest, started in the background."""

    def __init__(
        self, workdir: pathlib.Path, *more: str, prefix: tuple[str, ...] = (), env: dict[str, str] | None = None,
        stdout: Any = subprocess.PIPE, named: bool = True,
    ) -> None:  # fmt: skip
        self.workdir = workdir
        self.text = ""
        settings = ("--config=experiments/smoke.py", *TINY) if named else ()  # the run's own
        command = [sys.executable, "launch.py", f"--workdir={workdir}", *settings, *more]
        self.process = subprocess.Popen(
            [*prefix, *command], cwd=ROOT, stdout=stdout, stderr=subprocess.STDOUT, text=True, bufsize=1,
            start_new_session=True, env=os.environ | (env or {}),
        )  # fmt: skip

    def until_line(self, start: str) -> None:
        """Reads the output up to a line that starts with ``start``; fails the test if it ends before."""
        for line in self.process.stdout:
            self.text += line
            if line.startswith(start):
                return
        pytest.fail(f"no line {start!r} in:\n{self.text}")

    def until_file(self, path: str) -> None:
        """Waits until ``<workdir>/path`` exists."""
        while not (self.workdir / path).exists():
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.01)

    def interrupt(self) -> None:
        """Ctrl-C as a terminal sends it: to the program and to every process it started."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, timeout: float = 500) -> int:
        """Waits for the exit code; ``text`` then holds the whole output."""
        try:
            self.text += self.process.communicate(timeout=timeout)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"still running:\n{self.text + self.process.communicate()[0]}")
        return self.process.returncode


class Finished(Launch):
    """A launch that is over, which no test changes: ``copy`` gives one that a test may change."""

    def __init__(self, workdir: pathlib.Path, text: str) -> None:
        self.workdir = workdir
        self.text = text

    def copy(self, place: pathlib.Path) -> pathlib.Path:
        """The run's directory once more, at ``place``."""
        return pathlib.Path(shutil.copytree(self.workdir, place))


@pytest.fixture(scope="session")
def launch() -> type[Launch]:
    """What starts a run: called with its directory and more arguments."""
    return Launch


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Finished:
    """One uninterrupted run to its end, the same one for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "whole"
    text = place.with_suffix(".txt")
    with open(place.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not text.exists():
            launch = Launch(place)
            assert launch.end() == 0, launch.text
            text.write_text(launch.text)
    return Finished(place, text.read_text())
