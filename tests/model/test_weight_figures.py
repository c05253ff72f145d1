"""Figures of quantised weights, by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.config import Config, Model, SelfPlay
from bitzero.model import precision, transformer, weight_figures
from bitzero.selfplay import warmup

MODEL = Model(num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32, max_tier=8)


@pytest.fixture(scope="module")
def model():
    return jax.jit(transformer.init, static_argnums=1)(jax.random.key(0), MODEL)


def test_gaussian_weights_have_the_shares_theory_gives(model):
    found = weight_figures.weight_figures(model[0], MODEL)
    sigma = np.sqrt(np.pi / 2)  # of a Gaussian in units of its mean magnitude α
    normal = lambda x: float(jax.scipy.stats.norm.cdf(x / sigma))
    assert float(found["quant/zero_codes"]) == pytest.approx(2 * normal(0.5) - 1, abs=0.02)
    assert float(found["quant/clipped"]) == pytest.approx(2 * (1 - normal(1.5)), abs=0.02)
    assert float(found["quant/near_threshold"]) == pytest.approx(2 * (normal(0.55) - normal(0.45)), abs=0.02)


def test_drift_is_the_largest_relative_change_of_a_scale(model):
    params = model[0]
    before = weight_figures.matrix_scales(params, MODEL)
    assert {name: a.shape for name, a in before.items()} == {
        "qkv": (2, 3),
        "o": (2, 1),
        "gate_up": (2, 2),
        "down": (2, 1),
    }
    assert weight_figures.largest_scale_change(before, before) == 0.0
    layers = dict(params["layers"])
    changed = (
        layers["qkv"]["kernel"].at[1, 32:48].multiply(0.8).at[0, :32].multiply(1.1)
    )  # k of one layer, q of another
    layers["qkv"] = {"kernel": changed}
    assert weight_figures.largest_scale_change(
        before, weight_figures.matrix_scales({**params, "layers": layers}, MODEL)
    ) == pytest.approx(0.2, abs=1e-5)


def test_bits_by_layer_and_kind_add_up(model):
    tiers = precision.with_uniform_tier(model[1], 0)
    tiers["layers"]["down"] = {**tiers["layers"]["down"], "tier": jnp.asarray([[4, 0], [0, 0]], jnp.int8)}
    found = weight_figures.stored_bit_figures(tiers, MODEL)
    weights = {"qkv": 64 * 32, "o": 32 * 32, "gate_up": 64 * 32, "down": 32 * 32}
    extra = 4 * 16 * 32 + 32
    assert found["precision/bits_down"] == pytest.approx(2 + extra / (2 * weights["down"]))
    assert found["precision/bits_qkv"] == 2.0 == found["precision/bits_layer_1"]
    assert found["precision/bits_layer_0"] == pytest.approx(2 + extra / sum(weights.values()))
    assert found["precision/stored_bits"] == pytest.approx(2 + extra / (2 * sum(weights.values())))
    assert found["precision/stored_bits"] == pytest.approx(float(precision.mean_stored_bits(tiers, MODEL)))
    blocks = 2 * sum(rows // 16 for rows in (64, 32, 64, 32))
    assert found["precision/share_tier_4"] == pytest.approx(1 / blocks)


def test_the_map_has_a_row_a_layer_and_a_cell_a_block(model):
    tiers = precision.with_uniform_tier(model[1], 0)
    tiers["layers"]["down"] = {**tiers["layers"]["down"], "tier": jnp.asarray([[0, 8], [0, 0]], jnp.int8)}
    image = weight_figures.tier_image(tiers, MODEL)
    cells = image[0, ::8, ::8]
    assert cells.shape == (2, 4 + 1 + 2 + 1 + 4 + 1 + 2)
    assert cells[0].tolist() == [40] * 4 + [0] + [40] * 2 + [0] + [40] * 4 + [0] + [40, 255]
    assert cells[1].max() == 40


def test_residuals_saturate_where_weights_lie_far_out(model):
    params, tiers = model
    four = precision.with_uniform_tier(tiers, 4)
    share = float(weight_figures.residual_saturation(params, four, MODEL))
    # |R| = 7 from |W|/α ≥ 1 + 6.5/4 on; a Gaussian's α is σ·√(2/π).
    beyond = 2 * (1 - float(jax.scipy.stats.norm.cdf((1 + 6.5 / 4) / np.sqrt(np.pi / 2))))
    assert share == pytest.approx(beyond, abs=0.01)
    assert float(weight_figures.residual_saturation(params, tiers, MODEL)) == 0.0


@pytest.mark.parametrize("model", [{"max_tier": 0}, {"weights": "full"}, {"weights": "int4"}])
def test_a_model_without_tiers_has_no_precision_figures(model):
    plain = Config(model=dataclasses.replace(MODEL, **model), selfplay=SelfPlay(ring=8, history=64))
    found = weight_figures.state_figures(jax.jit(warmup.init_state, static_argnums=0)(plain), plain.model)
    assert "quant/zero_codes" in found and not any(tag.startswith("precision/") for tag in found)
