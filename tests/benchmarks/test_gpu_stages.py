"""``benchmarks/on_gpu.py``: what a part that crashes or hangs leaves, what is counted, and a rehearsal of all."""

import dataclasses
import importlib
import json
import os
import pathlib
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from benchmarks import on_gpu
from benchmarks.gpu_stages import STAGES, ahead, exactness, models, processes, products, table, torch_peer, watts
from benchmarks.gpu_stages import __main__ as gpu_part
from benchmarks.gpu_stages.record import Box, Record, Told
from bitzero import config as configuration
from bitzero.run import device
from pallas_kernels import layout, tuning

ROOT = pathlib.Path(__file__).parents[2]
CARD = {"platform": "cpu", "capability": "", "pool_bytes": None, "l2_bytes": 1 << 20, "name": "cpu"}
REHEARSAL_S = 180.0  # it took 48 s on two cores that were nearly idle; in CI other tests run beside it
TOLD = Told(rehearse=True, card=CARD, stages={})


def experiment(name):
    return configuration.freeze(importlib.import_module(f"experiments.{name}").get_config())


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "benchmarks/on_gpu.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=800,
        env=os.environ | environment,
    )  # fmt: skip


# ---- parts and their boxes ----


def started(tmp_path, code, rows=None, box_s=20.0):
    """A part that does what ``code`` does."""
    if rows is not None:
        (tmp_path / "rows.json").write_text(json.dumps(processes.NOTHING | {"rows": rows, "doing": "the second"}))
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log, start_new_session=True)
    return processes.Part(
        name="triton", box_s=box_s, began=time.monotonic(), process=process, rows=tmp_path / "rows.json",
        log=tmp_path / "log",
    )  # fmt: skip


def test_a_crash_is_told_by_its_signal_and_last_line_and_its_rows_stay(tmp_path):
    code = "import os; print('Fatal: no such instruction', flush=True); os.abort()"
    found = processes.wait(started(tmp_path, code, rows=[{"m": 1}]))
    assert found["failed"] == "SIGABRT: Fatal: no such instruction" and found["rows"] == [{"m": 1}]


def test_an_error_is_told_by_its_own_line_not_by_what_follows(tmp_path):
    code = "import sys; print('jaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED: 3 GB\\nsee above'); sys.exit(1)"
    assert processes.wait(started(tmp_path, code))["failed"] == "jaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED: 3 GB"


def test_the_last_word_before_an_abort_is_what_is_told(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "ValueError: before\nF1126 16:21:23 7 gpu.cc:2] Check failed: ok\nFatal Python error: Aborted\nmodules\n"
    )
    assert processes.last_line(log) == "F1126 16:21:23 7 gpu.cc:2] Check failed: ok"


