"""Allocation: the budget is exact, the best blocks come first, and a refresh changes little."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitzero.config import BLOCK_ROWS, Config, Model, Precision, kernel_shapes, largest_budget
from bitzero.model import allocation
from bitzero.model.precision import TIERS, stored_block_bits

MODEL = Model(num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=48, max_tier=8)
SHAPES = {name: (MODEL.num_layers, n // BLOCK_ROWS) for name, (n, _) in kernel_shapes(MODEL).items()}


def config(**changes) -> Config:
    model = dataclasses.replace(MODEL, max_tier=changes.pop("max_tier", 8))
    return Config(model=model, precision=Precision(**changes))


def inputs(seed: int) -> tuple[dict, dict]:
    rng = np.random.default_rng(seed)
    scores = {name: rng.random(shape) ** 3 for name, shape in SHAPES.items()}
    shares = np.array([0.0, 0.97, 0.9999])
    return scores, {name: np.broadcast_to(shares, (*shape, 3)) for name, shape in SHAPES.items()}


def filled(value: int, dtype=np.int8) -> dict:
    return {name: np.full(shape, value, dtype) for name, shape in SHAPES.items()}


def bits(tiers: dict, names=tuple(SHAPES)) -> float:
    stored = sum(stored_block_bits(tiers[n].astype(float), kernel_shapes(MODEL)[n][1]).sum() for n in names)
    return stored / sum(tiers[n].size * BLOCK_ROWS * kernel_shapes(MODEL)[n][1] for n in names)


def cheapest_step(tiers: dict, max_tier: int, names=tuple(SHAPES)) -> float:
    """Mean stored bits that the cheapest step up adds, ∞ at the top."""
    steps = [np.inf]
    for name in names:
        block = BLOCK_ROWS * kernel_shapes(MODEL)[name][1]
        steps += [4 * block + (32 if tier == 0 else 0) for tier in tiers[name].reshape(-1) if tier < max_tier]
    return min(steps) / sum(tiers[n].size * BLOCK_ROWS * kernel_shapes(MODEL)[n][1] for n in names)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(2.0, 10.0), st.sampled_from([4, 8]), st.sampled_from(["model", "kind"]))
def test_the_budget_is_never_passed_and_no_step_that_fits_is_left(seed, budget, max_tier, scope):
    cfg = config(max_tier=max_tier, scope=scope)
    budget = min(budget, largest_budget(cfg.model))
    scores, gains = inputs(seed)
    tiers = allocation.allocate(scores, gains, filled(0), filled(0), budget, cfg)
    for names in [tuple(SHAPES)] if scope == "model" else [(name,) for name in SHAPES]:
        assert bits(tiers, names) <= budget + 1e-9
        assert bits(tiers, names) + cheapest_step(tiers, max_tier, names) > budget


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(2.0, 10.0),
    st.sets(st.sampled_from(sorted(SHAPES)), min_size=1),
    st.sampled_from(["model", "kind"]),
)
def test_only_the_kinds_asked_for_are_promoted_and_the_budget_still_counts_all(seed, budget, kinds, scope):
    cfg = config(kinds=",".join(sorted(kinds)), scope=scope)
    budget = min(budget, largest_budget(cfg.model, matrices=kinds if scope == "model" else None))
    tiers = allocation.allocate(*inputs(seed), filled(0), filled(0), budget, cfg)
    assert all(not tiers[name].any() for name in set(SHAPES) - kinds)
    for names in [tuple(SHAPES)] if scope == "model" else [(name,) for name in kinds]:
        assert bits(tiers, names) <= budget + 1e-9
        free = {name: tiers[name] if name in kinds else filled(8)[name] for name in names}  # others cannot step up
        assert bits(tiers, names) + cheapest_step(free, 8, names) > budget


def test_tiers_outside_the_kinds_are_given_back():
    cfg = config(kinds="o,down")
    tiers = allocation.allocate(*inputs(0), filled(4), filled(99, np.int32), 3.0, cfg)
    assert not tiers["qkv"].any() and not tiers["gate_up"].any() and tiers["o"].any()
    assert bits(tiers) <= 3.0


def test_all_blocks_are_promoted_at_the_largest_budget():
    for tier in (4, 8):
        cfg = config(max_tier=tier)
        tiers = allocation.allocate(*inputs(0), filled(0), filled(0), largest_budget(cfg.model), cfg)
        assert all((a == tier).all() for a in tiers.values())


def test_the_best_blocks_of_equal_price_come_first():
    scores, gains = inputs(3)
    tiers = allocation.allocate(scores, gains, filled(0), filled(0), 3.0, config(max_tier=4))
    for name in SHAPES:  # within a kernel every block has the same price
        inside, outside = scores[name][tiers[name] > 0], scores[name][tiers[name] == 0]
        assert not inside.size or not outside.size or inside.min() >= outside.max()


def test_eight_bits_come_after_four_where_four_do_most_of_it():
    tiers = allocation.allocate(*inputs(1), filled(0), filled(0), 4.0, config(max_tier=8))
    assert {int(t) for a in tiers.values() for t in a.reshape(-1)} == {0, 4}


def test_whole_matrices_have_one_tier():
    tiers = allocation.allocate(*inputs(2), filled(0), filled(0), 3.5, config(grain="matrix"))
    assert all((a == a[:, :1]).all() for a in tiers.values())
    assert 2.0 < bits(tiers) <= 3.5


def test_a_smaller_budget_takes_the_least_useful_blocks_without_asking_their_age():
    scores, gains = inputs(4)
    cfg = config(max_tier=4, max_swaps=0.0)
    high = allocation.allocate(scores, gains, filled(0), filled(0), 4.0, cfg)
    low = allocation.allocate(scores, gains, high, filled(0), 2.5, cfg)
    assert bits(low) <= 2.5 < bits(high)
    for name in SHAPES:
        kept, gone = scores[name][low[name] > 0], scores[name][(high[name] > 0) & (low[name] == 0)]
        assert not kept.size or not gone.size or kept.min() >= gone.max()


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    st.tuples(st.floats(2.0, 10.0), st.floats(2.0, 10.0)),
    st.sampled_from([4, 8]),
    st.sampled_from(["model", "kind"]),
    st.sampled_from(["block", "matrix"]),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_a_second_allocation_keeps_the_budget_and_its_share_of_changes(seed, budgets, max_tier, scope, grain, share):
    cfg = config(max_tier=max_tier, scope=scope, grain=grain, max_swaps=share, ramp_steps=10)
    first, second = (min(budget, largest_budget(cfg.model)) for budget in budgets)
    rng = np.random.default_rng(seed)
    age = {name: np.where(rng.random(shape) < 0.3, 5, 50) for name, shape in SHAPES.items()}
    if grain == "matrix":
        age = {name: np.broadcast_to(a[:, :1], a.shape) for name, a in age.items()}
    old = allocation.allocate(*inputs(seed), filled(0), filled(0), first, cfg)
    new = allocation.allocate(*inputs(seed + 1), old, age, second, cfg)
    for names in [tuple(SHAPES)] if scope == "model" else [(name,) for name in SHAPES]:
        assert bits(new, names) <= second + 1e-9
        if grain == "block":
            assert bits(new, names) + cheapest_step(new, max_tier, names) > second
        if second >= first:  # no step down is forced
            unit = (lambda a: a[:, 0]) if grain == "matrix" else (lambda a: a)
            promoted = sum(int((unit(old[n]) > 0).sum()) for n in names)
            rungs = [[np.searchsorted(TIERS, unit(tiers[n])) for n in names] for tiers in (old, new)]
            steps = sum(int((before - after).clip(0).sum()) for before, after in zip(*rungs, strict=True))
            assert steps <= share * promoted
            for name in names:
                assert (new[name] >= old[name])[age[name] < 10].all()


def test_room_that_a_wide_block_leaves_goes_to_several_narrow_ones():
    model = Model(num_layers=2, width=160, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=480, max_tier=4)
    cfg = Config(model=model, precision=Precision(max_swaps=0.5, ramp_steps=1))
    shapes = {name: (2, n // BLOCK_ROWS) for name, (n, _) in kernel_shapes(model).items()}
    old = {name: np.full(shape, 4 * (name == "down"), np.int8) for name, shape in shapes.items()}
    weigh = lambda t: sum(stored_block_bits(t[n].astype(float), k).sum() for n, (_, k) in kernel_shapes(model).items())
    size = sum(shape[0] * shape[1] * BLOCK_ROWS * kernel_shapes(model)[n][1] for n, shape in shapes.items())
    scores = {
        n: np.full(shape, kernel_shapes(model)[n][1] * (1.0 if n == "down" else 100.0)) for n, shape in shapes.items()
    }
    gains = {name: np.broadcast_to([0.0, 0.97, 0.9999], (*shape, 3)) for name, shape in shapes.items()}
    age = {name: np.full(shape, 9) for name, shape in shapes.items()}
    new = allocation.allocate(scores, gains, old, age, weigh(old) / size, cfg)
    assert (old["down"] > new["down"]).sum() == 10  # half of 20, as the share allows


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_a_refresh_exchanges_at_most_its_share_by_choice(share):
    cfg = config(max_tier=4, max_swaps=share, ramp_steps=10)
    old = allocation.allocate(*inputs(5), filled(0), filled(0), 3.5, cfg)
    new = allocation.allocate(*inputs(6), old, filled(99, np.int32), 3.5, cfg)
    gone = sum(int(((old[n] > 0) & (new[n] == 0)).sum()) for n in SHAPES)
    promoted = sum(int((a > 0).sum()) for a in old.values())
    assert gone <= share * promoted
    assert (gone > 0) == (share > 0)  # the scores are others now, so there is something to gain
    assert bits(new) <= 3.5 and bits(new) + cheapest_step(new, 4) > 3.5


def test_a_block_whose_ramp_is_not_over_stays():
    cfg = config(max_tier=4, max_swaps=1.0, ramp_steps=10)
    old = allocation.allocate(*inputs(5), filled(0), filled(0), 3.5, cfg)
    new = allocation.allocate(*inputs(6), old, filled(9, np.int32), 3.5, cfg)
    assert all((new[n] >= old[n]).all() for n in SHAPES)


def test_a_newcomer_must_be_better_by_the_hysteresis():
    cfg = config(max_tier=4, max_swaps=1.0, ramp_steps=0, hysteresis=1.5)
    scores, gains = filled(1, np.float64), inputs(0)[1]
    old = allocation.allocate({n: a * (1 + 1e-3 * i) for i, (n, a) in enumerate(scores.items())}, gains, filled(0), filled(0), 3.0, cfg)  # fmt: skip  # noqa: E501
    better = {name: np.where(old[name] > 0, 1.0, 1.4) for name in SHAPES}
    assert all(
        (allocation.allocate(better, gains, old, filled(9, np.int32), 3.0, cfg)[n] == old[n]).all() for n in SHAPES
    )
    much_better = {name: np.where(old[name] > 0, 1.0, 1.6) for name in SHAPES}
    assert any(
        (allocation.allocate(much_better, gains, old, filled(9, np.int32), 3.0, cfg)[n] != old[n]).any() for n in SHAPES
    )


def test_bits_are_those_of_a_hand_count():
    # 4 bits on one block of 16 × 32: 2·16·32 + 4·16·32 + 32 for its index.
    assert stored_block_bits(np.array([0.0, 4.0, 8.0]), 32).tolist() == [1024.0, 3104.0, 5152.0]
    assert TIERS == (0, 4, 8)
    assert largest_budget(MODEL, 0) == 2.0
    assert largest_budget(MODEL, 8) > 10.0
    # qkv: 64 × 32, o: 32 × 32, gate_up: 96 × 32, down: 32 × 48 weights; 4 + 2 blocks of qkv and o at 4 bits.
    assert largest_budget(MODEL, 4, ("qkv", "o")) == pytest.approx(2 + (4 * 3072 + 32 * 6) / 7680)
