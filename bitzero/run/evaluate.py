"""The held-out table: accuracy by level × kind with 95 % intervals, beside what needs no learning.

Every answer is decoded freely (never teacher-forced) and judged by the executor. Beside the model stand the best single
trivial rule (chosen on training programs), a control whose prompt shows another program, and the model before
self-play on the same items. Test programs decide nothing: modes and levels were chosen on dev.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import rich.table
from jaxtyping import Bool

from bitzero.config import Config
from bitzero.run import asking, device, heldout, precisions, proposing, workdir
from bitzero.run.asking import Solver
from bitzero.run.checkpoint import Checkpoints
from bitzero.run.curriculum import NUM_LEVELS
from bitzero.run.metrics import Metrics
from bitzero.run.progress import Progress
from bitzero.run.sitting import Ledger, sandbox_of
from bitzero.run.statistics import paired_gain, wilson
from bitzero.run.workdir import RunError
from bitzero.sandbox import Sandbox
from bitzero.state import TrainState
from bitzero.tasks import kinds
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, KINDS, Task
from bitzero.tasks.orders import task_of
from bitzero.tasks.trivial import trivial_answers, trivial_rules
from bitzero.tasks.worker import Stream

Right = Bool[np.ndarray, " n"]  # which items were answered right
_RULE_ITEMS = 100  # training programs on which the best trivial rule is chosen


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """The questions of one row."""

    level: int
    kind: int
    tasks: list[Task]
    training: list[Task]  # for choosing the trivial rule
    open: bool = True  # the level was trained on; pass@k is not asked of the others


def main(cfg: Config, home: pathlib.Path) -> int:
    """Evaluates the newest checkpoint in ``home``; raises ``RunError`` where there is none."""
    with workdir.owned(home), Progress() as progress:
        workdir.settle_config(home, cfg)
        device.configure()
        with Checkpoints(home / "checkpoints", keep=cfg.run.keep, exempt=[cfg.warmup.steps], say=progress.say) as store:
            found = store.latest(asking.abstract(cfg))
            if not found:
                raise RunError(f"no checkpoint in {store.path}; train first, with --mode=train")
            state, meta = found
            progress.say(f"evaluating step {int(state.step):,}")
            with sandbox_of(cfg) as sandbox, Stream(cfg) as stream, Metrics(home / "tb", int(state.step)) as metrics:
                evaluate(
                    state, cfg, home, operand=Ledger(**meta).operand, store=store, stream=stream, sandbox=sandbox,
                    progress=progress, metrics=metrics,
                )  # fmt: skip
    return 0


def evaluate(
    state: TrainState,
    cfg: Config,
    home: pathlib.Path,
    *,
    operand: str,
    store: Checkpoints,
    stream: Stream,
    sandbox: Sandbox,
    progress: Progress,
    metrics: Metrics,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Asks everything, prints the table, writes ``eval.json`` and ``items.json``; returns the former's value.

    None, and nothing written, if ``stopped`` between two rows.
    """
    began = time.monotonic()
    now, before = asking.solver(state, operand, cfg), _before_selfplay(state, operand, cfg, store)
    answered: list[tuple[Group, dict[str, Any], Right, Right | None]] = []
    for group in questions(stream, cfg, int(state.open_levels)):
        if stopped():
            return None
        progress.say(f"asking L{group.level} {KINDS[group.kind]} ({len(group.tasks)} items)")
        answered.append((group, *measure(group, now, before, sandbox)))
    rows = [row for _, row, _, _ in answered]
    result: dict[str, Any] = {
        "commit": device.commit(),
        "step": int(state.step),
        "rows": rows,
        "proposer": _proposer(state, now, stream, sandbox) if rows else None,
        "precision": _precisions(state, cfg, operand, stream, sandbox, progress),
        "gain_of_selfplay": gains(answered),
        "seconds": round(time.monotonic() - began, 1),
    }
    workdir.write_json(home / "eval.json", result)
    workdir.write_json(home / "items.json", {"seed": cfg.seed, "step": result["step"], "rows": by_item(answered)})
    _tell(result, progress)
    _to_tensorboard(metrics, cfg, result)
    return result


def _tell(result: dict[str, Any], progress: Progress) -> None:
    """The tables and what they do not say."""
    if result["rows"]:
        progress.console.print(table(result["rows"]))
    if result["precision"]:
        progress.console.print(precision_table(result["precision"]))
    for sentence in sentences(result):
        progress.say(sentence)


def _proposer(state: TrainState, now: Solver, stream: Stream, sandbox: Sandbox) -> dict[str, Any]:
    levels = range(int(state.open_levels))
    references = [program for level in levels for program in stream.heldout("train", level, 24)]
    return proposing.measure(state, now, references, sandbox)


def _precisions(
    state: TrainState, cfg: Config, operand: str, stream: Stream, sandbox: Sandbox, progress: Progress
) -> dict[str, Any] | None:
    if not cfg.eval.precision_items:
        return None
    progress.say(f"asking at several precisions ({cfg.tasks.open_levels * heldout.per_level(cfg)} dev items each)")
    return precisions.measure(state, cfg, operand, stream, sandbox)


