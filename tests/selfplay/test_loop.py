"""Self-play as a whole, at the smallest size at which every part does its real work."""

import dataclasses
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model, Run, SelfPlay, Tasks, Warmup
from bitzero.evaluation import questions
from bitzero.generator import programs
from bitzero.model import quant
from bitzero.run.checkpoint import digest
from bitzero.sandbox import Sandbox
from bitzero.selfplay import loop, objective, verify, warmup
from bitzero.state import Judged, Played, Proposals, Rollout, Supervised
from bitzero.tasks import gates, kinds, tokens
from bitzero.tasks.gates import DUPLICATE, GATES, HELDOUT, OK
from bitzero.tasks.gates import INFRA as INFRA_GATE

CFG = Config(
    model=Model(
        num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, max_tier=0, compute="f32"
    ),
    warmup=Warmup(steps=0),
    selfplay=SelfPlay(num_tasks=6, group_size=2, supervised_batch=2, ring=64, history=256, steps=4),
    tasks=Tasks(context=64, prompt=64, completion=24, record=128),
    run=Run(samples_every=1),
)


# Compiled whole: hundreds of operations, each a program by itself, would take most of this file's time.
init_state = jax.jit(warmup.init_state, static_argnums=0)
admit = jax.jit(loop.admit)
advantage = jax.jit(loop.advantage, static_argnums=3)


def generator_tasks(count):
    """A third of each kind, as the driver takes them from the generator."""
    tasks = []
    for i in range(count):
        made, kind = programs.generate(0, 0, i, i % 2), i % 3
        cut = len(made.inputs) if kind == kinds.INDUCTION else 1
        tasks.append(
            kinds.Task(
                kind=kind,
                level=made.level,
                code=made.code,
                inputs=made.inputs[:cut],
                outputs=made.outputs[:cut],
                shown=3 if kind == kinds.INDUCTION else 1,
            )
        )
    return tasks


def supervised(steps):
    sp, context = CFG.selfplay, CFG.tasks.context
    row = jnp.zeros((context,), jnp.uint16).at[:4].set(jnp.array([tokens.SOLVE, 300, 301, tokens.EOS], jnp.uint16))
    shape = (steps, sp.supervised_batch)
    return Supervised(
        tokens=jnp.broadcast_to(row, (*shape, context)),
        mask=jnp.broadcast_to(jnp.arange(context) == 3, (*shape, context)),
        kind=jnp.zeros((*shape, 2), jnp.int8),
        level=jnp.zeros((*shape, 2), jnp.int8),
    )


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1) as box:
        yield box


@pytest.fixture(scope="module")
def door(sandbox):
    return verify.Door(sandbox, CFG)


def fresh():
    return loop.start_selfplay(init_state(CFG), verify.ring_rows(generator_tasks(18), True, CFG), CFG)


@pytest.fixture(scope="module")
def two_steps(door):
    state, metrics = loop.run_chunk(fresh(), supervised(2), CFG, door)
    return state, {tag: np.asarray(column) for tag, column in metrics.items()}


def test_a_chunk_learns_from_both_roles_and_the_generator(two_steps, door):
    state, metrics = two_steps
    assert door.error is None
    assert int(state.step) == 2 and metrics["selfplay/ran"].tolist() == [1.0, 1.0]
    assert digest(state.params) != digest(fresh().params)
    assert all(np.isfinite(column).all() for column in metrics.values())
    assert metrics["loss/supervised"][1] < metrics["loss/supervised"][0]


def test_every_proposal_meets_one_gate(two_steps):
    _, metrics = two_steps
    gates = sum(metrics[f"gates/{name}"] for name in GATES)
    np.testing.assert_array_equal(gates, [6.0, 6.0])
    assert metrics["gates/ok"].sum() == 0  # random weights write no program
    np.testing.assert_array_equal(metrics["selfplay/reward_propose"], [-1.0, -1.0])


def test_each_role_logs_its_own_entropy(two_steps):  # AZR's actor/entropy was overwritten six times a step
    _, metrics = two_steps
    propose, solve = metrics["selfplay/entropy_propose"], metrics["selfplay/entropy_solve"]
    assert (propose > 0).all() and (solve > 0).all() and (propose != solve).all()


def test_sampler_and_trainer_are_one_policy(two_steps):
    _, metrics = two_steps
    assert (metrics["quant/kl_rollout_train"] < 1e-3).all()
    assert (metrics["quant/capped_ratio"] == 0).all()


