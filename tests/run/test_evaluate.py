"""The table's parts: the questions, the best trivial rule, the control, and judging by the real executor."""

import dataclasses

import jax
import numpy as np
import pytest

from bitzero.config import Config, Eval, Model
from bitzero.run import asking, evaluate, proposing
from bitzero.run.evaluate import Group
from bitzero.sandbox import Sandbox
from bitzero.selfplay import buffer, warmup
from bitzero.tasks import kinds, orders, programs
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, Task

CFG = Config(
    model=Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, compute="f32"),
    eval=Eval(batch_size=8, passk=2, passk_items=4, shuffled_items=4),
)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def test_programs():
    return [programs.generate(0, 0, i, i % 2, "test") for i in range(6)]


@pytest.fixture(scope="module")
def state():
    return warmup.init_state(CFG)


def deduction(code, given, value, level=0):
    return Task(kind=DEDUCTION, level=level, code=code, inputs=(given,), outputs=(value,), shown=1)


FIRST = deduction("def f(a, b):\n    return a", "7, 8", "7")
SECOND = deduction("def f(a, b):\n    return b", "7, 8", "8")
ONE_ARGUMENT = deduction("def f(a):\n    return -a", "5", "-5")


def test_gold_answers_are_right_and_others_are_not(sandbox, test_programs):
    for kind, gold in ((DEDUCTION, "outputs"), (ABDUCTION, "inputs")):
        tasks = [orders.task_of(CFG, program, kind) for program in test_programs]
        answers = [[getattr(task, gold)[0], None, "nonsense("] for task in tasks]
        assert asking.right(sandbox, tasks, answers).tolist() == [[True, False, False]] * len(tasks)
    tasks = [orders.task_of(CFG, program, INDUCTION) for program in test_programs]
    assert asking.right(sandbox, tasks, [[task.code] for task in tasks]).all()


def test_a_question_of_each_kind(test_programs):
    program = test_programs[0]
    task = orders.task_of(CFG, program, DEDUCTION)
    assert (task.inputs, task.outputs) == (program.inputs[:1], program.outputs[:1])
    assert orders.task_of(CFG, program, ABDUCTION) == dataclasses.replace(task, kind=ABDUCTION)
    task = orders.task_of(CFG, program, INDUCTION)
    assert (len(task.inputs), task.shown) == (CFG.tasks.pairs, CFG.tasks.shown)


def test_the_trivial_rule_is_chosen_on_training_programs(sandbox):
    """Training programs return their second argument, so that rule is asked of the test, where it is right once."""
    group = Group(level=0, kind=DEDUCTION, tasks=[FIRST, SECOND], training=[SECOND, SECOND, FIRST])
    assert evaluate.trivial(group, sandbox) == {"trivial": 0.5, "trivial_rule": "argument 1"}


def test_the_control_shows_a_program_of_the_same_arity(sandbox):
    tasks = [FIRST, ONE_ARGUMENT, SECOND]
    assert evaluate.stranger(tasks, 0) is SECOND
    assert evaluate.stranger(tasks, 1) is SECOND  # there is none with one argument
    shown = evaluate.shuffled(FIRST, SECOND)
    assert (shown.code, shown.inputs, shown.outputs) == (SECOND.code, FIRST.inputs, FIRST.outputs)


def test_the_control_of_induction_shows_anothers_pairs(test_programs):
    mine, other = (orders.task_of(CFG, program, INDUCTION) for program in test_programs[:2])
    shown = evaluate.shuffled(mine, other)
    assert (shown.code, shown.inputs, shown.outputs) == (mine.code, other.inputs, other.outputs)


def test_a_model_of_random_weights_is_asked_freely_and_scores_nothing(sandbox, state, test_programs):
    solver = asking.solver(state, "f32", CFG)
    tasks = [orders.task_of(CFG, program, DEDUCTION) for program in test_programs]
    group = Group(level=0, kind=DEDUCTION, tasks=tasks, training=tasks)
    row, now, before = evaluate.measure(group, solver, solver, sandbox)
    assert row["mode"] == "trace" and row["n"] == 6
    assert row["accuracy"] == row["before_selfplay"] == row["pass@2"] == 0.0
    assert now.tolist() == before.tolist() == [False] * 6


