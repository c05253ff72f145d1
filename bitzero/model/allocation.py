"""Bits to blocks under a budget: the greatest benefit a bit first, few changes at a time.

What is promoted is a *grain*: a block of 16 rows, or a whole matrix of a layer (``precision.grain``). It climbs the
tiers 0, 4, 8 one after another. The benefit of a step up is the grain's score times the share of its error that the
step removes, and its price the stored bits it adds. Those shares fall from tier to tier, so taking steps by benefit a
bit is the greedy solution of the knapsack (Dantzig 1957). Runs on the host, between chunks.
"""

import dataclasses
import typing

import numpy as np

from bitzero.config import BLOCK_ROWS, Config, kernel_shapes, promotable
from bitzero.model.precision import TIERS, stored_block_bits

BlockTiers = dict[str, np.ndarray]  # kernel → bits of each block, int8 [L, blocks]


@dataclasses.dataclass(kw_only=True)
class Grains:
    """The grains that share one budget, in one row after another: kernel by kernel, layer by layer."""

    benefit: np.ndarray  # [grains, 3] at each tier, over no tier
    bits: np.ndarray  # [grains, 3] stored bits at each tier
    tier_index: np.ndarray  # [grains] of the present tier in TIERS, changed in place
    age: np.ndarray  # [grains] updates since the last change
    top_index: int  # of the largest tier allowed
    bit_limit: float  # stored bits that all together may take

    def stored_bits(self) -> float:
        """Of all grains, at the present tiers."""
        return float(self.bits[np.arange(len(self.tier_index)), self.tier_index].sum())

    def step_up_bits(self, grain: int) -> float:
        """Bits that the next step up of a grain adds."""
        index = self.tier_index[grain]
        return float(self.bits[grain, index + 1] - self.bits[grain, index])

    def benefit_per_bit_up(self) -> np.ndarray:
        """Of each grain's next step up; −∞ where there is none."""
        return np.where(self.tier_index < self.top_index, self._benefit_per_bit(self.tier_index), -np.inf)

    def benefit_per_bit_down(self) -> np.ndarray:
        """Of each grain's last step up, lost by a step down; ∞ where there is none."""
        return np.where(self.tier_index > 0, self._benefit_per_bit(self.tier_index - 1), np.inf)

    def _benefit_per_bit(self, lower: np.ndarray) -> np.ndarray:
        """Of each grain's step from the tier at index ``lower`` to the one above."""
        grain, lower = np.arange(len(lower)), np.clip(lower, 0, len(TIERS) - 2)
        benefit = self.benefit[grain, lower + 1] - self.benefit[grain, lower]
        return benefit / (self.bits[grain, lower + 1] - self.bits[grain, lower])


def allocate(
    scores: dict[str, np.ndarray],
    removed_error: dict[str, np.ndarray],
    now: BlockTiers,
    age: dict[str, np.ndarray],
    budget: float,
    cfg: Config,
) -> BlockTiers:
    """New tiers for a budget (mean stored bits a weight): never above it, and no step up is left that would fit.

    ``scores`` [L, blocks] are ``precision.block_scores``, ``removed_error`` [L, blocks, 3] that of ``precision``.
    Kernels outside ``precision.kinds`` stay ternary; under ``scope`` "model" their bits count all the same.

    Changes by choice are few: at most ``max_swaps`` of the grains promoted before (rounded down: fewer than
    1/``max_swaps`` promoted grains never change), none before its ramp is over, and each for a newcomer that is
    ``hysteresis`` times as good.
    """
    names = promotable(cfg)
    new = {name: tier.copy() if name in names else np.zeros_like(tier) for name, tier in now.items()}
    benefit = {name: np.maximum.accumulate(scores[name][..., None] * removed_error[name], axis=-1) for name in names}
    for group in _groups_with_one_budget(cfg):
        grains = grains_of(group, benefit, now, age, budget, cfg)
        most_swaps = int(cfg.precision.max_swaps * np.count_nonzero(grains.tier_index))
        demote_to_budget(grains)
        spend_free_bits(grains)
        exchange(grains, most_swaps, cfg)
        spend_free_bits(grains)
        write_tiers(new, group, grains, cfg)
    return new


def _groups_with_one_budget(cfg: Config) -> list[tuple[str, ...]]:
    """The kernels that may be promoted, together or each by itself."""
    match cfg.precision.scope:
        case "model":
            return [promotable(cfg)]
        case "kind":
            return [(name,) for name in promotable(cfg)]
    typing.assert_never(cfg.precision.scope)


def _whole_matrices(cfg: Config) -> bool:
    """Whether a grain is a matrix of a layer, and not a block."""
    match cfg.precision.grain:
        case "matrix":
            return True
        case "block":
            return False
    typing.assert_never(cfg.precision.grain)


