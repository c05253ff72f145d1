"""What a run needs of the device's memory, and how it is cut to fit: by counts given, no device asked."""

import dataclasses
import errno
import io
import json
import types

import jax
import pytest
import rich.console

from bitzero import config as configuration
from bitzero.config import Config, ConfigError, Eval, Model, Optimiser, SelfPlay, Tasks, Warmup
from bitzero.generator.stream import BatchOrder, Stream
from bitzero.run import accelerator, fit, guarded, memory, train, workdir
from bitzero.run.experiment import read_config
from bitzero.run.fit import Pool
from bitzero.run.sitting import Ledger
from bitzero.selfplay import loop, warmup

CFG = Config(
    model=Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, compute="f32"),
    warmup=Warmup(steps=40, batch_size=16),
    selfplay=SelfPlay(steps=20, num_tasks=8, group_size=2, supervised_batch=24, ring=8, history=64),
    tasks=Tasks(context=32, prompt=16, completion=8, answer=8, record=48),
    eval=Eval(batch_size=10),
)
GB = 10**9
POOL = Pool(1000 * GB, "the pool", True)


def needing(**in_one_part):
    """A count: so many GB for all rows at once, and a hundred whatever the parts."""
    asked = []

    def count(program):
        asked.append(program.what)
        rest = in_one_part.get(program.cut, 0)
        parts = {
            "updates": program.cfg.optimiser.microbatches, "rollouts": program.cfg.selfplay.rollout_parts,
            "asking": program.cfg.eval.parts,
        }  # fmt: skip
        return GB * (100 + rest // parts[program.cut])

    return count, asked


def parts_of(cfg):
    return cfg.optimiser.microbatches, cfg.selfplay.rollout_parts, cfg.eval.parts


def test_the_reference_policy_of_self_play_is_counted():
    """With it, and without: the state of self-play is what the run's own start makes of a warm-up's."""
    held = dataclasses.replace(CFG, selfplay=dataclasses.replace(CFG.selfplay, kl=0.1))
    begun = jax.eval_shape(lambda: loop.start_selfplay(warmup.init_state(held), ring_rows(CFG), held))
    assert shapes_of(memory.playing_state_of(held)) == shapes_of(begun)
    frozen = memory.size_of(begun.reference)
    assert frozen == memory.size_of(memory.materialised(held, memory.state_of(held))) > 0
    more = {}
    for cfg in (CFG, held):
        for program in memory.step_programs(configuration.with_parts(cfg, updates=1, rollouts=1, asking=1)):
            before = more.get(program.what, 0)
            more[program.what] = memory.estimated_bytes(program) - before
    assert {what: size for what, size in more.items() if what != "self-play, update"} == {
        "warm-up, full": 0, "warm-up, ramp": 0, "warm-up, integer": 0, "self-play, rollouts": frozen,
        "evaluation, prompts": frozen, "evaluation, answers": frozen,
    }  # fmt: skip
    assert more["self-play, update"] > frozen  # the logits of the reference too


def ring_rows(cfg):
    """Seeds that fill the ring."""
    n = cfg.selfplay.ring
    row = lambda width: jax.numpy.zeros((n, width), "uint16")
    one = jax.numpy.zeros((n,), "int32")
    return {"prompt": row(cfg.tasks.prompt), "record": row(cfg.tasks.record), "kind": one, "level": one}


def shapes_of(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.mark.parametrize("mix", ["even", "learnable"])
def test_what_is_counted_is_what_the_generator_gives(mix):
    """Else another program would be compiled to be counted than the one that runs."""
    cfg = Config(tasks=Tasks(productions=mix, context=128))
    order = BatchOrder(step=0, steps=2, batch_size=3, context=128, open_levels=1, frontier=0, phase="warmup")
    with Stream(cfg) as stream:
        given = train.supervised(stream.take_batch(order), productions=memory.state_of(cfg).mix is not None)
    assert shapes_of(given) == shapes_of(memory.generated(cfg, 3, (2,)))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("azr_small", []),
        ("take_home", []),
        ("smoke", [("selfplay.kl", "0.1")]),
        ("smoke", [("selfplay.kl", "0.1"), ("selfplay.replay", "spread")]),
    ],
)
def test_every_program_of_an_experiment_can_be_counted(name, settings):
    """It is traced with what it will be given; `test_ahead.py` compiles it."""
    cfg = configuration.with_operand(read_config(f"experiments/{name}.py", settings), "f32")
    programs = list(memory.step_programs(configuration.with_parts(cfg, updates=1, rollouts=1, asking=1)))
    for program in programs:
        program.function.trace(*program.arguments, **program.named)
    assert len(programs) == 7


