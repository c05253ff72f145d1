"""The table's parts: the best trivial rule, the shuffled control, a row, and shares."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from bitzero.config import Config, Eval, Model
from bitzero.evaluation import questions, table
from bitzero.evaluation.table import Group
from bitzero.selfplay import warmup
from bitzero.tasks.kinds import DEDUCTION, INDUCTION, TASK_KINDS, Task

CFG = Config(
    model=Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, compute="f32"),
    eval=Eval(batch_size=8, passk=2, passk_items=4, shuffled_items=4),
)


CFG_TABLE = dataclasses.replace(CFG, eval=dataclasses.replace(CFG.eval, items=4, locked_items=0))


def deduction(code, given, value, level=0):
    return Task(kind=DEDUCTION, level=level, code=code, inputs=(given,), outputs=(value,), shown=1)


FIRST = deduction("def f(a, b):\n    return a", "7, 8", "7")
SECOND = deduction("def f(a, b):\n    return b", "7, 8", "8")
ONE_ARGUMENT = deduction("def f(a):\n    return -a", "5", "-5")


def test_the_trivial_rule_is_chosen_on_training_programs(sandbox):
    """Training programs return their second argument, so that rule is asked of the test, where it is right once."""
    group = Group(level=0, kind=TASK_KINDS[DEDUCTION], tasks=[FIRST, SECOND], training=[SECOND, SECOND, FIRST])
    assert table.trivial_row(group, sandbox) == {"trivial": 0.5, "trivial_rule": "argument 1"}


def test_the_control_shows_a_program_of_the_same_arity(sandbox):
    tasks = [FIRST, ONE_ARGUMENT, SECOND]
    assert table.another_program(tasks, 0) is SECOND
    assert table.another_program(tasks, 1) is SECOND  # there is none with one argument
    shown = TASK_KINDS[DEDUCTION].disguised(FIRST, SECOND)
    assert (shown.code, shown.inputs, shown.outputs) == (SECOND.code, FIRST.inputs, FIRST.outputs)


def test_the_control_of_induction_shows_anothers_pairs(test_programs):
    mine, other = (TASK_KINDS[INDUCTION].task_of_program(program, CFG) for program in test_programs[:2])
    shown = TASK_KINDS[INDUCTION].disguised(mine, other)
    assert (shown.code, shown.inputs, shown.outputs) == (mine.code, other.inputs, other.outputs)


def test_a_model_of_random_weights_is_asked_freely_and_scores_nothing(sandbox, test_programs):
    state = jax.jit(warmup.init_state, static_argnums=0)(CFG)
    solver = questions.solver_of(state, CFG)
    tasks = [TASK_KINDS[DEDUCTION].task_of_program(program, CFG) for program in test_programs]
    group = Group(level=0, kind=TASK_KINDS[DEDUCTION], tasks=tasks, training=tasks)
    row, now, before = table.measure_row(group, solver, solver, sandbox)
    assert row["mode"] == "trace" and row["n"] == 6 and row["cut"] == 0
    lengths = sorted(len(solver.kinds[DEDUCTION].solver_prompt(task, True)) for task in tasks)
    narrow = dataclasses.replace(CFG, tasks=dataclasses.replace(CFG.tasks, prompt=lengths[-1] - 1))
    assert table.too_long_to_ask(tasks, dataclasses.replace(solver, cfg=narrow)) == lengths.count(lengths[-1])
    assert row["accuracy"] == row["before_selfplay"] == row["pass@2"] == 0.0
    assert now.tolist() == before.tolist() == [False] * 6


def test_a_row_is_of_draws_and_of_each_program_once(sandbox, test_programs):
    """Six draws of four different programs: the row is of the first four draws, ``different`` of the four programs."""
    again = [test_programs[i] for i in (0, 1, 0, 2, 1, 3)]
    [group] = [
        group
        for group in table.table_questions(lambda split, level, n: again, CFG_TABLE, 1)
        if group.kind.number == DEDUCTION
    ]
    assert [len(group.tasks), len(group.further), group.firsts] == [4, 2, [0, 1, 3, 5]]
    solver = questions.solver_of(jax.jit(warmup.init_state, static_argnums=0)(CFG), CFG)
    row, now, _ = table.measure_row(group, solver, None, sandbox)
    assert (row["n"], len(now), row["different"]) == (4, 4, 0.0)


def test_items_of_unseen_skeletons_are_a_row_of_their_own():
    skeletons = jnp.zeros(1 << 8, bool).at[jnp.array([5, 7])].set(True)
    group = Group(
        level=0, kind=TASK_KINDS[DEDUCTION], tasks=[FIRST, SECOND, FIRST], training=[], skeletons=[5, 6, 256 + 8, 9]
    )
    row = table.unseen_row(group, np.array([True, True, False]), skeletons)
    assert row == {"unseen": 0.5, "unseen_n": 2}
    assert table.unseen_row(group, np.array([True]), skeletons) == {"unseen": None, "unseen_n": 0}


def test_shares():
    assert table.share_correct(np.array([True, False, False])) == 0.3333
    assert table.share_correct(np.zeros(0, bool)) is None
