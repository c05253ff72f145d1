"""The same weights at several precisions, asked for real: names, bits, and that controls are told apart."""

import dataclasses

import jax
import pytest

from bitzero.config import Config, Eval, Model, Precision, SelfPlay, Tasks
from bitzero.evaluation import precisions
from bitzero.generator.stream import Stream
from bitzero.model import precision
from bitzero.run import refresh
from bitzero.sandbox import Limits, Sandbox
from bitzero.selfplay import warmup

CFG = Config(
    model=Model(
        num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, max_tier=8, compute="f32"
    ),
    precision=Precision(budget=4.0, signal="magnitude"),
    selfplay=SelfPlay(ring=8, seed_tasks=4, history=64),
    tasks=Tasks(open_levels=1, completion=16, answer=16),
    eval=Eval(precision_items=3, batch_size=4),
)


@pytest.fixture(scope="module")
def measured():
    state = refresh.reallocate(jax.jit(warmup.init_state, static_argnums=0)(CFG), CFG)
    state = dataclasses.replace(state, precision=precision.advance_ramps(state.precision, 1))  # faded in
    with Sandbox(limits=Limits(value_bytes=512), workers=1) as sandbox, Stream(CFG, sandbox) as stream:
        return state, precisions.measure_precisions(state, CFG, stream.heldout, sandbox)


def test_levels_go_from_ternary_to_unquantised(measured):
    _, found = measured
    bits = {row["name"]: row["stored_bits"] for row in found["levels"]}
    assert list(bits) == ["ternary", "budget", "4-bit", "8-bit", "unquantised"]
    assert bits["ternary"] == 2.0 and 3.5 < bits["budget"] <= 4.0 and bits["unquantised"] == 32.0
    assert bits["4-bit"] == pytest.approx(6.0 + 32 / (16 * 32)) and bits["8-bit"] == pytest.approx(
        10.0 + 32 / (16 * 32)
    )
    nats = [row["nats"] for row in found["levels"]]
    assert len(set(nats)) == 5 and all(3 < value < 12 for value in nats)


def test_the_figures_of_the_model_are_those_of_its_level(measured):
    state, found = measured
    own = next(row for row in found["levels"] if row["name"] == found["trained_as"] == "budget")
    assert (found["nats"], found["accuracy"], found["stored_bits"]) == (
        own["nats"],
        own["accuracy"],
        own["stored_bits"],
    )
    assert found["n"] == 3 and found["tokens"] > 0 and found["weights"] == 64 * 32 + 32 * 32 + 64 * 32 + 32 * 32
    assert found["map"]["o"] == state.precision["layers"]["o"]["tier"].tolist()


@pytest.mark.parametrize(("weights", "level", "count"), [("int4", "int4", 5), ("full", "unquantised", 4)])
def test_controls_are_named_by_what_they_are(measured, weights, level, count):
    cfg = dataclasses.replace(CFG, model=dataclasses.replace(CFG.model, weights=weights))
    names = [name for name, _, _ in precisions.precisions_to_ask(measured[0], cfg)]
    assert precisions.trained_precision(cfg.model) == level and level in names
    assert len(names) == count and "budget" not in names
