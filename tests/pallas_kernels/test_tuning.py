"""The table of what was measured: what is looked up, what is tried and written, and the refusal without a GPU."""

import json
import pathlib
import types

import pytest

from pallas_kernels import matmul, measured, tiles, tuning

CARD = "NVIDIA Abacus"
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table of its own in the place of the shipped one."""
    path = tmp_path / "tuned.json"
    path.write_text("{}\n")
    monkeypatch.setattr(measured, "TABLE_FILE", path)
    measured.table.cache_clear()
    yield path
    measured.table.cache_clear()


@pytest.mark.parametrize(("m", "rounded"), [(1, 16), (16, 16), (17, 32), (2048, 2048)])
def test_products_of_a_bucket_share_a_tile(m, rounded):
    assert tiles.shape_key(m, 768, 256) == f"{rounded}x768x256"


def test_a_measured_tile_is_taken_and_an_unknown_shape_gets_the_default(table):
    fields = {"rows": 32, "activations": 32, "splits": 1, "warps": 4, "stages": 2}
    tuning.write_card(table, "cpu", {"capability": "", "tiles": {"32x128x512": fields}})
    assert tiles.choose_tile(20, 128, 512) == tiles.Tile(**fields)
    assert tiles.choose_tile(20, 192, 512) == tiles.default_tile(20, 192, 512)


def test_every_candidate_divides_the_shape():
    tiles = list(tuning.candidate_tiles(64, 192, 768))
    assert tiles
    for tile in tiles:
        assert 192 % tile["rows"] == 0 and 3 % tile["splits"] == 0 and tile["activations"] <= 128


def test_the_shipped_table_holds_tiles_and_backends():
    for card in measured.table().values():
        for fields in card.get("tiles", {}).values():
            tiles.Tile(**fields)
        for choices in card.get("backends", {}).values():
            assert set(choices.values()) <= set(matmul.BACKENDS) and measured.ANY in choices


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


def test_a_new_tile_leaves_all_else(table):
    table.write_text(json.dumps({CARD: {"backends": {}, "tiles": {"1x1x1": {"rows": 32}}}, "B": {"tiles": {}}}))
    device = types.SimpleNamespace(device_kind=CARD, compute_capability="9.0")
    tuning.write_tile(table, device, "0x0x0", {"rows": 16})
    tuning.write_tile(table, device, "1x1x1", {"rows": 48})
    tiles_now = {"0x0x0": {"rows": 16}, "1x1x1": {"rows": 48}}
    assert json.loads(table.read_text()) == {
        "B": {"tiles": {}}, CARD: {"backends": {}, "capability": "9.0", "tiles": tiles_now},
    }  # fmt: skip


def test_a_kill_leaves_the_table_as_it_was(table, monkeypatch):
    tuning.write_card(table, "B", {"tiles": {}})
    before = table.read_text()
    monkeypatch.setattr(tuning.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tuning.write_card(table, CARD, {"tiles": {"1x1x1": {"rows": 32}}})
    assert table.read_text() == before


def product(name, m, n, k, microseconds):
    return {"product": name, "m": m, "n": n, "k": k, "cold_s": 1e-6 * microseconds}


def run_of_a_card(**changes):
    """What on_gpu.py writes, by its rows that count: Mosaic is the fastest, and wrong once."""
    checks = [(name, True) for name in ("xla", "bf16", "triton", "mosaic")] + [("mosaic", False)]
    shapes = ((768, 768), (4608, 768), (1280, 768))
    rows = [
        product("dense bf16", 1, 768, 768, 1), product("mosaic", 1, 768, 768, 1),
        *(product("xla", 1, *at, t) for at, t in zip(shapes, (10, 40, 10), strict=True)),
        *(product("triton", 1, *at, t) for at, t in zip(shapes, (4, 50, 5), strict=True)),
        *(product("bf16", 1, *at, t) for at, t in zip(shapes, (9.9, 39.9, 9.9), strict=True)),
        product("xla", 64, 768, 768, 10), product("triton", 64, 768, 768, 9),
        *(product(name, 2048, *at, t) for name, t in (("xla", 100), ("bf16", 75), ("triton", 80)) for at in shapes),
    ]  # fmt: skip
    tile = {"rows": 32, "activations": 64, "splits": 1, "warps": 4, "stages": 3}
    tiled = [
        {"m": 2048, "n": 760, "k": 700, "tile": tile, "cold_s": 1e-6, "default_s": 2e-6},
        {"m": 2048, "n": 768, "k": 768, "tile": tile, "cold_s": 50e-6, "default_s": 80e-6},
        {"m": 64, "n": 768, "k": 768, "tile": tile, "cold_s": 9e-6, "default_s": 9e-6},  # no gain
    ]
    return {
        "card": {"name": CARD, "platform": "gpu", "capability": "9.0"},
        "commit": "0123456789ab",
        "stages": {
            "exactness": {"rows": [{"backend": name, "exact": exact} for name, exact in checks]},
            "products": {"rows": rows},
            "tiles": {"rows": tiled},
        },
    } | changes


def test_a_run_on_a_gpu_becomes_tiles_and_choices(table, tmp_path, capsys):
    source = tmp_path / "on_gpu.json"
    source.write_text(json.dumps(run_of_a_card()))
    assert tuning.main([f"--from={source}"]) == 0
    card = json.loads(table.read_text())[CARD]
    assert card["capability"] == "9.0" and card["commit"] == "0123456789ab"
    assert card["backends"] == {
        "1": {"any": "triton", "4608x768": "xla"},  # ∛(0.4 · 1.25 · 0.5) of XLA's time; bf16's 1 % are not worth it
        "64": {"any": "xla", "768x768": "triton"},  # one matrix says nothing of another
        "2048": {"any": "triton", "4608x768": "bf16", "1280x768": "bf16"},  # by its measured tile of the third
    }
    assert set(card["tiles"]) == {"2048x768x768"}
    assert capsys.readouterr().out == f"{CARD}: 1 tiles; M=1 triton, M=64 xla, M=2048 triton\n"


def test_bf16_is_chosen_where_it_is_faster(table):
    run = run_of_a_card()
    del run["stages"]["tiles"]
    assert tuning.card_entry(run)["backends"]["2048"] == {"any": "bf16"}


def test_a_choice_for_any_matrix_takes_enough_of_them():
    times = lambda n: {(i, 1): 10.0 for i in range(n)}
    halves = lambda n: {at: 5.0 for at in times(n)}
    any_of = lambda plain, other: tuning.choices({"xla": times(plain), "triton": halves(other)})[measured.ANY]
    assert [any_of(3, 3), any_of(6, 3), any_of(3, 6)] == ["triton"] * 3 and tuning.ENOUGH == 3
    assert [any_of(2, 6), any_of(6, 2), any_of(0, 6)] == ["xla"] * 3


def test_the_one_run_on_an_h100_measured_too_few_products_to_choose_by():
    """One matrix by plain XLA, on which bf16 was faster: chosen for it, and at M = 1 to 4 alone."""
    run = json.loads((ROOT / "benchmarks" / "results" / "on_gpu-nvidia-h100-80gb-hbm3.json").read_text())
    card = tuning.card_entry(run)
    assert card["backends"] == {"1": {"any": "xla", "4608x768": "bf16"}} and card["tiles"] == {}
    assert [measured.fastest_backend(card, m, 4608, 768) for m in (1, 4, 5, 64, 2048)] == ["bf16", "bf16", *[None] * 3]
    assert measured.fastest_backend(card, 1, 32_768, 8_192) == "xla"


def test_what_was_not_checked_is_not_chosen():
    run = run_of_a_card()
    run["stages"]["exactness"]["rows"] = [{"backend": "xla", "exact": True}]
    assert {m: choice["any"] for m, choice in tuning.card_entry(run)["backends"].items()} == dict.fromkeys(
        ("1", "64", "2048"), "xla"
    )


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (run_of_a_card(card={"name": "cpu", "platform": "cpu", "capability": ""}), "or none of a GPU (it is of cpu)"),
        ({"card": {"name": CARD}}, "is not what benchmarks/on_gpu.py writes"),
    ],
)
def test_what_says_nothing_of_a_card_is_refused(run, sentence, table, tmp_path, capsys):
    source = tmp_path / "on_gpu.json"
    source.write_text(json.dumps(run))
    assert tuning.main([f"--from={source}"]) == 2
    assert sentence in capsys.readouterr().err and json.loads(table.read_text()) == {}


def on_card(monkeypatch, name, capability):
    device = types.SimpleNamespace(platform="gpu", device_kind=name, compute_capability=capability)
    monkeypatch.setattr(matmul.jax, "devices", lambda: [device])


def test_auto_is_what_was_measured_on_the_card(table, monkeypatch):
    choices = {"1": {"any": "triton", "4608x768": "xla"}, "64": {"any": "mosaic"}, "2048": {"any": "bf16"}}
    tuning.write_card(table, CARD, {"capability": "9.0", "backends": choices, "tiles": {}})
    on_card(monkeypatch, CARD, "9.0")
    chosen = lambda m, n=768, k=768: matmul.choose_backend(m, n, k)
    assert [chosen(1), chosen(1, 4608), chosen(4), chosen(16), chosen(64), chosen(256), chosen(512)] == [
        "triton", "xla", "triton", "mosaic", "mosaic", "mosaic", "bf16",
    ]  # fmt: skip
    assert [chosen(5), chosen(15), chosen(300), chosen(8192), chosen(8193)] == ["xla", "xla", "xla", "bf16", "xla"]
    on_card(monkeypatch, "NVIDIA Slate", "9.0")  # of the same capability
    assert chosen(64) == "mosaic"
    on_card(monkeypatch, "NVIDIA Slate", "8.9")  # of one that nothing was measured on
    assert chosen(64) == "xla"


def test_a_choice_that_the_device_cannot_take_is_plain_xla(table, monkeypatch):
    choices = {"1": {"any": "turing"}, "16": {"any": "turing"}, "64": {"any": "mosaic"}}
    tuning.write_card(table, CARD, {"capability": "7.5", "backends": choices})
    on_card(monkeypatch, CARD, "7.5")
    assert [matmul.choose_backend(m, 768, 768) for m in (1, 8, 9, 64)] == ["turing", "turing", "xla", "xla"]
