"""What self-play's update does to the policy: loss and gradient worked out by hand, then a bandit through the update.

The model is asked for its logits alone, of sequences without padding; whatever becomes of them in ``selfplay_loss`` is
worked out again in NumPy, the gradient with respect to them too.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model, Optimiser, SelfPlay, Tasks, Warmup
from bitzero.model import transformer
from bitzero.selfplay import loop, objective, warmup
from bitzero.state import Credit, Judged, Played, Proposals, Rollout, Slots, Supervised
from bitzero.tasks.gates import INFRA, OK
from bitzero.tasks.tokens import EOS, PAD, SOLVE

SMALL = Model(num_layers=1, width=16, num_heads=1, num_kv_heads=1, head_dim=16, ffn_width=16, max_tier=0, compute="f32")
BANDIT = Config(
    model=SMALL,
    optimiser=Optimiser(microbatches=1),
    warmup=Warmup(steps=0),
    selfplay=SelfPlay(
        num_tasks=3, group_size=2, supervised_batch=1, ring=4, history=8, seed_tasks=1,
        lr=0.01, entropy=0.0, supervised=0.0,
    ),
    tasks=Tasks(context=9, prompt=5, completion=3),
)  # fmt: skip
# Unquantised, so that padding changes nothing: a rounding may fall the other way where a sum has another order.
GOLDEN = dataclasses.replace(
    BANDIT,
    model=dataclasses.replace(SMALL, weights="full"),
    selfplay=dataclasses.replace(
        BANDIT.selfplay,
        entropy=0.3,
        kl=0.7,
        supervised=0.6,
        proposer=1.7,
        own_answers=0.4,
        max_weight=2.0,
        temperature=1.25,
        answer_temperature=0.5,
    ),
)
init_state = jax.jit(warmup.init_state, static_argnums=0)
learn = jax.jit(loop.learn, static_argnums=7)
advantage = jax.jit(loop.advantage, static_argnums=3)


def items():
    """One generator sequence of seven tokens; the last three are targets."""
    tokens = jnp.array([[SOLVE, 320, 321, 322, 323, 324, EOS, PAD, PAD]], jnp.uint16)
    label = jnp.zeros((1, 2), jnp.int8)
    return Supervised(tokens=tokens, mask=(jnp.arange(9) >= 4)[None] & (tokens != PAD), kind=label, level=label)


# ---- loss and gradient by hand ----

# Two sequences of the proposer, two of the solver: left-padded prompts, completions with EOS, seven tokens each.
PROMPT = np.array(
    [[PAD, 300, 301, 302, 303], [304, 305, 306, 307, 308], [PAD, 330, 331, 332, 333], [PAD, 334, 335, 336, 337]]
)
WRITTEN = np.array([[310, 311, EOS], [312, EOS, PAD], [340, 341, EOS], [342, 343, EOS]])
MASK = WRITTEN != PAD
# Train ÷ sampler: two are capped.
RATIO = np.array([[1.25, 0.5, 7.0], [1.0, 0.8, 1.0], [3.0, 1.5, 0.9], [0.4, 1.0, 1.75]])
ADVANTAGE = np.array([1.5, -0.5, -2.0, 0.75])
TARGET = np.array([False, False, False, True])  # the solver's second answer is learned as a supervised one is
FIRST = np.array([3, 4, 3, 3])  # index, without the padding, of the token that precedes the completion
AT = np.minimum(FIRST[:, None] + np.arange(3), 6)  # where the completion's logits are
ROWS = np.arange(4)[:, None]


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def unpadded():
    """The four sequences and the generator's, seven tokens each."""
    whole = np.concatenate([PROMPT, WRITTEN], axis=1)
    rows = [row[row != PAD] for row in whole] + [np.asarray(items().tokens[0, :7])]
    return jnp.asarray(np.stack(rows), jnp.int32)


