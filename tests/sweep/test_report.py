"""What a sweep concludes: paired statistics worked out by hand, the CSV, and a report that needs nothing else."""

import base64
import csv
import json
import math
import pathlib
import re

import pytest
from tensorboard.backend.event_processing import event_accumulator

from bitzero.run.workdir import RunError
from bitzero.sweep import charts, report, results
from bitzero.sweep.plan import SweepOrder, read_plan

ROOT = pathlib.Path(__file__).parents[2]
SWEEP = """
BASE = {"warmup.steps": 40, "warmup.ramp_start": 0.5}
BRANCH = 20
AFTER_BRANCH = ("precision", "warmup.ramp_end", "eval")


def points():
    yield "ternary", "ternary", 2.0, {}
    for signal in ("fisher", "magnitude", "random"):
        yield f"{signal}-2.5", signal, 2.5, {"precision.budget": 2.5, "precision.signal": signal}
    yield "wide", "wider", 3.0, {"model.ffn_width": 96, "seeds": 1}
"""
# Nats by seed. To ternary: fisher −0.1, −0.2, −0.1. Over random: fisher 0.05, 0.10, 0; magnitude 0.15, 0.14, 0.16.
NATS = {
    "ternary": (1.0, 1.1, 1.2),
    "fisher-2.5": (0.9, 0.9, 1.1),
    "magnitude-2.5": (0.8, 0.86, 0.94),
    "random-2.5": (0.95, 1.0, 1.1),
    "wide": (0.97,),
}


