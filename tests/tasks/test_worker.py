"""The stream: the same batches from any number of workers, whatever happens to them."""

import dataclasses
import io
import os
import signal
import time

import numpy as np
import pytest

from bitzero.config import Config
from bitzero.sandbox import Sandbox
from bitzero.tasks import kinds, orders, programs, tokens, worker
from bitzero.tasks.kinds import KINDS, PROPOSE
from bitzero.tasks.worker import Batch, GeneratorFailed, Stream, Unit, merge

CFG = Config(seed=11)
UNIT = Unit(step=40, steps=3, batch_size=8, context=128, open_levels=3, frontier=1)


def with_workers(n, **tasks):
    return dataclasses.replace(CFG, tasks=dataclasses.replace(CFG.tasks, workers=n, **tasks))


@pytest.fixture(scope="module")
def stream():
    with Stream(with_workers(2)) as made:
        yield made


def same(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("tokens", "mask", "kind", "level"))


def test_a_batch_has_the_shape_of_its_unit(stream):
    batch = stream.take(UNIT)
    assert (batch.tokens.shape, batch.tokens.dtype) == ((3, 8, 128), np.uint16)
    assert (batch.mask.shape, batch.mask.dtype) == ((3, 8, 128), np.bool_)
    assert (batch.kind.shape, batch.kind.dtype, batch.level.shape, batch.level.dtype) == ((3, 8), "i1", (3, 8), "i1")
    assert batch.tokens.max() < tokens.VOCAB_SIZE
    assert not batch.mask[batch.tokens == tokens.PAD].any()
    assert batch.mask.any(axis=2).all(), "every sequence has targets"
    assert set(np.unique(batch.level)) <= {0, 1, 2}
    assert set(np.unique(batch.kind)) <= {0, 1, 2, PROPOSE}


def test_the_number_of_workers_does_not_matter(stream):
    with Stream(with_workers(1)) as alone:
        assert same(alone.take(UNIT), stream.take(UNIT))


def test_units_ahead_of_time_are_the_same_units(stream):
    later = dataclasses.replace(UNIT, step=43)
    stream.request(UNIT)
    stream.request(later)
    first, second = stream.take(UNIT), stream.take(later)
    assert same(second, stream.take(later))
    assert not same(first, second)


def test_a_worker_that_is_killed_changes_nothing(stream):
    expected = stream.take(UNIT)
    stream.request(UNIT)
    time.sleep(0.02)
    for thread in stream._workers:
        if thread.process is not None:
            os.kill(thread.process.pid, signal.SIGKILL)
    assert same(stream.take(UNIT), expected)


def test_no_worker_outlives_its_stream():
    stream = Stream(with_workers(2))
    stream.take(UNIT)
    processes = [thread.process for thread in stream._workers if thread.process is not None]
    stream.close()
    assert processes
    assert all(process.poll() is not None for process in processes)
    with pytest.raises(GeneratorFailed):
        stream.take(dataclasses.replace(UNIT, step=90))


def test_a_context_that_holds_nothing_is_said(stream):
    with Stream(with_workers(1)) as small, pytest.raises(GeneratorFailed, match=r"context=6 holds no program"):
        small.take(dataclasses.replace(UNIT, context=6))


def test_the_frontier_gets_its_half(stream):
    batch = stream.take(Unit(step=0, steps=4, batch_size=64, context=160, open_levels=3, frontier=2))
    shares = np.bincount(batch.level.ravel(), minlength=3) / batch.level.size
    assert shares[2] == pytest.approx(2 / 3, abs=0.1)
    assert shares[0] == pytest.approx(1 / 6, abs=0.08)


def test_kinds_have_their_shares(stream):
    batch = stream.take(Unit(step=0, steps=4, batch_size=64, context=160, open_levels=3, frontier=2))
    shares = np.bincount(batch.kind.ravel(), minlength=4) / batch.kind.size
    warm = CFG.warmup
    assert shares == pytest.approx([warm.deduction, warm.abduction, warm.induction, warm.propose], abs=0.1)


