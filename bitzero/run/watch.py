"""What is watched while self-play runs: dev accuracy by kind, the best checkpoint by it, alarms where it goes down.

Nothing here decides what is trained. The held-out table is of the last step, whatever was best on the way.
"""

import dataclasses
import functools
import itertools
import pathlib
import statistics
from collections.abc import Mapping

from bitzero.config import Config, steps_in_all
from bitzero.evaluation import dev, questions
from bitzero.run.checkpoint import Checkpoints
from bitzero.run.sitting import Sitting, go_on, timed_as
from bitzero.state import TrainState

BEST = "best"  # directory of the checkpoint that was best on dev
FALLS = 3  # readings in a row that go down before it is said
MAY_FALL = ("mean", "novelty")  # figures of a reading for which it is
NOVELTY = "selfplay/unique_history"  # share of the new among accepted programs


def is_due(step: int, cfg: Config) -> bool:
    """Whether dev is read before update number ``step``: the first of self-play, every ``dev_every`` after, its end."""
    played, every = step - cfg.warmup.steps, cfg.selfplay.dev_every
    if not cfg.selfplay.steps or not every or played < 0:
        return False
    return played % every == 0 or step == steps_in_all(cfg)


def read_dev(sitting: Sitting, state: TrainState) -> None:
    """Measures and writes dev accuracy by kind, keeps the state where it is the best so far, says what goes down.

    Raises ``StopAsked``.
    """
    step, ledger = int(state.step), sitting.meters.ledger
    with timed_as(sitting, "dev"):
        solver = questions.solver_of(state, sitting.cfg, go_on=functools.partial(go_on, sitting))
        shares = dev.accuracy_by_kind(solver, int(state.open_levels), sitting.stream.heldout_draws, sitting.sandbox)
    mean = statistics.fmean(shares.values())
    figures = {f"eval/dev_{kind}": share for kind, share in shares.items()} | {"eval/dev_mean": mean}
    sitting.metrics.scalars(step, figures)
    before = {at: reading["mean"] for at, reading in ledger.watched.items() if int(at) < step}
    novelty = sitting.meters.chunk_means.get(NOVELTY) if step > sitting.cfg.warmup.steps else None
    ledger.watched[str(step)] = {**shares, "mean": mean} | ({} if novelty is None else {"novelty": novelty})
    if mean > max(before.values(), default=-1.0):
        with Checkpoints(sitting.home / BEST, keep=1, say=sitting.progress.say) as best:
            best.drop_after(step)  # of a way that was not gone on
            best.save(step, state, dataclasses.asdict(ledger))
    for name in MAY_FALL:
        if falls_in_a_row(ledger.watched, name, step) >= FALLS:
            what, now = "dev accuracy" if name == "mean" else "share of new programs", ledger.watched[str(step)][name]
            sitting.progress.say(
                f"step {step:,}: the {what} fell {FALLS} readings in a row, to {100 * now:.0f} %; "
                f"the best step so far is in {sitting.home / BEST}"
            )


def falls_in_a_row(watched: Mapping[str, Mapping[str, float]], name: str, step: int) -> int:
    """How many readings of ``name`` up to ``step``, counted back from the last, are each below the one before."""
    steps = sorted(int(at) for at in watched)
    values = [watched[str(at)][name] for at in steps if at <= step and name in watched[str(at)]]
    falls = 0
    for earlier, later in reversed(list(itertools.pairwise(values))):
        if later >= earlier:
            break
        falls += 1
    return falls


def alarms(watched: Mapping[str, Mapping[str, float]]) -> int:
    """How often it was said that a figure fell ``FALLS`` readings in a row."""
    return sum(falls_in_a_row(watched, name, int(at)) >= FALLS for at in watched for name in MAY_FALL)


def best_sentence(watched: Mapping[str, Mapping[str, float]], home: pathlib.Path) -> str | None:
    """Which step was best on dev, the earlier of equals, and where it is kept; None where nothing was watched."""
    if not watched:
        return None
    best = max(watched, key=lambda at: (watched[at]["mean"], -int(at)))
    return (
        f"best on dev in self-play: step {int(best):,}, {100 * watched[best]['mean']:.1f} % "
        f"(kept in {home / BEST}); the table is of the last step"
    )
