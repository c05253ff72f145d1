"""Decisions of the driver that need no run: collapse across chunks, generator orders, what a sitting may change."""

import dataclasses
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model, Run, SelfPlay, Tasks, Warmup, with_operand
from bitzero.evaluation import questions
from bitzero.generator.stream import GeneratorFailed
from bitzero.run import curriculum, pace, train
from bitzero.run import sitting as sittings
from bitzero.run.sitting import Ledger, Meters, Sitting, StopAsked, go_on
from bitzero.run.stop import Stop
from bitzero.run.workdir import RunError
from bitzero.sandbox import Sandbox
from bitzero.selfplay import warmup
from bitzero.state import Supervised

CFG = Config(
    model=Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32),
    warmup=Warmup(steps=40, batch_size=8),
    selfplay=SelfPlay(steps=8, supervised_batch=4, ring=8, history=64),
    tasks=Tasks(unlock_every=20, open_levels=3),
    run=Run(chunk=4, save_every=20),
)


@pytest.mark.parametrize(
    ("before", "column", "longest"),
    [(0, [0, 0, 0], 0), (0, [1, 1, 0, 1], 2), (2, [1, 0], 3), (2, [0, 1], 2), (1, [], 1), (0, [0, 1, 1, 1, 0], 3)],
)
def test_non_finite_steps_in_a_row_are_counted_across_chunks(before, column, longest):
    assert train.longest_bad_run(before, np.array(column)) == longest


@pytest.fixture(scope="module")
def coming():
    """Step → (step, phase, batch size) of the orders that are made there."""
    state = jax.jit(warmup.init_state, static_argnums=0)(CFG)

    def at(step):
        units = train.upcoming_orders(CFG, dataclasses.replace(state, step=jnp.int32(step)))
        return [(unit.step, unit.phase, unit.batch_size) for unit in units]

    return at


def test_data_is_ordered_ahead_but_never_past_a_dev_measurement(coming):
    assert coming(0) == [(0, "warmup", 8), (4, "warmup", 8), (8, "warmup", 8)]
    assert coming(12) == [(12, "warmup", 8), (16, "warmup", 8)]  # at 20 a level may open
    assert coming(20) == [(20, "warmup", 8), (24, "warmup", 8), (28, "warmup", 8)]


def test_a_chunk_begun_in_an_earlier_sitting_is_ordered_whole(coming):
    assert coming(38) == [(36, "warmup", 8)]
    assert coming(41) == [(40, "selfplay", 4), (44, "selfplay", 4)]


def test_an_order_carries_the_levels_of_the_state():
    state = jax.jit(warmup.init_state, static_argnums=0)(CFG)
    state = dataclasses.replace(state, frontier=jnp.int32(3), open_levels=jnp.int32(4))
    unit = train.order_at(CFG, state, 0)
    assert (unit.open_levels, unit.frontier, unit.steps, unit.context) == (4, 3, 4, CFG.tasks.context)


def bare(what, **fields):
    """An object of the class ``what`` with some of its fields, as functions that check their arguments want it."""
    found = object.__new__(what)
    for name, value in fields.items():
        object.__setattr__(found, name, value)
    return found


class Store:
    """Stands for the checkpoints: remembers what was saved."""

    path = pathlib.Path("checkpoints")

    def __init__(self):
        self.saved, self.modes = [], []

    def save(self, step, state, meta):
        self.saved.append(step)
        self.modes.append(int(state.trace_mode))


@pytest.fixture
def sitting(monkeypatch):
    """A sitting whose chunks take no time and find nothing; what it says is in ``said``."""
    said = []
    monkeypatch.setattr(train, "write_run_json", lambda sitting, state: None)
    monkeypatch.setattr(train, "cross_boundary", lambda sitting, state: state)
    monkeypatch.setattr(train, "take_sequences", lambda sitting, state: bare(Supervised))
    meters = Meters(ledger=Ledger(operand="f32"), compiles_next=False)
    door, progress = types.SimpleNamespace(error=None, guarded=frozenset((1,))), types.SimpleNamespace(say=said.append)
    parts = {"cfg": CFG, "store": Store(), "stop": Stop(said.append), "door": door, "progress": progress}
    return bare(Sitting, **parts, meters=meters, said=said, home=pathlib.Path("run"))


@pytest.fixture(scope="module")
def state():
    return warmup.init_state(CFG)


def at(state, step):
    return dataclasses.replace(state, step=jnp.int32(step))


def test_a_stop_asked_after_a_chunk_decided_not_to_save_is_saved_all_the_same(sitting, state, monkeypatch):
    def chunk(sitting, ready, batch):
        sitting.stop.ask("SIGTERM")
        return at(ready, 4)

    monkeypatch.setattr(train, "train_chunk", chunk)
    assert train.train_chunks(sitting, state) == 0
    assert sitting.store.saved == [4]
    assert sitting.said == ["SIGTERM: saved step 4 in checkpoints/4; the same command goes on"]


def test_a_stop_while_the_model_is_asked_leaves_the_state_before_the_boundary(sitting, state, monkeypatch):
    """The next sitting asks again: what the boundary decides is a function of the state there."""

    def ask(sitting, state):
        if int(state.step) == 4:
            sitting.stop.ask("SIGTERM")
            go_on(sitting)  # as before each batch of questions
            pytest.fail("asked on")
        return state

    monkeypatch.setattr(train, "cross_boundary", ask)
    monkeypatch.setattr(train, "train_chunk", lambda sitting, ready, batch: at(ready, int(ready.step) + 4))
    assert train.train_chunks(sitting, state) == 0
    assert sitting.store.saved == [4]
    assert sitting.said == ["SIGTERM: saved step 4 in checkpoints/4; the same command goes on"]


