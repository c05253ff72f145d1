"""The door: fixed-shape arrays through the real sandbox, inside a scan, in pieces that cannot deadlock."""

import dataclasses
import gc
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config
from bitzero.sandbox import Limits, Sandbox
from bitzero.selfplay import verify
from bitzero.selfplay.verify import GATES, INFRA, OUTCOMES, Door, verify_answers, verify_proposals
from bitzero.tasks import kinds, tokens
from bitzero.tasks.gates import OK
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, Task
from bitzero.tasks.tokens import EOS, IN, decode, encode

CFG = Config()
CODE = "def f(a, b):\n    c = a[1:] + [b + 5]\n    return sorted(c)"
P, C, R = CFG.tasks.prompt, CFG.tasks.completion, CFG.tasks.record


@pytest.fixture(scope="module")
def box():
    with Sandbox(Limits(value_bytes=512), workers=2) as sandbox:
        yield sandbox


@pytest.fixture
def door(box):
    return Door(box, CFG)


def left(ids):
    return np.array([0] * (P - len(ids)) + ids, np.uint16)


def right(ids, width=C):
    return np.array(ids + [0] * (width - len(ids)), np.uint16)


def proposals():
    """One good proposal of each kind, then one without an end, one that runs for ever."""
    inputs = ["[4, 2], 0", "[3, 1], 9", "[0, 5], 1", "[7], 2", "[6, 6], 3"]
    listed = [token for text in inputs for token in (*encode(text), IN)][:-1]
    good = [*encode(CODE), IN, *encode("[4,2], 0"), EOS]
    forever = [*encode("def f(a):\n    while True:\n        a += 1"), IN, *encode("1"), EOS]
    rows = [
        (DEDUCTION, kinds.propose_prompt(DEDUCTION, 1, None), good),
        (ABDUCTION, kinds.propose_prompt(ABDUCTION, 1, None), good),
        (INDUCTION, kinds.propose_prompt(INDUCTION, 1, CODE), [*listed, EOS]),
        (DEDUCTION, kinds.propose_prompt(DEDUCTION, 1, None), good[:-1]),
        (DEDUCTION, kinds.propose_prompt(DEDUCTION, 1, None), forever),
    ]
    return (
        np.stack([left(prompt) for _, prompt, _ in rows]),
        np.stack([right(ids) for _, _, ids in rows]),
        np.array([kind for kind, _, _ in rows], np.int32),
        np.full(len(rows), 1, np.int32),
    )


def task(kind=DEDUCTION):
    return Task(kind=kind, level=1, code=CODE, inputs=("[4, 2], 0",), outputs=("[2, 5]",), shown=1)


def task_in(row):
    return kinds.task_of(row.tolist())


def answers(*texts):
    return np.stack([right([*encode(text), EOS]) for text in texts])


def test_proposals_become_solver_prompts_and_records(door):
    out = door.propose(*proposals(), step=0, trace=0)
    assert [GATES[gate] for gate in out["gate"]] == ["ok", "ok", "ok", "format", "timeout"]
    made = task_in(out["record"][0])
    assert made == task()
    assert out["prompt"][0].tolist() == left(kinds.solve_prompt(made, trace=False)).tolist()
    assert task_in(out["record"][2]).shown == CFG.tasks.shown
    assert not out["record"][3:].any()
    assert not out["prompt"][3:].any()
    assert out["confidence"].tolist() == [1, 1, 3 / 4, 0, 0]  # of two hidden pairs both passed: (2 + 1)/(2 + 2)
    assert not out["stop"]


def test_hashes_tell_programs_and_tasks_apart(door):
    out = door.propose(*proposals(), step=0, trace=0)
    program, asked = out["program_hash"].tolist(), out["task_hash"].tolist()
    assert program[0] == program[1] == program[2] != [0, 0]  # one program
    assert len({tuple(pair) for pair in asked[:3]}) == 3  # three tasks about it
    assert program[3] == asked[3] == [0, 0]


def test_trace_mode_asks_deductions_for_a_trace(door):
    out = door.propose(*proposals(), step=0, trace=np.int32(1))
    assert out["prompt"][0][-1] == tokens.TRACE
    assert out["prompt"][1][-1] == IN


