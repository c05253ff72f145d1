"""Rewards, baselines, advantages and losses against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitzero.selfplay import objective
from bitzero.tasks.tokens import EOS, PAD, PROPOSE, SOLVE

YES, NO = True, False


@pytest.mark.parametrize(
    "form, expected",
    [
        # r̄ = 0, 1/8, 1/2, 1; then trivial at 1/2, then invalid
        ("paper", [0.0, 0.875, 0.5, 0.0, 0.0, -1.0]),
        ("code", [-0.5, 0.875, 0.5, -0.5, 0.0, -1.0]),
        ("balanced", [0.0, 0.125, 0.5, 0.0, 0.0, -1.0]),
    ],
)
def test_the_proposer_reward_in_its_three_forms(form, expected):
    rate = jnp.array([0, 1 / 8, 1 / 2, 1, 1 / 2, 1 / 2])
    valid = jnp.array([YES, YES, YES, YES, YES, NO])
    trivial = jnp.array([NO, NO, NO, NO, YES, NO])
    np.testing.assert_allclose(objective.proposer_reward(rate, valid, trivial, form), expected)


def test_faults_of_the_machine_do_not_count_as_failures():
    reward = jnp.array([[1.0, 0, 0, 0], [1, 1, 0, 0]])
    counted = jnp.array([[YES, YES, NO, NO], [NO, NO, NO, NO]])
    np.testing.assert_allclose(objective.success_rate(reward, counted), [0.5, 0.0])


def test_leave_one_out_by_hand():
    reward = jnp.array([[1.0, 0.0, 0.0, 1.0]])
    np.testing.assert_allclose(
        objective.leave_one_out_advantage(reward, jnp.ones((1, 4), bool)), [[2 / 3, -2 / 3, -2 / 3, 2 / 3]], rtol=1e-6
    )
    counted = jnp.array([[YES, YES, NO, NO]])
    np.testing.assert_allclose(objective.leave_one_out_advantage(reward, counted), [[1.0, -1.0, 0.0, 0.0]])


@given(st.integers(0, 2**31))
def test_group_advantages_sum_to_zero(seed):
    reward = jnp.float32(np.random.default_rng(seed).integers(0, 2, (3, 8)))
    total = jnp.sum(objective.leave_one_out_advantage(reward, jnp.ones((3, 8), bool)), axis=1)
    np.testing.assert_allclose(total, 0, atol=1e-5)


def test_task_relative_advantages_are_whitened_by_kind_and_by_sequence():
    reward = jnp.array([1.0, 0.0, 5.0, 5.0])
    kind = jnp.array([0, 0, 1, 1])
    got = objective.task_relative_advantage(reward, kind, jnp.ones(4, bool), 3, 0.1)
    np.testing.assert_allclose(got, [1.0, -1.0, 0.0, 0.0], atol=1e-5)  # kind 1 has no spread: 0 ÷ floor


def test_baselines_follow_each_kind_and_role_apart():
    base = objective.empty_baselines(3)
    reward, kind = jnp.array([1.0, 0.0, -1.0]), jnp.array([0, 0, 2])
    base = objective.update_baselines(base, reward, kind, 1, jnp.ones(3, bool), 0.9)
    mean, sigma = objective.mean_and_sigma(base, kind, 1, 0.1)
    np.testing.assert_allclose(mean, [0.5, 0.5, -1.0], rtol=1e-5)
    np.testing.assert_allclose(sigma, [0.5, 0.5, 0.1], rtol=1e-4)  # one reward has no spread: the floor
    other, _ = objective.mean_and_sigma(base, kind, 0, 0.1)
    np.testing.assert_allclose(other, 0.0)  # the proposer has seen nothing
    again = objective.update_baselines(base, jnp.array([0.0]), jnp.array([0]), 1, jnp.ones(1, bool), 0.9)
    mean, _ = objective.mean_and_sigma(again, jnp.array([0]), 1, 0.1)
    np.testing.assert_allclose(mean, (0.9 * 0.1 * 0.5) / (0.9 * 0.1 + 0.1), rtol=1e-5)


def test_the_policy_loss_divides_by_a_fixed_length_and_caps_the_ratio():
    logp, logprobs = jnp.log(jnp.array([[0.5, 0.25], [0.5, 0.5]])), jnp.log(jnp.array([[0.5, 0.25], [0.05, 0.5]]))
    mask = jnp.array([[YES, NO], [YES, YES]])
    loss, weight = objective.policy_loss(logp, logprobs, mask, jnp.array([1.0, -1.0]), 2.0)
    first = -1.0 * 1.0 * np.log(0.5) / 2
    second = 1.0 * (2.0 * np.log(0.5) + np.log(0.5)) / 2  # ratio 10, capped at 2
    np.testing.assert_allclose(loss, (first + second) / 2, rtol=1e-5)
    np.testing.assert_allclose(weight[1], [2.0, 1.0], rtol=1e-5)


def test_the_policy_gradient_raises_what_was_good():
    def loss(logits):
        logp = jax.nn.log_softmax(logits)[None, :1]
        return objective.policy_loss(logp, jax.lax.stop_gradient(logp), jnp.ones((1, 1), bool), jnp.ones(1), 2.0)[0]

    logits = jnp.array([0.3, -0.2, 0.9])
    probabilities = jax.nn.softmax(logits)
    np.testing.assert_allclose(jax.grad(loss)(logits), probabilities - jnp.array([1.0, 0, 0]), rtol=1e-5)


def test_token_logprobs_have_the_gradient_that_jax_derives():
    rng = np.random.default_rng(0)
    logits, weight = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, 5, 7), (2, 5)))
    tokens = jnp.asarray(rng.integers(0, 7, (2, 5)))

    def plainly(logits):
        logp = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), tokens[:, 1:, None], axis=-1)[..., 0]
        return jnp.sum(weight * jnp.pad(logp, ((0, 0), (0, 1))))

    got = jax.value_and_grad(lambda logits: jnp.sum(weight * objective.token_logprobs(logits, tokens)))(logits)
    for mine, derived in zip(got, jax.value_and_grad(plainly)(logits), strict=True):
        np.testing.assert_allclose(mine, derived, atol=1e-6)


def test_token_logprobs_look_one_ahead():
    logits = jnp.log(jnp.array([[[0.1, 0.9], [0.7, 0.3], [0.5, 0.5]]]))
    got = objective.token_logprobs(logits, jnp.array([[0, 1, 0]]))
    np.testing.assert_allclose(got, [[np.log(0.9), np.log(0.7), 0.0]], rtol=1e-5)


def test_every_role_tag_begins_a_segment():
    row = jnp.array([[SOLVE, 300, EOS, PROPOSE, 301, PAD, PAD]])
    np.testing.assert_array_equal(objective.segments_of(row), [[1, 1, 1, 2, 2, 0, 0]])