def by_hand(logits, reference):
    """The terms of the loss and the gradient of their sum with respect to the logits of the unpadded sequences."""
    sp, steep = GOLDEN.selfplay, np.zeros(logits.shape)
    one_hot = np.eye(logits.shape[-1])
    no_pad = lambda rows: np.where(np.arange(rows.shape[-1]) == PAD, -1e9, rows)  # which is never drawn
    heat = np.array([1.25, 1.25, 0.5, 0.5])[:, None, None]  # of the roles
    lp, lq = (log_softmax(no_pad(np.asarray(rows[:4], np.float64)) / heat)[ROWS, AT] for rows in (logits, reference))
    p, logp = np.exp(lp), np.take_along_axis(lp, WRITTEN[..., None], axis=-1)[..., 0]
    entropy, kl = -np.sum(p * lp, axis=-1), np.sum(p * (lp - lq), axis=-1)
    weight = np.minimum(RATIO, 2.0)
    gain = -ADVANTAGE[:, None] * weight * MASK / 3 / 2  # a fixed length of three, two sequences a role
    terms = {
        "loss/propose": np.sum((gain * logp)[:2]),
        "loss/solve": np.sum((gain * logp)[2:]),
        "selfplay/entropy_propose": np.sum((entropy * MASK)[:2]) / 5,  # of 5 tokens, of 6 tokens
        "selfplay/entropy_solve": np.sum((entropy * MASK)[2:]) / 6,
        "loss/kl": np.sum(kl * MASK) / 11,
        "loss/own_answers": -np.mean(logp[TARGET]),
    }
    role = np.array([sp.proposer, sp.proposer, 1.0, 1.0])[:, None, None]
    per_role = np.array([5, 5, 6, 6])[:, None, None]
    slope = role * gain[..., None] * (one_hot[WRITTEN] - p)
    slope += sp.entropy * p * (lp + entropy[..., None]) * MASK[..., None] / per_role
    slope += sp.kl * p * (lp - lq - kl[..., None]) * MASK[..., None] / 11
    slope += sp.own_answers * TARGET[:, None, None] * (p - one_hot[WRITTEN]) / 3
    np.add.at(steep, (ROWS, AT), slope / heat)
    target, following = np.arange(3, 6), np.asarray(items().tokens[0, 4:7], int)
    lp = log_softmax(logits[4])[target]
    terms["loss/supervised"] = -np.mean(lp[np.arange(3), following])
    steep[4, target] = sp.supervised * (np.exp(lp) - one_hot[following]) / 3
    policy = terms["loss/solve"] + 1.7 * terms["loss/propose"] + 0.6 * terms["loss/supervised"]
    bonus = terms["selfplay/entropy_propose"] + terms["selfplay/entropy_solve"]
    terms["total"] = policy - 0.3 * bonus + 0.7 * terms["loss/kl"] + 0.4 * terms["loss/own_answers"]
    return terms, steep, logp


@pytest.fixture(scope="module")
def golden():
    """(loss, metrics, gradient) of the code and (terms, gradient) by hand."""
    state = init_state(GOLDEN)
    state = dataclasses.replace(state, reference=jax.tree.map(lambda p: 0.5 * p, state.params))
    tokens = unpadded()
    plain = lambda params: transformer.apply(params, state.precision, tokens, jnp.ones_like(tokens), GOLDEN.model)

    @jax.jit
    def forward(params, slope):
        logits, back = jax.vjp(plain, params)
        return logits, back(slope)[0]

    zeros = jnp.zeros((*tokens.shape, 512))
    logits, reference = (np.asarray(forward(p, zeros)[0]) for p in (state.params, state.reference))
    terms, steep, logp = by_hand(logits, reference)
    sampler = np.where(MASK, logp - np.log(RATIO), 0.0)
    played = [
        Played(
            prompt=jnp.asarray(PROMPT[of]),
            rollout=Rollout(
                tokens=jnp.asarray(WRITTEN[of]),
                logprobs=jnp.asarray(sampler[of], jnp.float32),
                mask=jnp.asarray(MASK[of]),
            ),
            advantage=jnp.asarray(ADVANTAGE[of], jnp.float32),
            target=jnp.asarray(TARGET[of]),
        )
        for of in (slice(0, 2), slice(2, 4))
    ]
    batch = (*played, items())
    gradients = jax.jit(objective.selfplay_gradients, static_argnums=(2, 3))
    value, metrics, grads, _ = gradients(state, batch, 1, GOLDEN)
    return value, metrics, grads, terms, forward(state.params, jnp.asarray(steep, jnp.float32))[1]


