"""A chunk in dispatches: short ones, from any step of it, ended by a stop, and nothing of it in what they compute."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model, Run, SelfPlay, Tasks, Warmup
from bitzero.run import pace
from bitzero.run.sitting import Ledger, Meters, Sitting
from bitzero.run.stop import Stop
from bitzero.selfplay import warmup
from bitzero.state import Supervised

CFG = Config(
    model=Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32),
    warmup=Warmup(steps=40, batch_size=8), selfplay=SelfPlay(steps=8), tasks=Tasks(unlock_every=20),
    run=Run(chunk=20, save_every=20),
)  # fmt: skip


@pytest.fixture(scope="module")
def start():
    return warmup.init_state(CFG)


def bare(what, **fields):
    """An object of the class ``what`` with some of its fields, as functions that check their arguments want it."""
    found = object.__new__(what)
    for name, value in fields.items():
        object.__setattr__(found, name, value)
    return found


def test_a_dispatch_has_as_many_steps_as_ten_seconds_hold():
    assert [pace.steps_of_dispatch(seconds, 20) for seconds in (0.0, 0.001, 1.0, 4.0, 60.0)] == [1, 20, 10, 2, 1]
    assert pace.steps_of_dispatch(0.001, 3) == 3


@pytest.fixture
def ran(monkeypatch, start):
    """Runs a chunk from a step with steps of so many seconds; gives its spans, the chunk, and what was said."""

    def run(first, step_seconds, *, stop_after=None, stop_bit_at=None, compiles=True):
        clock, spans, said = [0.0], [], []
        monkeypatch.setattr(pace.time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(pace, "show_status", lambda sitting, phase, step: said.append(step))
        meters = Meters(
            ledger=Ledger(operand="f32"), compiles_next=compiles, step_seconds=0.0 if compiles else step_seconds
        )
        sitting = bare(
            Sitting, cfg=CFG, meters=meters, stop=Stop(said.append), door=types.SimpleNamespace(error=None),
            progress=types.SimpleNamespace(say=said.append),
        )  # fmt: skip

        at = lambda step: dataclasses.replace(start, step=jnp.int32(step))

        def dispatch(sitting, state, batch, phase, span):
            spans.append(span)
            steps = min(span[1], stop_bit_at or span[1]) - span[0]
            clock[0] += steps * step_seconds
            if stop_after and len(spans) == stop_after:
                sitting.stop.ask("SIGTERM")
            column = np.zeros(CFG.run.chunk)
            column[span[0] : span[0] + steps] = int(state.step) + np.arange(steps)
            return at(int(state.step) + steps), {"loss/total": jnp.asarray(column)}

        monkeypatch.setattr(pace, "_dispatch", dispatch)
        return spans, pace.run_chunk(sitting, at(first), bare(Supervised))[1], said

    return run


def test_the_first_step_compiles_the_second_is_measured_and_the_rest_follows(ran):
    spans, chunk, said = ran(0, 2.0)
    assert spans == [(0, 1), (1, 2), (2, 7), (7, 12), (12, 17), (17, 20)]
    np.testing.assert_array_equal(chunk.values["loss/total"], np.arange(20))
    assert (chunk.seconds, chunk.timed) == (38.0, 19)
    assert said == ["compiling the warm-up step", 1, 2, 7, 12, 17]


def test_a_chunk_begun_in_an_earlier_sitting_goes_on_at_its_step(ran):
    spans, chunk, _ = ran(33, 0.01, compiles=False)
    assert spans == [(13, 20)] and (chunk.first, chunk.step) == (33, 40)
    np.testing.assert_array_equal(chunk.values["loss/total"], np.arange(33, 40))


def test_a_stop_ends_a_chunk_between_dispatches_and_a_stop_bit_within_one(ran):
    spans, chunk, _ = ran(0, 4.0, stop_after=3)
    assert spans == [(0, 1), (1, 2), (2, 4)] and chunk.step == 4 and len(chunk.values["loss/total"]) == 4
    spans, chunk, _ = ran(40, 0.1, stop_bit_at=6, compiles=False)
    assert spans == [(0, 20)] and chunk.step == 46 and chunk.timed == 6
