"""What is computed in C++ beside the same by XLA: results, gradients, statistics, and what a NaN becomes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib
import pytest

from bitzero.model import native, quant
from bitzero.model.attention import AttentionProbe, attend, convolve, rotate, unit_rms
from bitzero.model.block import tap_mean_square
from bitzero.model.transformer import causal_mask, positions_of
from bitzero.native import build, functions
from bitzero.selfplay import objective

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def close(got, want, at):
    """The largest difference, as a share of the largest value."""
    scale = float(jnp.max(jnp.abs(want)))
    np.testing.assert_allclose(np.asarray(got) / scale, np.asarray(want) / scale, atol=at, rtol=0)


def linear_of(form, codes, x, gain, latent, tap):
    """The layer in C++ of a latent matrix, by the codes that ``codes_of`` makes."""
    of = codes(latent)
    return functions.normed_linear(form, x, gain, of.latent, of.codes, of.scale, of.lam, tap)


def linear_by_xla(form, linear, x, gain, latent, tap):
    if form.gated:
        gate, up = jnp.split(x, 2, axis=-1)
        x = jnp.square(jax.nn.relu(gate)) * up
    return linear(tap_mean_square(unit_rms(x) * gain[None, None], tap), latent)


@pytest.mark.parametrize("weights", ["ternary", "tiers", "ramp", "full"])
@pytest.mark.parametrize(
    "n, k, gated, rows, length", [(96, 64, False, 5, 33), (64, 32, True, 8, 20), (32, 96, False, 1, 3)]
)
def test_a_linear_layer_is_that_of_quant(weights, n, k, gated, rows, length, half):
    """A code lies between two integers for some value, and one that falls the other way is a difference of δ."""
    tier = jnp.zeros((n // 16,), jnp.int8).at[::2].set(4 if weights == "tiers" else 0)
    ramp, lam = jnp.ones((n // 16,)), jnp.float32(0.4) if weights == "ramp" else None
    wrap = (lambda w: quant.Full(weight=w)) if weights == "full" else (lambda w: w)
    codes = lambda w: native.codes_of(wrap(w), tier, ramp, (n,), 4, lam)
    operand = "bf16" if half else "f32"
    layer = lambda x, w: quant.linear(x, wrap(w), tier, ramp, parts=(n,), operand=operand, max_tier=4, lam=lam)
    form = functions.Form(
        gated=gated, integer=weights in ("ternary", "tiers"), half=half, floor=quant.FLOOR, sequence=length, every=4
    )
    given = (normal(rows, length, k * (1 + gated)), 1 + 0.1 * normal(k), 0.1 * normal(n, k), jnp.zeros(k))
    g = normal(rows, length, n).at[:, ::3].set(0.0)  # positions without a gradient are not counted
    results = []
    for call in (functools.partial(linear_of, form, codes), functools.partial(linear_by_xla, form, layer)):
        y, back = jax.vjp(call, *given)
        results.append((y, *back(g)))
    for got, want in zip(*results, strict=True):
        close(got, want, 3e-3 if weights != "full" or half else 1e-5)
        assert float(jnp.mean(jnp.abs(got - want))) < 1e-4 * float(jnp.max(jnp.abs(want)))  # few fall another way
    assert float(jnp.mean(jnp.abs(results[0][0] - results[1][0]) > 1e-4 * jnp.max(jnp.abs(results[1][0])))) < 0.02


@pytest.mark.parametrize("n, k, gated, rows", [(96, 64, False, 53), (32, 96, True, 48), (64, 160, False, 1)])
def test_ternary_codes_give_the_bits_of_any_integers(n, k, gated, rows, half):
    """They go by int8 products and others by f32 or bf16: a 159 among the codes of one row decides for all of them."""
    codes = jnp.asarray(RNG.integers(-1, 2, (n, k)), jnp.float32)
    form = functions.Form(gated=gated, integer=True, half=half, floor=quant.FLOOR, sequence=rows, every=0)
    x, gain, scale = normal(rows, k * (1 + gated)), 1 + 0.1 * normal(k), normal(n)
    by = lambda codes: functions.normed_linear(form, x, gain, codes, codes, scale, jnp.float32(1), jnp.zeros(k))
    np.testing.assert_array_equal(by(codes)[:, 1:], by(codes.at[0, 0].set(159.0))[:, 1:])


@pytest.mark.parametrize("integer", [True, False])
@pytest.mark.parametrize(
    "live", [(), (0,), (130,), (3, 4, 5, 60, 61, 99), tuple(range(0, 131, 2)), tuple(range(7, 120))]
)
def test_rows_of_zeros_are_passed_over(live, integer, half):
    """What is left has the bits it has by itself; of zeros come zeros, but where a gradient came in."""
    n, k, rows, at = 64, 32, 131, np.array(live, int)
    codes = jnp.asarray(RNG.integers(-1, 2, (n, k)), jnp.float32)
    form = functions.Form(gated=False, integer=integer, half=half, floor=quant.FLOOR, sequence=rows, every=1)
    zeros = lambda width: jnp.zeros((rows, width)).at[at].set(normal(len(at), width))
    x, g, gain = zeros(k), zeros(n), 1 + 0.1 * normal(k)
    layer = lambda x, gain, w: functions.normed_linear(form, x, gain, w, w, jnp.ones(n), jnp.float32(1), jnp.zeros(k))
    y, back = jax.vjp(layer, x, gain, codes)
    dx, *sums = back(g)
    want_y, want_back = jax.vjp(layer, x[at], gain, codes)
    want_dx, *want_sums = want_back(g[at])
    for got, want in ((y, want_y), (dx, want_dx)):
        np.testing.assert_array_equal(got[at], want)
        assert not np.delete(np.asarray(got), at, axis=0).any()
    for got, want in zip(sums, want_sums, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * float(jnp.max(jnp.abs(want), initial=1.0)))
    if 100 not in live:  # 1/RMS of nothing is that of the small number under the root
        np.testing.assert_allclose(back(g.at[100].set(1.0))[0][100], codes.sum(0) * gain * 1e3, rtol=1e-4, atol=1e-2)


def attention_by_xla(qkv, extra, gains, tap, *, segments, turns, watched, heads, groups, norm):
    b, t, width = qkv.shape
    size = width // (heads + 2 * groups)
    q, k, v = jnp.split(qkv, [heads * size, (heads + groups) * size], -1)
    q, k, v = (part.reshape(b, t, -1, size) for part in (q, k, v + extra))
    if norm:
        q, k = unit_rms(q) * gains[None, None, :, None], unit_rms(k)
    probe = AttentionProbe(source=watched[0], answers=watched[1], tap=tap)
    out = attend(rotate(q, turns), rotate(k, turns), v, causal_mask(segments), probe, jnp.float32)
    return out.reshape(b, t, -1) * (segments != 0)[..., None]


@pytest.mark.parametrize("heads, groups, size, norm", [(2, 1, 64, True), (4, 2, 32, True), (2, 2, 32, False)])
def test_attention_is_that_of_the_model(heads, groups, size, norm):
    """Examples of one token, of many, of a whole row; padding at an end, and a row that is nothing but padding."""
    lengths = [(70,), (1, 33, 12, 7), (35, 32), (0,), (16, 1, 1, 50)]
    segments = np.zeros((len(lengths), 70), np.int32)
    for row, of_row in enumerate(lengths):
        ends = np.cumsum(of_row)
        for number, (end, length) in enumerate(zip(ends, of_row, strict=True), 1):
            segments[row, end - length : end] = number
    segments = jnp.asarray(segments)
    b, t = segments.shape
    angles = positions_of(segments)[..., None] * (100.0 ** (-jnp.arange(size // 2) / 16))[None, None]
    turns = (jnp.cos(angles), jnp.sin(angles))
    watched = tuple(jnp.asarray(RNG.integers(0, 2, (b, t)), jnp.float32) for _ in range(2))
    given = (
        normal(b, t, (heads + 2 * groups) * size), normal(b, t, groups * size), 1.5 + normal(heads), jnp.zeros(heads)
    )  # fmt: skip
    g = normal(b, t, heads * size) * (segments != 0)[..., None]
    form = functions.Heads(heads=heads, groups=groups, norm=norm)
    in_cpp = lambda qkv, extra, gains, tap: functions.attend(form, qkv, extra, gains, turns, segments, watched, tap)
    xla = functools.partial(
        attention_by_xla, segments=segments, turns=turns, watched=watched, heads=heads, groups=groups, norm=norm
    )
    results = []
    for call in (in_cpp, xla):
        out, back = jax.vjp(call, *given)
        results.append((out, *back(g)))
    for name, got, want in zip(("out", "qkv", "extra", "gains", "signal"), *results, strict=True):
        if name == "gains" and not norm:  # they are not used, and are no parameter then
            continue
        close(got, want, 2e-5)


@pytest.mark.parametrize("lags, length", [(1, 9), (4, 9), (4, 2)])
def test_the_convolution_is_that_of_the_model(lags, length):
    """Examples of one to five tokens, shorter than the convolution reaches and longer."""
    segments = jnp.asarray([[1, 2, 2, 3, 3, 3, 3, 3, 0], [1, 1, 1, 1, 2, 2, 2, 0, 0]])[:, :length]
    places, x, g = positions_of(segments), normal(2, length, 64), normal(2, length, 64)
    taps, before = normal(lags, 64), jnp.zeros((2, lags - 1, 64))
    got, back = jax.vjp(lambda x, taps: functions.convolve(x, taps, places), x, taps)
    want, want_back = jax.vjp(lambda x, taps: convolve(x, before, taps, places), x, taps)
    for one, other in zip((got, *back(g)), (want, *want_back(g)), strict=True):
        close(one, other, 1e-6)


def test_attention_without_extra_values_or_a_signal():
    segments = jnp.ones((2, 9), jnp.int32)
    qkv, ones = normal(2, 9, 4 * 32), jnp.ones(2)
    turns = (jnp.ones((2, 9, 16)), jnp.zeros((2, 9, 16)))
    form = functions.Heads(heads=2, groups=1, norm=True)
    with_zeros = functions.attend(form, qkv, jnp.zeros((2, 9, 32)), ones, turns, segments, None, jnp.zeros(2))
    out, back = jax.vjp(lambda tap: functions.attend(form, qkv, None, ones, turns, segments, None, tap), jnp.zeros(2))
    np.testing.assert_array_equal(out, with_zeros)
    np.testing.assert_array_equal(back(out)[0], 0.0)


@pytest.mark.parametrize("head", [functions.Head(), functions.Head(temperature=0.5, without=0, entropy=True)])
def test_answer_losses_are_those_of_the_objective(head):
    x, table = normal(3, 40, 32), normal(128, 32)
    tokens = jnp.asarray(RNG.integers(1, 128, (3, 40)), jnp.int32)
    asked = jnp.asarray(RNG.integers(0, 2, (3, 40)), bool).at[:, -1].set(False)
    following = jnp.where(asked, jnp.pad(tokens[:, 1:], ((0, 0), (0, 1))), -1)
    weight, other = normal(3, 40), normal(3, 40) * head.entropy

    def by_xla(x, table):
        logits = jnp.einsum("BTD,VD->BTV", x, table)
        logits = (objective.without_pad(logits) if head.without == 0 else logits) / head.temperature
        nll = jnp.where(asked, -objective.token_logprobs(logits, tokens), 0.0)
        entropy = jnp.where(asked, -jnp.sum(jax.nn.softmax(logits) * jax.nn.log_softmax(logits), -1), 0.0)
        hits = (jnp.argmax(logits, -1) == following).astype(jnp.float32)
        return jnp.sum(nll * weight + entropy * other), (nll, hits, entropy)

    def in_cpp(x, table):
        nll, hits, entropy = functions.answer_losses(head, x, table, following)
        entropy = entropy if head.entropy else by_xla(x, table)[1][2]
        return jnp.sum(nll * weight + entropy * other), (nll, hits, entropy)

    results = [jax.value_and_grad(call, (0, 1), has_aux=True)(x, table) for call in (in_cpp, by_xla)]
    ((_, (nll, hits, entropy)), grads), ((_, (want_nll, want_hits, want_entropy)), want_grads) = results
    close(nll, want_nll, 5e-6)
    close(entropy, want_entropy, 5e-6)
    np.testing.assert_array_equal(hits, want_hits)
    for got, want in zip(grads, want_grads, strict=True):
        close(got, want, 5e-6)


def test_newton_schulz_is_that_of_optax():
    stacks = [normal(2, n, k) for n, k in ((96, 32), (32, 32), (64, 32), (32, 64))]
    coefficients = (3.4445, -4.7750, 2.0315)
    for got, x in zip(functions.newton_schulz(stacks, 5, coefficients), stacks, strict=True):
        one = lambda m: optax.contrib.scale_by_muon(nesterov=False).update(m, optax.contrib.scale_by_muon().init(m))[0]
        close(got, jnp.stack([one(m) for m in x]), 1e-5)


def test_newton_schulz_of_bf16_rounds_the_factors_of_its_products():
    stacks = [normal(2, n, k) for n, k in ((96, 32), (32, 32), (64, 32), (32, 64))]
    c0, c1, c2 = 3.4445, -4.7750, 2.0315
    times = lambda a, b: jnp.matmul(*(m.astype(jnp.bfloat16) for m in (a, b)), preferred_element_type=jnp.float32)

    def by_xla(m):
        x = m if m.shape[0] <= m.shape[1] else m.T
        x = x / (jnp.linalg.norm(x) + 1e-8)
        a = times(x, x.T)
        x = c0 * x + times(c1 * a + c2 * times(a, a), x)
        return x if m.shape[0] <= m.shape[1] else x.T

    if not build.has_halves():
        pytest.skip("no products of bf16 here")
    for got, x in zip(functions.newton_schulz(stacks, 1, (c0, c1, c2), half=True), stacks, strict=True):
        close(got, jnp.stack([by_xla(m) for m in x]), 1e-4)  # of one iteration: what falls another way would grow


def test_without_products_of_bf16_they_are_refused():
    if build.has_halves():
        pytest.skip("there are some here")  # not so where the tests run without 512 bits
    form = functions.Form(gated=False, integer=False, half=True, floor=quant.FLOOR, sequence=4, every=0)
    given = (normal(4, 32), jnp.ones(32), normal(32, 32), normal(32, 32), jnp.ones(32), jnp.float32(1), jnp.zeros(32))
    with pytest.raises(Exception, match="this processor has no products of bf16"):
        jax.block_until_ready(functions.normed_linear(form, *given))


def test_a_result_is_the_same_whoever_computed_its_parts(half):
    """The caller and the pool's thread claim parts as they come; a race would show in some of these rounds."""
    form = functions.Form(gated=False, integer=True, half=half, floor=quant.FLOOR, sequence=64, every=0)
    x, gain, w, g = normal(16, 64, 64), jnp.ones(64), normal(128, 64), normal(16, 64, 128)
    call = functools.partial(linear_of, form, lambda w: native.codes_of(w, None, None, (128,), 0, None))
    step = jax.jit(lambda x, w: jax.vjp(lambda x, w: call(x, gain, w, jnp.zeros(64)), x, w)[1](g))
    first = step(x, w)
    for _ in range(30):
        for got, want in zip(step(x, w), first, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("integer", [True, False])
def test_a_nan_is_not_lost(integer, half):
    """Comparisons are false for it, so a clip in the wrong order would make it a number, and a bad step a good one."""
    form = functions.Form(gated=True, integer=integer, half=half, floor=quant.FLOOR, sequence=4, every=0)
    codes = lambda w: native.codes_of(w, None, None, (32,), 0, None if integer else jnp.float32(0.5))
    x = normal(1, 4, 64).at[0, 1, 3].set(jnp.nan)
    y = linear_of(form, codes, x, jnp.ones(32), normal(32, 32), jnp.zeros(32))
    assert np.isnan(y[0, 1]).all() and np.isfinite(np.delete(np.asarray(y), 1, axis=1)).all()
    segments, turns = jnp.ones((1, 4), jnp.int32), (jnp.ones((1, 4, 16)), jnp.zeros((1, 4, 16)))
    qkv = normal(1, 4, 96).at[0, 1, 40].set(jnp.nan)  # of a key: what attends to it is lost, what comes before is not
    form = functions.Heads(heads=1, groups=1, norm=True)
    out = functions.attend(form, qkv, None, jnp.ones(1), turns, segments, None, jnp.zeros(1))
    assert np.isfinite(out[0, 0]).all() and np.isnan(out[0, 1:]).all()