def gains(answered: Sequence[tuple[Group, dict[str, Any], Right, Right | None]]) -> dict[str, Any]:
    """By kind, what the items gained since before self-play; kinds without an earlier model are left out."""
    found = {}
    for number, kind in enumerate(KINDS):
        pairs = [(then, after) for group, _, after, then in answered if group.kind == number and then is not None]
        if pairs:
            then, after = (np.concatenate(side) for side in zip(*pairs, strict=True))
            gain, low, high = paired_gain(then, after)
            found[kind] = {"gain": round(gain, 4), "ci_low": round(low, 4), "ci_high": round(high, 4), "n": len(after)}
    return found


def by_item(answered: Sequence[tuple[Group, dict[str, Any], Right, Right | None]]) -> dict[str, dict[str, str]]:
    """By row, a digit for each item in its fixed order (1: right), for paired comparisons between runs."""
    rows = {}
    for group, _, after, then in answered:
        sides = {"right": after} | ({} if then is None else {"before_selfplay": then})
        digits = {name: "".join("1" if hit else "0" for hit in side) for name, side in sides.items()}
        rows[f"L{group.level} {KINDS[group.kind]}"] = digits
    return rows


def counts(cfg: Config, open_levels: int) -> dict[int, int]:
    """Level → test programs asked about; fewer of the levels that training has not opened."""
    wanted = {level: cfg.eval.items if level < open_levels else cfg.eval.locked_items for level in range(NUM_LEVELS)}
    return {level: n for level, n in wanted.items() if n}


def order(stream: Stream, cfg: Config, open_levels: int) -> None:
    """Has the generator make the held-out programs in the background, whenever no training data is wanted."""
    for level, n in counts(cfg, open_levels).items():
        stream.request_heldout("test", level, n)
        stream.request_heldout("train", level, min(n, _RULE_ITEMS))
    heldout.order(stream, cfg)


def questions(stream: Stream, cfg: Config, open_levels: int) -> list[Group]:
    """The fixed held-out set: the first n test programs of every level, each asked in all three kinds."""
    order(stream, cfg, open_levels)
    groups = []
    for level, n in counts(cfg, open_levels).items():
        test, training = stream.heldout("test", level, n), stream.heldout("train", level, min(n, _RULE_ITEMS))
        for kind in (DEDUCTION, ABDUCTION, INDUCTION):
            tasks = [task_of(cfg, program, kind) for program in test]
            rule_tasks = [task_of(cfg, program, kind) for program in training]
            opened = level < open_levels
            groups.append(Group(level=level, kind=kind, tasks=tasks, training=rule_tasks, open=opened))
    return groups


def measure(
    group: Group, now: Solver, before: Solver | None, sandbox: Sandbox
) -> tuple[dict[str, Any], Right, Right | None]:
    """One row of the table, and which items were right now and before self-play (None without such a checkpoint)."""
    cfg, tasks = now.cfg, group.tasks
    greedy = asking.right(sandbox, tasks, asking.ask(now, tasks))[:, 0]
    earlier = asking.right(sandbox, tasks, asking.ask(before, tasks))[:, 0] if before else None
    low, high = wilson(int(greedy.sum()), len(tasks))
    row: dict[str, Any] = {
        "level": group.level,
        "kind": KINDS[group.kind],
        "mode": "trace" if now.trace and group.kind == DEDUCTION else "direct",
        "n": len(tasks),
        "accuracy": share(greedy),
        "ci_low": round(low, 4),
        "ci_high": round(high, 4),
        **trivial(group, sandbox),
        "shuffled": share(control(tasks[: cfg.eval.shuffled_items], now, sandbox)),
        "before_selfplay": None if earlier is None else share(earlier),
    }
    some = tasks[: cfg.eval.passk_items]
    if some and group.open:
        drawn = asking.ask(now, some, samples=cfg.eval.passk, temperature=cfg.selfplay.temperature, seed=1)
        row[f"pass@{cfg.eval.passk}"] = share(np.asarray(asking.right(sandbox, some, drawn).any(axis=1)))
    return row, greedy, earlier


def trivial(group: Group, sandbox: Sandbox) -> dict[str, Any]:
    """Accuracy on the test items of the one trivial rule that is best on training programs, and the rule's name."""
    rules = trivial_rules(group.kind)
    answers = [trivial_answers(task)[: len(rules)] for task in group.training]
    best = int(np.argmax(asking.right(sandbox, group.training, answers).mean(axis=0)))
    answered = [[trivial_answers(task)[best]] for task in group.tasks]
    return {"trivial": share(asking.right(sandbox, group.tasks, answered)), "trivial_rule": rules[best]}


