"""The table of measured tiles: what is looked up, what is tried, and the refusal without a GPU."""

import pytest

from pallas_kernels import triton_gpu, tuning


@pytest.mark.parametrize(("m", "rounded"), [(1, 16), (16, 16), (17, 32), (2048, 2048)])
def test_products_of_a_bucket_share_a_tile(m, rounded):
    assert tuning.key(m, 768, 256) == f"{rounded}x768x256"


def test_a_measured_tile_is_taken_and_an_unknown_shape_gets_the_default(monkeypatch):
    measured = {"rows": 32, "activations": 32, "splits": 1, "warps": 4, "stages": 2}
    monkeypatch.setattr(tuning, "table", lambda: {"cpu": {"32x128x512": measured}})
    assert triton_gpu.choose_tile(20, 128, 512) == triton_gpu.Tile(**measured)
    assert triton_gpu.choose_tile(20, 192, 512) == triton_gpu.default_tile(20, 192, 512)


def test_every_candidate_divides_the_shape():
    tiles = list(tuning.candidates(64, 192, 768))
    assert tiles
    for tile in tiles:
        assert 192 % tile["rows"] == 0 and 3 % tile["splits"] == 0 and tile["activations"] <= 128


def test_the_shipped_table_holds_tiles():
    for shapes in tuning.table().values():
        for fields in shapes.values():
            triton_gpu.Tile(**fields)


def test_without_a_gpu_it_says_so(capsys):
    assert tuning.main([]) == 2
    assert capsys.readouterr().err == "tuning: needs a GPU; the device is a cpu\n"
