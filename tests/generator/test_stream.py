"""The stream: the same batches from any number of workers, whatever happens to them."""

import dataclasses
import io
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bitzero.config import NUM_PRODUCTIONS, Config
from bitzero.generator import orders, programs, wire
from bitzero.generator import stream as streams
from bitzero.generator.grammar import EXPRESSIONS
from bitzero.generator.stream import Batch, BatchOrder, GeneratorFailed, Stream
from bitzero.sandbox import Sandbox
from bitzero.tasks import behaviour, kinds, tokens
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, KINDS, PROPOSE, TASK_KINDS

CFG = Config(seed=11)
ORDER = BatchOrder(step=40, steps=3, batch_size=8, context=128, open_levels=3, frontier=1)


def with_workers(n, **tasks):
    return dataclasses.replace(CFG, tasks=dataclasses.replace(CFG.tasks, workers=n, **tasks))


@pytest.fixture(scope="module")
def stream():
    with Stream(with_workers(2)) as running:
        yield running


def same(a: Batch, b: Batch) -> bool:
    fields = ("tokens", "mask", "kind", "level", "productions")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in fields)


def test_a_batch_has_the_shape_of_its_order(stream):
    batch = stream.take_batch(ORDER)
    assert (batch.tokens.shape, batch.tokens.dtype) == ((3, 8, 128), np.uint16)
    assert (batch.mask.shape, batch.mask.dtype) == ((3, 8, 128), np.bool_)
    most = orders.examples_at_most(128)
    assert batch.kind.shape == batch.level.shape == (3, 8, most)
    assert batch.kind.dtype == batch.level.dtype == np.int8
    assert batch.tokens.max() < tokens.VOCAB_SIZE
    assert not batch.mask[batch.tokens == tokens.PAD].any()
    assert batch.mask.any(axis=2).all(), "every sequence has targets"
    assert set(np.unique(batch.level)) == {-1, 0, 1, 2}
    assert set(np.unique(batch.kind)) == {-1, 0, 1, 2, PROPOSE}
    assert np.array_equal(batch.kind == -1, batch.level == -1)


def test_an_order_may_weigh_levels_and_productions(stream):
    only = [1] * NUM_PRODUCTIONS
    number = next(item.number for item in EXPRESSIONS if item.template == "{int} - {int}")
    only[number] = 200
    order = dataclasses.replace(ORDER, step=60, level_weights=(1, 0, 9, 9, 9, 9), production_weights=tuple(only))
    batch = stream.take_batch(order)
    assert same(batch, stream.take_batch(order))
    levels = batch.level[batch.level >= 0]
    assert set(levels.tolist()) <= {0, 1, 2} and (levels == 2).mean() > 0.5  # the shorter take what the longest leave
    held = lambda found: np.unpackbits(found.productions, axis=-1)[..., number][found.level >= 0].mean()
    assert held(batch) > 3 * held(stream.take_batch(dataclasses.replace(ORDER, step=60)))


def test_the_number_of_workers_does_not_matter(stream):
    with Stream(with_workers(1)) as alone:
        assert same(alone.take_batch(ORDER), stream.take_batch(ORDER))


@pytest.mark.parametrize("cores", [1, 3])
def test_while_the_trainer_waits_for_more_than_a_slice_every_core_works(monkeypatch, cores):
    monkeypatch.setattr(streams, "usable_cores", lambda: cores)
    with Stream(with_workers(0)) as stream:
        stream.tasks(1, step=0)
        assert stream.workers == 1
        told = []
        found = stream.tasks(5 * streams.SLICE_ITEMS, step=0, tell=lambda *counts: told.append(counts))
        assert stream.workers == cores
        assert told == [(at * streams.SLICE_ITEMS, 5 * streams.SLICE_ITEMS) for at in range(5)]
    with Stream(with_workers(1)) as alone:
        assert alone.tasks(5 * streams.SLICE_ITEMS, step=0) == found
        assert alone.workers == 1


def test_orders_requested_ahead_give_the_same_batches(stream):
    later = dataclasses.replace(ORDER, step=43)
    stream.request_batch(ORDER)
    stream.request_batch(later)
    first, second = stream.take_batch(ORDER), stream.take_batch(later)
    assert same(second, stream.take_batch(later))
    assert not same(first, second)


def test_a_worker_that_is_killed_changes_nothing(stream):
    expected = stream.take_batch(ORDER)
    stream.request_batch(ORDER)
    time.sleep(0.02)
    for thread in stream._workers:
        if thread.process is not None:
            os.kill(thread.process.pid, signal.SIGKILL)
    assert same(stream.take_batch(ORDER), expected)


