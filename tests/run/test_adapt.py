"""What decides whether a delta is kept, what is held back, and a step that learns a person's tasks on a tiny model."""

import dataclasses
import random

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bitzero.config import Config, ConfigError, Model
from bitzero.evaluation.questions import Solver
from bitzero.model import delta as deltas
from bitzero.model import packing, transformer
from bitzero.run import adapt
from bitzero.run.workdir import RunError
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION
from bitzero.tasks.lessons import Lesson, tasks_of
from bitzero.tasks.tokens import PAD, decode

MODEL = Model(
    num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, max_tier=0, smear=1, compute="f32"
)
CFG = dataclasses.replace(Config(), model=MODEL)


def lesson(behaviour, kind=DEDUCTION, code="def f(a, b):\n    return (b, a)"):
    return Lesson(
        kind=kind, code=code, inputs=("1, 2", "3, 4", "5, 6", "7, 8", "9, 0"),
        outputs=("(2, 1)", "(4, 3)", "(6, 5)", "(8, 7)", "(0, 9)"), traces=("",) * 5, behaviour=behaviour,
    )  # fmt: skip


@pytest.fixture(scope="module")
def solver():
    params, precision = transformer.init(jax.random.key(3), MODEL)
    dense = packing.to_dense(packing.pack(params, precision, MODEL), "f32")
    return Solver(weights=dense, trace=True, cfg=CFG, batch_size=4)


def flags(text):
    return np.array([char == "1" for char in text])


@pytest.mark.parametrize(
    ("general", "own", "kept"),
    [
        (("1100", "1100"), ("0000", "1000"), True),
        (("1100", "1100"), ("1000", "1000"), False),  # no better at what was held back
        (("1100", "1100"), ("1000", "0100"), False),  # as many, others
        (("1" * 50 + "0" * 50, "0" * 3 + "1" * 47 + "0" * 50), ("0000", "1111"), False),  # three points lost
        (
            ("1" * 100 + "0" * 100, "1" * 99 + "0" * 101),
            ("0000", "1111"),
            True,
        ),  # half a point, and the interval holds 0
        (("1" * 400, "1" * 390 + "0" * 10), ("0000", "1111"), False),  # the interval lies below 0
    ],
)
def test_a_delta_is_kept_by_the_rule_alone(general, own, kept):
    report = {name: adapt.compared(*map(flags, rows)) for name, rows in (("general", general), ("own", own))}
    assert adapt.is_kept(report) is kept


def test_a_function_is_always_on_the_same_side_and_a_third_is_held_back():
    lessons = [lesson(behaviour, kind) for behaviour in range(30) for kind in (DEDUCTION, ABDUCTION)]
    learned, held = adapt.split(lessons)
    assert {one.behaviour for one in held} == set(range(0, 30, 3)) and len(held) + len(learned) == 60
    assert not {one.behaviour for one in held} & {one.behaviour for one in learned}


def test_the_questions_of_a_lesson():
    assert [task.inputs for task in tasks_of(lesson(1), CFG)][:2] == [("1, 2",), ("3, 4",)]
    [induced] = tasks_of(lesson(1, INDUCTION), CFG)
    assert induced.shown == CFG.tasks.shown and len(induced.inputs) == 5


def test_rows_are_whole_lessons_asked_as_the_chat_asks(solver):
    ids, mask = next(adapt.own_rows([lesson(1)], solver, random.Random(0)))
    assert ids.shape == (adapt.ROWS, CFG.tasks.context) and not mask[ids == PAD].any() and mask.any(axis=1).all()
    assert decode([int(token) for token in ids[0] if token != PAD]).count("return (b, a)") > 1
    text = decode([int(token) for token in ids[0]])
    assert "<trace>" in text and "<direct>" not in text
    direct, _ = next(adapt.own_rows([lesson(1)], dataclasses.replace(solver, trace=False), random.Random(0)))
    assert "<direct>" in decode([int(token) for token in direct[0]])
    with pytest.raises(RunError, match="none of your functions fits"):
        next(adapt.own_rows([lesson(1, code="def f(a):\n    return a" + " + a" * 200)], solver, random.Random(0)))


def test_steps_learn_the_persons_tasks_and_the_base_is_only_read(solver):
    before = jax.tree.map(np.array, solver.weights)
    rows = adapt.own_rows([lesson(1), lesson(2)], solver, random.Random(0))
    delta, losses = deltas.zero(solver.weights), []
    moments = adapt.OPTIMISER.init(delta)
    for _ in range(30):
        delta, moments, loss = adapt.learn(delta, moments, solver.weights, *next(rows), jnp.float32(0.05), CFG)
        losses.append(float(loss))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert optax.tree.norm(delta) > 0.1
    jax.tree.map(np.testing.assert_array_equal, before, solver.weights)
    codes = solver.weights["layers"]["qkv"]["kernel"].codes
    np.testing.assert_array_equal(codes, deltas.applied(solver.weights, delta)["layers"]["qkv"]["kernel"].codes)


def test_settings_of_the_base_cannot_be_changed():
    assert adapt.with_settings(CFG, [("run.minutes", "0.5")]).run.minutes == 0.5
    assert (
        adapt.with_settings(dataclasses.replace(CFG, run=dataclasses.replace(CFG.run, minutes=9.0)), []).run.minutes
        == 0
    )
    with pytest.raises(ConfigError, match=r"config.model.width is the base model's own; adapting takes run.minutes"):
        adapt.with_settings(CFG, [("model.width", "64")])
    with pytest.raises(ConfigError, match="must be a number"):
        adapt.with_settings(CFG, [("run.minutes", "many")])


def test_the_largest_share_is_taken_that_the_generators_rows_can_bear(monkeypatch):
    """``_loss`` of a delta is that of the rows under it: here a number that it decides."""
    rows = [(np.zeros((1, 4), np.uint16), np.ones((1, 4), bool))] * 2
    whole = {"gain": jnp.ones(1)}
    for cost, wanted in ((0.0, 1.0), (-9.0, 1.0), (1.25, 0.75), (1.9, 0.5), (9.0, 0.0)):
        nats = cost * adapt.BEARABLE
        monkeypatch.setattr(adapt, "_loss", lambda delta, *rest, nats=nats: 2.0 + nats * delta["gain"][0])
        assert adapt.bearable_share(whole, {}, rows, CFG) == wanted


def test_what_is_weighed_is_the_loss_under_the_delta(solver):
    """Each share of a delta is another model; none of it is the base."""
    delta = {path: jnp.full(leaf.shape, 0.5) for path, leaf in deltas.learnable(solver.weights).items()}
    ids, mask = next(adapt.own_rows([lesson(1)], solver, random.Random(0)))
    loss = lambda share: float(adapt._loss(deltas.scaled(delta, share), solver.weights, ids, mask, solver.cfg))
    assert len({loss(0.0), loss(0.5), loss(1.0)}) == 3
    same = deltas.applied(solver.weights, deltas.scaled(delta, 0.0))
    jax.tree.map(np.testing.assert_array_equal, same, solver.weights)