def test_the_loss_is_that_worked_out_by_hand(golden):
    value, metrics, _, terms, _ = golden
    for name, expected in terms.items():
        np.testing.assert_allclose(value if name == "total" else metrics[name], expected, rtol=5e-5, err_msg=name)
    assert terms["loss/kl"] > 0.01  # or its sign would not be seen


def test_the_sampler_mismatch_is_that_worked_out_by_hand(golden):
    _, metrics, *_ = golden
    ratio = RATIO[MASK]
    np.testing.assert_allclose(metrics["quant/kl_rollout_train"], np.mean(ratio - 1 - np.log(ratio)), rtol=1e-3)
    np.testing.assert_allclose(metrics["quant/max_ratio"], 7.0, rtol=1e-3)
    np.testing.assert_allclose(metrics["quant/capped_ratio"], 2 / 11, rtol=1e-5)


def test_the_gradient_is_that_worked_out_by_hand(golden):
    """Nothing flows through the importance weight; prompts and padding have no part in it."""
    _, _, grads, _, expected = golden
    for (path, got), wanted in zip(jax.tree.leaves_with_path(grads), jax.tree.leaves(expected), strict=True):
        size = float(jnp.abs(wanted).max())
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4 * size, err_msg=jax.tree_util.keystr(path))
    assert float(jnp.abs(grads["embedding"]).max()) > 1e-3


# ---- advantages by hand ----


