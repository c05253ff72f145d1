"""The table of a packed model: that of its run, from the file alone; what a person can get wrong is a line."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, ConfigError, Eval, Model, with_operand
from bitzero.evaluation import questions
from bitzero.evaluation.table import measure_row, table_questions
from bitzero.generator.stream import Stream
from bitzero.model import packing
from bitzero.run import evaluate_packed, experiment, packed_file, workdir
from bitzero.run.sitting import open_sandbox
from bitzero.run.workdir import RunError
from bitzero.selfplay import warmup
from tests.run.conftest import ROOT

MODEL = Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, max_tier=8)
ASKED = Eval(passk=2, passk_items=2, shuffled_items=2, operation_items=0, precision_items=0, batch_size=4)
CFG = dataclasses.replace(
    Config(), model=MODEL, eval=ASKED, warmup=dataclasses.replace(Config().warmup, steps=200),
    tasks=dataclasses.replace(Config().tasks, workers=1),
)  # fmt: skip
pytestmark = pytest.mark.timeout(600)


def launched(*arguments):
    done = subprocess.run([sys.executable, "launch.py", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def state():
    fresh = jax.jit(warmup.init_state, static_argnums=0)(CFG)
    layers = dict(fresh.precision["layers"])
    layers["o"] = layers["o"] | {"tier": jnp.array([[8, 4]], jnp.int8)}
    return dataclasses.replace(fresh, step=jnp.int32(200), precision={"layers": layers})


def test_the_file_alone_gives_the_table_of_its_state(state, tmp_path, capsys):
    file = tmp_path / "m.npz"
    tree = packing.pack(state.params, state.precision, CFG.model)
    packed_file.save(file, tree, CFG, step=200, operand="f32", trace=False, open_levels=1)
    settings = [("eval.items", "4"), ("eval.locked_items", "2")]
    assert evaluate_packed.main(file, settings, tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "eval.json").read_text())

    cfg = experiment.read_packed_config(with_operand(CFG, "f32"), settings)
    solver = questions.solver_of(state, cfg, trace=False)
    with open_sandbox(cfg) as sandbox, Stream(cfg) as stream:
        groups = table_questions(stream.heldout_draws, cfg, 1)
        rows = [measure_row(group, solver, None, sandbox)[0] for group in groups]
    assert found["rows"] == rows and [row["n"] for row in rows] == [4] * 3 + [2] * 15
    assert "pass@2" in rows[0] and "pass@2" not in rows[3]  # the level that was opened, one that was not
    assert (found["step"], found["model"], found["operations"]) == (200, "m.npz", [])
    said = capsys.readouterr().out
    assert "held-out accuracy" in said and f"evaluating {file}, step 200" in said
    assert "left out, a packed file does not hold what it takes: skeletons never trained on, the proposer" in said


def test_a_folder_of_a_run_is_not_written_to(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(RunError, match=r"is a run, with an eval\.json of its own; choose another --workdir"):
        evaluate_packed.main(tmp_path / "m.npz", [], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoints"]


@pytest.mark.long
def test_where_nothing_is_named_the_shipped_model_is_asked():
    few = [f"--config.eval.{name}=0" for name in ("locked_items", "passk_items", "shuffled_items", "operation_items")]
    code, out, err = launched("--mode=eval", "--config.eval.items=1", "--config.eval.batch_size=1", *few)
    assert code == 0, err
    assert out.startswith("the model that comes with BitZero (model.npz, see MODEL.md beside it)")
    assert "L3 induction direct" in out and "L4" not in out  # the levels that it was trained on


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--config.warmup.steps=3"], "config.warmup.steps is as the packed model has it; config.eval.* and"),
        (["--config=experiments/smoke.py", "--model=m.npz"], "--model has its own configuration; leave out --config"),
    ],
)
def test_settings_of_the_files_own_are_refused(arguments, line):
    code, out, err = launched("--mode=eval", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1) and line in err


def test_only_the_person_may_do_without_the_sandboxs_walls():
    cfg = Config()
    assert experiment.read_packed_config(cfg, [("sandbox.allow_unsafe", "true")]).sandbox.allow_unsafe
    assert experiment.read_packed_config(cfg, [("eval.items", "7")]).eval.items == 7
    with pytest.raises(ConfigError, match=r"unknown key config\.eval\.itmes; did you mean config\.eval\.items"):
        experiment.read_packed_config(cfg, [("eval.itmes", "7")])


@pytest.mark.parametrize("header", [{"open_levels": 7}, {"open_levels": True}, {"step": "1"}, {"commit": None}])
def test_a_header_that_means_nothing_is_a_line(header, tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8))
    with pytest.raises(RunError, match="its step, commit or open_levels mean nothing"):
        packed_file.origin(path, Config())


def test_the_opened_levels_come_back_and_older_files_have_those_of_the_start(tmp_path):
    packed_file.save(tmp_path / "m.npz", {}, CFG, step=3, operand="f32", trace=True, open_levels=5)
    step, _, levels = packed_file.origin(tmp_path / "m.npz", CFG)
    assert (step, levels) == (3, 5)
    np.savez(tmp_path / "old.npz", header=np.frombuffer(b'{"step": 4}', np.uint8))
    assert packed_file.origin(tmp_path / "old.npz", CFG) == (4, "unknown", CFG.tasks.open_levels)


def test_a_folder_that_another_one_writes_is_a_line(tmp_path):
    with workdir.owned(tmp_path), pytest.raises(RunError, match="another run is using"):
        evaluate_packed.main(tmp_path / "m.npz", [], tmp_path)
