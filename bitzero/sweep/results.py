"""What finished runs of a sweep say: one row a run, ``sweep.csv``, and the paired statistics over seeds.

Two runs of one seed saw the same data in the same order, so differences are taken seed by seed before anything is
averaged. Intervals are Student's t over seeds: they say how far another draw of seeds would move the mean.
"""

import csv
import dataclasses
import io
import math
import pathlib
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from bitzero.config import spends
from bitzero.run import played, workdir
from bitzero.run.workdir import RunError
from bitzero.sweep.plan import Plan, Point, SweepJob

Row = dict[str, Any]

BEFELL = ("retries", "skipped_steps", "alarms")  # self-play, in numbers
PLAY = (  # of self-play on its way: by end, the largest, and what befell it
    *(f"{name}_{end}" for name in played.FIGURES for end in played.ENDS),
    *(f"{name}_largest" for name in played.PEAKS), *BEFELL,
)  # fmt: skip
COLUMNS = (
    "name", "series", "x", "seed", "stored_bits", "nats", "accuracy", "bytes", "parameter_hash", "commit",
    *PLAY, "tokens_per_second", "minutes",
)  # fmt: skip
TIMING = ("tokens_per_second", "minutes")  # what another time of running may change
CONTROL = "random"  # the series that a signal has to beat
ENOUGH = 2.0  # seed standard deviations
_AVERAGED = ("stored_bits", "entropy_bits", "nats", "accuracy", "tokens_per_second", "minutes")
_TRAINING = ("full", "ramp", "integer", "selfplay")  # activities of `run.json` that are training steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedMean:
    """A mean over seeds; ``half`` is half the width of its 95 % interval, None for one seed."""

    value: float
    half: float | None
    n: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advantage:
    """How many nats an answer token a series is better than the control at the same stored bits."""

    nats: float
    deviations: float | None  # ``nats`` ÷ the standard deviation of the paired difference over seeds; None: one seed
    n: int

    @property
    def beats(self) -> bool:
        """Whether it is larger than two seed standard deviations."""
        return self.deviations is not None and self.deviations > ENOUGH


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """One point over its finished seeds; None where nothing was measured."""

    point: Point
    bits: SeedMean  # stored bits of its own weights
    size: float  # stored bits of all of them ÷ weights of the reference: comparable between widths
    entropy_bits: SeedMean | None
    nats: SeedMean | None
    change: SeedMean | None  # of ``nats`` to the reference, paired
    advantage: Advantage | None  # over the control at the same x, paired
    accuracy: SeedMean | None
    tokens_per_second: SeedMean | None
    minutes: SeedMean | None
    bytes: int
    seeds: int


def write_result(job: SweepJob) -> None:
    """Writes ``result.json`` of a finished run; raises ``RunError`` where the run has not come to its end."""
    run = workdir.read_json(job.home / "run.json")
    if job.point is None:
        until = int(job.settings["run.until"])
        if run["step"] != until or not (job.home / "checkpoints" / str(until)).is_dir():
            raise RunError(f"it ended at step {run['step']:,}, before step {until:,}")
        workdir.write_json(job.result, {name: run.get(name) for name in ("step", "tokens", "seconds", "minutes")})
        return
    if not (job.home / "eval.json").exists():
        raise RunError(f"it ended at step {run['step']:,} of {run['steps']:,} without an evaluation")
    items = job.home / "items.json"
    answers = (
        {title: digits["right"] for title, digits in workdir.read_json(items)["rows"].items()} if items.exists() else {}
    )
    row = _result_row(job, run, workdir.read_json(job.home / "eval.json"))
    workdir.write_json(job.result, row | {"answers": answers})


def ran_to_its_end(job: SweepJob) -> bool:
    """Whether ``job`` ran to its end, whether or not its ``result.json`` is written; raises ``RunError``."""
    if job.result.exists():
        return True
    if job.point is None or not all((job.home / name).exists() for name in ("eval.json", "run.json")):
        return False
    run, evaluation = (workdir.read_json(job.home / name) for name in ("run.json", "eval.json"))
    return run["step"] == run["steps"] == evaluation["step"]