def test_a_run_that_fits_is_not_cut():
    count, asked = needing()
    cfg, needs, warnings = fit.settle_parts(CFG, POOL, count)
    assert parts_of(cfg) == (1, 1, 1) and not warnings
    assert asked == [
        "warm-up, full", "warm-up, ramp", "warm-up, integer", "self-play, update", "self-play, rollouts",
        "evaluation, prompts", "evaluation, answers",
    ]  # fmt: skip
    assert [need.what for need in needs] == asked


def test_each_is_cut_by_itself_into_the_least_parts_that_fit():
    count, _ = needing(updates=3_000, rollouts=12_000, asking=1_500)
    cfg, needs, _ = fit.settle_parts(CFG, POOL, count)
    assert parts_of(cfg) == (4, 16, 2)
    assert all(need.size <= fit.USABLE * POOL.size for need in needs)


def test_what_was_settled_before_is_kept_while_it_fits():
    before = {"updates": 8, "rollouts": 1, "asking": 5}
    cfg, _, _ = fit.settle_parts(CFG, POOL, needing(rollouts=1_700)[0], before=before)
    assert parts_of(cfg) == (8, 4, 5)


def test_a_number_that_is_set_is_obeyed_and_said_to_be_too_small():
    asked = dataclasses.replace(CFG, optimiser=Optimiser(microbatches=2))
    cfg, _, warnings = fit.settle_parts(asked, POOL, needing(updates=3_000)[0])
    assert cfg.optimiser.microbatches == 2
    assert warnings == [
        "config.optimiser.microbatches=2: warm-up, full needs 1600.00 GB, and the pool has 1000.00; 0 chooses what fits"
    ]


def test_what_fits_in_no_parts_is_a_sentence_with_setting_and_value():
    with pytest.raises(
        ConfigError, match=r"config\.selfplay\.rollout_parts=16: self-play, rollouts needs .*takes a sm"
    ):
        fit.settle_parts(CFG, POOL, needing(rollouts=1_000_000)[0])


def test_parts_are_those_that_divide_every_row_count():
    assert fit.allowed_parts(CFG, "updates") == [1, 2, 4, 8]  # of 16, 24 and 8 rows
    assert fit.allowed_parts(dataclasses.replace(CFG, selfplay=SelfPlay(steps=0)), "updates") == [1, 2, 4, 8, 16]
    assert fit.allowed_parts(CFG, "rollouts") == [1, 2, 4, 8, 16]
    assert fit.allowed_parts(CFG, "asking") == [1, 2, 5, 10]


def test_a_small_pool_is_met_by_the_estimate_too():
    usual = {what: max(memory.estimated_bytes(p) for p in memory.step_programs(CFG, (what,))) for what in fit.SETTINGS}
    pool = Pool(int(0.8 * usual["updates"] / fit.USABLE), "free memory", False)
    cfg, needs, _ = fit.settle_parts(CFG, pool, memory.estimated_bytes)
    assert cfg.optimiser.microbatches > 1
    assert all(need.size <= fit.USABLE * pool.size for need in needs)


@pytest.mark.parametrize("name", ["azr_25m", "azr_100m"])
def test_the_large_experiments_fit_the_card_with_6_gb_by_the_estimate(name):
    """In the pool of 4.5 GB that JAX takes of it; `test_ahead.py` has the compiler's count, in minutes."""
    cfg, pool = configuration.with_operand(read_config(f"experiments/{name}.py"), "f32"), Pool(4_500_000_000, "", True)
    whole = list(memory.step_programs(configuration.with_parts(cfg, updates=1, rollouts=1, asking=1)))
    assert max(map(memory.estimated_bytes, whole)) > pool.size  # there is something to cut
    cfg, needs, warnings = fit.settle_parts(cfg, pool, memory.estimated_bytes)
    assert {need.what for need in needs} == {program.what for program in whole} and len(needs) == 7 and not warnings
    assert max(need.size for need in needs) <= fit.USABLE * pool.size and max(parts_of(cfg)) > 1


