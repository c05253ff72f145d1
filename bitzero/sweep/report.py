"""The report of a sweep: one HTML file that needs nothing else, ``report.png``, and hparams rows for TensorBoard."""

import base64
import html
import shlex
import shutil
from collections.abc import Iterable, Sequence

import tensorboardX

from bitzero.config import flat_settings
from bitzero.run import played
from bitzero.run.workdir import RunError, replace_file
from bitzero.sweep import answers, charts, results
from bitzero.sweep.plan import Plan, run_command, sweep_command
from bitzero.sweep.results import CONTROL, Advantage, Row, SeedMean, Summary

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
img { max-width: 100%; } pre { background: #f6f6f6; padding: .6rem; overflow-x: auto; font-size: 12px; }
p.verdict { border-left: 4px solid #0072B2; padding-left: .7rem; } p.note { color: #555; }
"""
_NOTES = """Nats: mean negative log-likelihood of an answer token on held-out dev programs, of the model as trained.
±: half of a 95 % interval over seeds (Student's t). Change: the difference to the point “{reference}”, taken seed by
seed. Advantage: nats of “{control}” at the same x less nats of the point, seed by seed; sd is the standard deviation of
that difference over seeds. Stored bits count the ternary base (2), residual tiers and the index of every promoted
block; size is the same for the whole model, divided by the weights of “{reference}”: a wider model at equal size."""
_ANSWERS_NOTE = """Questions of the held-out table, all levels and seeds together. Change: to the point “{reference}” on
the same items, with a 95 % bootstrap interval over items: it says how far these models differ, not how training
varies."""
_PLAY_NOTE = """Means over the first and the last tenth of the steps of self-play ({most} at most) and over seeds; the
largest is of all steps and seeds, the last three are sums over seeds. KL and ratio: of the policy in training to the
one that sampled, before the update, over the sampled tokens that are learned from; entropy: of the solver there, nats a
token. A run without policy losses learns from none: KL 0, ratio 1, entropy 0. Valid: of all proposals; new and level as
asked: of the accepted ones that wrote their program, 0 in a step without any. Without spread: tasks whose answers are
all right or all wrong. Alarms: dev accuracy or the share of new programs fell three readings in a row."""
_COST_NOTE = """Tokens a second: tokens trained on after the branch ÷ seconds in training steps after it, without chunks
that compiled; a run by itself on its share of the cores, at whatever load the machine had. Minutes: wall time of a
point after the branch, with compiling and evaluation. Bytes: stored bits × ternary-able weights ÷ 8, without embedding
and gains."""


def write_report(plan: Plan, table: Sequence[Row]) -> None:
    """Writes ``report.html``, ``report.png`` and ``tb/`` in the sweep's directory; raises ``RunError``."""
    curves = charts.quality_chart(results.summarise(plan, table), plan.reference)
    try:
        replace_file(plan.home / "report.png", curves)
        replace_file(plan.home / "report.html", report_page(plan, table, curves).encode())
        _write_hparams(plan, table)
    except OSError as error:
        raise RunError(f"cannot write the report in {plan.home}: {error.strerror}; free space and run again") from None


def report_page(plan: Plan, table: Sequence[Row], curves: bytes) -> str:
    """The whole report as HTML; pictures are inside it."""
    summaries = results.summarise(plan, table)
    where = charts.tier_maps(table)
    commits = ", ".join(sorted({str(row["commit"]) for row in table}))
    parts = [
        f"<h1>{_escape(plan.title)}</h1>",
        f"<pre>{_escape(plan.about)}</pre>",
        f"<p>{len(table)} of {len(plan.runs())} runs finished · commit {_escape(commits)}</p>",
        *[f"<p class=verdict>{_escape(line)}</p>" for line in verdict_sentences(table)],
        "<h2>Quality against stored bits</h2>",
        _html_image(curves, "nats and accuracy against stored bits"),
        _html_table(_POINTS, [_point_cells(one) for one in summaries]),
        f"<p class=note>{_escape(_NOTES.format(reference=plan.reference, control=CONTROL))}</p>",
        *_precision_section(table),
        *_answers_section(plan, table),
        *_play_section(table),
    ]
    if where:
        parts += ["<h2>Where the bits went</h2>", _html_image(where, "tiers by layer and block")]
        parts += ["<p class=note>One column is a block of 16 rows; grey: ternary, light: 4 bits, dark: 8 bits.</p>"]
    parts += ["<h2>Cost</h2>", _html_table(_COSTS, [_cost_cells(one) for one in summaries])]
    parts += [f"<p class=note>{_escape(_COST_NOTE)}</p>", "<h2>Commands</h2>", *_command_section(plan)]
    head = f"<meta charset=utf-8><title>{_escape(plan.title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>\n" + "\n".join(parts) + "\n</body></html>\n"


def verdict_sentences(table: Sequence[Row]) -> list[str]:
    """A sentence for each signal that was run beside the control."""
    return [results.verdict_sentence(table, signal) for signal in results.compared_signals(table)]


_POINTS = (
    "point", "series", "seeds", "size", "stored bits", "entropy bits", "nats", "change of nats",
    f"advantage over {CONTROL}", "right, %",
)  # fmt: skip
_CHANGES = (answers.TOGETHER, ("deduction",))
_PLAYED = (  # figure, title, form, scale
    ("kl", "KL", ".2g", 1.0), ("max_ratio", "max. ratio", ".3g", 1.0), ("entropy", "entropy", ".3f", 1.0),
    ("valid", "valid, %", ".1f", 100.0), ("novel", "new, %", ".1f", 100.0),
    ("level_as_asked", "level as asked, %", ".1f", 100.0), ("no_spread", "without spread, %", ".1f", 100.0),
)  # fmt: skip
_COSTS = ("point", "series", "bytes", "tokens/s", "minutes")


def _point_cells(one: Summary) -> list[str]:
    return [
        one.point.name, one.point.series, str(one.seeds), f"{one.size:.3f}", f"{one.bits.value:.3f}",
        _mean_text(one.entropy_bits, ".3f"),
        _mean_text(one.nats, ".4f"), _mean_text(one.change, "+.4f"), _advantage_text(one.advantage),
        _mean_text(one.accuracy, ".1f", scale=100.0),
    ]  # fmt: skip


def _cost_cells(one: Summary) -> list[str]:
    speed, minutes = _mean_text(one.tokens_per_second, ",.0f"), _mean_text(one.minutes, ".1f")
    return [one.point.name, one.point.series, f"{one.bytes:,}", speed, minutes]


def _precision_section(table: Sequence[Row]) -> list[str]:
    """What the trained weights give when they are asked at another precision than their own."""
    names = list(dict.fromkeys(asked["name"] for row in table for asked in row.get("levels") or []))
    if not names:
        return []
    parts = ["<h2>The same weights asked at another precision</h2>"]
    if drawn := charts.precision_chart(table):
        parts.append(_html_image(drawn, "nats and accuracy of the same weights against the bits they are asked at"))
    for column, form, scale, title in (("nats", ".4f", 1.0, "nats"), ("accuracy", ".1f", 100.0, "right, %")):
        cells = []
        for point, series in dict.fromkeys((row["name"], row["series"]) for row in table):
            found = results.at_precisions(table, point)
            means = (results.seed_mean([asked[column] for asked in found.get(name, [])]) for name in names)
            cells.append([point, series, *(_mean_text(one, form, scale) for one in means)])
        parts.append(_html_table((f"point: {title}", "series", *names), cells))
    return parts


def _answers_section(plan: Plan, table: Sequence[Row]) -> list[str]:
    """Right answers by kind, and their changes to the reference."""
    if not answers.has_answers(table):
        return []
    cells, kinds = [], answers.kinds_asked(table)
    for point in plan.points:
        right = answers.right_by_kind(table, point.name)
        found = [answers.change(table, point.name, plan.reference, of) for of in _CHANGES]
        shares = [f"{100 * right[kind]:.1f}" if kind in right else "–" for kind in kinds]
        cells.append([point.name, point.series, *shares, *(_change_text(one) for one in found)])
    header = ("point", "series", *kinds, *(f"{' + '.join(of)}, change" for of in _CHANGES))
    return [
        "<h2>Right answers by kind, %</h2>",
        _html_table(header, cells),
        f"<p class=note>{_escape(_ANSWERS_NOTE.format(reference=plan.reference))}</p>",
        *[f"<p class=verdict>{_escape(line)}</p>" for line in answers.sentences(table, plan.reference)],
    ]


def _play_section(table: Sequence[Row]) -> list[str]:
    """Stability and proposals of self-play, where any run has a record of it."""
    if not any(row.get(name) is not None for row in table for name in results.PLAY):
        return []
    points = dict.fromkeys((row["name"], row["series"]) for row in table)
    cells = [
        [point, series, *_played_cells([row for row in table if row["name"] == point])] for point, series in points
    ]
    titles = (title for _, title, _, _ in _PLAYED)
    header = ("point", "series", *titles, "largest KL", "largest ratio", "retries", "skipped steps", "alarms")
    return [
        "<h2>Self-play on its way, first → last steps</h2>",
        _html_table(header, cells),
        f"<p class=note>{_escape(_PLAY_NOTE.format(most=played.MOST))}</p>",
    ]


def _played_cells(rows: Sequence[Row]) -> list[str]:
    """Self-play of one point on its way, over its seeds."""
    told = {name: [row[name] for row in rows if row.get(name) is not None] for name in results.PLAY}
    cells = []
    for name, _, form, scale in _PLAYED:
        means = (results.seed_mean(told[f"{name}_{end}"]) for end in played.ENDS)
        cells.append(" → ".join("–" if mean is None else f"{scale * mean.value:{form}}" for mean in means))
    cells += [f"{max(told[f'{name}_largest']):.3g}" if told[f"{name}_largest"] else "–" for name in played.PEAKS]
    return cells + [str(sum(told[name])) if told[name] else "–" for name in results.BEFELL]


def _change_text(found: answers.Change | None) -> str:
    if found is None:
        return "–"
    return f"{100 * found.gain:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _command_section(plan: Plan) -> list[str]:
    """The command of the sweep and of each of its runs."""
    lines = [_shell_line(run_command(plan.order, job)) for job in plan.jobs]
    note = "The whole sweep; the runs it consists of."
    if plan.branch:
        note += f" A run begins with the step {plan.branch:,} of its warm-up; without it, it trains from step 0."
    note += " The sweep gives each two cores and PJRT_NPROC=2, which decide the bits of its result."
    whole = _shell_line(sweep_command(plan.order))
    return [f"<p>{note}</p>", f"<pre>{_escape(whole)}</pre>", f"<pre>{_escape(chr(10).join(lines))}</pre>"]


def _shell_line(words: Sequence[str]) -> str:
    return shlex.join(["python", "launch.py", *words])


def _html_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{_escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _html_image(png: bytes, about: str) -> str:
    return f'<img alt="{_escape(about)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _mean_text(value: SeedMean | None, form: str, scale: float = 1.0) -> str:
    if value is None:
        return "–"
    half = "" if value.half is None else f" ± {scale * value.half:{form.lstrip('+')}}"
    return f"{scale * value.value:{form}}{half}"


def _advantage_text(value: Advantage | None) -> str:
    if value is None:
        return "–"
    return f"{value.nats:+.4f}" + ("" if value.deviations is None else f" ({value.deviations:+.1f} sd)")


def _write_hparams(plan: Plan, table: Sequence[Row]) -> None:
    """One hparams row a run; rows of an earlier report are replaced."""
    place = plan.home / "tb"
    shutil.rmtree(place, ignore_errors=True)
    configs = {job.title: flat_settings(job.cfg) for job in plan.runs()}
    varied = list(dict.fromkeys(key for point in plan.points for key in point.settings))
    tags = {"eval/nats": "nats", "eval/accuracy": "accuracy", "precision/stored_bits": "stored_bits"}
    with tensorboardX.SummaryWriter(str(place)) as writer:
        for row in table:
            title = f"{row['name']} seed {row['seed']}"
            settings = {name: row[name] for name in ("name", "series", "x", "seed")}
            settings |= {key: configs[title][key] for key in varied}
            figures = {tag: float(row[name]) for tag, name in tags.items() if row.get(name) is not None}
            writer.add_hparams(settings, figures, name=f"{row['name']}-seed{row['seed']}")


def _escape(text: str) -> str:
    return html.escape(text)