def finished_rows(plan: Plan) -> list[Row]:
    """The figures of every finished run, point by point."""
    found = {job.title: workdir.read_json(job.result) for job in plan.runs() if job.result.exists()}
    place = {point.name: number for number, point in enumerate(plan.points)}
    return sorted(found.values(), key=lambda row: (place[row["name"]], row["seed"]))


def write_csv(file: pathlib.Path, table: Iterable[Row]) -> None:
    """``sweep.csv``: a line a run; a figure that was not measured is empty. Raises ``RunError``."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in table:
        writer.writerow(["" if row.get(name) is None else row[name] for name in COLUMNS])
    workdir.replace_file(file, text.getvalue().encode())


def summarise(plan: Plan, table: Sequence[Row]) -> list[Summary]:
    """One summary for every point with a finished run, in the order of the sweep file; ``table`` is not empty."""
    weights = next((row["weights"] for row in table if row["name"] == plan.reference), table[0]["weights"])
    return [
        _summarise_point(point, table, weights, plan.reference)
        for point in plan.points
        if figures_by_seed(table, point.name, "stored_bits")
    ]


def seed_mean(values: Sequence[float]) -> SeedMean | None:
    """Mean and Student interval of ``values``, one a seed; None of nothing."""
    if not values:
        return None
    centre = math.fsum(values) / len(values)
    if len(values) == 1:
        return SeedMean(value=centre, half=None, n=1)
    spread = statistics.stdev(values)
    return SeedMean(
        value=centre, half=student_quantile(len(values) - 1) * spread / math.sqrt(len(values)), n=len(values)
    )


def student_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t; raises ``ValueError`` below one degree of freedom."""
    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom")
    from scipy import stats  # not above: its import takes about a second, and a sweep starts without a report

    return float(stats.t.ppf(0.975, freedom))


def figures_by_seed(table: Iterable[Row], name: str, column: str) -> dict[int, float]:
    """Seed → figure of the point ``name``; runs without that figure are left out."""
    return {row["seed"]: row[column] for row in table if row["name"] == name and row.get(column) is not None}


def at_precisions(table: Iterable[Row], name: str) -> dict[str, list[Row]]:
    """Precision that the weights of the point ``name`` were asked at → what was found there, one a seed."""
    found: dict[str, list[Row]] = {}
    for row in table:
        for asked in (row.get("levels") or []) if row["name"] == name else []:
            found.setdefault(asked["name"], []).append(asked)
    return found


def paired_change(table: Sequence[Row], name: str, reference: str, column: str = "nats") -> SeedMean | None:
    """Paired difference of the point ``name`` to the point ``reference``, over the seeds both have."""
    these, those = figures_by_seed(table, name, column), figures_by_seed(table, reference, column)
    return seed_mean([these[seed] - those[seed] for seed in sorted(these.keys() & those.keys())])


def paired_advantage(table: Sequence[Row], series: str, x: float | None = None) -> Advantage | None:
    """By how many nats ``series`` is better than the control at ``x``, or over every x both have (a mean a seed).

    None where they share no x, or no seed that has them all.
    """
    these, those = _nats_by_x(table, series), _nats_by_x(table, CONTROL)
    shared = [at for at in these if at in those and x in (None, at)]
    if not shared:
        return None
    seeds = set.intersection(*(these[at].keys() & those[at].keys() for at in shared))
    gains = [math.fsum(those[at][seed] - these[at][seed] for at in shared) / len(shared) for seed in sorted(seeds)]
    if not gains:
        return None
    nats = math.fsum(gains) / len(gains)
    return Advantage(nats=nats, deviations=_in_deviations(nats, gains), n=len(gains))


def compared_signals(table: Sequence[Row]) -> list[str]:
    """The series whose blocks are chosen by a signal, and which share an x with the control."""
    named = dict.fromkeys(row["series"] for row in table if row.get("signal") and row["series"] != CONTROL)
    return [series for series in named if paired_advantage(table, series)]


