"""Bits to blocks under a budget: the greatest benefit a bit first, few changes at a time.

A unit (a block of 16 rows, or a whole matrix of a layer) climbs the tiers one after another; the benefit of a step up
is the unit's score times the share of its error the step removes, and its price the stored bits it adds. Shares fall
from tier to tier, so taking steps by benefit a bit is the greedy solution of the knapsack (Dantzig 1957). Runs on the
host, between chunks.
"""

import dataclasses

import numpy as np

from bitzero.config import BLOCK_ROWS, Config, kernel_shapes, promotable
from bitzero.model.precision import TIERS, block_bits

Tiers = dict[str, np.ndarray]  # kernel → bits of each block, int8 [L, blocks]


@dataclasses.dataclass(kw_only=True)
class Units:
    """The units that share one budget, flat; rows of the arrays are units, columns the tiers 0, 4, 8."""

    benefit: np.ndarray  # [U, 3]
    bits: np.ndarray  # [U, 3] stored bits
    rung: np.ndarray  # [U] index of the unit's tier in TIERS, changed in place
    age: np.ndarray  # [U] updates since the last change
    top: int  # index of the largest tier allowed
    limit: float  # stored bits all together may take

    def used(self) -> float:
        """Stored bits at the present tiers."""
        return float(self.bits[np.arange(len(self.rung)), self.rung].sum())

    def price(self, unit: int) -> float:
        """Bits that the next step up of a unit adds."""
        at = self.rung[unit]
        return float(self.bits[unit, at + 1] - self.bits[unit, at])

    def density(self, up: bool) -> np.ndarray:
        """Benefit a bit of each unit's next step up (−∞ at the top) or of its last one (∞ at the bottom)."""
        unit, low = np.arange(len(self.rung)), np.clip(self.rung - (not up), 0, len(TIERS) - 2)
        gain = self.benefit[unit, low + 1] - self.benefit[unit, low]
        dense = gain / (self.bits[unit, low + 1] - self.bits[unit, low])
        return np.where(self.rung < self.top, dense, -np.inf) if up else np.where(self.rung > 0, dense, np.inf)


def allocate(
    scores: dict[str, np.ndarray], gains: dict[str, np.ndarray], now: Tiers, age: Tiers, budget: float, cfg: Config
) -> Tiers:
    """New tiers for a budget (mean stored bits a weight), never above it and with no step up left that would fit.

    ``scores`` [L, blocks] and ``gains`` [L, blocks, 3] are ``precision.scores`` and ``.gains``. Steps down that the
    budget forces come first; then free bits are spent; then at most ``max_swaps`` of the units promoted before step
    down by choice, none before its ramp is over and each for a newcomer that is ``hysteresis`` times as good. Fewer
    than 1/``max_swaps`` promoted units never change by choice: the share is rounded down. Kernels outside
    ``precision.kinds`` stay ternary; under ``scope`` "model" their bits count all the same.
    """
    kinds = promotable(cfg)
    new = {name: tier.copy() if name in kinds else np.zeros_like(tier) for name, tier in now.items()}
    for group in [kinds] if cfg.precision.scope == "model" else [(name,) for name in kinds]:
        part = units(group, scores, gains, now, age, budget, cfg)
        swaps = int(cfg.precision.max_swaps * np.count_nonzero(part.rung))  # of those promoted before this allocation
        shrink(part)
        grow(part)
        swap(part, swaps, cfg)
        grow(part)
        write(new, group, part, cfg)
    return new


def units(
    group: tuple[str, ...],
    scores: dict[str, np.ndarray],
    gains: dict[str, np.ndarray],
    now: Tiers,
    age: Tiers,
    budget: float,
    cfg: Config,
) -> Units:
    """The blocks or matrices of the kernels of ``group``, kernel by kernel and layer by layer."""
    shapes = kernel_shapes(cfg.model)
    columns = {name: shapes[name][1] for name in group}
    whole = cfg.precision.grain == "matrix"
    join = (lambda a: a.sum(axis=1)) if whole else (lambda a: a.reshape(-1, *a.shape[2:]))
    first = (lambda a: a[:, 0]) if whole else (lambda a: a.reshape(-1))
    gain = lambda name: np.maximum.accumulate(scores[name][..., None] * gains[name], axis=-1)
    price = lambda name: np.broadcast_to(block_bits(np.array(TIERS, float), columns[name]), (*now[name].shape, 3))
    counted = group if cfg.precision.scope == "kind" else tuple(shapes)  # what the budget is the mean of
    weights = {name: now[name].size * BLOCK_ROWS * shapes[name][1] for name in counted}
    others = sum(weights[name] for name in counted if name not in group)
    return Units(
        benefit=np.concatenate([join(gain(name)) for name in group]),
        bits=np.concatenate([join(price(name)) for name in group]),
        rung=np.concatenate([np.searchsorted(TIERS, first(now[name])) for name in group]),
        age=np.concatenate([first(age[name]) for name in group]),
        top=TIERS.index(cfg.model.max_tier),
        limit=budget * sum(weights.values()) * (1 + 1e-12) - 2.0 * others,
    )


def shrink(part: Units) -> None:
    """Steps down, the least benefit a bit first, until the budget holds."""
    while part.used() > part.limit and part.rung.any():
        part.rung[int(np.argmin(part.density(up=False)))] -= 1


def grow(part: Units) -> None:
    """Steps up, the greatest benefit a bit first, each that fits, until none does."""
    used, dense = part.used(), part.density(up=True)
    while (best := int(np.argmax(dense))) >= 0 and dense[best] > -np.inf:
        price = part.price(best)
        if used + price <= part.limit:
            part.rung[best] += 1
            used += price
            dense[best] = part.density(up=True)[best]
        else:
            dense[best] = -np.inf


def swap(part: Units, swaps: int, cfg: Config) -> None:
    """At most ``swaps`` steps down by choice, the weakest first, each lot for one strong step up."""
    settled = part.age >= cfg.precision.ramp_steps
    up = part.density(up=True)
    for best in map(int, np.argsort(-up, kind="stable")):
        down = np.where(settled, part.density(up=False), np.inf)
        down[best] = np.inf
        if up[best] <= cfg.precision.hysteresis * down.min():
            return
        room, gone = part.limit - part.used(), list[int]()
        for worst in map(int, np.argsort(down, kind="stable")[:swaps]):
            if room >= part.price(best) or up[best] <= cfg.precision.hysteresis * down[worst]:
                break
            room += float(part.bits[worst, part.rung[worst]] - part.bits[worst, part.rung[worst] - 1])
            gone.append(worst)
        if room >= part.price(best):
            part.rung[gone] -= 1
            part.rung[best] += 1
            swaps -= len(gone)


def write(new: Tiers, group: tuple[str, ...], part: Units, cfg: Config) -> None:
    """The units' tiers into the blocks of ``new``."""
    at = 0
    for name in group:
        layers, blocks = new[name].shape
        count = layers if cfg.precision.grain == "matrix" else layers * blocks
        tiers = np.array(TIERS, np.int8)[part.rung[at : at + count]]
        new[name] = np.broadcast_to(tiers.reshape(layers, -1), (layers, blocks)).copy()
        at += count