def control(tasks: Sequence[Task], solver: Solver, sandbox: Sandbox) -> Right:
    """Right answers when each prompt shows another task's program (induction: its pairs) but is judged as its own.

    What a model gets right here it gets without reading the program.
    """
    if not tasks:
        return np.zeros(0, bool)
    shown = [shuffled(task, stranger(tasks, i)) for i, task in enumerate(tasks)]
    return asking.right(sandbox, tasks, asking.ask(solver, shown))[:, 0]


def stranger(tasks: Sequence[Task], i: int) -> Task:
    """The next task after ``i`` with another program and, if there is one, as many arguments."""
    others = [tasks[(i + step) % len(tasks)] for step in range(1, len(tasks))]
    others = [task for task in others if task.code != tasks[i].code] or [tasks[i]]
    arity = _arity(tasks[i])
    return next((task for task in others if _arity(task) == arity), others[0])


def shuffled(task: Task, other: Task) -> Task:
    """``task`` as its control asks it: the other's program with this task's pair, or the other's pairs."""
    if task.kind == INDUCTION:
        return dataclasses.replace(task, inputs=other.inputs, outputs=other.outputs, shown=other.shown)
    return dataclasses.replace(task, code=other.code)


def share(right: Bool[np.ndarray, "..."]) -> float | None:
    """Share of True, to four places; None of nothing."""
    return round(float(right.mean()), 4) if right.size else None


def table(rows: Sequence[dict[str, Any]]) -> rich.table.Table:
    """The rows as a table for people, 80 columns wide."""
    title = "held-out accuracy, % (before: the same items before self-play)"
    out = rich.table.Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    passk = next((name for row in rows for name in row if name.startswith("pass@")), "pass@k")
    for name in ("", "kind", "mode"):
        out.add_column(name, no_wrap=True)
    for name in ("n", "right", "95 % range", "trivial", "shuffled", passk, "before"):
        out.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        out.add_row(
            f"L{row['level']}", row["kind"], row["mode"], str(row["n"]), _percent(row["accuracy"]),
            f"{_percent(row['ci_low'])}–{_percent(row['ci_high'])}", _percent(row["trivial"]),
            _percent(row["shuffled"]), _percent(row.get(passk)), _percent(row["before_selfplay"]),
        )  # fmt: skip
    return out


def precision_table(measured: dict[str, Any]) -> rich.table.Table:
    """The same weights at several precisions; an asterisk marks the one they were trained at."""
    title = (
        f"the same weights at several precisions ({measured['n']} dev deductions, {measured['tokens']:,} answer tokens)"
    )
    out = rich.table.Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in ("", "stored bits", "nats a token", "right, %"):
        out.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in measured["levels"]:
        mark = "*" if row["name"] == measured["trained_as"] else ""
        out.add_row(row["name"] + mark, f"{row['stored_bits']:.3f}", f"{row['nats']:.4f}", _percent(row["accuracy"]))
    return out


def sentences(result: dict[str, Any]) -> list[str]:
    """What the table does not say: the proposer, and the gain of self-play by kind."""
    p = result["proposer"]
    if p is None:
        return []
    lines = [
        f"proposer: {_percent(p['valid'])} % of {p['n']} proposals pass every gate; of these "
        f"{_percent(p['novel'])} % are new programs and {_percent(p['learnable'])} % learnable"
    ]
    if p["levels"]:
        lines.append("levels of accepted proposals: " + " ".join(f"L{k} {n}" for k, n in p["levels"].items()))
    for kind, gain in result["gain_of_selfplay"].items():
        lines.append(
            f"self-play changed {kind} by {100 * gain['gain']:+.1f} points "
            f"(95 % {100 * gain['ci_low']:+.1f} to {100 * gain['ci_high']:+.1f}, {gain['n']} items)"
        )
    return lines


def _before_selfplay(state: TrainState, operand: str, cfg: Config, store: Checkpoints) -> Solver | None:
    """The model at the end of warm-up, asked in the same mode; None where the run has not come past it."""
    if int(state.step) <= cfg.warmup.steps or cfg.warmup.steps not in store.steps():
        return None
    earlier, _ = store.read(cfg.warmup.steps, asking.abstract(cfg))
    return asking.solver(earlier, operand, cfg, trace=bool(state.trace_mode))


def _to_tensorboard(metrics: Metrics, cfg: Config, result: dict[str, Any]) -> None:
    scalars = {f"eval/test_L{row['level']}_{row['kind']}": row["accuracy"] for row in result["rows"]}
    if result["proposer"]:
        names = ("valid", "learnable", "novel")
        scalars |= {f"eval/proposer_{name}": result["proposer"][name] or 0.0 for name in names}
    for row in (result["precision"] or {"levels": []})["levels"]:
        scalars |= {f"eval/nats_{row['name']}": row["nats"], f"eval/accuracy_{row['name']}": row["accuracy"]}
    metrics.scalars(result["step"], scalars)
    metrics.hparams(cfg, scalars)


def _arity(task: Task) -> int:
    return len(kinds.split_args(task.inputs[0]) or ())


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
