"""Streamed rows: the tokens of a whole decode, one at a time, each row at its own temperature."""

import jax
import pytest

from bitzero.config import Config, Model
from bitzero.evaluation import questions, streaming
from bitzero.selfplay import warmup
from bitzero.tasks.tokens import EOS, PAD

CFG = Config(
    model=Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, compute="f32", smear=2)
)
PROMPT = [9, 8, 300, 301]


@pytest.fixture(scope="module")
def solver():
    return questions.solver_of(jax.jit(warmup.init_state, static_argnums=0)(CFG), CFG, settled=True)


def rows_of(solver, temperatures, seed=0):
    return list(zip(*streaming.stream_rows(solver, PROMPT, temperatures, max_new=12, seed=seed), strict=True))


def test_a_greedy_row_is_that_of_a_whole_decode(solver):
    draw = dict(max_new=12, temperature=0.0, seed=0)
    [whole] = questions.complete_prompts(solver, [PROMPT], **draw)
    for row in rows_of(solver, [0.0, 0.0]):
        assert list(row) == whole[: len(row)] and not any(whole[len(row) :])


def test_rows_differ_by_temperature_and_come_again_by_seed(solver):
    first, again, other = (rows_of(solver, [0.0, 1.0, 1.0], seed) for seed in (0, 0, 1))
    assert first == again and first[0] == other[0] and first[1:] != other[1:] and first[1] != first[2]


def test_after_its_end_a_row_is_padding(solver):
    for row in rows_of(solver, [3.0] * 3):
        if EOS in row:
            assert set(row[row.index(EOS) + 1 :]) <= {PAD}