def test_answers_are_judged_per_slot_and_group(door):
    records = np.stack([right(kinds.record(task(kind)), R) for kind in (DEDUCTION, ABDUCTION)])
    texts = np.stack([answers("[2, 5]", "[2,5]", "[5, 2]"), answers("[4, 2], 0", "[9, 5], -3", "[1], 0")])
    texts[0, 2] = right(encode("[2, 5]"))  # no end
    out = door.solve(records, texts, step=0)
    assert out["reward"].tolist() == [[1, 1, 0], [1, 1, 0]]
    assert [OUTCOMES[code] for code in out["outcome"][0]] == ["ok", "ok", "format"]
    assert out["coverage"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert out["trivial"].tolist() == [False, False]


def test_a_traced_answer_counts_after_its_tag(door):
    texts = np.stack([right([*encode("1:c=[2, 5]"), tokens.ANS, *encode("[2, 5]"), EOS])])[None]
    assert door.solve(right(kinds.record(task()), R)[None], texts, step=0)["reward"].tolist() == [[1]]


def test_an_empty_slot_is_masked_out_as_infra(door):
    out = door.solve(np.zeros((1, R), np.uint16), answers("1", "2")[None], step=0)
    assert out["outcome"].tolist() == [[INFRA, INFRA]]
    assert door.error is None


def test_a_fault_becomes_a_code_a_stop_and_a_traceback(door):
    out = door.solve(np.full((1, R), tokens.EOS, np.uint16), answers("1")[None], step=0)
    assert out["outcome"].tolist() == [[INFRA]]
    assert out["stop"]
    assert "BadRecord" in door.error
    prompts, completions, wanted, levels = proposals()
    wanted[0] = 7  # no such kind
    out = Door(door.sandbox, CFG).propose(prompts, completions, wanted, levels, step=0, trace=0)
    assert {GATES[gate] for gate in out["gate"]} == {"infra"}
    assert out["stop"]


def test_a_requested_stop_comes_back_and_time_is_kept(door):
    assert not door.propose(*proposals(), step=0, trace=0)["stop"]
    door.request_stop()
    assert door.propose(*proposals(), step=1, trace=0)["stop"]
    assert door.solve(right(kinds.record(task()), R)[None], answers("1")[None], step=1)["stop"]
    assert door.seconds["propose"] > 0
    assert door.seconds["solve"] > 0
    assert door.calls == {"propose": 2, "solve": 1}


def test_samples_are_text_with_the_verdict(door):
    door.propose(*proposals(), step=np.int32(CFG.run.samples_every), trace=0)
    door.solve(right(kinds.record(task()), R)[None], answers("[2, 5]", "1")[None], step=0)
    assert door.samples[0] == (CFG.run.samples_every, f"propose deduction L1: ok\n{CODE}\n[4,2], 0")
    step, text = door.samples[-1]
    assert step == 0
    assert text.startswith("solve deduction L1: 1 of 2 right\n")


def test_generator_tasks_are_packed_for_the_ring():
    long = dataclasses.replace(task(), code=CODE.replace("sorted", "s" * 300))
    rows = verify.ring_rows([task(), long, task(ABDUCTION)], False, CFG)
    assert rows["kind"].tolist() == [DEDUCTION, ABDUCTION]  # the long one is left out
    assert rows["level"].tolist() == [1, 1]
    assert task_in(rows["record"][1]) == task(ABDUCTION)
    assert decode(rows["prompt"][0].tolist()).endswith("<out><direct>")
    assert verify.ring_rows([], False, CFG)["prompt"].shape == (0, P)


def test_pieces_stay_under_the_size_that_can_deadlock():
    x = jnp.arange(128 * 64 * 64, dtype=jnp.uint32).astype(jnp.uint16).reshape(128, 64, 64)  # 1 MiB
    cut = verify.cut_in_pieces(x)
    assert len(cut) > 10
    assert max(piece.size * 2 for piece in cut) < 100 * 1024
    assert np.array_equal(verify._joined_pieces(cut), np.asarray(x))


def test_the_door_opens_inside_a_scan(door):
    prompts, completions, wanted, levels = map(jnp.asarray, proposals())
    group = jnp.asarray(np.stack([answers("[2, 5]", "3")] * len(wanted)))

    def step(stopped, i):
        tasks = verify_proposals(door, prompts, completions, wanted, levels, i, jnp.int32(0))
        judged = verify_answers(door, tasks["record"], group, i)
        return judged["stop"], (tasks["gate"], judged["reward"], judged["outcome"])

    _, (gate, reward, outcome) = jax.jit(lambda: jax.lax.scan(step, jnp.bool_(False), jnp.arange(2)))()
    assert [GATES[code] for code in gate[1]] == ["ok", "ok", "ok", "format", "timeout"]
    assert reward[1, 0].tolist() == [1, 0]
    assert outcome[1, 3].tolist() == [INFRA, INFRA]  # no task in this slot
    assert door.calls == {"propose": 2, "solve": 2}
    assert door.error is None


def test_arguments_over_100_kib_cross_on_one_device(door):
    n, group = 8, 160
    records = jnp.asarray(np.stack([right(kinds.record(task()), R)] * n))
    texts = jnp.asarray(np.broadcast_to(answers("[2, 5]"), (n, group, C)))
    assert texts.nbytes > 100 * 1024
    out = jax.jit(lambda records, texts: verify_answers(door, records, texts, jnp.int32(1)))(records, texts)
    assert out["reward"].shape == (n, group)
    assert float(out["reward"].sum()) == n * group


def test_nothing_but_finished_arrays_reach_the_call(door):
    """Slices that feed it would become one fusion with it on a GPU, which XLA's compiler does not survive."""
    n, group = 8, 160
    records, texts = jax.ShapeDtypeStruct((n, R), jnp.uint16), jax.ShapeDtypeStruct((n, group, C), jnp.uint16)
    asked = jax.jit(lambda records, texts: verify_answers(door, records, texts, jnp.int32(1))).trace(records, texts)
    made_by = {id(out): step.primitive.name for step in asked.jaxpr.eqns for out in step.outvars}
    call = next(step for step in asked.jaxpr.eqns if step.primitive.name == "io_callback")
    assert len(call.invars) > 3  # in pieces
    assert {made_by[id(sent)] for sent in call.invars} == {"optimization_barrier"}


@pytest.mark.parametrize("seed", range(3))
def test_any_tokens_get_a_verdict(door, seed):
    """What an untrained policy emits: random ids, and good proposals and answers with random ids put in."""
    rng = np.random.default_rng(seed)
    prompts, completions, wanted, levels = (np.tile(x, (6,) + (1,) * (x.ndim - 1)) for x in proposals())
    hit = rng.random(completions.shape) < np.linspace(0, 1, len(completions))[:, None]
    completions = np.where(hit, rng.integers(0, tokens.VOCAB_SIZE, completions.shape), completions).astype(np.uint16)
    out = door.propose(prompts, completions, wanted, levels, step=1, trace=1)
    assert door.error is None
    assert GATES[out["gate"][0]] == "ok"
    assert all(GATES[gate] == "format" for gate in out["gate"][-4:])
    kept = out["gate"] == OK
    assert (out["record"].any(axis=1) == kept).all()
    assert (out["task_hash"].any(axis=1) == kept).all()
    records = np.stack([right(kinds.record(task(kind)), R) for kind in (DEDUCTION, ABDUCTION)])
    judged = door.solve(records, np.stack([completions, completions[::-1]]), step=1)
    assert door.error is None
    assert INFRA not in judged["outcome"]


def entries_into_jax(call):
    """Names of the functions of JAX that ``call`` enters from outside it, on this thread."""
    home, found = os.path.dirname(jax.__file__) + os.sep, set()

    def look(frame, event, _):
        inside = lambda frame: frame is not None and frame.f_code.co_filename.startswith(home)
        if event == "call" and inside(frame) and not inside(frame.f_back):
            found.add(frame.f_code.co_name)

    before = sys.getprofile()
    gc.disable()  # a collection calls JAX back whenever it comes about, whoever runs
    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(before)
        gc.enable()
    return found


def test_the_host_side_calls_no_jax(door):
    """A callback is handed JAX arrays, and may do nothing with them but read them into NumPy."""
    prompts, completions, wanted, levels = map(jnp.asarray, proposals())
    records = jnp.asarray(np.stack([right(kinds.record(task()), R), np.zeros(R, np.uint16)]))
    group, step = jnp.asarray(np.stack([answers("[2, 5]", "3")] * 2)), jnp.int32(CFG.run.samples_every)
    asked = verify.cut_in_pieces(prompts), verify.cut_in_pieces(completions), wanted, levels, step, jnp.int32(0)
    answered = verify.cut_in_pieces(records), verify.cut_in_pieces(group), step
    assert entries_into_jax(lambda: jnp.sum(group))  # what is looked for can be seen
    assert entries_into_jax(lambda: door.propose(*asked)) <= {"__array__"}
    assert entries_into_jax(lambda: door.solve(*answered)) <= {"__array__"}
    assert door.error is None and len(door.samples) == len(wanted) + 1


MESH = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from bitzero.config import Config
from bitzero.sandbox import Limits, Sandbox
from bitzero.selfplay.verify import Door, verify_answers
from bitzero.tasks import kinds
from bitzero.tasks.tokens import EOS, encode

task = kinds.Task(kind=0, level=0, code="def f(a):\\n    return a + 1", inputs=("1",), outputs=("2",), shown=1)
ids = kinds.record(task)
cfg = Config()
records = np.zeros((16, cfg.tasks.record), np.uint16)
records[:, : len(ids)] = ids
texts = np.zeros((16, 80, 64), np.int32)
texts[:, :, :2] = [*encode("2"), EOS]
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
rows = NamedSharding(mesh, PartitionSpec("data"))
with Sandbox(Limits(), workers=2) as box:
    door = Door(box, cfg)

    def step(total, i):
        fresh = texts_on + (total.astype(jnp.int32) * 0)  # depends on the step before, so that it is still pending
        return total + verify_answers(door, records_on, fresh, i)["reward"].sum(), None

    records_on, texts_on = jax.device_put(records, rows), jax.device_put(texts, rows)
    total = jax.jit(lambda: jax.lax.scan(step, jnp.float32(0), jnp.arange(3))[0])()
    print(float(total), door.error)
"""


def test_over_100_kib_on_a_two_device_mesh_on_one_core():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "PJRT_NPROC": "8", "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run(
        [sys.executable, "-c", MESH], env=os.environ | flags, capture_output=True, text=True, timeout=120, check=True
    )
    assert ran.stdout.split() == [str(3.0 * 16 * 80), "None"]