def running(stat):
    """Whether the process of a /proc/PID/stat file lives (a zombie does not)."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("rows", [[], [{"m": 1}]])
def test_a_hang_is_ended_after_its_box(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(processes, "GRACE_S", 0.3)
    # Deaf to SIGTERM, and with a child of its own that is ended too.
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print(p.pid, flush=True);"
        "time.sleep(60)"
    )
    part = started(tmp_path, code, rows=rows, box_s=1.0)
    while not (tmp_path / "log").read_text().endswith("\n"):
        time.sleep(0.02)
    part = dataclasses.replace(part, began=time.monotonic())
    found = processes.wait(part)
    sentence = "triton: ended after 1 s while the second"
    assert (found["failed"], found["cut"]) == ((None, [sentence]) if rows else (sentence, []))
    assert found["rows"] == rows and part.process.poll() is not None
    child = pathlib.Path(f"/proc/{(tmp_path / 'log').read_text().strip()}/stat")
    deadline = time.monotonic() + 10  # SIGKILL is sent, not awaited: a busy machine takes its time over a grandchild
    while running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not running(child)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_what_a_part_compiles_is_kept_for_the_next_run(tmp_path, monkeypatch, stage):
    """By ``models.config_of`` or here; but a part that starts PyTorch or ``launch.py`` leaves them the card."""
    calls, told = [], tmp_path / "told.json"
    told.write_text(json.dumps({"card": CARD}))
    monkeypatch.setattr(device, "configure_jax", lambda: calls.append("cache"))
    part = types.SimpleNamespace(run=lambda *_: calls.append("run"))
    monkeypatch.setattr(gpu_part.importlib, "import_module", lambda name: part)
    words = ["part", stage.name, "torch", f"--out={tmp_path / 'rows.json'}", f"--told={told}"]
    monkeypatch.setattr(sys, "argv", words)
    gpu_part.main()
    source = (ROOT / "benchmarks" / "gpu_stages" / f"{stage.module}.py").read_text()
    own = "models.config_of(part)" in source or stage.module == "training_run"
    assert calls == (["run"] if own else ["cache", "run"])


def test_parts_that_need_no_package_of_a_run_do_without_its_cache(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitzero.run", None)
    assert gpu_part.keep_compiled() is None


def test_a_part_gets_the_memory_by_one_name_alone(monkeypatch):
    """JAX refuses both."""
    for name in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)
    memory = lambda: {k: v for k, v in processes.environment("products").items() if k.endswith("MEM_FRACTION")}
    assert memory() == {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.85"}
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "0.5")
    assert memory() == {"XLA_CLIENT_MEM_FRACTION": "0.5"}


def test_a_part_that_measured_nothing_has_failed(tmp_path):
    part = started(tmp_path, "")
    (tmp_path / "rows.json").write_text(json.dumps(processes.NOTHING | {"cut": ["azr_100m needs 9.0 GB"]}))
    assert processes.wait(part)["failed"] == "triton: nothing was measured: azr_100m needs 9.0 GB"


def test_what_the_box_leaves_no_time_for_is_said(tmp_path):
    record = Record(tmp_path / "rows.json")
    products.measure_items(products.items_of("library", 1, 48, 512, CARD), Box(0.0), record, TOLD)
    told = json.loads((tmp_path / "rows.json").read_text())
    assert told["rows"] == [] and len(told["cut"]) == 1
    assert all(f"{name} 48×512 M=1" in told["cut"][0] for name in ("dense bf16", "xla", "bf16"))


def test_a_compiler_that_never_ends_holds_up_nothing():
    slow, quick = (lambda: time.sleep(2)), (lambda: 7)
    found = ahead.compile_all([quick, slow, lambda: 1 / 0], Box(1.0), 0.3, None)
    assert found[0] == 7 and isinstance(found[1], ahead.NotInTime) and isinstance(found[2], Exception)


def test_the_shares_are_of_the_whole():
    assert sum(stage.share for stage in STAGES) == pytest.approx(1)
    assert [stage.name for stage in STAGES] == [
        "exactness", "products", "tiles", "training", "rollouts", "selfplay", "run",
    ]  # fmt: skip


# ---- what is measured ----


def test_the_shapes_are_those_of_the_experiments():
    assert set(products.SHAPES[:1] + products.SHAPES[2:5]) == set(
        configuration.kernel_shapes(experiment("azr_100m").model).values()
    )
    for name, shape in torch_peer.SHAPES.items():
        assert shape == models.shape_of(experiment(name))


@pytest.mark.parametrize(("part", "most"), [("library", None), ("turing", 8)])
def test_every_backend_meets_the_shapes_that_lie_badly(part, most):
    cases = list(exactness.cases_of(part, Told(rehearse=False, card=CARD, stages={})))
    assert {m for _, m, *_ in cases} == {m for m in exactness.ROWS if most is None or m <= most}
    assert {(n, k) for _, _, n, k, _ in cases} == set(exactness.SHAPES)
    assert {residual for *_, residual in cases} == {False, True}


def test_a_backend_that_is_wrong_ends_its_part_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(exactness.matmul.xla, "code_product", lambda x, data: wrong(x, data))
    exactness.matmul._code_product_of.cache_clear()
    monkeypatch.setattr(exactness, "LIBRARY", ("xla",))
    monkeypatch.setattr(exactness, "TOY_ROWS", (9,))
    try:
        with pytest.raises(SystemExit, match=r"library: 2 of 2 checks differ from the oracle, the first: .'xla', 9"):
            exactness.run("library", Box(200.0), Record(tmp_path / "rows.json"), TOLD)
    finally:
        exactness.matmul._code_product_of.cache_clear()
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["exact"] for row in rows] == [False, False] and all(row["differ"] > 0 for row in rows)


def wrong(x, data):
    """A product that is off by one in one place."""
    codes = layout.unpack_codes(data).astype(np.int32)
    return (x.astype(np.int32) @ codes.T).at[0, 0].add(1)


def test_random_bytes_hold_no_code_3():
    codes = np.asarray(layout.unpack_codes(products.packed_operand(7, 80, 700)))
    assert codes.shape == (128, 768) and set(np.unique(codes).tolist()) == {0, 1, 2}


def test_a_chain_holds_twice_the_cache_and_no_more_than_the_card():
    item = products.packed_item("xla", 1, 4608, 768)  # 884,736 bytes
    cut = lambda **card: products.cut_of(item, Told(rehearse=False, card=CARD | card, stages={}))
    chain, sets = cut(l2_bytes=50 << 20, pool_bytes=60 << 30)
    assert chain == products.CHAIN and 2 * (50 << 20) <= chain * sets * 884_736 <= 2.3 * (50 << 20)
    assert cut(l2_bytes=1 << 20, pool_bytes=4 << 30) == (4, 1)
    assert cut(l2_bytes=50 << 20, pool_bytes=4 << 20) == (2, 1)
    assert cut(l2_bytes=50 << 20, pool_bytes=1 << 20) is None


def test_operations_of_a_token_are_six_a_weight_and_attention():
    cfg = experiment("smoke")  # one layer: width 32, 2 heads and 1 of 16, hidden 64, context 160
    weights = (2 + 2 * 1) * 16 * 32 + 32 * 32 + 2 * 64 * 32 + 32 * 64 + 512 * 32
    assert models.flops_of_a_token(cfg) == 6 * weights + 12 * 1 * 32 * 160


def test_an_update_is_cut_for_a_small_card_alone():
    cfg = experiment("azr_25m")
    parts = [models.parts_that_fit(cfg, 512, pool) for pool in (60 << 30, 4_500_000_000)]
    assert parts[0] <= 2 and 16 <= parts[1] <= 64 and 512 % parts[1] == 0


def test_ratios_are_to_the_dense_product_and_to_the_plain_model_of_as_many_rows():
    row = lambda name, cold, m=1: {
        "product": name, "m": m, "n": 8, "k": 4, "cold_s": cold, "warm_s": cold / 2, "bytes": 100,
    }  # fmt: skip
    stage = {"rows": [row("dense bf16", 4.0), row("xla", 2.0), row("xla", 1.0, m=2)]}
    stage["notes"] = {"library": {"copy_bytes_per_s": 200.0}}
    table.compare("products", stage)
    assert [r.get("over_bf16") for r in stage["rows"]] == [1.0, 2.0, None] and stage["rows"][1]["of_copy"] == 0.25
    step = lambda name, rows, speed: {"config": "a", "variant": name, "rows": rows, "tokens_per_s": speed}
    stage = {"rows": [step("ternary bf16", 32, 90), step("plain bf16", 32, 100), step("ternary bf16", 512, 300)]}
    table.compare("training", stage)
    assert [r.get("over_plain") for r in stage["rows"]] == [0.9, 1.0, None]


# ---- watts ----


def test_watts_are_read_by_the_drivers_program_and_given_to_the_rows(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "$*" >> $(dirname $0)/asked; echo 123.50\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setattr(watts, "nvml_reader", lambda index: None)
    monkeypatch.setattr(watts, "PERIOD_S", 0.02)
    began = time.time()
    with watts.PowerMeter() as meter:
        while not meter.samples:
            time.sleep(0.02)
    rows = [{"at": (began, time.time()), "tokens_per_s": 247.0}, {"at": (0.0, 1.0)}, {}]
    watts.annotate(rows, meter.samples)
    assert rows[0]["watts"] == 123.5 and rows[0]["tokens_per_joule"] == 2.0
    assert "watts" not in rows[1] and rows[2] == {}
    assert "--id=2 --query-gpu=power.draw" in (tmp_path / "asked").read_text()


def test_a_card_that_tells_no_watts_has_none(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '[N/A]'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(watts, "nvml_reader", lambda index: None)
    with watts.PowerMeter() as meter:
        pass
    assert meter.samples == [] and meter.absent == "neither NVML nor nvidia-smi tells the card's power"


# ---- the command ----


def test_without_a_gpu_it_says_so(tmp_path):
    ran = command("--minutes=1", f"--out={tmp_path / 'x.json'}", JAX_PLATFORMS="cpu")
    assert ran.returncode == 2 and "needs an NVIDIA GPU that JAX can use (the device is a cpu)" in ran.stderr
    assert not (tmp_path / "x.json").exists()


def test_a_stage_that_does_not_exist_is_refused():
    ran = command("--stages=exactness,warp")
    assert ran.returncode == 2 and "no stage warp; there is: exactness, products" in ran.stderr


def test_a_cards_file_is_named_after_it():
    path = on_gpu.default_out("NVIDIA GeForce GTX 1660 SUPER", False)
    assert path == ROOT / "benchmarks" / "results" / "on_gpu-nvidia-geforce-gtx-1660-super.json"


def test_stages_that_are_not_asked_for_stay_in_the_file_of_their_card(tmp_path):
    file = tmp_path / "on_gpu-card.json"
    run = {"card": {"name": "A"}, "commit": "old", "rehearsal": False, "stages": {"products": {"rows": [1]}}}
    file.write_text(json.dumps(run))
    kept = on_gpu.earlier(file, "A", False)
    assert kept == {"products": {"rows": [1], "commit": "old"}}
    file.write_text(json.dumps(run | {"commit": "new", "stages": kept}))
    assert on_gpu.earlier(file, "A", False) == kept  # with the commit that it was measured at
    assert on_gpu.earlier(file, "B", False) == on_gpu.earlier(file, "A", True) == {}
    assert on_gpu.earlier(tmp_path / "none.json", "A", False) == {}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_rehearsal_runs_every_stage_and_survives_one_that_crashes(tmp_path):
    """PyTorch is made one that takes the process of its part with it, and is none to others that look for it."""
    broken, out = tmp_path / "broken", tmp_path / "on_gpu.json"
    broken.mkdir()
    (broken / "torch.py").write_text(
        "import os, sys\nif sys.argv[2:3] != ['torch']:\n    raise ModuleNotFoundError('none')\n"
        "print('torch: corrupted', flush=True)\nos.abort()\n"
    )
    ran = command("--rehearse", f"--out={out}", PYTHONPATH=str(broken))
    found = json.loads(out.read_text())
    stages = found["stages"]
    assert ran.returncode == 1, ran.stdout + ran.stderr
    failed = {name: stage["failed"] for name, stage in stages.items() if stage["failed"]}
    assert failed == {"training": {"torch": "SIGABRT: torch: corrupted"}}, ran.stdout
    assert list(stages) == [stage.name for stage in STAGES] and not any(stage["cut"] for stage in stages.values())
    check_rows(stages)
    assert found["seconds"] < REHEARSAL_S
    assert "REHEARSAL" in ran.stdout and "FAILED torch: SIGABRT" in ran.stdout
    assert found["table"] == ran.stdout.splitlines()[-len(found["table"]) :]
    assert tuning.main([f"--from={out}"]) == 2  # a CPU's figures choose nothing


def check_rows(stages):
    """The figures of a rehearsal are those of what it ran."""
    rows = {name: stage["rows"] for name, stage in stages.items()}
    assert {row["backend"] for row in rows["exactness"]} == {"xla", "bf16", "f32"}
    assert len(rows["exactness"]) == 12 and all(row["exact"] for row in rows["exactness"])
    names = {"dense bf16", "dense f32", "xla", "bf16", "f32"}
    assert {(row["product"], row["m"]) for row in rows["products"]} == {(name, m) for name in names for m in (1, 16)}
    for row in rows["products"]:
        assert 0 < row["cold_s"] < 10 and 0 < row["warm_s"] < 10 and row["bytes"] == bytes_of(row["product"])
    [tiled] = rows["tiles"]
    assert tiled["cold_s"] <= tiled["default_s"] and tiled["tried"] == 2
    ternary, plain = rows["training"]
    assert (ternary["variant"], plain["variant"], plain["over_plain"]) == ("ternary f32", "plain bf16", 1.0)
    assert ternary["tokens"] == 8 * 160 == pytest.approx(ternary["tokens_per_s"] * ternary["step_s"])
    assert 0 < ternary["flop_use"] and ternary["bytes"] > 0
    assert {row["form"] for row in rows["rollouts"]} == {"dense", "plain", "packed"}
    for row in rows["rollouts"]:
        assert row["batch"] <= row["tokens"] <= 32 * row["batch"]
    assert stages["selfplay"]["notes"]["smoke"]["workers"] == 1  # as its experiment has it
    for row in rows["selfplay"]:
        assert 0 < row["host_share"] < 1 and row["host_s"] == pytest.approx(row["host_share"] * row["step_s"])
    assert rows["selfplay"][0]["answers"] == 4 * 2
    run, *cells = rows["run"]
    assert run["step"] == run["steps"] == 20 and run["tokens"] > 0
    assert len(cells) == 9 and all(0 <= row["ci_low"] <= row["accuracy"] <= row["ci_high"] <= 1 for row in cells)


def bytes_of(product):
    """Of the 48 × 512 matrix: packed rows are padded to 64."""
    return {"dense bf16": 2 * 48 * 512, "dense f32": 4 * 48 * 512}.get(product, 64 * 512 // 4)
