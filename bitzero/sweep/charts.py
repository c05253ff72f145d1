"""The pictures of a sweep's report as PNG bytes: quality against stored bits, and where the bits went."""

import io
import logging
import math
from collections.abc import Sequence

import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bitzero.config import Model, kernel_shapes
from bitzero.sweep.results import Row, SeedMean, Summary, at_precisions

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it narrates its font cache

MATRICES = tuple(kernel_shapes(Model()))  # of a layer, in its order
_TICKS = (2, 2.25, 2.5, 3, 4, 5, 6, 8)  # stored bits worth a label
_OFF_CHART = 8.0  # stored bits; what is larger is something to aim at, drawn as a line across
_DODGE = 0.006  # neighbouring series are drawn this share of x apart, so that their intervals can be told apart
# Colours that people with colour-blindness tell apart (Okabe and Ito 2008), then the same with other markers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "os^Dv*P"
_TIERS = matplotlib.colors.ListedColormap(["#e8e8e8", "#56B4E9", "#00305a"])  # ternary, 4 bits, 8 bits
_SEPARATOR = 1  # columns between two matrices of a map


def quality_chart(summaries: Sequence[Summary], reference: str) -> bytes:
    """Nats and accuracy against stored bits, one line a series, with 95 % intervals over seeds."""
    figure = Figure(figsize=(13, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    paired = any(one.change for one in summaries)
    nats = [one.change if paired else one.nats for one in summaries]
    _draw_series(left, summaries, nats, 1.0, reference)
    _draw_series(right, summaries, [one.accuracy for one in summaries], 100.0, reference)
    left.set_ylabel(f"nats an answer token, less those of {reference}" if paired else "nats an answer token")
    left.set_title("held-out nats (lower is better" + (", paired by seed)" if paired else ")"))
    right.set_ylabel("answers right, %")
    right.set_title("held-out accuracy (greedy decoding)")
    if paired:
        left.axhline(0.0, color="#999999", linewidth=0.8, zorder=0)
    handles, labels = left.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return _png_bytes(figure)


def precision_chart(table: Sequence[Row]) -> bytes | None:
    """The same weights at several precisions: means over seeds against the bits they are asked at, a line a point."""
    points = dict.fromkeys((row["name"], row["series"]) for row in table if len(row.get("levels") or []) > 1)
    if not points:
        return None
    series = list(dict.fromkeys(name for _, name in points))
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    for axes, column, scale, label in zip(
        figure.subplots(1, 2), ("nats", "accuracy"), (1.0, 100.0), ("nats an answer token", "answers right, %"),
        strict=True,
    ):  # fmt: skip
        for point, its in points:
            line, own = at_every_precision(table, point, column)
            number = series.index(its)
            colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number // len(_COLOURS) % len(_MARKERS)]
            first = next(name for name, other in points if other == its) == point
            axes.plot([x for x, _ in line], [scale * y for _, y in line], color=colour, linewidth=0.8, alpha=0.6)
            axes.plot([own[0]], [scale * own[1]], color=colour, marker=marker, label=its if first else None)
        axes.set_xscale("log", base=2)
        axes.set_xticks([2, 4, 6, 8, 16, 32], ["2", "4", "6", "8", "16", "32"])
        axes.minorticks_off()
        axes.set_xlabel("stored bits a weight that the trained weights are asked at; marked: those of the training")
        axes.set_ylabel(label)
        axes.grid(True, color="#eeeeee")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return _png_bytes(figure)


def at_every_precision(
    table: Sequence[Row], point: str, column: str
) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """(stored bits, mean of ``column`` over seeds) of every precision a point was asked at, and as it was trained."""
    rows = [row for row in table if row["name"] == point]
    over = lambda found: (_column_mean(found, "stored_bits"), _column_mean(found, column))
    return sorted(over(found) for found in at_precisions(table, point).values()), over(rows)


def _column_mean(rows: Sequence[Row], column: str) -> float:
    return float(np.mean([row[column] for row in rows]))


def tier_maps(table: Sequence[Row]) -> bytes | None:
    """Layers × blocks of one seed of every point with promoted blocks, the four matrices side by side."""
    shown: dict[str, Row] = {}
    for row in table:
        if row.get("map") and any(any(any(layer) for layer in matrix) for matrix in row["map"].values()):
            shown.setdefault(row["name"], row)
    if not shown:
        return None
    layers = max(len(row["map"][MATRICES[0]]) for row in shown.values())
    height = len(shown) * (0.16 * layers + 0.55)
    figure = Figure(figsize=(13, height), layout="constrained")
    for axes, row in zip(np.ravel(figure.subplots(len(shown), 1, squeeze=False)), shown.values(), strict=True):
        _draw_tier_map(axes, row)
    return _png_bytes(figure)


def _draw_series(
    axes: Axes, summaries: Sequence[Summary], means: Sequence[SeedMean | None], scale: float, reference: str
) -> None:
    """Draws ``scale`` × ``means`` with their intervals, one line a series; those far larger as a line across."""
    sizes = [one.size for one in summaries if one.size <= _OFF_CHART] or [2.0]
    alike = max(sizes) < 1.01 * min(sizes)  # a sweep of something else: the points stand side by side
    lines: dict[str, list[tuple[float, SeedMean]]] = {}
    for number, (one, value) in enumerate(zip(summaries, means, strict=True)):
        if value:
            lines.setdefault(one.point.series, []).append((float(number) if alike else one.size, value))
    for number, (series, found) in enumerate(lines.items()):
        found.sort(key=lambda pair: pair[0])
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number // len(_COLOURS) % len(_MARKERS)]
        if not alike and found[0][0] > _OFF_CHART:
            height = scale * found[0][1].value
            axes.axhline(height, label=f"{series} ({found[0][0]:g} bits)", color=colour, linestyle="--", linewidth=1)
            continue
        shift = 1.0 if alike else 1 + _DODGE * (number - (len(lines) - 1) / 2)
        axes.errorbar(
            [at * shift for at, _ in found],
            [scale * value.value for _, value in found],
            yerr=[scale * (value.half or 0.0) for _, value in found],
            label=series, color=colour, marker=marker, capsize=3, markersize=5, linestyle="none" if alike else "-",
            linewidth=1.3,
        )  # fmt: skip
    if alike:
        axes.set_xticks(range(len(summaries)), [one.point.name for one in summaries], rotation=30, ha="right")
    else:
        _bits_axis(axes, sizes, reference)
    axes.grid(True, color="#eeeeee")


def _bits_axis(axes: Axes, sizes: Sequence[float], reference: str) -> None:
    axes.set_xscale("log", base=2)
    axes.minorticks_off()
    shown = [tick for tick in _TICKS if min(sizes) * 0.97 <= tick <= max(sizes) * 1.03]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_xlim(min(sizes) * 0.95, max(sizes) * 1.05)
    axes.set_xlabel(f"stored bits ÷ ternary-able weights of the point {reference}")


def _draw_tier_map(axes: Axes, row: Row) -> None:
    """Draws one point's tiers: a row a layer, a column a block of 16 rows."""
    matrices = [name for name in MATRICES if name in row["map"]]
    parts, starts, at = [], [], 0
    for name in matrices:
        part = np.asarray(row["map"][name], float)
        parts += [part, np.full((len(part), _SEPARATOR), math.nan)]
        starts.append(at)
        at += part.shape[1] + _SEPARATOR
    axes.imshow(
        np.concatenate(parts[:-1], axis=1), cmap=_TIERS, norm=matplotlib.colors.BoundaryNorm([-1, 2, 6, 10], 3),
        aspect="auto", interpolation="nearest",
    )  # fmt: skip
    axes.set_title(f"{row['name']}, seed {row['seed']}", loc="left", fontsize=9)
    axes.set_xticks(starts, matrices, fontsize=8, ha="left")
    axes.set_yticks(range(len(parts[0])), [f"layer {i}" for i in range(len(parts[0]))], fontsize=7)


def _png_bytes(figure: Figure) -> bytes:
    """``figure`` as PNG; the same bytes for the same figures."""
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out, metadata={"Software": None})
    return out.getvalue()
