"""What is kept of self-play's steps: both ends, by step; the largest of all; nothing twice."""

import dataclasses
import json

import numpy as np
import pytest

from bitzero.config import Config, SelfPlay, Warmup
from bitzero.run import played
from bitzero.run.sitting import Ledger

CFG = Config(warmup=Warmup(steps=100), selfplay=SelfPlay(steps=40))


def told(first, kl):
    """The values of a chunk whose KLs are ``kl``, and whose other figures are a tenth of the step's number."""
    rest = {tag: 0.1 * (first + 1 + np.arange(len(kl))) for name, tag in played.FIGURES.items() if name != "kl"}
    return {played.FIGURES["kl"]: np.array(kl, np.float32)} | rest


@pytest.mark.parametrize(
    "steps, first, last",
    [(40, range(101, 105), range(137, 141)), (3, range(101, 102), range(103, 104)), (0, range(0), range(0))],
)
def test_an_end_is_a_tenth_of_the_steps(steps, first, last):
    found = played.ends(dataclasses.replace(CFG, selfplay=SelfPlay(steps=steps)))
    assert list(found["first"]) == list(first) and list(found["last"]) == list(last)


def test_an_end_of_a_long_run_has_a_limit():
    found = played.ends(dataclasses.replace(CFG, selfplay=SelfPlay(steps=9000)))
    assert found == {"first": range(101, 151), "last": range(9051, 9101)}


def test_means_are_of_the_ends_and_the_largest_of_all_steps():
    kept, peaks = {}, {}
    played.note_steps(kept, peaks, 100, told(100, [1, 2, 3, 6, 50, 1]), CFG)  # the fifth is of neither end
    assert played.figures(kept, peaks, CFG)["first"]["kl"] == 3.0
    assert "last" not in played.figures(kept, peaks, CFG)
    played.note_steps(kept, peaks, 136, told(136, [4, 4]), CFG)
    found = played.figures(kept, peaks, CFG)
    assert found["last"]["steps"] == 2 and found["last"]["kl"] == 4.0  # so far
    played.note_steps(kept, peaks, 138, told(138, [8, 8]), CFG)
    found = played.figures(kept, peaks, CFG)
    assert found["first"]["steps"] == found["last"]["steps"] == 4
    assert found["first"]["kl"] == 3.0 and found["last"]["kl"] == 6.0
    assert found["first"]["valid"] == 10.25 and found["last"]["entropy"] == 13.85
    assert found["largest"] == {"kl": 50.0, "max_ratio": 14.0}


def test_steps_that_run_again_count_once_and_a_resumed_run_goes_on():
    ledger = Ledger(operand="f32")
    played.note_steps(ledger.played, ledger.peaks, 100, told(100, [9, 9, 9, 9]), CFG)
    played.note_steps(ledger.played, ledger.peaks, 100, told(100, [1, 2]), CFG)
    resumed = Ledger(**json.loads(json.dumps(dataclasses.asdict(ledger))))
    played.note_steps(resumed.played, resumed.peaks, 102, told(102, [3, 6]), CFG)
    found = played.figures(resumed.played, resumed.peaks, CFG)
    assert found["first"]["steps"] == 4 and found["first"]["kl"] == 3.0 and found["largest"]["kl"] == 9.0


def test_what_is_not_finite_is_left_out():
    kept, peaks = {}, {}
    played.note_steps(kept, peaks, 100, told(100, [1, np.nan, np.inf, 3]), CFG)
    found = played.figures(kept, peaks, CFG)
    assert found["first"]["kl"] == 2.0 and found["largest"]["kl"] == 3.0 and found["first"]["steps"] == 4


def test_nothing_is_told_of_a_run_without_self_play():
    assert played.figures({}, {}, dataclasses.replace(CFG, selfplay=SelfPlay(steps=0))) == {}
