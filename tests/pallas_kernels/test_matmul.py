"""Every backend gives the integers of NumPy, and the scales in the order of the contract."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import PackingError, backends, layout, matmul, pack, packed_matmul, triton_gpu
from tests.pallas_kernels.samples import promoted

pytestmark = pytest.mark.bits
N, K = 80, 700
RUNNABLE = [name for name, state in backends().items() if state == "available"]


def matrix(seed, residual=False):
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 2, (N, K)).astype(np.int8)
    scale = rng.uniform(0.01, 2, N).astype(np.float32)
    if not residual:
        return codes.astype(np.int64), scale, pack(codes, scale)
    whole, planes = promoted(codes, rng)
    return whole, scale, pack(codes, scale, residual=planes)


def activations(m, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(-127, 128, (m, K)).astype(np.int8), rng.uniform(0.1, 3, m).astype(np.float32)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("m", [1, 3, 17])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_the_accumulator_is_exact(backend, m, residual):
    whole, _, packed = matrix(1, residual)
    x, delta = activations(m)
    acc = packed_matmul(x, packed, x_scale=delta, backend=backend, out_dtype=jnp.int32)
    assert acc.dtype == jnp.int32
    np.testing.assert_array_equal(acc, x.astype(np.int64) @ whole.T)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_the_epilogue_is_acc_times_scale_times_delta_in_that_order(backend):
    whole, scale, packed = matrix(2)
    x, delta = activations(5)
    acc = (x.astype(np.int64) @ whole.T).astype(np.float32)
    want = acc * (scale[None] * delta[:, None])
    np.testing.assert_array_equal(packed_matmul(x, packed, x_scale=delta, backend=backend), want)


def test_the_largest_values_do_not_overflow():
    packed = pack(np.ones((16, 4_096), np.int8), np.float32(1))
    x = np.full((1, 4_096), 127, np.int8)
    acc = packed_matmul(x, packed, x_scale=np.ones(1, np.float32), out_dtype=jnp.int32)
    np.testing.assert_array_equal(acc, np.full((1, 16), 127 * 4_096))


@pytest.mark.parametrize("backend", RUNNABLE)
def test_no_rows_give_no_rows(backend):
    _, _, packed = matrix(1, residual=True)
    found = packed_matmul(np.zeros((0, K), np.int8), packed, x_scale=np.zeros(0, np.float32), backend=backend)
    assert found.shape == (0, N) and found.dtype == jnp.float32


@pytest.mark.parametrize("m", [1, 8, 9, 40])
def test_the_triton_route_adds_bias_and_residuals_alike(m):
    whole, _, packed = matrix(4, residual=True)
    x, _ = activations(m)
    interpreted = functools.partial(triton_gpu.code_product, interpret=True)
    acc = matmul._accumulate(jnp.asarray(x), packed, interpreted)
    np.testing.assert_array_equal(acc, x.astype(np.int64) @ whole.T)


@pytest.mark.parametrize(("m", "most"), [(None, 16_909_320), (4, 1_537_210), (32, 106_347)])
def test_what_the_accumulator_cannot_hold_is_refused(m, most):
    assert 127 * {None: 1, 4: 11, 32: 159}[m] * most < 2**31 <= 127 * {None: 1, 4: 11, 32: 159}[m] * (most + 1)
    planes = layout.Planes(digits=jnp.zeros((2, 0, 0), jnp.uint8), block=jnp.zeros((0,), jnp.int32))
    sized = lambda k: layout.Packed(
        codes=jnp.zeros((64, 0), jnp.uint8), scale=jnp.ones(16), residual={m: planes} if m else {}, shape=(16, k)
    )
    check = lambda k: matmul._check_arguments(
        jnp.zeros((1, k), jnp.int8), sized(k), jnp.ones(1), jnp.dtype(jnp.float32)
    )
    check(most)
    with pytest.raises(PackingError, match=f"K = {most + 1:,} does not fit the int32 accumulator"):
        check(most + 1)


def test_unused_capacity_adds_nothing():
    _, _, packed = matrix(3, residual=True)
    x, delta = activations(2)
    want = packed_matmul(x, packed, x_scale=delta)
    spare = jax.tree.map(lambda a: a, packed)
    planes = spare.residual[4]
    spare.residual[4] = type(planes)(
        digits=jnp.concatenate([planes.digits, jnp.full_like(planes.digits[:, :16], 255)], axis=1),
        block=jnp.concatenate([planes.block, jnp.array([N // 16], jnp.int32)]),
    )
    np.testing.assert_array_equal(packed_matmul(x, spare, x_scale=delta), want)


@pytest.mark.parametrize(
    ("backend", "sentence"), [("auto", "differentiate the latent weights"), ("reference", "outside jit and grad")]
)
def test_a_gradient_is_refused_with_what_to_do(backend, sentence):
    _, _, packed = matrix(1)
    x, delta = activations(1)
    with pytest.raises(PackingError, match=sentence):
        jax.grad(lambda d: packed_matmul(x, packed, x_scale=d, backend=backend).sum())(jnp.asarray(delta))


def test_stacked_matrices_are_to_be_taken_one_by_one():
    packed = [matrix(seed, residual=True)[2] for seed in (1, 2)]
    both = jax.tree.map(lambda *a: jnp.stack(a), *packed)
    x, delta = activations(3)
    with pytest.raises(PackingError, match=r"these are \[2\] stacked matrices"):
        packed_matmul(x, both, x_scale=delta)
    found = jax.vmap(lambda p: packed_matmul(x, p, x_scale=delta))(both)
    for one, matrix_ in zip(found, packed, strict=True):
        np.testing.assert_array_equal(one, packed_matmul(x, matrix_, x_scale=delta))


def test_a_type_that_would_cut_the_result_is_refused():
    _, _, packed = matrix(1)
    x, delta = activations(1)
    with pytest.raises(PackingError, match="out_dtype must be a floating-point type, or int32"):
        packed_matmul(x, packed, x_scale=delta, out_dtype=jnp.int8)


def test_a_card_of_another_maker_has_no_pallas_backend(monkeypatch):
    device = types.SimpleNamespace(platform="gpu", compute_capability="gfx942")
    monkeypatch.setattr(jax, "devices", lambda: [device])
    found = backends()
    assert found["xla"] == "available" and found["triton"].startswith("needs compute capability 8.0")


@pytest.mark.parametrize(
    ("x", "delta", "backend", "sentence"),
    [
        (np.zeros((2, K + 1), np.int8), np.ones(2), "auto", f"x must be int8 \\[M, {K}\\]"),
        (np.zeros((2, K), np.int32), np.ones(2), "auto", "x must be int8"),
        (np.zeros((2, K), np.int8), np.ones(3), "auto", "x_scale must be"),
        (np.zeros((2, K), np.int8), np.ones(2), "cutlass", "no such backend"),
        (np.zeros((2, K), np.int8), np.ones(2), "triton", "needs .*compute capability.*backend='xla' does everything"),
    ],
)
def test_what_does_not_fit_is_said(x, delta, backend, sentence):
    _, _, packed = matrix(1)
    with pytest.raises(PackingError, match=sentence):
        packed_matmul(x, packed, x_scale=delta.astype(np.float32), backend=backend)


def test_the_reference_does_not_pretend_to_run_in_jit():
    _, _, packed = matrix(1)
    x, delta = activations(1)
    with pytest.raises(PackingError, match="outside jit"):
        jax.jit(lambda x: packed_matmul(x, packed, x_scale=delta, backend="reference"))(x)