@pytest.mark.parametrize("nice, policy", [(19, os.SCHED_IDLE), (5, os.sched_getscheduler(0))])
def test_a_worker_takes_what_is_idle(nice, policy):
    with Stream(with_workers(1, nice=nice)) as stream:
        stream.take_batch(ORDER)
        process = stream._workers[0].process
        assert process is not None
        assert os.sched_getscheduler(process.pid) == policy
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == nice


def test_no_worker_outlives_its_stream():
    stream = Stream(with_workers(2))
    stream.take_batch(ORDER)
    processes = [thread.process for thread in stream._workers if thread.process is not None]
    stream.close()
    assert processes
    assert all(process.poll() is not None for process in processes)
    with pytest.raises(GeneratorFailed):
        stream.take_batch(dataclasses.replace(ORDER, step=90))


ORPHAN = """
import os, sys, time
from bitzero.config import Config
from bitzero.generator.stream import BatchOrder, Stream
stream = Stream(Config())
stream.take_batch(BatchOrder(step=0, steps=1, batch_size=1, context=160, open_levels=1, frontier=0))
stream.request_batch(BatchOrder(step=1, steps=50, batch_size=32, context=160, open_levels=1, frontier=0))
print(stream._workers[0].process.pid, flush=True)
time.sleep(60)
"""


def test_a_worker_ends_when_its_trainer_is_killed():
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True) as trainer:
        pid = int(trainer.stdout.readline())
        trainer.kill()
    for _ in range(600):  # a worker runs in what is idle, and beside other tests little is
        try:
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return
        if state == "Z":  # dead, and nobody has asked for its exit code yet
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the worker outlived its trainer by a minute")


def test_a_slice_no_worker_survives_is_given_up(monkeypatch):
    def broken(cfg):
        return subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(streams, "spawn_worker", broken)
    with Stream(with_workers(1)) as stream, pytest.raises(GeneratorFailed, match="died 5 times in a row"):
        stream.take_batch(ORDER)


def test_a_context_that_holds_nothing_is_said(stream):
    with Stream(with_workers(1)) as small, pytest.raises(GeneratorFailed, match=r"context=6 holds no program"):
        small.take_batch(dataclasses.replace(ORDER, context=6))


WIDE = BatchOrder(step=0, steps=4, batch_size=64, context=160, open_levels=3, frontier=2)


def test_levels_and_kinds_have_their_shares(stream):
    batch = stream.take_batch(WIDE)
    levels = np.bincount(batch.level[batch.level >= 0], minlength=3) / np.sum(batch.level >= 0)
    assert levels == pytest.approx([1 / 6, 1 / 6, 1 / 2 + 1 / 6], abs=0.08)
    drawn = batch.kind[batch.kind != -1]
    forms = [np.mean(drawn == form) for form in (0, 1, 2, PROPOSE)]
    warm = CFG.warmup
    assert forms == pytest.approx([warm.deduction, warm.abduction, warm.induction, warm.propose], abs=0.08)


def test_rows_are_nearly_full(stream):
    batch = stream.take_batch(WIDE)
    assert (batch.tokens != tokens.PAD).mean() > 0.9


def test_a_row_holds_its_examples_one_after_another(stream):
    batch = stream.take_batch(ORDER)
    for index, examples in enumerate(orders.fill_rows(CFG, ORDER, ORDER.step)):
        ids = [token for example in examples for token in example.ids]
        mask = [flag for example in examples for flag in example.mask]
        assert batch.tokens[0, index].tolist() == ids + [tokens.PAD] * (ORDER.context - len(ids))
        assert batch.mask[0, index].tolist() == mask + [False] * (ORDER.context - len(ids))
        assert [kind for kind in batch.kind[0, index].tolist() if kind != -1] == [e.form for e in examples]
        assert [level for level in batch.level[0, index].tolist() if level >= 0] == [e.level for e in examples]


def test_no_program_comes_twice_in_a_step():
    order = dataclasses.replace(WIDE, batch_size=16, open_levels=1, frontier=0)  # the level with the fewest programs
    found = [example.program.hash for row in orders.fill_rows(CFG, order, 0) for example in row]
    assert len(found) > 40
    assert len(set(found)) == len(found)


def test_tasks_come_in_all_kinds_and_fit_the_ring(stream):
    told = stream.tasks(24, step=7)
    found = [task for task, _ in told]
    assert [task.kind for task in found] == [i % 3 for i in range(24)]
    assert {task.level for task in found} == {0, 1, 2}
    for task in found:
        assert kinds.task_of(kinds.record(task)) == task
        assert len(kinds.record(task)) <= CFG.tasks.record
        assert len(kinds.solve_prompt(task, True)) <= CFG.tasks.prompt
        assert not TASK_KINDS[task.kind].is_trivial(task)
        assert len(task.inputs) == (CFG.tasks.pairs if KINDS[task.kind] == "induction" else 1)
    assert told == stream.tasks(24, step=7)
    assert {task.level for task, _ in stream.tasks(12, step=7, open_levels=1)} == {0}
    for task, done in told:  # `test_behaviour` compares these hashes with the sandbox's
        assert len(done) == len({behaviour.signature_of(given) for given in task.inputs}) and all(done)


