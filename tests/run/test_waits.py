"""What a sitting reports beside its metrics: for whom it waited, and how long."""

import pytest

from bitzero.run import report
from bitzero.run.sitting import Ledger, Meters, Sitting


@pytest.fixture
def waited(monkeypatch):
    """Lets so many seconds pass, some of them spent waiting; gives the shares that are noted then."""
    clock, meters = [100.0], Meters(ledger=Ledger(operand="f32"))
    monkeypatch.setattr(report.time, "monotonic", lambda: clock[0])
    sitting = object.__new__(Sitting)
    object.__setattr__(sitting, "meters", meters)
    object.__setattr__(sitting, "began", clock[0])

    def wait(passed, generator=0.0, sandbox=0.0):
        clock[0] += passed
        meters.ledger.add_seconds("generator", generator)
        report.settle_waits(sitting, sandbox)
        return meters.waits

    return wait


def test_waits_are_shares_of_the_time_since_the_last_report(waited):
    assert waited(20.0, generator=5.0, sandbox=2.0) == {"generator": 0.25, "sandbox": 0.1}  # from the sitting's start
    assert waited(10.0, generator=1.0) == {"generator": 0.1, "sandbox": 0.0}
    assert waited(10.0) == {"generator": 0.0, "sandbox": 0.0}  # what was waited before counts once


def test_no_share_is_more_than_the_whole(waited):
    assert waited(4.0, generator=6.0, sandbox=4.0) == {"generator": 1.0, "sandbox": 1.0}
    assert waited(0.0) == {"generator": 0.0, "sandbox": 0.0}
