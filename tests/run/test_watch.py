"""What is watched of self-play: when, what counts as falling, and which step was best."""

import dataclasses

import pytest

from bitzero.config import Config, SelfPlay, Warmup
from bitzero.run import watch

CFG = Config(warmup=Warmup(steps=100), selfplay=SelfPlay(steps=60, dev_every=40))


def test_dev_is_read_before_self_play_on_the_way_and_at_its_end():
    assert [step for step in range(0, 180, 20) if watch.is_due(step, CFG)] == [100, 140, 160]
    for other in (SelfPlay(steps=0), SelfPlay(steps=60, dev_every=0)):
        assert not any(watch.is_due(step, dataclasses.replace(CFG, selfplay=other)) for step in range(0, 180, 20))


@pytest.mark.parametrize(
    "values, falls",
    [([0.5], 0), ([0.5, 0.4], 1), ([0.4, 0.5, 0.4, 0.3, 0.2], 3), ([0.5, 0.4, 0.4], 0), ([0.5, 0.4, 0.3, 0.6], 0)],
)
def test_falls_are_counted_back_from_the_last_reading(values, falls):
    watched = {str(100 + 40 * i): {"mean": value} for i, value in enumerate(values)}
    last = 100 + 40 * (len(values) - 1)
    assert watch.falls_in_a_row(watched, "mean", last) == falls
    assert watch.falls_in_a_row(watched | {str(last + 40): {"mean": 0.0}}, "mean", last) == falls  # a later sitting's


def test_readings_without_the_figure_are_no_falls():
    watched = {"100": {"mean": 0.5}, "140": {"mean": 0.4, "novelty": 0.6}, "180": {"mean": 0.4, "novelty": 0.5}}
    assert watch.falls_in_a_row(watched, "novelty", 180) == 1


def test_alarms_are_readings_after_three_falls_of_either_figure():
    means, novelties = (0.6, 0.5, 0.4, 0.3, 0.2, 0.3), (0.9, 0.8, 0.7, 0.6, 0.7, 0.6)
    watched = {
        str(100 + 40 * i): {"mean": mean, "novelty": novelty}
        for i, (mean, novelty) in enumerate(zip(means, novelties, strict=True))
    }
    assert watch.alarms(watched) == 3  # dev at the fourth and fifth reading, novelty at the fourth
    assert watch.alarms({}) == 0


def test_the_best_step_is_named_and_the_earlier_of_equals(tmp_path):
    watched = {"100": {"mean": 0.4}, "140": {"mean": 0.5}, "160": {"mean": 0.5}}
    said = watch.best_sentence(watched, tmp_path)
    assert said.startswith(f"best on dev in self-play: step 140, 50.0 % (kept in {tmp_path / watch.BEST})")
    assert watch.best_sentence({}, tmp_path) is None