def planned(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(f'"""A <sweep> of & for tests."""\n{SWEEP}')
    spec = str(ROOT / "experiments" / "smoke.py")
    return read_plan(SweepOrder(spec=spec, file=file, home=tmp_path / "home", seeds=3))


def run(job, *, step, tokens, seconds, minutes):
    """What training leaves in ``job``'s directory."""
    job.home.mkdir(parents=True, exist_ok=True)
    (job.home / "run.json").write_text(json.dumps({
        "step": step, "steps": 48, "tokens": tokens, "seconds": seconds, "minutes": minutes,
        "parameter_hash": f"hash of {job.title}",
    }))  # fmt: skip


def evaluate(job):
    """What evaluation leaves there; a wide model has 1.5 times the weights."""
    promoted = [[0, 4, 0, 8], [4, 4, 0, 0]] if job.cfg.precision.budget > 2 else [[0] * 4] * 2
    nats = NATS[job.point.name][job.seed]
    levels = [
        {"name": "ternary", "stored_bits": 2.0, "nats": nats + 0.5, "accuracy": 0.1},
        {"name": "budget", "stored_bits": 2.5, "nats": nats, "accuracy": 0.25},
    ]
    (job.home / "eval.json").write_text(json.dumps({
        "step": 48, "commit": "abc", "precision": {
            "stored_bits": job.cfg.precision.budget, "entropy_bits": 1.6, "nats": nats, "tokens": 100, "n": 20,
            "accuracy": 0.25, "weights": 12_000 if job.point.name == "wide" else 8_000, "trained_as": "budget",
            "levels": levels, "map": dict.fromkeys(("qkv", "o", "gate_up", "down"), promoted),
        },
    }))  # fmt: skip


def finish(job):
    """As if ``job`` had run: 20 steps of warm-up, 28 more to the end, of which two compiled."""
    if job.point is None:
        run(job, step=20, tokens=2_000, seconds={"full": 2.0, "compile full": 3.0}, minutes=0.5)
        (job.home / "checkpoints" / "20").mkdir(parents=True)
    else:
        seconds = {"full": 2.0, "compile full": 3.0, "ramp": 4.0, "compile ramp": 5.0, "compile integer": 6.0, "dev": 1}
        run(job, step=48, tokens=4_800, seconds=seconds, minutes=1.25)
        evaluate(job)
    results.write_result(job)


@pytest.fixture
def plan(tmp_path):
    plan = planned(tmp_path)
    for job in plan.jobs:
        finish(job)
    return plan


@pytest.fixture
def table(plan):
    return results.finished_rows(plan)


def test_a_row_is_the_runs_figures_and_its_cost_after_the_branch(table):
    row = next(row for row in table if row["name"] == "fisher-2.5" and row["seed"] == 1)
    assert {name: row[name] for name in results.COLUMNS} == {
        "name": "fisher-2.5", "series": "fisher", "x": 2.5, "seed": 1, "stored_bits": 2.5, "nats": 0.9,
        "accuracy": 0.25, "bytes": 2_500, "parameter_hash": "hash of fisher-2.5 seed 1", "commit": "abc",
        # 2,800 tokens in 28 steps; two of them compiled, so 2,600 tokens in the 4 s of the others
        "tokens_per_second": 650.0, "minutes": 0.75, **dict.fromkeys(results.PLAY),
    }  # fmt: skip
    assert row["signal"] == "fisher"
    assert not next(row for row in table if row["name"] == "wide")["signal"]


def played_runs(plan):
    """As if "ternary" had played: KLs by seed 1, 2 and 3 first and ten times as large last, a retry with seed 2."""
    for job in plan.runs():
        if job.point.name == "ternary":
            file = job.home / "run.json"
            ends = {"first": {"kl": 1.0 + job.seed, "valid": 0.25}, "last": {"kl": 10.0 * (1 + job.seed), "novel": 0.5}}
            told = {**ends, "largest": {"kl": 50.0 + job.seed, "max_ratio": 1.5}}
            befell = {"retries": int(job.seed == 2), "skipped_steps": 2, "alarms": 1}
            file.write_text(json.dumps(json.loads(file.read_text()) | {"played": told, **befell}))
            results.write_result(job)
    return results.finished_rows(plan)


def test_a_row_has_the_figures_of_self_play_on_its_way(plan, tmp_path):
    table = played_runs(plan)
    row = next(row for row in table if row["name"] == "ternary" and row["seed"] == 2)
    assert {name: row[name] for name in results.PLAY if row[name] is not None} == {
        "kl_first": 3.0, "valid_first": 0.25, "kl_last": 30.0, "novel_last": 0.5, "kl_largest": 52.0,
        "max_ratio_largest": 1.5, "retries": 1, "skipped_steps": 2, "alarms": 1,
    }  # fmt: skip
    results.write_csv(tmp_path / "sweep.csv", table)
    with open(tmp_path / "sweep.csv", newline="") as handle:
        first = next(csv.DictReader(handle))
    assert (first["name"], first["kl_last"], first["entropy_last"], first["retries"]) == ("ternary", "10.0", "", "0")


def test_the_report_shows_self_play_on_its_way_where_there_is_any(plan, table):
    assert "Self-play on its way" not in report.report_page(plan, table, b"")
    page = report.report_page(plan, played_runs(plan), b"")
    section = page[page.index("Self-play on its way") :]
    rows = [re.findall(r"<td>(.*?)</td>", line) for line in section.splitlines() if line.startswith("<tr><td>")]
    # Means over the three seeds, the largest of them, and sums.
    assert rows[0] == [
        "ternary", "ternary", "2 → 20", "– → –", "– → –", "25.0 → –", "– → 50.0", "– → –", "– → –",
        "52", "1.5", "1", "6", "3",
    ]  # fmt: skip
    assert rows[1] == ["fisher-2.5", "fisher", *["– → –"] * 7, *["–"] * 5]


def test_rows_stand_in_the_order_of_the_points(table):
    assert [(row["name"], row["seed"]) for row in table] == [
        (name, seed) for name, found in NATS.items() for seed in range(len(found))
    ]


def test_csv_has_a_line_a_run_and_timing_last(plan, table, tmp_path):
    results.write_csv(tmp_path / "sweep.csv", [{**table[0], "nats": None}, *table[1:]])
    with open(tmp_path / "sweep.csv", newline="") as handle:
        header, first, *rest = csv.reader(handle)
    assert tuple(header) == results.COLUMNS and tuple(header[-2:]) == results.TIMING
    assert first[:7] == ["ternary", "ternary", "2.0", "0", "2.0", "", "0.25"] and len(rest) == 12
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_change_is_paired_by_seed(table):
    """Differences −0.1, −0.2, −0.1: mean −2/15, standard deviation √(1/300), t of 2 degrees of freedom 4.3027."""
    found = results.paired_change(table, "fisher-2.5", "ternary")
    assert found.n == 3 and found.value == pytest.approx(-2 / 15)
    assert found.half == pytest.approx(4.3027 * math.sqrt(1 / 300) / math.sqrt(3), rel=1e-4)
    single = results.paired_change(table, "wide", "ternary")
    assert single.value == pytest.approx(-0.03) and single.half is None and single.n == 1
    assert results.paired_change(table, "wide", "nothing") is None


def test_advantage_over_random_in_seed_standard_deviations(table):
    fisher = results.paired_advantage(table, "fisher", 2.5)
    assert fisher.nats == pytest.approx(0.05) and fisher.deviations == pytest.approx(1.0) and not fisher.beats
    magnitude = results.paired_advantage(table, "magnitude")
    assert magnitude.nats == pytest.approx(0.15) and magnitude.deviations == pytest.approx(15.0) and magnitude.beats
    assert results.paired_advantage(table, "wider") is None  # no random point of that x
    assert results.compared_signals(table) == ["fisher", "magnitude"]


def test_advantage_over_several_x_is_a_mean_a_seed():
    """Seed 0 gains 0.1 and 0.3, seed 1 gains 0.2 and 0.4: 0.2 and 0.3 a seed; seed 2 has not both."""
    nats = {
        ("s", 2.5): (0.9, 0.8, 0.7),
        ("s", 3.0): (0.7, 0.6),
        ("random", 2.5): (1.0,) * 3,
        ("random", 3.0): (1.0,) * 3,
    }
    table = [
        {"name": f"{series}-{x}", "series": series, "x": x, "seed": seed, "nats": value}
        for (series, x), values in nats.items() for seed, value in enumerate(values)
    ]  # fmt: skip
    found = results.paired_advantage(table, "s")
    assert found.n == 2 and found.nats == pytest.approx(0.25)
    assert found.deviations == pytest.approx(0.25 / math.sqrt(0.005))


def test_verdicts_say_it_in_the_agreed_words(table):
    fisher, magnitude = report.verdict_sentences(table)
    assert fisher.startswith("fisher does not beat random by more than 2 seed standard deviations (")
    assert "+0.0500 nats an answer token, +1.0 seed standard deviations over 3 seeds" in fisher
    assert magnitude.startswith("magnitude beats random by more than 2 seed standard deviations (")


def test_one_seed_proves_nothing(table):
    first = [row for row in table if row["seed"] == 0]
    said = results.verdict_sentence(first, "magnitude")
    assert said.startswith("magnitude does not beat random by more than 2 seed standard deviations (")
    assert said.endswith("one seed has none).")


def test_no_spread_at_all():
    table = [
        {"name": series, "series": series, "x": 2.5, "seed": seed, "nats": nats}
        for series, nats in (("a", 1.0), ("b", 0.5), ("random", 1.0)) for seed in range(2)
    ]  # fmt: skip
    assert results.paired_advantage(table, "a").deviations == 0.0
    assert results.paired_advantage(table, "b").deviations == math.inf


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (4, 2.7764), (10, 2.2281), (11, 2.2010), (15, 2.1314), (20, 2.0860), (30, 2.0423), (120, 1.9799)],
)
def test_student_quantiles(freedom, quantile):
    """Abramowitz and Stegun, table 26.10."""
    assert round(results.student_quantile(freedom), 4) == quantile


