"""Asking a model: tasks of programs, judging by the real executor, batches that do not mix."""

import dataclasses

import jax
import pytest

from bitzero.config import Config, Eval, Model
from bitzero.evaluation import questions
from bitzero.selfplay import warmup
from bitzero.tasks import kinds
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, Task

CFG = Config(
    model=Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, compute="f32"),
    eval=Eval(batch_size=8, passk=2, passk_items=4, shuffled_items=4),
)


@pytest.fixture(scope="module")
def state():
    return jax.jit(warmup.init_state, static_argnums=0)(CFG)


def test_gold_answers_are_right_and_others_are_not(sandbox, test_programs):
    for kind, gold in ((DEDUCTION, "outputs"), (ABDUCTION, "inputs")):
        tasks = [kinds.TASK_KINDS[kind].task_of_program(program, CFG) for program in test_programs]
        answers = [[getattr(task, gold)[0], None, "nonsense("] for task in tasks]
        assert questions.correct_answers(sandbox, tasks, answers).tolist() == [[True, False, False]] * len(tasks)
    tasks = [kinds.TASK_KINDS[INDUCTION].task_of_program(program, CFG) for program in test_programs]
    assert questions.correct_answers(sandbox, tasks, [[task.code] for task in tasks]).all()


def test_a_question_of_each_kind(test_programs):
    program = test_programs[0]
    task = kinds.TASK_KINDS[DEDUCTION].task_of_program(program, CFG)
    assert (task.inputs, task.outputs) == (program.inputs[:1], program.outputs[:1])
    assert kinds.TASK_KINDS[ABDUCTION].task_of_program(program, CFG) == dataclasses.replace(task, kind=ABDUCTION)
    task = kinds.TASK_KINDS[INDUCTION].task_of_program(program, CFG)
    assert (len(task.inputs), task.shown) == (CFG.tasks.pairs, CFG.tasks.shown)


def test_answers_do_not_depend_on_who_shares_the_batch(state, test_programs):
    solver = questions.solver_of(state, CFG)
    tasks = [kinds.TASK_KINDS[ABDUCTION].task_of_program(program, CFG) for program in test_programs]
    prompts = [kinds.solve_prompt(task, trace=False) for task in tasks]
    draw = dict(max_new=CFG.tasks.answer, temperature=0.0, seed=0)
    together = list(questions.complete_prompts(solver, prompts, **draw))
    alone = [next(questions.complete_prompts(solver, [prompt], **draw)) for prompt in prompts]
    assert together == alone


def test_a_batch_in_parts_has_the_same_answers(state):
    solver, prompts = questions.solver_of(state, CFG), [[9, 8 + i % 3, 7] for i in range(11)]
    draw = dict(max_new=12, temperature=1.0, seed=3)
    whole = list(questions.complete_prompts(solver, prompts, **draw))
    for parts in (2, 4):
        assert list(questions.complete_prompts(dataclasses.replace(solver, parts=parts), prompts, **draw)) == whole
    assert whole[0] != whole[3]


def test_asking_may_be_ended_before_any_batch(state, monkeypatch):
    """Rows that were answered before are given; no batch is begun after the word."""
    begun, asked = [], []
    sample = questions.sample_completions
    monkeypatch.setattr(
        questions, "sample_completions", lambda *given, **more: begun.append(1) or sample(*given, **more)
    )

    def twice():
        asked.append(len(begun))
        if len(asked) == 3:
            raise InterruptedError

    solver, rows = questions.solver_of(state, CFG, go_on=twice), []
    with pytest.raises(InterruptedError):
        for row in questions.complete_prompts(solver, [[9, 8, 7]] * 30, max_new=4, temperature=0.0, seed=0):
            rows.append(row)
    assert asked == [0, 1, 2] and len(begun) == 2 and len(rows) == 16


def test_a_prompt_that_does_not_fit_is_a_wrong_answer(state):
    solver = questions.solver_of(state, CFG)
    code = "def f(a):\n    return " + " + ".join("a" * 200)
    long = Task(kind=DEDUCTION, level=0, code=code, inputs=("1",), outputs=("200",), shown=1)
    assert questions.ask(solver, [long], samples=2) == [[None, None]]


def test_left_padding():
    assert questions.left_padded([[5], [6, 7]], 3).tolist() == [[0, 0, 5], [0, 6, 7]]
    with pytest.raises(ValueError, match="a prompt of 4 tokens does not fit 3"):
        questions.left_padded([[1, 2, 3, 4]], 3)
