"""What a step of self-play pays for and learns from, as it is configured, and what its controls leave out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.selfplay import buffer, loop
from bitzero.state import Judged, Played, Rollout
from bitzero.tasks.gates import HELDOUT, OK
from bitzero.tasks.kinds import TASK_KINDS
from tests.selfplay.test_loop import slots_and_verdict
from tests.selfplay.test_policy_gradient import (
    BANDIT,
    JUDGED,
    SLOTS,
    credit_of,
    init_state,
    items,
    likelihoods,
    slots_of,
    stage,
)

advantage = jax.jit(loop.advantage, static_argnums=3)
learn = jax.jit(loop.learn, static_argnums=7)


def configured(**selfplay):
    return dataclasses.replace(BANDIT, selfplay=dataclasses.replace(BANDIT.selfplay, **selfplay))


@pytest.fixture(scope="module")
def start():
    return init_state(BANDIT)


def test_a_program_seen_before_and_one_of_another_level_pay_less(start):
    """Of programs that the proposal wrote; an induction is about one that it was given."""
    cfg = configured(stale=0.5, off_level=0.25, num_tasks=6)
    written, given = (next(k.number for k in TASK_KINDS if k.writes_program == wrote) for wrote in (True, False))
    slots = slots_of([OK, OK, OK, OK, OK, 1], [written, written, written, written, given, written])
    slots = dataclasses.replace(
        slots,
        novel=jnp.array([True, False, True, False, False, False]),
        asked_level=jnp.array([0, 0, 1, 1, 0, 1]),
    )
    reward = jnp.tile(jnp.array([[1.0, 0.0]]), (6, 1))
    judged = Judged(reward=reward, counted=jnp.ones((6, 2), bool), trivial=jnp.zeros(6, bool))
    _, credit = advantage(start, slots, judged, cfg)
    np.testing.assert_allclose(credit.propose_reward, [0.5, 0.25, 0.125, 0.0625, 0.5, -1.0])


def test_the_groups_of_most_spread_are_learned_from_with_all_their_rows():
    rows = jnp.arange(8)
    rollout = Rollout(tokens=rows[:, None], logprobs=rows[:, None] * 1.0, mask=jnp.ones((8, 1), bool))
    solved = Played(prompt=rows[:, None], rollout=rollout, advantage=rows * 1.0, target=rows > 2)
    chosen = loop.of_most_spread(solved, jnp.array([1.0, 0.5, 0.0, 0.75]), 2, None)
    for part in (chosen.prompt, chosen.rollout.tokens, chosen.rollout.logprobs, chosen.advantage):
        assert part.reshape(-1).tolist() == [2, 3, 6, 7]
    assert chosen.target.tolist() == [False, True, True, True]
    assert chosen.rollout.mask.shape == (4, 1)


def test_with_a_budget_each_level_gives_its_best_groups_in_turn():
    """Of level 0 three groups differ and are better than what level 2 has; level 1 has nothing to learn from."""
    rate = jnp.array([0.5, 0.4, 0.45, 0.9, 1.0, 0.0, 0.95])
    worth = loop.by_turns(rate * (1 - rate), jnp.array([0, 0, 0, 2, 1, 1, 2]))
    assert jnp.argsort(-worth).tolist() == [0, 3, 2, 6, 1, 4, 5]
    rows = jnp.arange(7)
    rollout = Rollout(tokens=rows[:, None], logprobs=rows[:, None] * 1.0, mask=jnp.ones((7, 1), bool))
    solved = Played(prompt=rows[:, None], rollout=rollout, advantage=rows * 1.0, target=rows > 2)
    chosen = loop.of_most_spread(solved, rate, 4, jnp.array([0, 0, 0, 2, 1, 1, 2]))
    assert sorted(chosen.prompt[:, 0].tolist()) == [0, 2, 3, 6]


def test_a_slot_filled_from_the_ring_has_the_level_of_its_task(start):
    proposals, _ = stage(start)
    verdict = {
        "gate": jnp.array([2, 2, 2]), "prompt": jnp.zeros_like(start.ring.prompt[:3]),
        "record": jnp.zeros_like(start.ring.record[:3]), "program_hash": jnp.zeros((3, 2), jnp.uint32),
        "task_hash": jnp.zeros((3, 2), jnp.uint32), "confidence": jnp.ones(3), "level": jnp.zeros(3, jnp.int32),
    }  # fmt: skip
    ring = dataclasses.replace(start.ring, level=jnp.full_like(start.ring.level, 2))
    _, slots = loop.admit(jax.random.key(0), dataclasses.replace(start, ring=ring), proposals, verdict)
    assert not slots.own.any() and slots.level.tolist() == [2, 2, 2]


def test_an_update_of_chosen_groups_leaves_the_others_alone(start):
    """The second group has no spread: its answers' credit has no part in the update."""
    proposals, answers = stage(start)
    credit = dataclasses.replace(credit_of(0.0, [0, 0, 0]), rate=jnp.array([0.5, 1.0, 0.0]))
    cfg = configured(learnt_groups=1)
    given = [jnp.array([[1.0, -1.0], [other, other], [0.0, 0.0]]) for other in (0.0, 3.0)]
    moved = [
        learn(start, proposals, SLOTS, answers, JUDGED, dataclasses.replace(credit, solve_advantage=one), items(), cfg)
        for one in given
    ]
    (once, metrics), (again, _) = moved
    assert float(metrics["loss/grad_norm_solve"]) > 0 and float(metrics["loss/grad_norm_propose"]) == 0
    for one, two in zip(jax.tree.leaves(once.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_array_equal(one, two)


def test_of_own_right_answers_the_shortest_is_a_target():
    """Of tasks with several right answers alone, one a task, and none that a fault or a trivial answer stands for."""
    slots = slots_of([OK] * 6, [1, 2, 0, 1, 1, 2])
    mask = np.arange(4)[None] < np.array([4, 2, 3, 3, 2, 2, 1, 2, 4, 2, 2, 3])[:, None]
    answers = Rollout(tokens=jnp.full((12, 4), 320), logprobs=jnp.zeros((12, 4)), mask=jnp.asarray(mask))
    reward = [[1, 1], [1, 0], [1, 1], [1, 0], [1, 1], [0, 0]]
    judged = Judged(
        reward=jnp.array(reward, jnp.float32),
        counted=jnp.ones((6, 2), bool).at[4, 1].set(False),
        trivial=jnp.array([False, False, False, True, False, False]),
    )
    chosen = loop.shortest_right(slots, judged, answers).reshape(6, 2)
    assert chosen.tolist() == [
        [False, True],  # the shorter
        [True, False],  # the one that is right, though as long
        [False, False],  # a deduction
        [False, False],  # solved by a trivial answer
        [True, False],  # the shorter was never judged
        [False, False],  # neither is right
    ]


def test_own_right_answers_are_learned_as_targets(start):
    """Without any advantage: the right answer to an abduction becomes likelier, and only where asked for."""
    proposals, answers = stage(start)
    slots = slots_of([OK, OK, OK], [1, 1, 1])
    play = lambda **settings: learn(
        start, proposals, slots, answers, JUDGED, credit_of(0.0, [0, 0, 0]), items(), configured(**settings)
    )
    assert float(play()[1]["loss/grad_norm"]) == 0
    after, metrics = play(own_answers=1.0)
    change = likelihoods(after)["solve"] - likelihoods(start)["solve"]
    assert (change[[0, 3]] > 0.02).all(), change
    assert float(metrics["loss/own_answers"]) > 0 and float(metrics["loss/grad_norm_propose"]) == 0


def test_the_ring_learns_how_its_tasks_were_answered(start):
    """The second task was never judged."""
    ring = buffer.rated(start.ring)
    counted = jnp.array([[True, True], [False, False], [True, True]])
    slots = dataclasses.replace(SLOTS, place=jnp.array([3, 1, 2]))
    credit = dataclasses.replace(credit_of(0.0, [0, 0, 0]), rate=jnp.array([0.75, 0.0, 1.0]))
    after = loop.replayed(
        dataclasses.replace(start, ring=ring), slots, dataclasses.replace(JUDGED, counted=counted), credit
    )
    np.testing.assert_allclose(after.ring.spread[:4], [0.25, 0.25, 0.0, 0.1875])


def test_supervised_rows_alone_leave_both_roles_out(start):
    """With the generator's rows weighted 0 nothing moves; with them only they do."""
    proposals, answers = stage(start)
    play = lambda **settings: learn(
        start, proposals, SLOTS, answers, JUDGED, credit_of(1.0, [1.0, 1.0, 1.0]), items(),
        configured(ablation="supervised", entropy=0.1, **settings),
    )[1]  # fmt: skip
    assert float(play()["loss/grad_norm"]) == 0
    norms = {role: float(play(supervised=1.0)[f"loss/grad_norm_{role}"]) for role in ("propose", "solve", "generator")}
    assert norms["generator"] > 0 and norms["propose"] == norms["solve"] == 0


def test_the_norms_of_the_roles_are_those_of_their_own_gradients(start):
    """Two roles together: each has the norm that it has alone, and the whole is their sum's."""
    proposals, answers = stage(start)
    solver = jnp.array([[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]])

    def norms(solve, propose):
        credit = dataclasses.replace(credit_of(0.0, propose), solve_advantage=solve)
        metrics = learn(start, proposals, SLOTS, answers, JUDGED, credit, items(), BANDIT)[1]
        return {name: float(metrics[f"loss/grad_norm{name}"]) for name in ("", "_propose", "_solve", "_generator")}

    both = norms(solver, [1.0, -1.0, 0.0])
    alone = norms(solver, [0, 0, 0]), norms(0 * solver, [1.0, -1.0, 0.0])
    np.testing.assert_allclose(both["_solve"], alone[0][""], rtol=1e-5)
    np.testing.assert_allclose(both["_propose"], alone[1][""], rtol=1e-5)
    assert both["_generator"] == 0 and both[""] < both["_solve"] + both["_propose"]


def test_without_a_proposer_the_rings_tasks_alone_are_solved():
    state, proposals, verdict = slots_and_verdict([OK, 1, OK])
    before = int(state.ring.count)
    admitted, slots = jax.jit(loop.admit)(jax.random.key(0), state, proposals, verdict)
    assert bool(slots.own.any()) and int(admitted.ring.count) > before
    state, slots = jax.jit(loop.admit)(jax.random.key(0), state, proposals, loop.withheld(verdict))
    assert not bool(slots.own.any()) and int(state.ring.count) == before
    assert (slots.gate == HELDOUT).all() and bool(loop.blameless(slots).all())


def test_shuffled_rewards_are_as_many_and_fall_elsewhere():
    reward = jnp.asarray(np.random.default_rng(0).integers(0, 2, (16, 8)), jnp.float32)
    judged = Judged(reward=reward, counted=jnp.ones((16, 8), bool), trivial=jnp.zeros(16, bool))
    mixed = loop.shuffled(jax.random.key(1), judged)
    assert float(mixed.reward.sum()) == float(reward.sum()) and mixed.reward.shape == (16, 8)
    same = float(jnp.mean(mixed.reward == reward))
    assert 0.3 < same < 0.7  # by chance