def test_no_seed_is_no_interval():
    with pytest.raises(ValueError, match="0 degrees of freedom"):
        results.student_quantile(0)


def test_size_compares_models_of_other_widths(plan, table):
    sizes = {one.point.name: one.size for one in results.summarise(plan, table)}
    assert sizes["ternary"] == 2.0 and sizes["wide"] == 3.0 and sizes["fisher-2.5"] == 2.5


def test_the_report_is_one_file_that_needs_nothing_else(plan, table):
    report.write_report(plan, table)
    page = (plan.home / "report.html").read_text()
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    pictures = [base64.b64decode(text) for text in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert len(pictures) == len(re.findall("<img", page)) == 3  # curves, levels, maps
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] == (plan.home / "report.png").read_bytes()
    assert not list(plan.home.glob(".report*"))


def test_the_report_says_what_was_found_and_how(plan, table):
    report.write_report(plan, table)
    page = (plan.home / "report.html").read_text()
    assert "A &lt;sweep&gt; of &amp; for tests." in page
    assert "13 of 13 runs finished · commit abc" in page
    assert "fisher does not beat random by more than 2 seed standard deviations" in page
    cells = re.search(r"<tr><td>fisher-2.5</td>.*", page)[0]
    assert "<td>-0.1333 ± 0.1434</td><td>+0.0500 (+1.0 sd)</td><td>25.0 ± 0.0</td>" in cells
    assert "<td>fisher-2.5</td><td>fisher</td><td>2,500</td><td>650 ± 0</td><td>0.8 ± 0.0</td>" in page
    assert "<td>fisher-2.5</td><td>fisher</td><td>10.0 ± 0.0</td><td>25.0 ± 0.0</td>" in page  # at other precisions
    line, own = charts.at_every_precision(table, "fisher-2.5", "accuracy")
    assert line == [(2.0, pytest.approx(0.1)), (2.5, pytest.approx(0.25))] and own == line[1]
    assert "--mode=sweep" in page and page.count("python launch.py") == 1 + len(plan.jobs)
    assert "--config.precision.signal=magnitude --config.seed=2" in page


