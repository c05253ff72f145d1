"""Every backend gives the integers of NumPy, and the scales in the order of the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import PackingError, backends, pack, packed_matmul
from tests.pallas_kernels.samples import promoted

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


def test_a_gradient_is_refused_with_what_to_do():
    _, _, packed = matrix(1)
    x, delta = activations(1)
    with pytest.raises(PackingError, match="differentiate the latent weights"):
        jax.grad(lambda d: packed_matmul(x, packed, x_scale=d).sum())(jnp.asarray(delta))


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
