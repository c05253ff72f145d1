"""A fourth kind of task, known to this file alone, goes through gates, judge, door, self-play step and table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Eval, Model, SelfPlay, Tasks, Warmup
from bitzero.evaluation import proposing, questions, table
from bitzero.generator import programs
from bitzero.sandbox import Sandbox
from bitzero.selfplay import loop, verify, warmup
from bitzero.state import Supervised
from bitzero.tasks import tokens
from bitzero.tasks.gates import GATES, OK
from bitzero.tasks.kinds import TASK_KINDS, Check
from bitzero.tasks.kinds.single_pair import SinglePair, judge_value, packed_pairs
from bitzero.tasks.kinds.task import before_end
from bitzero.tasks.tokens import EOS, IN, OUT, PAD, decode, encode

CFG = Config(
    model=Model(
        num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, max_tier=0, compute="f32"
    ),
    warmup=Warmup(steps=0),
    selfplay=SelfPlay(num_tasks=8, group_size=2, supervised_batch=2, ring=64, history=256, steps=4),
    tasks=Tasks(context=64, prompt=64, completion=24, record=128),
    eval=Eval(items=2, locked_items=0, passk=2, passk_items=1, shuffled_items=2, batch_size=4),
)  # fmt: skip


class Comparison(SinglePair):
    """Program and input are shown; right is any literal that equals the value under the task's own program."""

    number = 3
    name = "comparison"
    tag = 23  # a spare id
    lender = 0
    traced = False
    one_answer = True
    inverse = False

    def solver_prompt(self, task, trace):
        return [tokens.SOLVE, self.tag, *encode(task.code), IN, *encode(task.inputs[0]), OUT]

    def parse_answer(self, completion):
        ids = before_end(completion)
        return decode(ids) if ids else None

    def gold(self, task):
        return task.outputs[0]

    def checks(self, task, answers):
        return [Check(code="def f(x): return x", inputs=tuple(answers))]

    def judge(self, task, answers, outcomes):
        return [judge_value(task, outcome) for outcome in outcomes[0]]

    def longest_answer(self, cfg, trace):
        return cfg.tasks.completion

    def trivial_rules(self):
        return ("zero",)

    def trivial_answers(self, task):
        return ["0"]

    def is_trivial(self, task):
        return task.outputs[0] == "0"

    def trivial_check(self, task):
        return None

    def solved_trivially(self, task, outcomes):
        return self.is_trivial(task)

    def training_share(self, warmup):
        return 0.0

    def solver_example(self, program, order, rng, cfg):
        i = order[0]
        answer = [*encode(program.outputs[i]), EOS]
        return packed_pairs([tokens.SOLVE, self.tag], [([IN, *encode(program.inputs[i]), OUT], answer)], cfg)


KINDS = (*TASK_KINDS, Comparison())
CODE = "def f(a, b):\n    return sorted(a + [b])"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def door(sandbox):
    return verify.Door(sandbox, CFG, KINDS)


def rows(*sequences, width):
    """Ids as rows of an array, right-padded."""
    out = np.zeros((len(sequences), width), np.uint16)
    for row, ids in zip(out, sequences, strict=True):
        row[: len(ids)] = ids
    return out


def test_its_proposal_becomes_a_task_and_its_answers_are_judged(door):
    prompt = KINDS[3].proposer_prompt(1, None)
    assert prompt[:2] == [tokens.PROPOSE, 23]
    written = [*encode(CODE), IN, *encode("[3, 1], 2"), EOS]
    verdict = door.propose(rows(prompt, width=64), rows(written, width=64), [3], [1], 5, 0)
    assert GATES[verdict["gate"][0]] == "ok" == GATES[OK]
    asked = verdict["prompt"][0][verdict["prompt"][0] != PAD].tolist()
    assert asked == [tokens.SOLVE, 23, *encode(CODE), IN, *encode("[3, 1], 2"), OUT]
    answers = rows([*encode("[1, 2, 3]"), EOS], [*encode("[1, 2]"), EOS], width=24)
    judged = door.solve(verdict["record"], answers[None], 5)
    assert judged["reward"].tolist() == [[1.0, 0.0]] and not judged["trivial"][0]
    assert not verdict["stop"] and door.error is None


def test_a_self_play_step_counts_it_beside_the_others(door):
    tasks = [kind.task_of_program(programs.generate(0, 0, i, 0), CFG) for i in range(4) for kind in KINDS]
    ring = verify.ring_rows(tasks, False, CFG, KINDS)
    assert set(ring["kind"].tolist()) == {0, 1, 2, 3}
    state = loop.start_selfplay(warmup.init_state(CFG, len(KINDS)), ring, CFG)
    row = rows([tokens.SOLVE, 300, 301, EOS], [tokens.SOLVE, 300, 301, EOS], width=64)
    items = Supervised(
        tokens=jnp.asarray(row), mask=jnp.asarray(row == EOS), kind=jnp.zeros((2, 2), jnp.int8),
        level=jnp.zeros((2, 2), jnp.int8),
    )  # fmt: skip
    state, stopped, metrics = jax.jit(loop.step, static_argnums=(2, 3))(state, items, CFG, door)
    assert int(state.step) == 1 and not stopped and door.error is None
    assert state.baselines.mean.shape == (4, 2)
    assert np.all(np.asarray(state.baselines.weight[:, 0]) > 0), "every kind was proposed"
    assert {"selfplay/solve_comparison", "selfplay/valid_comparison", "selfplay/solve_induction"} <= set(metrics)


def test_the_table_has_its_row_and_the_proposer_is_asked_for_it(sandbox):
    found = [programs.generate(0, 0, i, 0) for i in range(2)]
    state = warmup.init_state(dataclasses.replace(CFG, tasks=Tasks(prompt=64, completion=8, answer=8)), len(KINDS))
    cfg = dataclasses.replace(CFG, tasks=Tasks(prompt=64, completion=8, answer=8))
    solver = questions.solver_of(state, cfg, kinds=KINDS)
    groups = table.table_questions(lambda split, level, n: found[:n], cfg, 1, KINDS)
    assert [group.kind.name for group in groups] == ["deduction", "abduction", "induction", "comparison"]
    row, now, _ = table.measure_row(groups[3], solver, None, sandbox)
    assert row["kind"] == "comparison" and row["trivial_rule"] == "zero" and row["n"] == len(now) == 2
    asked, prompts = proposing.draw_prompts(found, 1, 8, solver)
    assert asked == [0, 1, 2, 3] * 2 and prompts[3][1] == 23