def test_an_unfinished_sweep_reports_what_there_is(plan):
    for job in plan.runs():
        if job.seed or job.point.name not in ("ternary", "wide"):
            job.result.unlink()
    table = results.finished_rows(plan)
    report.write_report(plan, table)
    page = (plan.home / "report.html").read_text()
    assert "2 of 13 runs finished" in page and "seed standard deviations (" not in page


def test_a_sweep_without_its_reference_shows_absolute_nats(plan, table):
    report.write_report(plan, [row for row in table if row["name"] != "ternary"])
    assert (plan.home / "report.png").stat().st_size > 10_000


def test_hparams_has_a_row_a_run(plan, table):
    for _ in range(2):  # a second report replaces the rows of the first
        report.write_report(plan, table)
    places = sorted(path.name for path in (plan.home / "tb").iterdir() if path.is_dir())
    assert len(places) == 13 and "fisher-2.5-seed1" in places
    events = event_accumulator.EventAccumulator(str(plan.home / "tb" / "fisher-2.5-seed1"))
    events.Reload()
    assert [event.value for event in events.Scalars("eval/nats")] == [pytest.approx(0.9)]
    assert set(events.Tags()["scalars"]) == {"eval/nats", "eval/accuracy", "precision/stored_bits"}
    session = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"precision.budget" in session and b"fisher" in session


def test_a_run_that_stopped_early_is_not_taken_down(tmp_path):
    warmup, point = planned(tmp_path).jobs[:2]
    run(warmup, step=12, tokens=1, seconds={}, minutes=1)
    with pytest.raises(RunError, match="it ended at step 12, before step 20"):
        results.write_result(warmup)
    run(point, step=24, tokens=1, seconds={}, minutes=1)
    with pytest.raises(RunError, match="it ended at step 24 of 48 without an evaluation"):
        results.write_result(point)
    assert not results.ran_to_its_end(point) and not results.ran_to_its_end(warmup)


def test_a_run_whose_figures_were_not_taken_down_is_over_all_the_same(plan):
    job = plan.runs()[0]
    job.result.unlink()
    assert results.ran_to_its_end(job)


def test_runs_that_were_asked_the_table_are_compared_by_kind(tmp_path):
    plan = planned(tmp_path)
    for job in plan.jobs:
        if job.point:
            job.home.mkdir(parents=True)
            right = {"L0 deduction": "1100", "L0 abduction": "1111" if job.point.name == "ternary" else "1000"}
            rows = {title: {"right": digits} for title, digits in right.items()}
            (job.home / "items.json").write_text(json.dumps({"rows": rows}))
        finish(job)
    page = report.report_page(plan, results.finished_rows(plan), b"")
    assert "Right answers by kind" in page
    assert "ternary over fisher-2.5, abduction and induction: +75.0 points" in page
    assert "12 items; by seed +75.0, +75.0, +75.0): shown." in page
    assert "ternary over fisher-2.5, deduction: +0.0 points (+0.0 to +0.0, 12 items" in page