def test_the_same_state_gives_the_same_bits(two_steps, door):
    state, _ = loop.run_chunk(fresh(), supervised(2), CFG, door)
    for one, two in zip(jax.tree.leaves(two_steps[0]), jax.tree.leaves(state), strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, two = jax.random.key_data(one), jax.random.key_data(two)
        np.testing.assert_array_equal(one, two)


def test_a_stop_asked_for_ends_the_chunk_after_the_step(door):
    door.request_stop()
    try:
        state, metrics = loop.run_chunk(fresh(), supervised(2), CFG, door)
    finally:
        door._stop = False
    assert int(state.step) == 1
    np.testing.assert_array_equal(metrics["selfplay/ran"], [1.0, 0.0])


def test_slots_are_of_the_kinds_that_are_named():
    named = dataclasses.replace(CFG, selfplay=dataclasses.replace(CFG.selfplay, kinds="abduction,induction"))
    np.testing.assert_array_equal(loop.asked_kinds(jnp.int32(0), named), [1, 2, 1, 2, 1, 2])
    np.testing.assert_array_equal(loop.asked_kinds(jnp.int32(1), named), [2, 1, 2, 1, 2, 1])
    np.testing.assert_array_equal(loop.asked_kinds(jnp.int32(4), CFG), [1, 2, 0, 1, 2, 0])


def test_proposal_prompts_on_the_device_are_those_of_the_host():
    tasks = [task for task in generator_tasks(18) if len(verify.ring_rows([task], True, CFG)["kind"])][:6]
    packed = verify.ring_rows(tasks, True, CFG)
    kind, level = jnp.array([0, 1, 2, 0, 1, 2]), jnp.array([0, 1, 2, 3, 4, 5])
    shown = jnp.array([True, False, True, False, True, True])
    prompts = jax.jit(loop.proposal_prompts, static_argnums=4)
    got = prompts(kind, level, jnp.asarray(packed["record"]), shown, CFG.tasks.prompt)
    for i, task in enumerate(tasks):
        expected = kinds.propose_prompt(int(kind[i]), int(level[i]), task.code if shown[i] else None)
        row = np.asarray(got[i])
        assert row[row != tokens.PAD].tolist() == expected
        assert (row[: len(row) - len(expected)] == tokens.PAD).all()


def slots_and_verdict(gates):
    """A state, the proposals and the door's verdict for proposals that met ``gates``; hash i for proposal i."""
    n, state = len(gates), fresh()
    rollout = Rollout(tokens=jnp.zeros((n, 4), jnp.int32), logprobs=jnp.zeros((n, 4)), mask=jnp.ones((n, 4), bool))
    proposals = Proposals(
        prompt=jnp.zeros((n, CFG.tasks.prompt), jnp.int32),
        kind=jnp.arange(n) % 3,
        level=jnp.zeros(n, jnp.int32),
        rollout=rollout,
    )
    own = jnp.arange(1, n + 1, dtype=jnp.uint16)
    verdict = {
        "gate": jnp.array(gates),
        "prompt": jnp.broadcast_to(own[:, None], (n, CFG.tasks.prompt)),
        "record": jnp.broadcast_to(own[:, None], (n, CFG.tasks.record)),
        "program_hash": jnp.stack([own, own], axis=1).astype(jnp.uint32),
        "task_hash": jnp.stack([own + 50, own + 50], axis=1).astype(jnp.uint32),
        "level": jnp.ones(n, jnp.int32),
        "confidence": jnp.ones(n),
    }
    return state, proposals, verdict


def test_a_rejected_proposal_gives_its_slot_to_a_task_of_the_ring():
    state, proposals, verdict = slots_and_verdict([OK, 1, OK])
    before = int(state.ring.count)
    state, slots = admit(jax.random.key(0), state, proposals, verdict)
    np.testing.assert_array_equal(slots.own, [True, False, True])
    assert slots.prompt[0, 0] == 1 and slots.prompt[2, 0] == 3  # their own
    ring_task = kinds.task_of(np.asarray(slots.record[1]).tolist())
    assert ring_task.kind == 1 == int(slots.kind[1])
    assert int(state.ring.count) == before + 2
    again, slots = admit(jax.random.key(0), state, proposals, verdict)
    np.testing.assert_array_equal(slots.gate, [DUPLICATE, 1, DUPLICATE])
    assert not slots.novel.any() and int(again.ring.count) == before + 2


def judged(reward, counted=None):
    reward = jnp.asarray(reward, jnp.float32)
    counted = jnp.ones(reward.shape, bool) if counted is None else jnp.asarray(counted)
    return Judged(reward=reward, counted=counted, trivial=jnp.zeros(len(reward), bool))


@pytest.mark.parametrize("form", ["group", "task_relative"])
def test_only_the_own_slot_pays_a_proposer(form):
    cfg = dataclasses.replace(CFG, selfplay=dataclasses.replace(CFG.selfplay, advantage=form))
    state, proposals, verdict = slots_and_verdict([OK, 1, INFRA_GATE])
    state, slots = admit(jax.random.key(0), state, proposals, verdict)
    _, credit = advantage(state, slots, judged([[1, 0], [1, 0], [1, 0]]), cfg)
    np.testing.assert_allclose(credit.propose_reward, [0.5, -1.0, -1.0])
    assert float(credit.propose_advantage[2]) == 0.0  # a fault of the machine teaches nothing
    assert (np.asarray(credit.solve_advantage[:, 0]) > 0).all() and (np.asarray(credit.solve_advantage[:, 1]) < 0).all()


@pytest.mark.parametrize("form", ["group", "task_relative"])
def test_a_program_that_a_hash_holds_out_is_nobodys_fault(form):
    cfg = dataclasses.replace(CFG, selfplay=dataclasses.replace(CFG.selfplay, advantage=form))
    state, proposals, verdict = slots_and_verdict([OK, HELDOUT, 1])
    state, slots = admit(jax.random.key(0), state, proposals, verdict)
    before = state.baselines.weight[1, loop.PROPOSER]
    state, credit = advantage(state, slots, judged([[1, 0], [1, 0], [1, 0]]), cfg)
    assert float(credit.propose_advantage[1]) == 0.0
    assert float(state.baselines.weight[1, loop.PROPOSER]) == float(before)


def test_a_rejected_proposal_is_compared_with_its_own_kind():
    """The ring holds no abduction, so the slot of a rejected one is another kind's; its baseline is not."""
    deductions = [task for task in generator_tasks(18) if task.kind == kinds.DEDUCTION]
    state, proposals, verdict = slots_and_verdict([1, 1, 1])
    state = loop.start_selfplay(init_state(CFG), verify.ring_rows(deductions, True, CFG), CFG)
    state, slots = admit(jax.random.key(0), state, proposals, verdict)
    assert slots.kind.tolist() == [0, 0, 0] and slots.asked_kind.tolist() == [0, 1, 2]
    state, _ = advantage(state, slots, judged([[1, 0], [1, 0], [1, 0]]), CFG)
    np.testing.assert_array_less(0, state.baselines.weight[:, loop.PROPOSER])
    assert state.baselines.weight[1:, loop.SOLVER].tolist() == [0, 0]


def test_a_copy_of_a_seed_is_no_novelty():
    task = generator_tasks(18)[0]
    done = 0x1234_5678_9ABC_DEF0
    hashes = verify.hashes_of([(task, [done])])
    state = loop.start_selfplay(init_state(CFG), verify.ring_rows([task], True, CFG), CFG, jnp.asarray(hashes))
    _, proposals, verdict = slots_and_verdict([OK, OK, OK])
    program = jnp.asarray([[done >> 32, done & 0xFFFF_FFFF], [7, 7], [8, 8]], jnp.uint32)
    task_hash = gates.task_hash(task.kind, done, task.inputs)
    same = jnp.asarray([[1, 1], [2, 2], [task_hash >> 32, task_hash & 0xFFFF_FFFF]], jnp.uint32)
    _, slots = admit(jax.random.key(0), state, proposals, verdict | {"program_hash": program, "task_hash": same})
    assert slots.novel.tolist() == [False, True, False]
    assert slots.gate.tolist() == [OK, OK, DUPLICATE]


@pytest.mark.parametrize("settings", [{}, {"replay": "spread"}, {"kl": 0.1, "replay": "spread"}])
def test_a_checkpoint_of_self_play_is_read_as_what_self_play_saves(settings):
    """And one from the end of warm-up as before, whatever self-play adds to it."""
    cfg = dataclasses.replace(CFG, selfplay=dataclasses.replace(CFG.selfplay, **settings))
    rows = verify.ring_rows(generator_tasks(3), True, cfg)
    begun = jax.eval_shape(lambda: loop.start_selfplay(init_state(cfg), rows, cfg))
    like = questions.checkpoint_structure(cfg)
    assert jax.tree.structure(like(cfg.warmup.steps + 1, {"operand": "f32"})) == jax.tree.structure(begun)
    assert jax.tree.structure(like(cfg.warmup.steps, {})) == jax.tree.structure(jax.eval_shape(lambda: init_state(CFG)))


def test_a_step_leaves_the_types_of_a_ring_that_is_replayed_by_spread(door):
    """A weak type among them would compile the step a second time."""
    cfg = dataclasses.replace(CFG, selfplay=dataclasses.replace(CFG.selfplay, replay="spread"))
    rows = verify.ring_rows(generator_tasks(3), True, cfg)
    begun = jax.eval_shape(lambda: loop.start_selfplay(init_state(cfg), rows, cfg))
    after, _ = jax.eval_shape(lambda state: loop.run_chunk(state, supervised(1), cfg, door), begun)
    types = lambda ring: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), ring)
    assert types(after.ring) == types(begun.ring)