@pytest.mark.parametrize("where", ["read_dev", "evaluate_state"])
def test_a_stop_while_a_trained_model_is_asked_writes_no_table(sitting, state, monkeypatch, where):
    def ask(sitting, state):
        sitting.stop.ask("SIGINT")
        go_on(sitting)

    monkeypatch.setattr(train.watch, "read_dev", lambda sitting, state: None)
    monkeypatch.setattr({"read_dev": train.watch, "evaluate_state": train.evaluate}[where], where, ask)
    assert train.finish_run(sitting, at(state, 48)) == 0
    assert sitting.said == ["SIGINT: training is done and saved; the same command evaluates it"]


ASKING = {
    "levels": lambda sitting, state: curriculum.unlock_levels(*train._asked_on_dev(sitting, state)),
    "answer mode": train.settle_answer_mode,
    "dev in self-play": train.watch.read_dev,
}


@pytest.mark.parametrize("what", ASKING)
def test_whatever_asks_a_model_in_training_hears_of_a_stop(sitting, state, monkeypatch, what):
    """Through the solver that it makes; of a held-out set without programs here, so that nothing is compiled."""
    stream, cfg = types.SimpleNamespace(heldout_draws=lambda *_: []), with_operand(CFG, "f32")
    for name, value in {"stream": stream, "sandbox": bare(Sandbox), "cfg": cfg}.items():
        object.__setattr__(sitting, name, value)
    sitting.stop.ask("SIGINT")
    monkeypatch.setattr(questions, "ask", lambda solver, tasks: solver.go_on() or pytest.fail("asked on"))
    with pytest.raises(StopAsked):
        ASKING[what](sitting, state)


@pytest.mark.parametrize("waits_for", ["guarded_behaviours", "tasks"])
def test_a_stop_while_self_play_waits_for_programs_is_heard(sitting, state, monkeypatch, waits_for):
    def wait(*orders):
        orders[-1](16, 4096)
        sitting.stop.ask("SIGINT")
        orders[-1](32, 4096)
        pytest.fail("waited on")

    counted = []
    sitting.progress.count = lambda *counts: counted.append(counts[1:])
    sitting.door.guarded = sitting.door.guarded if waits_for == "tasks" else frozenset()
    monkeypatch.setattr(sittings, "guarded_behaviours", wait)
    monkeypatch.setattr(train, "settle_answer_mode", lambda sitting, state: state)
    object.__setattr__(sitting, "stream", types.SimpleNamespace(tasks=wait))
    with pytest.raises(StopAsked):
        train.ready_selfplay(sitting, at(state, CFG.warmup.steps))
    assert counted == [(16, 4096)]


def test_self_play_that_goes_on_is_not_begun_again(sitting, state, monkeypatch):
    monkeypatch.setattr(train, "settle_answer_mode", lambda *_: pytest.fail("chosen again"))
    later = at(state, CFG.warmup.steps + 1)
    assert train.ready_selfplay(sitting, later) is later


@pytest.mark.parametrize("fails", ["cross_boundary", "take_sequences"])
def test_a_generator_that_gives_up_costs_no_chunk(sitting, state, monkeypatch, fails):
    def fail(sitting, state):
        if int(state.step) == 4:
            raise GeneratorFailed("a worker died")
        return state

    monkeypatch.setattr(train, fails, fail)
    monkeypatch.setattr(train, "train_chunk", lambda sitting, ready, batch: at(ready, int(ready.step) + 4))
    with pytest.raises(RunError, match="the program generator stopped: a worker died"):
        train.train_chunks(sitting, state)
    assert sitting.store.saved == [4]


@pytest.mark.parametrize("chosen", [0, 1])
def test_the_answer_mode_chosen_after_the_last_save_is_saved(sitting, state, monkeypatch, chosen):
    """Without self-play it is chosen at the end; evaluation and export by themselves read it in the checkpoint."""
    object.__setattr__(sitting, "cfg", dataclasses.replace(CFG, selfplay=SelfPlay(steps=0)))
    choose = lambda sitting, state: dataclasses.replace(state, trace_mode=jnp.int32(chosen))
    monkeypatch.setattr(train, "settle_answer_mode", choose)
    monkeypatch.setattr(train.evaluate, "evaluate_state", lambda sitting, state: {"seconds": 1.0})
    before = dataclasses.replace(at(state, 40), trace_mode=jnp.int32(1))
    assert train.finish_run(sitting, before) == 0
    assert sitting.store.modes == ([] if chosen == 1 else [0])


def test_a_fault_at_the_door_costs_no_chunk(sitting, state, monkeypatch):
    """The state after the faulty step is sound: what could not be judged is masked out of it."""

    def run_chunk(state, batch, cfg, door, span):
        door.error = "Traceback: lost"
        return at(state, 42), {}

    monkeypatch.setattr(pace.loop, "run_chunk", run_chunk)
    with pytest.raises(RuntimeError, match=r"step 42 is saved:\nTraceback: lost"):
        train.train_chunk(sitting, at(state, 40), bare(Supervised))
    assert sitting.store.saved == [42]


def test_unlocks_are_read_at_multiples_and_never_at_the_start():
    assert [step for step in range(0, 61) if curriculum.is_dev_step(step, CFG)] == [20, 40, 60]
