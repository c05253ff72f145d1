"""The packed file: what goes in comes out, whatever is not one is refused in a line, and nothing half-written stays."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model
from bitzero.model import packing, quant
from bitzero.run import asking, export, packed_file
from bitzero.run.checkpoint import Checkpoints
from bitzero.run.workdir import RunError
from bitzero.selfplay import warmup

MODEL = Model(num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=48, max_tier=8)
CFG = dataclasses.replace(Config(), model=MODEL, warmup=dataclasses.replace(Config().warmup, steps=200))


@pytest.fixture(scope="module")
def state():
    fresh = warmup.init_state(CFG)
    layers = dict(fresh.precision["layers"])
    layers["o"] = layers["o"] | {"tier": jnp.array([[8, 4], [0, 4]], jnp.int8)}
    return dataclasses.replace(fresh, step=jnp.int32(200), precision={"layers": layers})


def test_a_model_comes_back_as_it_was(state, tmp_path):
    tree = packing.pack(state.params, state.precision, MODEL)
    packed_file.save(tmp_path / "m.npz", tree, CFG, step=200, operand="f32", trace=True)
    found = packed_file.load(tmp_path / "m.npz")
    assert (found.cfg, found.operand, found.trace) == (CFG, "f32", True)
    jax.tree.map(np.testing.assert_array_equal, found.weights, tree)
    assert not list(tmp_path.glob("*.partial"))
    prompts = [[5, 300, 301, 302], [5, 303]]
    dense = dataclasses.replace(found, weights=quant.materialise(state.params, state.precision, MODEL, "f32"))
    one, two = (list(asking.complete(s, prompts, max_new=6, temperature=0.0, seed=0)) for s in (found, dense))
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


def test_without_a_run_it_refuses(tmp_path):
    with pytest.raises(RunError, match="nothing to export"):
        export.main(CFG, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an archive", None, "format", "pickle"])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "m.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "format":
        np.savez(path, header=np.frombuffer(json.dumps({"format": 99}).encode(), np.uint8))
    elif content == "pickle":
        np.savez(path, header=np.array([{"format": 1}], object))
    with pytest.raises(RunError, match=r"not a packed model|cannot read|has format 99"):
        packed_file.load(path)
