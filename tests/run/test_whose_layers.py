"""Whose layers a run trains with."""

import dataclasses

import pytest

from bitzero.config import Config, ConfigError, Model
from bitzero.native import build
from bitzero.run import device, layers, workdir
from bitzero.run.sitting import Ledger
from bitzero.run.workdir import RunError

FITTING = Model(num_layers=3, width=32, num_heads=2, num_kv_heads=1, head_dim=32, ffn_width=64, compute="f32")


def of(**changes):
    return dataclasses.replace(Config(), model=dataclasses.replace(FITTING, **changes))


@pytest.fixture
def compiler():
    try:
        build.load(device.cache_directory())
    except build.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def no_compiler(monkeypatch):
    def refuse(folder):
        raise build.Unavailable("no C++ compiler")

    monkeypatch.setattr(build, "load", refuse)


def test_what_is_asked_for(compiler):
    assert layers.choose(of(layers="xla")) == ("f32", "xla")
    assert layers.choose(of(layers="native")) == ("f32", "native")


def test_bf16_is_the_processors_doing(compiler, monkeypatch):
    monkeypatch.setattr(build, "has_halves", lambda: False)
    why = r"this processor has no products of bf16 \(AVX512_BF16\)"
    with pytest.raises(ConfigError, match=f"^config.model.layers=native_bf16: {why}; layers=native needs nothing$"):
        layers.choose(of(layers="native_bf16"))
    with pytest.raises(
        RunError, match=rf"\(native_bf16\) and there are none here: {why}; --config.model.layers=native goes"
    ):
        layers.with_layers(of(), Ledger(operand="f32", layers="native_bf16"))
    monkeypatch.setattr(build, "has_halves", lambda: True)
    assert layers.choose(of(layers="native_bf16")) == ("f32", "native_bf16")
    assert layers.with_layers(of(), Ledger(operand="f32", layers="native_bf16")).model.layers == "native_bf16"


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"compute": "bf16"}, "their operands are f32, and config.model.compute=bf16"),
        ({"head_dim": 16}, "config.model.head_dim=16 is no multiple of 32"),
        ({"ffn_width": 48}, "config.model.ffn_width=48 is no multiple of 32"),
        (
            {"ffn_width": 832, "max_tier": 8},
            "sums of 832 products with codes of config.model.max_tier=8 are not exact in f32",
        ),
    ],
)
def test_what_they_cannot_do(changes, why):
    with pytest.raises(ConfigError, match=f"^config.model.layers=native: {why}; layers=xla needs nothing$"):
        layers.choose(of(layers="native", **changes))
    assert layers.choose(of(**changes))[1] == "xla"


def test_no_compiler_is_no_obstacle_unless_a_run_has_such_layers(no_compiler):
    assert layers.choose(of()) == ("f32", "xla")
    with pytest.raises(RunError, match=r"no C\+\+ compiler; --config.model.layers=xla goes on with others"):
        layers.with_layers(of(), Ledger(operand="f32", layers="native"))
    ledger = Ledger(operand="f32", layers="native")
    assert layers.with_layers(of(layers="xla"), ledger).model.layers == ledger.layers == "xla"


def test_a_model_that_only_answers_has_them_wherever_it_can(compiler):
    assert layers.asking(of()).model.layers == "native"
    for changes in ({"layers": "xla"}, {"compute": "int8"}, {"ffn_width": 48}):
        assert layers.asking(of(**changes)).model.layers == "xla"


def test_without_a_compiler_it_answers_by_xla(no_compiler):
    assert layers.asking(of(layers="native")).model.layers == "xla"


def test_a_run_of_before_keeps_the_layers_it_had(compiler):
    assert layers.with_layers(of(), Ledger(operand="int8")).model == dataclasses.replace(
        FITTING, compute="int8", layers="xla"
    )
    assert layers.with_layers(of(), Ledger(operand="f32", layers="native")).model.layers == "native"


def test_it_is_measured_once_a_machine(compiler, monkeypatch, tmp_path):
    seconds = {"xla": 2.0, "native": 1.0, "native_bf16": 0.9}
    asked = []
    measure = lambda cfg, whose, operand: (asked.append((whose, operand)), seconds[whose])[1]
    monkeypatch.setattr(layers, "step_seconds", measure)
    monkeypatch.setattr(device, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(build, "has_halves", lambda: False)
    assert layers.choose(of()) == layers.choose(of()) == ("f32", "native")
    assert asked == [("xla", "f32"), ("native", "f32")]
    monkeypatch.setattr(build, "has_halves", lambda: True)  # of what can be had here
    assert layers.choose(of()) == ("f32", "native_bf16")
    seconds["xla"] = 0.5
    assert layers.choose(of(num_layers=4)) == ("f32", "xla")
    kept = len(list(tmp_path.iterdir()))
    monkeypatch.setattr(workdir.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert layers.choose(of(num_layers=2)) == ("f32", "xla") and len(list(tmp_path.iterdir())) == kept  # all the same


def test_the_measured_step_is_a_step(compiler):
    assert all(0 < layers.step_seconds(of(), whose, "f32") < 10 for whose in ("xla", "native"))