def test_level_and_program_shown_belong_together(door):
    state = dataclasses.replace(fresh(), open_levels=jnp.int32(5), frontier=jnp.int32(4))
    weights = quant.materialise(state.params, state.precision, CFG.model)
    proposals = jax.jit(loop.propose, static_argnums=3)(jax.random.key(1), state, weights, CFG)
    held = {level: set() for level in range(6)}
    for record, level in zip(state.ring.record[: int(state.ring.count)], state.ring.level, strict=False):
        held[int(level)].add(kinds.task_of(np.asarray(record).tolist()).code)
    shown = 0
    for prompt, level in zip(np.asarray(proposals.prompt), proposals.level.tolist(), strict=True):
        ids = prompt[prompt != tokens.PAD].tolist()
        assert ids[2] == tokens.LEVELS[level]
        if len(ids) > 4:
            shown += 1
            assert tokens.decode(ids[4:-1]) in held[level]
    assert shown >= 2  # both inductions at least


def test_faults_are_masked_out_of_the_solver():
    state, proposals, verdict = slots_and_verdict([1, 1, 1])
    state, slots = admit(jax.random.key(0), state, proposals, verdict)
    counted = [[True, False], [True, True], [False, False]]
    _, credit = advantage(state, slots, judged([[1, 0], [1, 0], [1, 0]], counted), CFG)
    np.testing.assert_allclose(credit.solve_advantage[0], [0, 0])
    np.testing.assert_allclose(credit.solve_advantage[2], [0, 0])
    assert float(credit.solve_advantage[1, 0]) > 0


