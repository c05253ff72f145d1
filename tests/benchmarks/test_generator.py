"""``benchmarks/generator.py --feed``: how many cores make so many tokens a second."""

import re

import numpy as np

from benchmarks import generator
from bitzero.config import Config, Tasks

CFG = Config(tasks=Tasks(context=128, open_levels=2))


def test_a_rate_needs_as_many_cores_as_one_workers_speed_goes_into_it(monkeypatch, capsys):
    """Two steps of 60 tokens each, beside 40 of padding, in two seconds of processor time; the first is not timed."""
    clock, asked = iter([10.0, 12.0] * 2), []
    monkeypatch.setattr(generator.time, "process_time", lambda: next(clock))
    rows = {"tokens": np.arange(100) % 5 * (np.arange(100) < 75)}
    monkeypatch.setattr(
        generator, "pack_step", lambda cfg, order, step: (asked.append((order.open_levels, step)), rows)
    )
    generator.feed(1000.0, CFG, tokens=100)
    assert asked == [(levels, step) for levels in (2, 6) for step in (0, 1, 2)]
    assert capsys.readouterr().out.splitlines() == [
        f"L0 to L{last}: one worker makes 60 tokens a second of processor time; 1,000 tokens/s need 17 cores"
        for last in (1, 5)
    ]


def test_what_is_counted_is_what_a_worker_makes(capsys):
    generator.feed(1_000_000.0, CFG, tokens=1)
    lines = capsys.readouterr().out.splitlines()
    found = [re.search(r"makes ([\d,]+) tokens a second .* need (\d+) cores$", line).groups() for line in lines]
    assert len(found) == 2
    for speed, cores in found:  # of a step of 16 rows of 128 tokens, on any machine
        assert 100 < int(speed.replace(",", "")) < 10_000_000
        assert int(cores) * int(speed.replace(",", "")) >= 990_000