def test_what_a_run_cannot_come_to_is_not_counted():
    only = dataclasses.replace(CFG, selfplay=SelfPlay(steps=0), warmup=Warmup(steps=40, ramp_start=0.0, ramp_end=0.0))
    assert [p.what for p in memory.step_programs(only, ("updates", "rollouts"))] == ["warm-up, integer"]


def test_the_compiler_counts_less_in_more_parts_and_the_estimate_is_near():
    """Of the rollouts; `test_ahead.py` has every kind of step on a GPU."""
    wide = dataclasses.replace(
        CFG, model=dataclasses.replace(CFG.model, width=64), tasks=Tasks(context=128),
        selfplay=SelfPlay(steps=20, num_tasks=16, group_size=8, supervised_batch=64, ring=8, history=64),
    )  # fmt: skip
    whole, eighth = (
        next(memory.step_programs(configuration.with_parts(wide, updates=1, rollouts=n, asking=1), ("rollouts",)))
        for n in (1, 8)
    )
    assert memory.needed_bytes(whole) > 2 * memory.needed_bytes(eighth)
    assert 0.5 < memory.estimated_bytes(whole) / memory.needed_bytes(whole) < 2.0


def test_a_count_is_made_once_and_kept(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(memory, "needed_bytes", lambda program: made.append(program.what) or 42)
    count = fit.counter(tmp_path)
    (program,) = memory.step_programs(CFG, ("rollouts",))
    other = next(iter(memory.step_programs(dataclasses.replace(CFG, name="other", seed=3), ("rollouts",))))
    assert [count(program), count(program), count(other)] == [42, 42, 42] and made == ["self-play, rollouts"]
    count(
        next(iter(memory.step_programs(configuration.with_parts(CFG, updates=1, rollouts=2, asking=1), ("rollouts",))))
    )
    assert len(made) == 2


def test_a_kept_count_ends_with_the_code_it_was_made_of(tmp_path, monkeypatch):
    sizes = iter((42, 43, 44, 45))
    monkeypatch.setattr(memory, "needed_bytes", lambda program: next(sizes))
    count, (program,) = fit.counter(tmp_path), memory.step_programs(CFG, ("rollouts",))
    assert [count(program), count(program)] == [42, 42]
    with monkeypatch.context() as changed:
        changed.setattr(guarded, "code_of", lambda places: "another")
        assert [count(program), count(program)] == [43, 43]
    (file,) = (file for file in tmp_path.iterdir() if file.read_text() == "42")
    file.write_text("[4")  # by an older program, half written
    assert [count(program), count(program)] == [44, 44]
    monkeypatch.setattr(workdir.os, "replace", raise_full)
    file.unlink()
    assert count(program) == 45 and len(list(tmp_path.iterdir())) == 1


def raise_full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_compiler_is_asked_only_where_memory_may_be_short():
    made, said = [], []
    programs = list(memory.step_programs(configuration.with_parts(CFG, updates=1, rollouts=1, asking=1)))
    by_compiler = lambda program: made.append(program.what) or 42
    sizes = {program.what: memory.estimated_bytes(program) for program in programs}
    largest = max(sizes, key=lambda what: sizes[what])
    roomy = Pool(int(fit.ROOM * sizes[largest] / fit.USABLE) + 1, "the pool", True)
    count = fit.in_doubt(by_compiler, roomy, said.append)
    assert {program.what: count(program) for program in programs} == sizes and not made and not said
    tight = Pool(roomy.size - 2, "the pool", True)
    found = {program.what: fit.in_doubt(by_compiler, tight, said.append)(program) for program in programs}
    assert found == sizes | {largest: 42} and made == [largest] and said == [f"counting the memory of {largest}"]


NO_DRIVER = accelerator.Driver(trouble="none")


def pool_of(monkeypatch, platform, stats, driver=NO_DRIVER):
    first = types.SimpleNamespace(platform=platform, device_kind="NVIDIA Abacus", memory_stats=lambda: stats)
    monkeypatch.setattr(fit.jax, "devices", lambda: [first])
    monkeypatch.setattr(fit.accelerator, "ask_driver", lambda: driver)
    monkeypatch.setattr(fit, "free_memory", lambda: 7)
    return fit.device_pool()


def test_a_run_may_use_what_jax_took_of_a_gpu_and_what_is_free_beside_a_cpu(monkeypatch):
    assert pool_of(monkeypatch, "gpu", {"bytes_limit": 42}) == (42, "the pool", True)
    assert pool_of(monkeypatch, "cpu", {"bytes_limit": 42}) == pool_of(monkeypatch, "cpu", None) == (
        7, "free memory", False,
    )  # fmt: skip


@pytest.mark.parametrize("stats", [None, {}, {"bytes_limit": 0}])
def test_a_gpu_without_a_limit_is_given_its_share_of_the_card_and_never_this_machines_memory(monkeypatch, stats):
    for name in ("JAX_CUDA_VISIBLE_DEVICES", "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)
    cards = (accelerator.Card("first", (7, 5), 6 * GB), accelerator.Card("second", (7, 5), 8 * GB))
    driver = accelerator.Driver(cards=cards, version=12_080)
    assert pool_of(monkeypatch, "gpu", stats, driver) == (int(4.5 * GB), "the pool", True)
    monkeypatch.setenv("JAX_CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "0.5")
    assert pool_of(monkeypatch, "gpu", stats, driver).size == 4 * GB
    with pytest.raises(ConfigError, match=r"^NVIDIA Abacus does not tell how much memory a run may use; unset "):
        pool_of(monkeypatch, "gpu", stats)


def need(what, size, parts=1):
    return fit.Need(what=what, size=size, cut="updates", parts=parts)


def test_one_line_will_do_where_nothing_is_cut_and_half_is_left():
    small, half = need("warm-up, full", 100), need("evaluation, answers", 500)
    assert fit.is_roomy([small], Pool(1000, "the pool", True))
    assert not fit.is_roomy([small, half], Pool(1000, "the pool", True))
    assert fit.is_roomy([small, half], Pool(1001, "the pool", True))
    assert not fit.is_roomy([need("warm-up, full", 100, parts=2)], Pool(1000, "the pool", True))


@pytest.mark.parametrize(
    ("pool", "title", "of"),
    [
        (Pool(4 * GB, "the pool", True), "estimated, by the compiler where it may be short", "of 4.00 GB, the pool"),
        (Pool(4 * GB, "free memory", False), "estimated", "of 4.00 GB, free memory"),
    ],
)
def test_the_table_has_what_it_needs_in_how_many_parts_and_the_share_of_the_pool(pool, title, of):
    console = rich.console.Console(width=100, file=io.StringIO())
    made = fit.table([need("warm-up, full", 3 * GB, parts=8), need("self-play, rollouts", 10**8)], pool)
    console.print(made)
    *_, columns, first, second = (" ".join(line.split()) for line in console.file.getvalue().splitlines())
    assert made.title == f"memory of each kind of step, {title}" and columns == f"parts GB {of}"
    assert (first, second) == ("warm-up, full 8 3.00 75 %", "self-play, rollouts 1 0.10 2 %")


def test_free_memory_is_the_less_of_the_machines_and_the_groups(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   1000 kB\n")
    free = lambda: fit.free_memory(str(tmp_path / "meminfo"), str(tmp_path))
    assert free() == 1_024_000  # no group
    (tmp_path / "memory.current").write_text("1000\n")
    for limit, left in (("max", 1_024_000), ("5000000", 1_024_000), ("501000", 500_000), ("900", 0)):
        (tmp_path / "memory.max").write_text(limit + "\n")
        assert free() == left


def test_the_ledger_has_each_way_a_run_was_fitted_once():
    ledger = Ledger(operand="f32")
    for step, parts in ((0, 1), (20, 1), (40, 4)):
        fit.note_fitting(configuration.with_parts(CFG, updates=parts, rollouts=1, asking=1), ledger, step)
    assert [(one["step"], one["optimiser.microbatches"]) for one in ledger.fitted] == [(0, 1), (40, 4)]
    assert Ledger(**json.loads(json.dumps(dataclasses.asdict(ledger)))).fitted == ledger.fitted