def test_rows_are_what_the_order_says():
    made = orders.row(CFG, UNIT, 9)
    head, arrays = orders.rows(CFG, UNIT, 9, 10)
    assert list(arrays["tokens"][0][: len(made.ids)]) == made.ids
    assert arrays["hash"][0] == made.program.hash
    assert all(entry["hash"] % orders.AUDIT == 0 for entry in head["audit"])


def test_a_program_seen_before_gives_way_to_a_new_spare():
    unit = Unit(step=0, steps=2, batch_size=2, context=1, open_levels=1, frontier=0)
    part = {
        "tokens": np.arange(7, dtype=np.uint16)[:, None],
        "mask": np.ones((7, 1), bool),
        "kind": np.zeros(7, np.int8),
        "level": np.zeros(7, np.int8),
        "hash": np.array([5, 6, 5, 6, 6, 8, 9], np.uint64),  # rows 0 to 3, spares 4 to 6
    }
    batch = merge(unit, [{name: value[:3] for name, value in part.items()}, {k: v[3:] for k, v in part.items()}])
    assert batch.tokens[:, :, 0].tolist() == [[0, 1], [5, 6]]
    assert batch.repeats == 0
    part["hash"] = np.array([5, 6, 5, 6, 6, 8, 8], np.uint64)
    assert merge(unit, [part]).repeats == 1


def test_tasks_come_in_all_kinds_and_fit_the_ring(stream):
    found = stream.tasks(24, step=7)
    assert [task.kind for task in found] == [i % 3 for i in range(24)]
    assert {task.level for task in found} == {0, 1, 2}
    for task in found:
        assert kinds.task_of(kinds.record(task)) == task
        assert len(kinds.record(task)) <= CFG.tasks.record
        assert len(kinds.solve_prompt(task, True)) <= CFG.tasks.prompt
        assert not kinds.is_trivial(task)
        assert len(task.inputs) == (CFG.tasks.pairs if KINDS[task.kind] == "induction" else 1)
    assert found == stream.tasks(24, step=7)
    assert {task.level for task in stream.tasks(12, step=7, open_levels=1)} == {0}


@pytest.mark.parametrize("split", ("dev", "train"))
def test_heldout_programs_are_those_of_the_generator(stream, split):
    stream.request_heldout(split, 1, 12)
    assert stream.heldout(split, 1, 12) == programs.heldout(CFG.seed, split, 1, 12)


def test_the_sandbox_confirms_programs(monkeypatch):
    found = [programs.generate(3, 0, index, level) for level in range(6) for index in range(4)]
    wrong = dataclasses.replace(found[0], outputs=("1", *found[0].outputs[1:]))
    with Sandbox() as box, Stream(with_workers(1), sandbox=box) as stream:
        stream._audit(found)
        assert (stream.audited, stream.disagreements) == (24, 0)
        stream._audit([wrong])
        assert (stream.audited, stream.disagreements) == (25, 1)


def test_an_answer_comes_back_over_the_wire_as_it_was_sent():
    pipe = io.BytesIO()
    arrays = {"a": np.arange(6, dtype=np.uint16).reshape(2, 3), "b": np.zeros((0, 4), bool)}
    worker.send(pipe, {"items": ["x"]}, arrays)
    pipe.seek(0)
    head, back = worker.receive(pipe)
    assert head == {"items": ["x"]}
    assert all(np.array_equal(back[name], arrays[name]) and back[name].dtype == arrays[name].dtype for name in arrays)


@pytest.mark.parametrize("kept", (slice(None, -1), slice(None, 5)), ids=("arrays", "line"))
def test_an_answer_that_is_cut_off_is_noticed(kept):
    pipe = io.BytesIO()
    worker.send(pipe, {"items": []}, {"a": np.arange(6)})
    with pytest.raises(EOFError):
        worker.receive(io.BytesIO(pipe.getvalue()[kept]))
