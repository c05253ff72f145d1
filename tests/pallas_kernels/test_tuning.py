"""The table of measured tiles: what is looked up, what is tried and written, and the refusal without a GPU."""

import json

import pytest

from pallas_kernels import tiles, tuning


@pytest.mark.parametrize(("m", "rounded"), [(1, 16), (16, 16), (17, 32), (2048, 2048)])
def test_products_of_a_bucket_share_a_tile(m, rounded):
    assert tiles.shape_key(m, 768, 256) == f"{rounded}x768x256"


def test_a_measured_tile_is_taken_and_an_unknown_shape_gets_the_default(monkeypatch):
    measured = {"rows": 32, "activations": 32, "splits": 1, "warps": 4, "stages": 2}
    monkeypatch.setattr(tiles, "measured_tiles", lambda: {"cpu": {"32x128x512": measured}})
    assert tiles.choose_tile(20, 128, 512) == tiles.Tile(**measured)
    assert tiles.choose_tile(20, 192, 512) == tiles.default_tile(20, 192, 512)


def test_every_candidate_divides_the_shape():
    tiles = list(tuning.candidate_tiles(64, 192, 768))
    assert tiles
    for tile in tiles:
        assert 192 % tile["rows"] == 0 and 3 % tile["splits"] == 0 and tile["activations"] <= 128


def test_the_shipped_table_holds_tiles():
    for shapes in tiles.measured_tiles().values():
        for fields in shapes.values():
            tiles.Tile(**fields)


def test_without_a_gpu_it_says_so(capsys):
    assert tuning.main([]) == 2
    assert capsys.readouterr().err == "tuning: needs a GPU; the device is a cpu\n"


def test_the_fastest_tile_that_compiles_is_taken():
    took = {16: 3.0, 32: None, 64: 2.0}
    tried = [{"activations": a} for a in took]
    assert tuning.fastest_tile(iter(tried), lambda tile: took[tile["activations"]]) == ({"activations": 64}, 2.0)
    assert tuning.fastest_tile(iter(tried), lambda tile: None) is None


def test_what_does_not_compile_has_no_seconds(capsys):
    assert tuning.product_seconds(16, 64, 256, {"activations": 16}) is None  # a CPU has no Triton
    assert capsys.readouterr().err.startswith("  {'activations': 16}: ")


def test_a_new_entry_leaves_the_others(tmp_path):
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps({"A": {"1x1x1": {"rows": 32}}, "B": {"2x2x2": {"rows": 64}}}))
    tuning.write_entry(path, "A", "0x0x0", {"rows": 16})
    tuning.write_entry(path, "A", "1x1x1", {"rows": 48})
    assert json.loads(path.read_text()) == {
        "A": {"0x0x0": {"rows": 16}, "1x1x1": {"rows": 48}}, "B": {"2x2x2": {"rows": 64}},
    }  # fmt: skip
