"""What a generator worker computes: rows of training batches, self-play's first tasks, held-out programs.

Each is a pure function of the configuration and its arguments, so the same items come back from any worker, in any
order, after any restart. Programs are told apart by their canonical hash within a step; across steps the few small ones
come again, with new inputs. Dev and test programs cannot occur: the hash that decides the split is the same.
"""

import dataclasses
import itertools
import random
from typing import Any

import numpy as np

from bitzero.config import Config
from bitzero.generator import programs
from bitzero.generator.programs import Program
from bitzero.tasks import levels, tokens
from bitzero.tasks.kinds import DEDUCTION, PROPOSE, TASK_KINDS, Task, TooLong, usable_in_ring
from bitzero.tasks.sequences import training_sequence

HELDOUT_UNIT = -1  # the unit number that held-out programs are drawn under
PHASES = {"warmup": 0, "selfplay": 1 << 40, "tasks": 1 << 41}  # keep the units of the phases apart
RETRY = 1 << 20  # distance between the indices one example may try
REFERENCE = 1 << 40  # index of the program shown to a proposal
SHORTEST = 24  # tokens of an example, about; sets how many a row may hold
MISSES = 6  # examples without room after which a step is full
REDRAWS = 40  # draws of an example after which a program may come again in its step
TRIES = 6  # programs of a level tried for an example before the next lower level
AUDIT = 100  # one program in so many is run again in the sandbox


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """One generator order: `steps` training batches, identical for identical arguments."""

    step: int  # of the first batch
    steps: int
    batch_size: int  # sequences a step
    context: int  # tokens a sequence
    open_levels: int
    frontier: int  # half of the sequences come from this level
    phase: str = "warmup"  # warmup | selfplay


@dataclasses.dataclass(slots=True)
class Example:
    """One program in one form; several fill a training sequence."""

    ids: list[int]
    mask: list[bool]
    form: int
    level: int
    program: Program


