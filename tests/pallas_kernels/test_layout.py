"""The packed format: exact inverses for any shape and value, and bytes laid out as the docstring says."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from pallas_kernels import Packed, PackingError, Residual, layout, pack, unpack

SHAPES = [(1, 1), (16, 256), (48, 100), (64, 768), (130, 257)]


def ternary(seed, n, k):
    return np.random.default_rng(seed).integers(-1, 2, (n, k)).astype(np.int8)


@hypothesis.given(st.integers(0, 10_000), st.sampled_from(SHAPES))
@hypothesis.settings(max_examples=30)
def test_unpack_is_the_exact_inverse_of_pack(seed, shape):
    codes = ternary(seed, *shape)
    packed = pack(codes, np.float32(0.5))
    assert packed.shape == shape
    np.testing.assert_array_equal(unpack(packed), codes)


@hypothesis.given(st.integers(0, 10_000))
@hypothesis.settings(max_examples=20)
def test_pack_codes_is_the_exact_inverse_of_unpack_codes(seed):
    data = np.random.default_rng(seed).integers(0, 256, (3, 128)).astype(np.uint8)
    np.testing.assert_array_equal(layout.pack_codes(layout.unpack_codes(data)), data)


def test_a_byte_holds_the_four_quarters_of_its_block():
    codes = np.zeros((1, 512), np.uint8)
    codes[0, [5, 64 + 5, 128 + 5, 192 + 5]] = [1, 2, 3, 1]
    codes[0, 256 + 63] = 2
    data = layout.pack_codes(codes)
    assert data[0, 5] == 1 | 2 << 2 | 3 << 4 | 1 << 6
    assert data[0, 64 + 63] == 2
    assert np.count_nonzero(data) == 2


def test_padding_is_the_weight_zero():
    packed = pack(ternary(0, 3, 5), np.ones(3, np.float32))
    whole = np.asarray(layout.unpack_codes(packed.codes)).astype(int) - 1
    assert whole.shape == (layout.TILE_ROWS, layout.BLOCK_K)
    assert not whole[3:].any() and not whole[:, 5:].any()


@hypothesis.given(st.integers(0, 10_000))
@hypothesis.settings(max_examples=20)
def test_residuals_come_back_as_they_were(seed):
    rng = np.random.default_rng(seed)
    n, k, m = 80, 130, np.array([4, 32, 4])
    limit = np.where(m == 4, 7, 127)[:, None, None]
    values = rng.integers(-limit, limit + 1, (3, 16, k)).astype(np.int8)
    packed = pack(ternary(seed, n, k), np.ones(n, np.float32), residual=Residual(values=values, block=[4, 0, 1], m=m))
    found = layout.unpack_residual(packed)
    np.testing.assert_array_equal(found[4][0], values[[0, 2]])
    np.testing.assert_array_equal(found[4][1], [4, 1])
    np.testing.assert_array_equal(found[32][0], values[[1]])
    np.testing.assert_array_equal(layout.row_factors(packed), np.repeat([32, 4, 1, 1, 4], 16))


def test_room_for_more_blocks_changes_no_row():
    rng = np.random.default_rng(0)
    values = rng.integers(-7, 8, (1, 16, 30)).astype(np.int8)
    packed = pack(ternary(0, 100, 30), np.float32(1), residual=Residual(values=values, block=[2], m=[4]))
    wide = dataclasses.replace(packed, residual={4: layout.planes_with_capacity(packed, 4, 3)})
    # Rows 96–99 are a block of their own.
    np.testing.assert_array_equal(layout.integers_of(wide), layout.integers_of(packed))
    np.testing.assert_array_equal(layout.row_factors(packed), np.where(np.arange(100) // 16 == 2, 4, 1))


def test_a_matrix_takes_two_bits_a_weight():
    packed = pack(ternary(0, 768, 768), np.float32(1))
    assert packed.codes.nbytes == 768 * 768 // 4
    assert layout.nbytes(packed) == 768 * 768 // 4 + 768 * 4


def test_packed_matrices_stack_and_pass_through_jit():
    both = jax.tree.map(lambda *a: np.stack(a), *(pack(ternary(s, 20, 30), np.float32(s)) for s in (1, 2)))
    second = jax.jit(lambda p: jax.tree.map(lambda a: a[1], p))(both)
    assert isinstance(second, Packed)
    np.testing.assert_array_equal(unpack(second), ternary(2, 20, 30))


@pytest.mark.parametrize(
    ("codes", "scale", "residual", "sentence"),
    [
        (np.full((4, 4), 2, np.int8), 1.0, None, "codes must be −1, 0 or 1"),
        (np.full((4, 4), -128, np.int8), 1.0, None, "codes must be −1, 0 or 1"),
        (np.zeros((4, 4), np.int32), 1.0, None, "codes must be int8"),
        (np.zeros((4, 4), np.int8), np.ones(3), None, "one for each of the 4 rows"),
        (np.zeros((20, 4), np.int8), 1.0, ([1], [4], 4), "whole blocks of 16"),
        (np.zeros((32, 4), np.int8), 1.0, ([2], [4], 4), "whole blocks of 16"),
        (np.zeros((32, 4), np.int8), 1.0, ([1, 1], [4, 4], 4), "must be different"),
        (np.zeros((32, 4), np.int8), 1.0, ([1], [8], 4), r"one of \(4, 32\), not 8"),
        (np.zeros((32, 4), np.int8), 1.0, ([1], [4], 5), "residual values must be int8"),
        (np.zeros((32, 4), np.int8), 1.0, ([0.5], [4], 4), "a list of whole numbers"),
        (np.zeros((32, 4), np.int8), 1.0, ([1], 4, 4), "a list of whole numbers, with a tier factor for each"),
    ],
)
def test_what_cannot_be_packed_is_said(codes, scale, residual, sentence):
    if residual is not None:
        block, m, k = residual
        residual = Residual(values=np.zeros((len(block), 16, k), np.int8), block=block, m=m)
    with pytest.raises(PackingError, match=sentence):
        pack(codes, np.asarray(scale, np.float32), residual=residual)


def test_a_residual_beyond_its_tier_is_refused():
    values = np.full((1, 16, 4), 8, np.int8)
    with pytest.raises(PackingError, match="within ±7"):
        pack(np.zeros((16, 4), np.int8), np.float32(1), residual=Residual(values=values, block=[0], m=[4]))
