"""What a sitting opens: the sandbox as configured, with as many workers as the machine has use for."""

import pytest

from bitzero.config import Config, Executor
from bitzero.run import sitting
from bitzero.run.workdir import RunError
from bitzero.sandbox import Limits


@pytest.mark.parametrize(
    ("asked", "cores", "wanted"), [(0, 1, 2), (0, 2, 2), (0, 6, 6), (0, 64, 16), (1, 6, 1), (24, 2, 24)]
)
def test_programs_run_on_every_core_unless_a_number_is_set(monkeypatch, asked, cores, wanted):
    monkeypatch.setattr(sitting, "usable_cores", lambda: cores)
    assert sitting.sandbox_workers(Config(sandbox=Executor(workers=asked))) == wanted


class Noted(sitting.Sandbox):
    """A sandbox that starts nothing."""

    def __init__(self, **given):
        self.given = given


def test_the_sandbox_is_the_configured_one(monkeypatch):
    monkeypatch.setattr(sitting, "usable_cores", lambda: 3)
    monkeypatch.setattr(sitting, "Sandbox", Noted)
    given = sitting.open_sandbox(Config(sandbox=Executor(fuel=1234, memory_mb=99, value_bytes=77, cpu_s=0.25))).given
    limits = Limits(fuel=1234, memory_mb=99, value_bytes=77, cpu_s=0.25)
    assert given == {"limits": limits, "workers": 3, "allow_unsafe": False}


def test_limits_that_cannot_do_are_a_sentence():
    with pytest.raises(RunError, match="fuel"):
        sitting.open_sandbox(Config(sandbox=Executor(fuel=-1)))