def verdict_sentence(table: Sequence[Row], signal: str) -> str:
    """One sentence: whether ``signal`` beats the control."""
    found = paired_advantage(table, signal)
    assert found, signal
    size = f"its paired advantage is {found.nats:+.4f} nats an answer token"
    if found.deviations is None:
        return f"{signal} does not beat random by more than 2 seed standard deviations ({size}; one seed has none)."
    size += f", {found.deviations:+.1f} seed standard deviations over {found.n} seeds"
    if found.beats:
        return f"{signal} beats random by more than 2 seed standard deviations ({size})."
    return f"{signal} does not beat random by more than 2 seed standard deviations ({size})."


def _summarise_point(point: Point, table: Sequence[Row], weights: int, reference: str) -> Summary:
    own = next(row["weights"] for row in table if row["name"] == point.name)
    over = {name: seed_mean(list(figures_by_seed(table, point.name, name).values())) for name in _AVERAGED}
    bits = over["stored_bits"]
    assert bits
    return Summary(
        point=point, bits=bits, size=bits.value * own / weights, entropy_bits=over["entropy_bits"], nats=over["nats"],
        change=paired_change(table, point.name, reference), accuracy=over["accuracy"],
        advantage=None if point.series == CONTROL else paired_advantage(table, point.series, point.x),
        tokens_per_second=over["tokens_per_second"], minutes=over["minutes"],
        bytes=next(row["bytes"] for row in table if row["name"] == point.name), seeds=bits.n,
    )  # fmt: skip


def _in_deviations(nats: float, gains: Sequence[float]) -> float | None:
    if len(gains) < 2:
        return None
    spread = statistics.stdev(gains)
    return nats / spread if spread else math.copysign(math.inf, nats) if nats else 0.0


def _nats_by_x(table: Iterable[Row], series: str) -> dict[float, dict[int, float]]:
    """x → seed → nats of one series."""
    found: dict[float, dict[int, float]] = {}
    for row in table:
        if row["series"] == series and row.get("nats") is not None:
            found.setdefault(row["x"], {})[row["seed"]] = row["nats"]
    return found


def _result_row(job: SweepJob, run: Row, evaluation: Row) -> Row:
    """The figures of one finished point."""
    assert job.point
    held = evaluation["precision"]
    return {
        "name": job.point.name,
        "series": job.point.series,
        "x": job.point.x,
        "seed": job.seed,
        "stored_bits": held["stored_bits"],
        "nats": held["nats"],
        "accuracy": held["accuracy"],
        "bytes": round(held["stored_bits"] * held["weights"] / 8),
        "parameter_hash": run["parameter_hash"],
        "commit": evaluation["commit"],
        "signal": job.cfg.precision.signal if spends(job.cfg) else "",
        "weights": held["weights"],
        "entropy_bits": held.get("entropy_bits"),
        "items": held.get("n"),
        "tokens": held.get("tokens"),
        "levels": held.get("levels", []),
        "map": held.get("map"),
        **_play_figures(run),
        **_cost_figures(job, run),
    }


def _play_figures(run: Row) -> Row:
    """The columns ``PLAY``; None of a run without self-play, and of one of before they were kept."""
    told = run.get("played") or {}
    by_end = {f"{name}_{end}": value for end, figures in told.items() for name, value in figures.items()}
    befell = {name: run.get(name) for name in BEFELL} if told else {}
    return {name: (by_end | befell).get(name) for name in PLAY}


def _cost_figures(job: SweepJob, run: Row) -> Row:
    """Wall minutes and training speed since the branch, what the warm-up cost taken away.

    Tokens a second: a phase's first step compiles, and its seconds are counted apart; so its tokens are left out too.
    """
    nothing: Row = {"step": 0, "tokens": 0, "seconds": {}, "minutes": 0.0}
    base = workdir.read_json(job.base.result) if job.base else nothing
    since = {name: value - base["seconds"].get(name, 0.0) for name, value in run["seconds"].items()}
    steps = run["step"] - base["step"]
    compiled = sum(name.startswith("compile ") and seconds > 0 for name, seconds in since.items())
    share = max(0.0, 1 - compiled / steps)
    seconds = sum(since.get(name, 0.0) for name in _TRAINING)
    speed = share * (run["tokens"] - base["tokens"]) / seconds if seconds > 0 and share else None
    minutes = max(0.0, run["minutes"] - base["minutes"])
    return {"tokens_per_second": speed and round(speed, 1), "minutes": round(minutes, 2)}
