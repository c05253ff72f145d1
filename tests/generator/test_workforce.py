"""More workers while the trainer waits, none where it does not."""

import pytest

from bitzero.config import Config, Tasks
from bitzero.generator import stream
from bitzero.generator.workforce import workers_without_wait


@pytest.mark.parametrize(
    ("workers", "waited", "since", "wanted"),
    [(1, 0.0, 10.0, 1), (1, 0.9, 10.0, 1), (1, 5.0, 10.0, 2), (2, 7.5, 10.0, 8), (1, 10.0, 10.0, 4), (3, 2.0, 10.0, 4)],
)
def test_as_many_as_would_have_left_no_wait(workers, waited, since, wanted):
    assert workers_without_wait(workers, waited, since) == wanted


@pytest.mark.parametrize(("asked", "most"), [(0, 4), (2, 2)])
def test_a_stream_grows_within_the_cores_where_the_number_is_left_open(monkeypatch, asked, most):
    monkeypatch.setattr(stream, "usable_cores", lambda: 4)
    clock = [100.0]
    monkeypatch.setattr(stream.time, "monotonic", lambda: clock[0])
    with stream.Stream(Config(tasks=Tasks(workers=asked))) as source:
        source._grow(began=0.0)  # the first batch is always waited for
        assert source.workers == (asked or 1)
        for _ in range(2):
            clock[0] += 10.0
            source._grow(began=clock[0] - 9.0)
        assert source.workers == most
