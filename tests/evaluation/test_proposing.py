"""Asking a model as a proposer: its prompts, novelty, and that random weights propose nothing valid."""

import dataclasses

import jax
import pytest

from bitzero.config import Config, Eval, Model
from bitzero.evaluation import proposing, questions
from bitzero.selfplay import buffer, warmup
from bitzero.tasks import tokens
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, TASK_KINDS, Task

CFG = Config(
    model=Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, compute="f32"),
    eval=Eval(batch_size=8, passk=2, passk_items=4, shuffled_items=4),
)


@pytest.fixture(scope="module")
def state():
    return jax.jit(warmup.init_state, static_argnums=0)(CFG)


def test_proposer_prompts_take_kinds_in_turn_and_show_a_program_to_induction(state, test_programs):
    asked, prompts = proposing.draw_prompts(test_programs, 3, 12, questions.solver_of(state, CFG))
    assert asked == [0, 1, 2] * 4
    level_of = {tuple(tokens.encode(program.code)): program.level for program in test_programs}
    for kind, prompt in zip(asked, prompts, strict=True):
        if kind == INDUCTION or len(prompt) > 4:
            assert tokens.LEVELS[level_of[tuple(prompt[4:-1])]] == prompt[2]


def test_a_programs_novelty_is_asked_of_history(state):
    hashes = [0x0123_4567_89AB_CDEF, 3]
    words = buffer.hash_words(hashes)
    assert words.tolist() == [[0x0123_4567, 0x89AB_CDEF], [0, 3]]
    history = buffer.insert(state.history, jax.numpy.asarray(words), jax.numpy.array([True, False]))
    seen = dataclasses.replace(state, history=history)
    verdicts = [proposing.Verdict(gate=0, program_hash=value) for value in [*hashes, 3]]
    assert proposing._is_novel(seen, verdicts).tolist() == [False, True, False]  # known, new, new only once


def test_the_level_asked_is_compared_with_the_level_given_where_a_program_was_written():
    def verdict(kind, level):
        task = Task(kind=kind, level=level, code="def f(a):\n    return a", inputs=("1",), outputs=("1",), shown=1)
        return proposing.Verdict(gate=0, task=task, level=level)

    prompts = [TASK_KINDS[0].proposer_prompt(level, None) for level in (2, 1, 0, 0, 1)]
    verdicts = [
        verdict(DEDUCTION, 2),
        verdict(ABDUCTION, 0),
        verdict(INDUCTION, 3),  # about a program that was shown: says nothing of the proposer
        proposing.Verdict(gate=1),  # rejected
        verdict(ABDUCTION, 1),
    ]
    assert proposing._has_level_asked(prompts, verdicts, TASK_KINDS).tolist() == [True, False, True]


def test_a_random_model_proposes_nothing_valid(sandbox, state, test_programs):
    result = proposing.measure_proposer(state, questions.solver_of(state, CFG), test_programs, sandbox)
    assert result["n"] == proposing.PROPOSALS == sum(result["gates"].values())
    assert result["valid"] == 0.0 and result["novel"] is None and result["learnable"] is None
    assert result["level_as_asked"] is None
