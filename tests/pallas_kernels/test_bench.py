"""The benchmark measures what it says: legal codes, chains beyond the cache, and a file that names its machine."""

import json
import sys

import numpy as np
import pytest

from pallas_kernels import bench, layout, peers


def test_a_group_of_shapes_that_does_not_exist_is_refused():
    assert len(bench.shapes_of("all")) == sum(map(len, bench.SHAPES.values()))
    with pytest.raises(ValueError, match="is not one of model, large, beyond_cache, all"):
        bench.shapes_of("small")


def test_random_matrices_have_no_code_3():
    codes = np.asarray(layout.unpack_codes(bench.random_packed(np.random.default_rng(0), 64, 256).codes))
    assert set(np.unique(codes).tolist()) == {0, 1, 2}


def test_a_run_prints_and_writes_every_product_and_the_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(bench.SHAPES, "model", [(48, 256)])
    monkeypatch.setattr(bench, "MAX_CHAIN", 2)
    monkeypatch.setitem(bench.INT8_SIDE, "cpu", 64)
    monkeypatch.setattr(bench, "copy_bandwidth", lambda repeats: 1e9)
    bench.main(["--rows=1,3", "--repeats=1", f"--out={tmp_path / 'k.json'}"])
    found = json.loads((tmp_path / "k.json").read_text())
    assert {"device", "processor", "jax", "commit"} <= set(found["where"]) and found["where"]["commit"]
    ours = [row for row in found["rows"] if row["product"] in ("bf16", "f32", "packed xla")]
    assert [(row["m"], row["product"]) for row in ours] == [
        (m, p) for m in (1, 3) for p in ("bf16", "f32", "packed xla")
    ]
    assert all(row["copies"] == 2 and row["cold_s"] > 0 and row["over_bf16"] > 0 for row in ours)
    assert all(row["beyond_cache"] is False and 0 < row["of_int8"] for row in ours)  # two matrices of 3 KB
    assert found["int8_operations_per_s"] == pytest.approx(2 * 3 * 48 * 256 / ours[-1]["cold_s"] / ours[-1]["of_int8"])
    assert found["absent"]["bitnet"] == "not installed (--bitnet names its gpu folder)"
    assert capsys.readouterr().out.count("packed xla") == 2


def test_a_chain_multiplies_with_every_matrix_and_ends_with_the_last():
    rng = np.random.default_rng(0)
    packed = [bench.random_packed(rng, 64, 256) for _ in range(2)]
    x = rng.integers(-127, 128, (3, 256)).astype(np.int8)
    found = bench.chain(bench.packed_product("xla"), x, packed)()
    np.testing.assert_array_equal(found, x.astype(np.int64) @ np.asarray(layout.unpack(packed[-1]), np.int64).T)


def test_an_absent_peer_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    x, w = np.ones((1, 256), np.int8), np.ones((16, 256), np.int8)
    assert dict(peers.measure_peers(x, [w], 1, tmp_path)) == {
        "torch bf16": "not installed (PyTorch)",
        "gemlite": "not installed (PyTorch)",
        "bitnet": "not installed (PyTorch)",
    }


def test_a_wrong_peer_is_not_timed():
    class Tensor(np.ndarray):
        float = cpu = lambda self: self
        numpy = lambda self: np.asarray(self)

    x, w = np.full((1, 8), 5, np.int8), np.ones((4, 8), np.int8)
    peers._check_result(lambda: np.full((1, 4), 40.0).view(Tensor), x, w)
    with pytest.raises(peers.Absent, match=r"is wrong: off by up to 5\.0 of 40\.0"):
        peers._check_result(lambda: np.full((1, 4), 45.0).view(Tensor), x, w)
