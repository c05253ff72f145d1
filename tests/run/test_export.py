"""The packed file: what goes in comes out, whatever is not one is refused in a line, and nothing half-written stays."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, ConfigError, Model, kernel_shapes, stored, with_operand
from bitzero.evaluation import questions
from bitzero.model import packing, quant
from bitzero.run import export, packed_file, workdir
from bitzero.run.checkpoint import Checkpoints
from bitzero.run.workdir import RunError
from bitzero.selfplay import warmup

MODEL = Model(num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=48, max_tier=8)
CFG = dataclasses.replace(Config(), model=MODEL, warmup=dataclasses.replace(Config().warmup, steps=200))


@pytest.fixture(scope="module")
def state():
    fresh = jax.jit(warmup.init_state, static_argnums=0)(CFG)
    layers = dict(fresh.precision["layers"])
    layers["o"] = layers["o"] | {"tier": jnp.array([[8, 4], [0, 4]], jnp.int8)}
    return dataclasses.replace(fresh, step=jnp.int32(200), precision={"layers": layers})


def test_a_model_comes_back_as_it_was(state, tmp_path):
    tree = packing.pack(state.params, state.precision, MODEL)
    packed_file.save(tmp_path / "m.npz", tree, CFG, step=200, operand="f32", trace=True)
    found = packed_file.load(tmp_path / "m.npz", batch_size=3)
    assert (found.cfg, found.trace, found.batch_size) == (with_operand(CFG, "f32"), True, 3)
    jax.tree.map(np.testing.assert_array_equal, found.weights, tree)
    assert [file.name for file in tmp_path.iterdir()] == ["m.npz"]  # no draft stays
    prompts = [[5, 300, 301, 302], [5, 303]]
    dense = dataclasses.replace(found, weights=quant.materialise(state.params, state.precision, found.cfg.model))
    one, two = (
        list(questions.complete_prompts(s, prompts, max_new=6, temperature=0.0, seed=0)) for s in (found, dense)
    )
    assert one == two


def test_export_packs_the_newest_checkpoint_and_says_the_size(state, tmp_path, capsys):
    with Checkpoints(tmp_path / "checkpoints", keep=2) as store:
        store.save(200, state, {"operand": "f32", "seconds": {}})
    assert export.main(CFG, tmp_path) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{tmp_path / 'packed.npz'}: 0.0M parameters in 0.13 MB") and "packed matrices" in line
    assert packed_file.load(tmp_path / "packed.npz").trace == bool(state.trace_mode)


def test_before_the_weights_are_ternary_it_refuses(state, tmp_path):
    early = dataclasses.replace(state, step=jnp.int32(10))
    with Checkpoints(tmp_path / "checkpoints", keep=2) as store:
        store.save(10, early, {"operand": "f32", "seconds": {}})
    with pytest.raises(RunError, match=r"step 10 is not ternary yet \(phase full\); train on"):
        export.main(CFG, tmp_path)


def test_a_setting_of_an_older_program_is_left_out_with_a_line(state, tmp_path, monkeypatch):
    path = tmp_path / "m.npz"
    packed_file.save(path, packing.pack(state.params, state.precision, MODEL), CFG, step=200, operand="f32", trace=True)
    settings = dataclasses.asdict(CFG)
    del settings["model"]["smear"]  # means its default
    settings["tasks"]["shuffle"] = 7
    changed(path, {"config": settings})
    with pytest.raises(RunError, match=r"unknown key config\.tasks\.shuffle"):
        packed_file.load(path)
    monkeypatch.setitem(stored.OLD_SETTINGS, "tasks.shuffle", "programs are always shuffled")
    said = []
    assert packed_file.load(path, say=said.append).cfg == with_operand(CFG, "f32")
    assert said == [
        f"{path}: config.tasks.shuffle is left out, it is no longer a setting: programs are always shuffled"
    ]


@pytest.mark.parametrize(
    ("group", "settings"), [("model", {"rope_theta": 5.0}), ("warmup", {"ramp_end": 0.9}), ("tasks", {"completion": 9})]
)
def test_settings_that_the_run_was_not_trained_with_are_refused(state, tmp_path, group, settings):
    with Checkpoints(tmp_path / "checkpoints", keep=2) as store:
        store.save(200, state, {"operand": "f32", "seconds": {}})
    workdir.write_json(tmp_path / "config.json", dataclasses.asdict(CFG))
    other = dataclasses.replace(CFG, **{group: dataclasses.replace(getattr(CFG, group), **settings)})
    (key,) = settings
    with pytest.raises(ConfigError, match=rf"was started with config\.{group}\.{key}="):
        export.main(other, tmp_path)
    assert not (tmp_path / "packed.npz").exists()
    assert export.main(CFG, tmp_path) == 0


def test_without_a_run_it_refuses(tmp_path):
    with pytest.raises(RunError, match="nothing to export"):
        export.main(CFG, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an archive", None, "format", "pickle", "deep"])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "m.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "format":
        np.savez(path, header=np.frombuffer(json.dumps({"format": 99}).encode(), np.uint8))
    elif content == "deep":
        np.savez(path, header=np.frombuffer(b"[" * 100_000, np.uint8))
    elif content == "pickle":
        np.savez(path, header=np.array([{"format": 1}], object))
    with pytest.raises(RunError, match=r"not a packed model|cannot read|has format 99"):
        packed_file.load(path)


def changed(path, header=None, **arrays):
    """Rewrites a packed file with other entries; None takes one out."""
    with np.load(path) as file:
        old = {name: file[name] for name in file.files}
    if header:
        told = json.loads(bytes(old["header"])) | header
        old["header"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    new = {name: array for name, array in (old | arrays).items() if array is not None}
    np.savez(path, **new)


OUT = "layers/o/kernel"
SHAPES = {f"layers/{name}/kernel": list(shape) for name, shape in kernel_shapes(MODEL).items()}


def test_a_file_cannot_open_the_sandbox(state, tmp_path):
    """Only a person may do without its walls: a file may come from anywhere."""
    unsafe = dataclasses.replace(CFG, sandbox=dataclasses.replace(CFG.sandbox, allow_unsafe=True))
    tree = packing.pack(state.params, state.precision, MODEL)
    packed_file.save(tmp_path / "m.npz", tree, unsafe, step=200, operand="f32", trace=True)
    assert not packed_file.load(tmp_path / "m.npz").cfg.sandbox.allow_unsafe


@pytest.mark.parametrize(
    ("header", "arrays", "sentence"),
    [
        ({"operand": "int4"}, {}, "operand 'int4' and trace True mean nothing"),
        ({"trace": 1}, {}, "trace 1 mean nothing"),
        ({"config": []}, {}, "not a packed model"),
        ({"config": {"model": {"width": 48}}}, {}, "in its model"),
        ({"shapes": [1]}, {}, "not a packed model"),
        ({"shapes": {OUT: [32, 32]}}, {}, "layers/down/kernel is absent"),
        ({"shapes": {**SHAPES, OUT: [99, 32]}}, {}, r"codes are uint8 \[2, 64, 64\], not uint8 \[2, 128, 64\]"),
        ({"shapes": {**SHAPES, OUT: [32, 31]}}, {}, r"\[2, 32, 31\] there, \[2, 32, 32\] in its model"),
        ({}, {"final_norm/gain": None}, "final_norm/gain is absent"),
        ({}, {"more/of/it": np.zeros(3, np.float32)}, "more/of/it is of another model"),
        ({}, {"final_norm/gain": np.zeros(31, np.float32)}, r"final_norm/gain is \[31\] there, \[32\] in its model"),
        ({}, {"embedding": np.full((512, 32), np.nan, np.float32)}, "embedding has numbers that are not finite"),
        ({}, {f"{OUT}/scale": np.full((2, 32), np.inf, np.float32)}, "kernel has numbers that are not finite"),
        ({}, {f"{OUT}/codes": np.full((2, 64, 64), 255, np.uint8)}, "a code is 3"),
        ({}, {f"{OUT}/codes": np.zeros((2, 64, 64), np.int8)}, "codes are int8"),
        ({}, {f"{OUT}/32/block": np.full((2, 1), -1, np.int32)}, "different numbers below 2"),
        ({}, {f"{OUT}/4/block": np.array([[0], [1]], np.int32)}, "different numbers below 2"),
        ({}, {f"{OUT}/4/digits": np.zeros((2, 2, 15, 64), np.uint8)}, "digits of m = 4 are"),
        ({}, {f"{OUT}/4/digits": np.array(["a"])}, "not a packed model"),
    ],
)
def test_a_file_that_was_tampered_with_is_refused_in_a_line(header, arrays, sentence, state, tmp_path):
    path = tmp_path / "m.npz"
    packed_file.save(path, packing.pack(state.params, state.precision, MODEL), CFG, step=200, operand="f32", trace=True)
    changed(path, header, **arrays)
    with pytest.raises(RunError, match=sentence) as refused:
        packed_file.load(path)
    assert "\n" not in str(refused.value)