def test_kl_to_the_frozen_integers_starts_at_zero(door):
    cfg = dataclasses.replace(CFG, selfplay=dataclasses.replace(CFG.selfplay, kl=0.5))
    state = loop.start_selfplay(init_state(cfg), verify.ring_rows(generator_tasks(6), True, cfg), cfg)
    rows = Rollout(tokens=jnp.full((4, 4), 300), logprobs=jnp.full((4, 4), -6.2), mask=jnp.ones((4, 4), bool))
    played = Played(prompt=jnp.full((4, 5), 301), rollout=rows, advantage=jnp.ones(4), target=jnp.zeros(4, bool))
    batch = played, played, jax.tree.map(lambda a: a[0], supervised(1))
    _, metrics, *_ = jax.jit(objective.selfplay_gradients, static_argnums=(2, 3))(state, batch, 1, cfg)
    np.testing.assert_allclose(metrics["loss/kl"], 0.0, atol=1e-6)


PLACES = textwrap.dedent(
    """
    import dataclasses, os, sys
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sys.path.insert(0, sys.argv[1])
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec
    import test_loop as t
    t.CFG = dataclasses.replace(  # 4 × 130 answers of 100 tokens are 104,000 bytes
        t.CFG, model=dataclasses.replace(t.CFG.model, width=16, head_dim=16, num_heads=1, ffn_width=16),
        selfplay=dataclasses.replace(t.CFG.selfplay, num_tasks=4, group_size=130),
        tasks=dataclasses.replace(t.CFG.tasks, completion=100))
    with t.Sandbox(workers=1) as box:
        door = t.verify.Door(box, t.CFG)
        state, batch = t.fresh(), t.supervised(1)
        if len(jax.devices()) == 2:
            mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
            state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
            batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec(None, "data")))
        state, metrics = t.loop.run_chunk(state, batch, t.CFG, door)
        assert door.error is None, door.error
        print(len(jax.devices()), int(state.step), float(metrics["loss/supervised"][0]))
    """
)


@pytest.mark.long
@pytest.mark.parametrize(("devices", "threads"), [pytest.param(1, 2, marks=pytest.mark.slow), (2, 8)])
def test_the_loop_runs_on_one_core_and_on_a_mesh_of_two_devices(devices, threads, tmp_path):
    environment = {
        **os.environ,
        "PJRT_NPROC": str(threads),  # a mesh's shards hold several threads in callbacks at once
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    run = subprocess.run(
        [sys.executable, "-c", PLACES, os.path.dirname(__file__)],
        env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    seen = run.stdout.split()
    assert seen[:2] == [str(devices), "1"]
    assert np.isfinite(float(seen[2]))