def test_both_roles_are_measured_by_their_own_kind_and_their_own_rewards():
    state = init_state(BANDIT)
    reward = np.array([[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.float32)
    counted = np.ones(reward.shape, bool)
    counted[4, 3] = False
    slots = slots_of(gates=[OK, 1, OK, OK, INFRA], kinds=[0, 0, 1, 1, 1])
    judged = Judged(reward=jnp.asarray(reward), counted=jnp.asarray(counted), trivial=jnp.zeros(5, bool))
    cfg = dataclasses.replace(BANDIT, selfplay=dataclasses.replace(BANDIT.selfplay, num_tasks=5, group_size=4))
    after, credit = advantage(state, slots, judged, cfg)
    np.testing.assert_allclose(credit.rate, [0.25, 0.75, 0.5, 0, 0])
    np.testing.assert_allclose(credit.propose_reward, [0.75, -1, 0.5, 0, -1])
    # Means −0.125 and 0.25, σ 0.875 and 0.25; a fault of the machine is no proposal.
    np.testing.assert_allclose(credit.propose_advantage, [1, -1, 1, -1, 0], rtol=1e-4)
    # Of 8 answers 4 are right, of 11 counted ones 2.
    sigma = np.sqrt([4 / 8 * 4 / 8, 2 / 11 * 9 / 11])
    third = 1 / 3
    alone = [[1, -third, -third, -third], [third, third, third, -1], [2 * third, 2 * third, -2 * third, -2 * third]]
    expected = np.array([*alone, [0, 0, 0, 0], [0, 0, 0, 0]]) / sigma[[0, 0, 1, 1, 1]][:, None]
    np.testing.assert_allclose(credit.solve_advantage, expected, rtol=1e-4, atol=1e-6)
    share = 1 - cfg.selfplay.ema
    np.testing.assert_allclose(after.baselines.mean[:2] / share, [[-0.125, 0.5], [0.25, 2 / 11]], rtol=1e-4)
    np.testing.assert_allclose(after.baselines.weight[:2] / share, 1.0, rtol=1e-4)


def slots_of(gates, kinds):
    n, gate = len(gates), jnp.array(gates)
    prompt = jnp.array([[PAD, 350 + i, 360 + i, 370 + i, 380 + i] for i in range(n)])
    kind, level = jnp.array(kinds), jnp.zeros(n, jnp.int32)
    return Slots(
        prompt=prompt, record=prompt, kind=kind, asked_kind=kind, own=gate == OK, gate=gate, level=level,
        asked_level=level, novel=gate == OK, first=gate == OK, confidence=jnp.ones(n), place=jnp.arange(n),
    )  # fmt: skip


# ---- a bandit ----

ASKED = np.array([[PAD, PAD, 300, 301, 302], [PAD, 303, 304, 305, 306], [PAD, PAD, 307, 308, 309]])
PROPOSED = np.array([[310, 311, EOS], [312, EOS, PAD], [313, 314, EOS]])
ANSWERED = np.array(
    [[315, 316, EOS], [317, EOS, PAD], [318, EOS, PAD], [319, 320, EOS], [321, 322, EOS], [323, EOS, PAD]]
)
# Of the proposals the first is learnable, the second rejected, the third met a fault of the machine. The first task's
# first answer is right, the second task's second one; the answers to the third task were never judged.
SLOTS = slots_of([OK, 1, INFRA], [0, 0, 0])
JUDGED = Judged(
    reward=jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
    counted=jnp.array([[True, True], [True, True], [False, False]]),
    trivial=jnp.zeros(3, bool),
)
RISES = {"propose": [0], "solve": [0, 3]}
FALLS = {"propose": [1], "solve": [1, 2]}


@jax.jit
def logprobs_of(state, prompt, tokens):
    """Of each token of the completions, after the prompts."""
    whole = jnp.concatenate([prompt, tokens], axis=1)
    logits = transformer.apply(state.params, state.precision, whole, jnp.int32(whole != PAD), BANDIT.model)
    return objective.token_logprobs(logits, whole)[:, prompt.shape[1] - 1 : -1]


def written(state, prompt, tokens):
    """What the sampler would hand over, had it drawn these tokens."""
    tokens = jnp.asarray(tokens)
    logprobs = jnp.where(tokens != PAD, logprobs_of(state, jnp.asarray(prompt), tokens), 0.0)
    return Rollout(tokens=tokens, logprobs=logprobs, mask=tokens != PAD)


def stage(state):
    """Proposals and answers as the sampler gives them, drawn by ``state``."""
    proposals = Proposals(
        prompt=jnp.asarray(ASKED), kind=SLOTS.kind, level=SLOTS.level, rollout=written(state, ASKED, PROPOSED)
    )
    return proposals, written(state, np.repeat(SLOTS.prompt, 2, axis=0), ANSWERED)


def one_step(state, cfg):
    """The state after advantage and update, and the metrics."""
    proposals, answers = stage(state)
    state, credit = advantage(state, SLOTS, JUDGED, cfg)
    return learn(state, proposals, SLOTS, answers, JUDGED, credit, items(), cfg)


def likelihoods(state):
    """log p of every completion, by role."""
    proposals, answers = stage(state)
    rows = {"propose": proposals.rollout, "solve": answers}
    return {role: np.asarray(jnp.sum(row.logprobs, axis=1)) for role, row in rows.items()}


@pytest.fixture(scope="module")
def start():
    return init_state(BANDIT)


def test_what_paid_rises_and_what_cost_falls_at_once_and_for_good(start):
    before, state = likelihoods(start), start
    for step in range(5):
        state, metrics = one_step(state, BANDIT)
        assert float(metrics["quant/kl_rollout_train"]) < 1e-3  # answers are read after their own prompts
        moved = {role: value - before[role] for role, value in likelihoods(state).items()}
        least = 0.02 * (step + 1)
        for role, change in moved.items():
            assert (change[RISES[role]] > least).all(), (role, step, change)
            assert (change[FALLS[role]] < -least).all(), (role, step, change)


def credit_of(solver, proposer):
    """Credit given, whatever was earned."""
    return Credit(
        rate=jnp.zeros(3),
        propose_reward=jnp.zeros(3),
        propose_advantage=jnp.asarray(proposer, jnp.float32),
        solve_advantage=jnp.full((3, 2), solver, jnp.float32),
    )


def test_unjudged_answers_move_nothing(start):
    """Not their own tokens, nor the prompts', nor the padding's, whatever advantage they come with."""
    proposals, answers = stage(start)
    unjudged = dataclasses.replace(JUDGED, counted=jnp.zeros((3, 2), bool))
    after, metrics = learn(start, proposals, SLOTS, answers, unjudged, credit_of(1.0, [0, 0, 0]), items(), BANDIT)
    assert (float(metrics["loss/grad_norm"]), int(after.step)) == (0.0, 1)
    for one, two in zip(jax.tree.leaves(start.params), jax.tree.leaves(after.params), strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_is_masked_is_not_read(start):
    """Other tokens after the end and in the place of unjudged answers and proposals give the same update."""
    proposals, answers = stage(start)
    credit = credit_of(1.0, [1.0, -1.0, 0.5])

    def update(proposals, answers):
        return learn(start, proposals, SLOTS, answers, JUDGED, credit, items(), BANDIT)[0].params

    def disturbed(rollout, rows):
        masked = ~rollout.mask | (jnp.arange(len(rollout.tokens)) >= rows)[:, None]
        return dataclasses.replace(
            rollout, tokens=jnp.where(masked, 400, rollout.tokens), logprobs=jnp.where(masked, -3.0, rollout.logprobs)
        )

    other = dataclasses.replace(proposals, rollout=disturbed(proposals.rollout, 2))
    once, again = update(proposals, answers), update(other, disturbed(answers, 4))
    for one, two in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-7)
    assert float(jnp.abs(once["embedding"] - start.params["embedding"]).max()) > 1e-4


@pytest.mark.parametrize("role", ["propose", "solve"])
def test_credit_of_one_role_alone_moves_what_it_wrote(start, role):
    """In the direction of its sign; ``selfplay.proposer`` or a sum of both hides nothing here."""
    proposals, answers = stage(start)
    credit = credit_of(0.0, [1.0, -1.0, 0.0]) if role == "propose" else credit_of(1.0, [0, 0, 0])
    if role == "solve":
        credit = dataclasses.replace(credit, solve_advantage=jnp.array([[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]]))
    after, _ = learn(start, proposals, SLOTS, answers, JUDGED, credit, items(), BANDIT)
    change = likelihoods(after)[role] - likelihoods(start)[role]
    assert (change[RISES[role]] > 0.02).all() and (change[FALLS[role]] < -0.02).all(), change


def test_self_play_has_a_rate_of_its_own_for_what_is_no_matrix(start):
    """At 0 its update leaves embedding and gains where they are, whatever warm-up's ratio is; matrices move."""
    still = dataclasses.replace(
        BANDIT,
        optimiser=dataclasses.replace(BANDIT.optimiser, lr_gains=2.0),
        selfplay=dataclasses.replace(BANDIT.selfplay, lr_gains=0.0),
    )
    proposals, answers = stage(start)
    after, _ = learn(start, proposals, SLOTS, answers, JUDGED, credit_of(1.0, [1.0, -1.0, 0.5]), items(), still)
    moved = jax.tree.map(lambda one, two: bool((one != two).any()), start.params, after.params)
    for path, is_moved in jax.tree_util.tree_leaves_with_path(moved):
        assert is_moved == (path[-1].key == "kernel"), path
