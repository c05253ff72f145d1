"""Figures of self-play at its beginning and at its end, and the largest, kept for who compares runs.

TensorBoard has those of every step. Here are the means over the first and the last tenth of the steps, ``MOST`` at
most. They are kept by step, so that steps that are run again count once.
"""

import math
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from bitzero.config import Config, steps_in_all

MOST = 50  # steps of either end
ENDS = ("first", "last")
FIGURES = {  # name → tag in TensorBoard
    "kl": "quant/kl_rollout_train",
    "max_ratio": "quant/max_ratio",
    "entropy": "selfplay/entropy_solve",
    "valid": "selfplay/valid_rate",
    "novel": "selfplay/unique_history",
    "level_as_asked": "selfplay/level_as_asked",
    "no_spread": "selfplay/zero_sigma_groups",
}
PEAKS = ("kl", "max_ratio")  # of which the largest of all steps is kept too


def ends(cfg: Config) -> dict[str, range]:
    """The updates of self-play that each end has, by number: 1 is the first of warm-up."""
    begin, end = cfg.warmup.steps, steps_in_all(cfg)
    size = min(MOST, math.ceil((end - begin) / 10))
    return dict(zip(ENDS, (range(begin + 1, begin + size + 1), range(end - size + 1, end + 1)), strict=True))


def note_steps(
    kept: dict[str, dict[str, float]],
    peaks: dict[str, float],
    first: int,
    values: Mapping[str, np.ndarray],
    cfg: Config,
) -> None:
    """Keeps the figures of the steps of a chunk after ``first``: tag → f32[k]. What is not finite is left out.

    ``kept``: step of either end → figures. ``peaks``: figure → the largest so far.
    """
    wanted = {step for steps in ends(cfg).values() for step in steps}
    columns = {name: np.asarray(values[tag], np.float64) for name, tag in FIGURES.items() if tag in values}
    for i in range(min((len(column) for column in columns.values()), default=0)):
        told = {name: float(column[i]) for name, column in columns.items() if math.isfinite(column[i])}
        if first + i + 1 in wanted:
            kept[str(first + i + 1)] = told
        for name in told.keys() & set(PEAKS):
            peaks[name] = max(told[name], peaks.get(name, told[name]))


def figures(kept: Mapping[str, Mapping[str, float]], peaks: Mapping[str, float], cfg: Config) -> dict[str, Any]:
    """``run.json``'s account: the means of both ends over the steps run so far, and the largest; {} before any."""
    found: dict[str, Any] = {}
    for end, steps in ends(cfg).items():
        rows = [kept[str(step)] for step in steps if str(step) in kept]
        means = {name: [row[name] for row in rows if name in row] for name in FIGURES}
        if rows:
            found[end] = {name: _rounded(statistics.fmean(column)) for name, column in means.items() if column}
            found[end]["steps"] = len(rows)
    return found | ({"largest": {name: _rounded(value) for name, value in sorted(peaks.items())}} if peaks else {})


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