def test_answers_do_not_depend_on_who_shares_the_batch(state, test_programs):
    solver = asking.solver(state, "f32", CFG)
    tasks = [orders.task_of(CFG, program, ABDUCTION) for program in test_programs]
    prompts = [kinds.solve_prompt(task, trace=False) for task in tasks]
    draw = dict(max_new=CFG.tasks.answer, temperature=0.0, seed=0)
    together = list(asking.complete(solver, prompts, **draw))
    alone = [next(asking.complete(solver, [prompt], **draw)) for prompt in prompts]
    assert together == alone


def test_a_prompt_that_does_not_fit_is_a_wrong_answer(state):
    solver = asking.solver(state, "f32", CFG)
    long = deduction("def f(a):\n    return " + " + ".join("a" * 200), "1", "200")
    assert asking.ask(solver, [long], samples=2) == [[None, None]]


def test_left_padding():
    assert asking.left_padded([[5], [6, 7]], 3).tolist() == [[0, 0, 5], [0, 6, 7]]
    with pytest.raises(ValueError, match="a prompt of 4 tokens does not fit 3"):
        asking.left_padded([[1, 2, 3, 4]], 3)


def test_proposer_prompts_take_kinds_in_turn_and_show_a_program_to_induction(test_programs):
    asked, prompts = proposing.draw_prompts(test_programs, 3, 12, CFG.tasks.prompt)
    assert asked == [0, 1, 2] * 4
    codes = [kinds.tokens.encode(program.code) for program in test_programs]
    for kind, prompt in zip(asked, prompts, strict=True):
        if kind == INDUCTION:
            assert any(prompt[4:-1] == code for code in codes)


def test_a_programs_novelty_is_asked_of_history(state):
    hashes = [0x0123_4567_89AB_CDEF, 3]
    words = proposing.words(hashes)
    assert words.tolist() == [[0x0123_4567, 0x89AB_CDEF], [0, 3]]
    history = buffer.insert(state.history, jax.numpy.asarray(words), jax.numpy.array([True, False]))
    seen = dataclasses.replace(state, history=history)
    verdicts = [proposing.Verdict(gate=0, program_hash=value) for value in [*hashes, 3]]
    assert proposing._novel(seen, verdicts).tolist() == [False, True, False]  # known, new, new only once


def test_a_random_model_proposes_nothing_valid(sandbox, state, test_programs):
    result = proposing.measure(state, asking.solver(state, "f32", CFG), test_programs, sandbox)
    assert result["n"] == proposing.PROPOSALS == sum(result["gates"].values())
    assert result["valid"] == 0.0 and result["novel"] is None and result["learnable"] is None


def test_the_table_and_sentences_say_what_was_measured():
    row = {
        "level": 0, "kind": "deduction", "mode": "trace", "n": 200, "accuracy": 0.605, "ci_low": 0.536, "ci_high": 0.67,
        "trivial": 0.1, "shuffled": 0.025, "before_selfplay": None, "pass@8": 0.8,
    }  # fmt: skip
    cells = [list(column.cells) for column in evaluate.table([row]).columns]
    expected = ["L0", "deduction", "trace", "200", "60.5", "53.6–67.0", "10.0", "2.5", "80.0", "–"]
    assert [cell for (cell,) in cells] == expected
    proposer = {"n": 192, "valid": 0.5, "novel": 0.9, "learnable": None, "levels": {"0": 90, "1": 6}}
    gain = {"gain": 0.012, "ci_low": -0.03, "ci_high": 0.05, "n": 600}
    assert evaluate.sentences({"proposer": proposer, "gain_of_selfplay": {"deduction": gain}}) == [
        "proposer: 50.0 % of 192 proposals pass every gate; of these 90.0 % are new programs and – % learnable",
        "levels of accepted proposals: L0 90 L1 6",
        "self-play changed deduction by +1.2 points (95 % -3.0 to +5.0, 600 items)",
    ]


def test_shares():
    assert evaluate.share(np.array([True, False, False])) == 0.3333
    assert evaluate.share(np.zeros(0, bool)) is None