def grains_of(
    group: tuple[str, ...],
    benefit: dict[str, np.ndarray],
    now: BlockTiers,
    age: dict[str, np.ndarray],
    budget: float,
    cfg: Config,
) -> Grains:
    """The grains of the kernels of ``group``; ``benefit`` [L, blocks, 3] is that of every block at each tier."""
    shapes = kernel_shapes(cfg.model)
    # A matrix has the sum of its blocks' benefits and bits; its blocks have one tier and one age.
    whole = _whole_matrices(cfg)
    added_up = (lambda a: a.sum(axis=1)) if whole else (lambda a: a.reshape(-1, *a.shape[2:]))
    shared = (lambda a: a[:, 0]) if whole else (lambda a: a.reshape(-1))
    # Bits of every block at each tier.
    block_bits = {name: stored_block_bits(np.array(TIERS, float), shapes[name][1]) for name in group}
    bits = {name: np.broadcast_to(block_bits[name], (*now[name].shape, 3)) for name in group}
    # The budget is a mean over the group, or over all matrices, of which those outside the group stay at two bits.
    counted = group if cfg.precision.scope == "kind" else tuple(shapes)
    weights = {name: now[name].size * BLOCK_ROWS * shapes[name][1] for name in counted}
    others = sum(weights[name] for name in counted if name not in group)
    return Grains(
        benefit=np.concatenate([added_up(benefit[name]) for name in group]),
        bits=np.concatenate([added_up(bits[name]) for name in group]),
        tier_index=np.concatenate([np.searchsorted(TIERS, shared(now[name])) for name in group]),
        age=np.concatenate([shared(age[name]) for name in group]),
        top_index=TIERS.index(cfg.model.max_tier),
        bit_limit=budget * sum(weights.values()) * (1 + 1e-12) - 2.0 * others,
    )


def demote_to_budget(grains: Grains) -> None:
    """Steps down, the least benefit a bit first, until the budget holds."""
    while grains.stored_bits() > grains.bit_limit and grains.tier_index.any():
        grains.tier_index[int(np.argmin(grains.benefit_per_bit_down()))] -= 1


def spend_free_bits(grains: Grains) -> None:
    """Steps up, the greatest benefit a bit first, each that fits, until none does."""
    stored, per_bit = grains.stored_bits(), grains.benefit_per_bit_up()
    while (best := int(np.argmax(per_bit))) >= 0 and per_bit[best] > -np.inf:
        bits = grains.step_up_bits(best)
        if stored + bits <= grains.bit_limit:
            grains.tier_index[best] += 1
            stored += bits
            per_bit[best] = grains.benefit_per_bit_up()[best]
        else:
            per_bit[best] = -np.inf


def exchange(grains: Grains, most_swaps: int, cfg: Config) -> None:
    """For each strong step up the weakest settled grains step down to free bits, at most ``most_swaps`` in all."""
    settled = grains.age >= cfg.precision.ramp_steps
    up = grains.benefit_per_bit_up()
    for best in map(int, np.argsort(-up, kind="stable")):
        # Who may step down for it: grains whose ramp is over, and that are weaker by the hysteresis.
        down = np.where(settled, grains.benefit_per_bit_down(), np.inf)
        down[best] = np.inf
        if up[best] <= cfg.precision.hysteresis * down.min():
            return
        # As many of the weakest as free the bits for it.
        free_bits, demoted = grains.bit_limit - grains.stored_bits(), list[int]()
        for worst in map(int, np.argsort(down, kind="stable")[:most_swaps]):
            if free_bits >= grains.step_up_bits(best) or up[best] <= cfg.precision.hysteresis * down[worst]:
                break
            index = grains.tier_index[worst]
            free_bits += float(grains.bits[worst, index] - grains.bits[worst, index - 1])
            demoted.append(worst)
        # All of them step down, or, if that is not enough, none.
        if free_bits >= grains.step_up_bits(best):
            grains.tier_index[demoted] -= 1
            grains.tier_index[best] += 1
            most_swaps -= len(demoted)


def write_tiers(new: BlockTiers, group: tuple[str, ...], grains: Grains, cfg: Config) -> None:
    """Writes the grains' tiers into the blocks of ``new``."""
    start = 0
    for name in group:
        layers, blocks = new[name].shape
        count = layers if _whole_matrices(cfg) else layers * blocks
        tiers = np.array(TIERS, np.int8)[grains.tier_index[start : start + count]]
        new[name] = np.broadcast_to(tiers.reshape(layers, -1), (layers, blocks)).copy()
        start += count
