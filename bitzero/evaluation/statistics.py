"""Intervals: how sure a measured share or a paired difference is."""

import numpy as np
from jaxtyping import Bool


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % score interval of a share of ``hits`` in ``n`` (Wilson 1927); (0, 1) for n = 0.

    Unlike the normal interval it stays inside [0, 1] and is honest at 0 and n hits. Raises ``ValueError`` for more
    hits than ``n``.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits in {n}")
    if n == 0:
        return 0.0, 1.0
    from scipy import stats  # not above: its import takes about a second, and training needs none of it

    interval = stats.binomtest(hits, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def paired_gain(
    before: Bool[np.ndarray, " n"], after: Bool[np.ndarray, " n"], *, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean difference after − before over the same items and its 95 % percentile bootstrap interval (Efron 1979).

    An item contributes −1, 0 or 1, so a resample is a multinomial draw of the three counts. (0, −1, 1) for n = 0.
    """
    change = after.astype(int) - before.astype(int)
    if not change.size:
        return 0.0, -1.0, 1.0
    shares = [np.mean(change == value) for value in (-1, 0, 1)]
    counts = np.random.default_rng(seed).multinomial(change.size, shares, size=resamples)
    means = (counts[:, 2] - counts[:, 0]) / change.size
    low, high = np.quantile(means, [0.025, 0.975])
    return float(change.mean()), float(low), float(high)