def examples_at_most(context: int) -> int:
    """Examples that a sequence of ``context`` tokens may hold."""
    return max(1, context // SHORTEST)


def fill(cfg: Config, unit: Unit, step: int) -> list[list[Example]]:
    """A step's rows: examples drawn one after another, each put into the first row with room for it.

    No program comes twice. The draw ends when `MISSES` examples found no room, so short programs are hardly favoured.
    """
    held: list[list[Example]] = [[] for _ in range(unit.batch_size)]
    room = [unit.context] * unit.batch_size
    fitted = dataclasses.replace(cfg, tasks=dataclasses.replace(cfg.tasks, context=unit.context))
    most, seen, misses = examples_at_most(unit.context), set[int](), 0
    for index in itertools.count():
        made = example(fitted, unit, step, index, seen)
        size = len(made.ids)
        place = next((i for i, free in enumerate(room) if free >= size and len(held[i]) < most), None)
        if place is not None:
            held[place].append(made)
            room[place] -= size
            seen.add(made.program.hash)
        elif (misses := misses + 1) == MISSES:
            break
    return held


def example(cfg: Config, unit: Unit, step: int, index: int, seen: set[int]) -> Example:
    """Example `index` of a step, at most `cfg.tasks.context` long; its program is none of those `seen`, by hash."""
    number = PHASES[unit.phase] + step
    rng = random.Random(f"example/{cfg.seed}/{number}/{index}")
    level = levels.mix(rng, unit.open_levels, unit.frontier)
    form = draw_form(rng, cfg)
    made = _fitting(cfg, number, index, level, form, rng, seen)
    return made or _easier(cfg, number, index, level, form, rng, seen, unit.open_levels)


def _fitting(
    cfg: Config, number: int, first: int, level: int, form: int, rng: random.Random, seen: set[int]
) -> Example | None:
    """The first of `tries` programs not seen whose example fits `cfg.tasks.context`."""
    turn, tries = 0, TRIES
    while tries:
        item = first + turn * RETRY
        turn += 1
        made = programs.generate(
            cfg.seed, number, item, level, pairs=cfg.tasks.pairs, fuel=cfg.tasks.fuel, inverse=_asks_inputs(form)
        )
        if made.hash in seen and turn < REDRAWS:
            continue
        reference = None
        if form == PROPOSE:
            reference = programs.generate(cfg.seed, number, item + REFERENCE, level, pairs=cfg.tasks.pairs).code
        try:
            ids, mask = training_sequence(form, made, rng, cfg, reference=reference)
        except TooLong:
            tries -= 1
            continue
        return Example(ids, mask, form, made.level, made)
    return None


def _easier(
    cfg: Config, number: int, first: int, level: int, form: int, rng: random.Random, seen: set[int], open_levels: int
) -> Example:
    """An example of a lower level, or at last a deduction. Raises TooLong."""
    for lower in reversed(range(level)):
        if made := _fitting(cfg, number, first, lower, form, rng, seen):
            return made
    for lower in (min(open_levels - 1, 1), 0):
        if made := _fitting(cfg, number, first, lower, DEDUCTION, rng, seen):
            return made
    raise TooLong(f"config.tasks.context={cfg.tasks.context} holds no program with a pair; make it larger")


def draw_form(rng: random.Random, cfg: Config) -> int:
    """A kind or PROPOSE, by the shares of `config.warmup`."""
    shares = [*(kind.training_share(cfg.warmup) for kind in TASK_KINDS), cfg.warmup.propose]
    return rng.choices([*range(len(TASK_KINDS)), PROPOSE], shares)[0]


def _asks_inputs(form: int) -> bool:
    return form != PROPOSE and TASK_KINDS[form].inverse


def rows(cfg: Config, unit: Unit, step: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One step's rows as arrays, and the programs among them that the sandbox is to confirm."""
    size, most = unit.batch_size, examples_at_most(unit.context)
    arrays = {
        "tokens": np.full((size, unit.context), tokens.PAD, np.uint16),
        "mask": np.zeros((size, unit.context), bool),
        "kind": np.full((size, most), -1, np.int8),
        "level": np.full((size, most), -1, np.int8),
    }
    audit = []
    for i, held in enumerate(fill(cfg, unit, step)):
        at = 0
        for j, made in enumerate(held):
            end = at + len(made.ids)
            arrays["tokens"][i, at:end] = made.ids
            arrays["mask"][i, at:end] = made.mask
            arrays["kind"][i, j], arrays["level"][i, j] = made.form, made.level
            at = end
            if made.program.hash % AUDIT == 0:
                audit.append(dataclasses.asdict(made.program))
    return {"audit": audit}, arrays


def heldout(cfg: Config, split: str, level: int, start: int, stop: int) -> list[dict[str, Any]]:
    """Candidates `start` … `stop` − 1 of a held-out set, duplicates among them."""
    made = (
        programs.generate(cfg.seed, HELDOUT_UNIT, i, level, split, pairs=cfg.tasks.pairs) for i in range(start, stop)
    )
    return [dataclasses.asdict(program) for program in made]


def task(cfg: Config, step: int, place: int, open_levels: int) -> Task:
    """Generator task `place` for self-play's ring: kinds in turn, levels evenly, within the lengths a rollout has."""
    number = PHASES["tasks"] + step
    kind = TASK_KINDS[place % len(TASK_KINDS)]
    rng = random.Random(f"task/{cfg.seed}/{number}/{place}")
    level = rng.randrange(open_levels)
    turn = 0
    while True:
        made = programs.generate(
            cfg.seed, number, place + turn * RETRY, level, pairs=cfg.tasks.pairs, inverse=kind.inverse
        )
        found = kind.task_of_program(made, cfg)
        if usable_in_ring(found, cfg):
            return found
        turn += 1
        if turn % TRIES == 0:
            level = max(0, level - 1)
        if turn > 100 * TRIES:
            raise TooLong("config.tasks.prompt or config.tasks.record holds no generated task; make them larger")


def tasks(cfg: Config, step: int, open_levels: int, start: int, stop: int) -> list[dict[str, Any]]:
    """Tasks `start` … `stop` − 1."""
    return [dataclasses.asdict(task(cfg, step, place, open_levels)) for place in range(start, stop)]