@pytest.mark.parametrize("share", (0.9, 0.0))
def test_deductions_of_the_ring_have_room_for_their_traces_where_traces_are_taught(monkeypatch, share):
    room, tried = 24, {}
    usable = orders.usable_in_ring

    def noted(task, trace, cfg):
        tried[task] = len([*tokens.encode(trace), tokens.ANS, *tokens.encode(task.outputs[0]), tokens.EOS])
        return usable(task, trace, cfg)

    monkeypatch.setattr(orders, "usable_in_ring", noted)
    cfg = with_workers(0, completion=room)
    cfg = dataclasses.replace(cfg, warmup=dataclasses.replace(cfg.warmup, trace=share))
    found = [orders.draw_task(cfg, 7, place, 3) for place in range(0, 60, 3)]
    assert {task.kind for task in found} == {DEDUCTION} and {task.level for task in found} == {0, 1, 2}
    assert max(tried.values()) > room
    assert (max(tried[task] for task in found) <= room) == (share > 0)


def test_an_answer_of_the_ring_fits_to_the_token():
    asked = [TASK_KINDS[DEDUCTION], TASK_KINDS[ABDUCTION]]
    drawn = (programs.generate(0, 0, i, 1) for i in range(99))
    made = next(
        made
        for made in drawn
        if made.traces[0] and not any(kind.is_trivial(kind.task_of_program(made, CFG)) for kind in asked)
    )
    trace = len([*tokens.encode(made.traces[0]), tokens.ANS, *tokens.encode(made.outputs[0]), tokens.EOS])
    given = len([*tokens.encode(made.inputs[0]), tokens.EOS])
    for kind, size in zip(asked, (trace, given), strict=True):
        task = kind.task_of_program(made, CFG)
        fits = [kinds.usable_in_ring(task, made.traces[0], with_workers(0, completion=n)) for n in (size - 1, size)]
        assert fits == [False, True], kind.name


@pytest.mark.parametrize("split", ("dev", "train"))
def test_heldout_programs_are_those_of_the_generator(stream, split):
    stream.request_heldout(split, 1, 5)
    assert stream.heldout(split, 1, 5) == programs.heldout(CFG.seed, split, 1, 5)


def test_draws_hold_the_different_programs_in_their_order(stream):
    """A question a draw, up to the last of the different programs; small programs come more than once."""
    drawn, different = stream.heldout_draws("dev", 0, 120), stream.heldout("dev", 0, 120)
    firsts = {}
    for program in drawn:
        firsts.setdefault(program.hash, program)
    assert list(firsts.values()) == different
    assert len(drawn) > 120 and drawn[-1] == different[-1]
    assert len({(program.hash, program.inputs[0]) for program in drawn}) == len(drawn)
    assert stream.heldout_draws("dev", 0, 40)[:40] == drawn[:40]  # asking more only adds


def test_the_sandbox_confirms_one_program_in_a_hundred():
    found = [programs.generate(3, 0, index, level) for level in range(6) for index in range(4)]
    wrong = dataclasses.replace(found[0], outputs=("1", *found[0].outputs[1:]))
    with Sandbox() as sandbox, Stream(with_workers(1), sandbox=sandbox) as stream:
        stream._audit(found)
        assert (stream.audited, stream.disagreements) == (24, 0)
        stream._audit([wrong])
        assert (stream.audited, stream.disagreements) == (25, 1)
        stream.take_batch(WIDE)  # about 700 programs
        assert 25 < stream.audited < 50
        assert stream.disagreements == 1


def test_an_answer_comes_back_over_the_wire_as_it_was_sent():
    pipe = io.BytesIO()
    arrays = {"a": np.arange(6, dtype=np.uint16).reshape(2, 3), "b": np.zeros((0, 4), bool)}
    wire.send_answer(pipe, {"items": ["x"]}, arrays)
    pipe.seek(0)
    head, back = wire.receive_answer(pipe)
    assert head == {"items": ["x"]}
    assert all(np.array_equal(back[name], arrays[name]) and back[name].dtype == arrays[name].dtype for name in arrays)


@pytest.mark.parametrize("kept", (slice(None, -1), slice(None, 5)), ids=("arrays", "line"))
def test_an_answer_that_is_cut_off_is_noticed(kept):
    pipe = io.BytesIO()
    wire.send_answer(pipe, {"items": []}, {"a": np.arange(6)})
    with pytest.raises(EOFError):
        wire.receive_answer(io.BytesIO(pipe.getvalue()[kept]))
