"""The learning curve of one run, from its own records: accuracy by level and loss against training steps.

    python benchmarks/learning_curve.py runs/azr_small --out=benchmarks/results/azr_small_curve.png

Reads ``config.json``, ``run.json`` and the event files in ``tb/`` of a finished or unfinished run; needs TensorBoard
(``pip install tensorboard``). Writes a PNG and, beside it under the same name, a JSON with the points drawn, the
machine and the commit that the run recorded. Three charts: held-out accuracy (dev programs as measured on the way, test
programs at the end), teacher-forced token accuracy on the generator's deductions, and the loss on the generator's
programs. The span in which λ rises and the start of self-play are marked.
"""

import argparse
import json
import pathlib
import re
import sys
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from bitzero.config import Config, Warmup, ramp_steps  # noqa: E402

Points = list[tuple[int, float]]  # (step, value), in the order of steps
DRAWN = 120  # points a curve is averaged down to
# Colours that people with colour-blindness tell apart (Okabe and Ito 2008), one a level.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def scalars(events: pathlib.Path) -> dict[str, Points]:
    """Every scalar of the event files in ``events``; steps that ran again after an interruption count once."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        sys.exit("learning_curve.py reads event files with TensorBoard: pip install tensorboard")
    read = EventAccumulator(str(events), size_guidance={"scalars": 0})  # 0: all of them, not a sample
    read.Reload()
    return {tag: [(point.step, point.value) for point in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def by_level(found: dict[str, Points], pattern: str) -> dict[str, Points]:
    """The curves whose tag is ``pattern`` with one group, a level's number, as "L0" → points."""
    matches = ((re.fullmatch(pattern, tag), points) for tag, points in sorted(found.items()))
    return {f"L{match[1]}": points for match, points in matches if match}


def averaged(points: Points, most: int = DRAWN) -> Points:
    """At most ``most`` points: means of equal runs of neighbours, each at the last step that it holds."""
    size = -(-len(points) // most)
    runs = [points[at : at + size] for at in range(0, len(points), size)] if points else []
    return [(run[-1][0], round(float(np.mean([value for _, value in run])), 5)) for run in runs]


def read_run(run: pathlib.Path) -> dict[str, Any]:
    """What the picture shows of the folder ``run``, as JSON values; the run's own machine and commit among it."""
    config, report = (json.loads((run / name).read_text()) for name in ("config.json", "run.json"))
    warmup = {name: config["warmup"][name] for name in ("steps", "ramp_start", "ramp_end")}
    start, end = ramp_steps(Config(warmup=Warmup(**warmup)))
    found = scalars(run / "tb")
    # In self-play the total holds the policy losses too: from there on the generator's share of it goes on.
    loss = [point for point in found.get("loss/total", []) if point[0] <= warmup["steps"]]
    curves: dict[str, dict[str, Points]] = {
        "dev accuracy": by_level(found, r"eval/dev_L(\d)"),
        "test accuracy": by_level(found, r"eval/test_L(\d)_deduction"),
        "token accuracy": by_level(found, r"loss/token_accuracy_L(\d)"),
        "loss": {"warm-up": loss, "self-play": found.get("loss/supervised", [])},
    }
    return {
        "name": config["name"],
        "seed": config["seed"],
        "step": report["step"],
        "ramp": [start, end],
        "selfplay": warmup["steps"],
        "dev_items": config["tasks"]["dev_items"],
        "parameter_hash": report["parameter_hash"],
        "commit": report["machine"]["commit"],
        "machine": report["machine"],
        "curves": {chart: {name: averaged(points) for name, points in of.items()} for chart, of in curves.items()},
    }


def draw(data: dict[str, Any]) -> Figure:
    """The three charts one above the other, on one axis of steps."""
    figure = Figure(figsize=(9, 9.5), layout="constrained")
    held_out, tokens, loss = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    curves = data["curves"]
    for level, points in curves["dev accuracy"].items():
        held_out.plot(*_columns(points, 100), "o-", color=_colour(level), markersize=4, label=f"{level} dev")
    for level, points in curves["test accuracy"].items():
        last = _columns(points[-1:], 100)
        held_out.plot(*last, "D", color=_colour(level), markerfacecolor="none", label=f"{level} test, at the end")
    for level, points in curves["token accuracy"].items():
        tokens.plot(*_columns(points, 100), color=_colour(level), label=level)
    for (phase, points), colour in zip(curves["loss"].items(), ("#333333", "#999999"), strict=True):
        loss.plot(*_columns(points), color=colour, label=phase)
    spread = 196 * (0.25 / data["dev_items"]) ** 0.5
    held_out.set_title(
        f"held-out deductions answered right, free decoding (dev: {data['dev_items']} programs a point, "
        f"95 % within ±{spread:.0f} points)",
        fontsize="medium",
    )
    tokens.set_title("answer tokens right on deductions in training, the tokens before them given", fontsize="medium")
    loss.set_title("loss on the generator's programs in training", fontsize="medium")
    for axes, label in ((held_out, "answers, %"), (tokens, "tokens, %"), (loss, "nats a token")):
        _mark(axes, data)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    loss.set_xlabel("training step")
    figure.suptitle(f"{data['name']}, seed {data['seed']}, commit {data['commit']}, {data['step']:,} steps")
    return figure


def _columns(points: Points, scale: float = 1.0) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [scale * value for _, value in points]


def _colour(level: str) -> str:
    return COLOURS[int(level[1:]) % len(COLOURS)]


def _mark(axes: Axes, data: dict[str, Any]) -> None:
    """The span in which λ goes from 0 to 1, and the line from which the model plays with itself."""
    axes.axvspan(*data["ramp"], color="#f0e6c8", zorder=0, label="λ: 0 to 1")
    axes.axvline(data["selfplay"], color="#666666", linestyle="--", linewidth=1, label="self-play")
    axes.grid(True, color="#eeeeee")


def main(argv: list[str]) -> None:
    """Draws the run named on the command line; a file that is not there ends it with one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="the folder of a run, such as runs/azr_small")
    parser.add_argument("--out", type=pathlib.Path, help="the PNG; default: <run>/curve.png")
    args = parser.parse_args(argv)
    try:
        data = read_run(args.run)
    except FileNotFoundError as error:
        sys.exit(f"learning_curve.py: {error.filename} is not there; give the folder of a run")
    out = args.out or args.run / "curve.png"
    FigureCanvasAgg(draw(data)).print_png(str(out))
    shown = {"command": f"python benchmarks/learning_curve.py {args.run} --out={out}", **data}
    out.with_suffix(".json").write_text(json.dumps(shown) + "\n")
    print(f"{out} and {out.with_suffix('.json')}")


if __name__ == "__main__":
    main(sys.argv[1:])
