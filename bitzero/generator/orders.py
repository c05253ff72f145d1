"""What a generator worker computes: rows of training batches, self-play's first tasks, held-out programs.

Each is a pure function of the configuration and its arguments, so the same items come back from any worker, in any
order, after any restart. Within a step no program comes twice (programs are compared by canonical hash); the few small
ones there are come again in other steps, with new inputs. A training batch cannot hold a dev or test program: the split
follows from the same hash.
"""

import dataclasses
import itertools
import random
from typing import Any, Literal

import numpy as np

from bitzero.config import NUM_PRODUCTIONS, Config
from bitzero.generator import programs
from bitzero.generator.behaviours import behaviours_of
from bitzero.generator.programs import Program, Split
from bitzero.generator.scope import Weights
from bitzero.tasks import levels, tokens
from bitzero.tasks.kinds import DEDUCTION, PROPOSE, TASK_KINDS, Task, TooLong, usable_in_ring
from bitzero.tasks.sequences import training_example

Phase = Literal["warmup", "selfplay"]  # of the training batches
# A program is drawn under (batch, index). The batch is the step plus its phase's offset, so that no two phases meet.
PHASE_OFFSETS = {"warmup": 0, "selfplay": 1 << 40, "tasks": 1 << 41}
RETRY_STRIDE = 1 << 20  # from an index to the one tried after it
REFERENCE_OFFSET = 1 << 40  # from a program's index to that of the reference program shown to its proposer
SHORT_EXAMPLE = 24  # tokens of a short example; sets how many a row may hold
MAX_MISSES = 2  # examples that found no room after which a step's rows are full
REDRAWS = 40  # programs drawn for an example after which one seen in its step is taken all the same
TRIES = 6  # examples of a level that may be too long before a lower level is tried
AUDIT_EVERY = 100  # one program in so many is run again in the sandbox


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchOrder:
    """The training batches of `steps` steps, as the trainer orders them: equal orders give equal batches."""

    step: int  # the first one, counted in the phase
    steps: int
    batch_size: int  # sequences a step
    context: int  # tokens a sequence
    open_levels: int  # levels below this number
    frontier: int  # half of the examples come from this level, where no level has a weight
    level_weights: tuple[int, ...] = ()  # of each level; none: by open levels and frontier
    production_weights: tuple[int, ...] = ()  # of each production; none: all alike
    phase: Phase = "warmup"


@dataclasses.dataclass(slots=True)
class PackedExample:
    """One program as a training example; several are packed into a sequence."""

    ids: list[int]
    mask: list[bool]  # True: this token is a target
    form: int  # a task kind, or PROPOSE
    level: int
    program: Program


def examples_at_most(context: int) -> int:
    """Examples that a sequence of ``context`` tokens may hold."""
    return max(1, context // SHORT_EXAMPLE)


def fill_rows(cfg: Config, order: BatchOrder, step: int) -> list[list[PackedExample]]:
    """A step's rows: examples drawn one after another, each put into the first row with room for it.

    No program comes twice. Drawing until no short example fits any more would favour short ones, so it ends when
    `MAX_MISSES` examples found no room.
    """
    rows: list[list[PackedExample]] = [[] for _ in range(order.batch_size)]
    room = [order.context] * order.batch_size
    cfg_of_order = dataclasses.replace(cfg, tasks=dataclasses.replace(cfg.tasks, context=order.context))
    most, seen, misses = examples_at_most(order.context), set[int](), 0
    for index in itertools.count():
        example = draw_example(cfg_of_order, order, step, index, seen)
        size = len(example.ids)
        row = next((i for i, free in enumerate(room) if free >= size and len(rows[i]) < most), None)
        if row is not None:
            rows[row].append(example)
            room[row] -= size
            seen.add(example.program.hash)
        elif (misses := misses + 1) == MAX_MISSES:
            break
    return rows


def draw_example(cfg: Config, order: BatchOrder, step: int, index: int, seen: set[int]) -> PackedExample:
    """Example `index` of a step, at most `cfg.tasks.context` long; its program is none of those `seen`, by hash."""
    batch = PHASE_OFFSETS[order.phase] + step
    rng = random.Random(f"example/{cfg.seed}/{batch}/{index}")
    level = levels.draw_level(rng, order.open_levels, order.frontier, order.level_weights)
    draw = _Draw(cfg, batch, index, draw_form(rng, cfg), rng, seen, order.production_weights or None)
    return _first_that_fits(draw, level) or _of_a_lower_level(draw, level, order.open_levels)


@dataclasses.dataclass(frozen=True, slots=True)
class _Draw:
    """What stays the same while programs are tried for one example."""

    cfg: Config
    batch: int
    index: int  # of the first program
    form: int  # a task kind, or PROPOSE
    rng: random.Random
    seen: set[int]  # hashes of the step's programs so far
    weights: Weights | None  # of the productions

    def program(self, index: int, level: int, inverse: bool = False) -> Program:
        """Program ``index`` of the batch."""
        return programs.generate(
            self.cfg.seed, self.batch, index, level, pairs=self.cfg.tasks.pairs, inverse=inverse,
            simplest=inverse and self.cfg.warmup.simplest, weights=self.weights,
        )  # fmt: skip


def _first_that_fits(draw: _Draw, level: int) -> PackedExample | None:
    """The example of the first program not seen that fits `cfg.tasks.context`; None after `TRIES` that do not."""
    cfg, turn, tries = draw.cfg, 0, TRIES
    while tries:
        index = draw.index + turn * RETRY_STRIDE
        turn += 1
        program = draw.program(index, level, inverse=_asks_inputs(draw.form))
        if program.hash in draw.seen and turn < REDRAWS:
            continue
        reference = None
        if draw.form == PROPOSE:
            reference = draw.program(index + REFERENCE_OFFSET, level).code
        try:
            ids, mask = training_example(draw.form, program, draw.rng, cfg, reference=reference)
        except TooLong:
            tries -= 1
            continue
        return PackedExample(ids, mask, draw.form, program.level, program)
    return None


def _of_a_lower_level(draw: _Draw, level: int, open_levels: int) -> PackedExample:
    """An example of the same form and a lower level, or at last a deduction of L1 or L0. Raises TooLong."""
    for lower in reversed(range(level)):
        if example := _first_that_fits(draw, lower):
            return example
    for lower in (min(open_levels - 1, 1), 0):
        if example := _first_that_fits(dataclasses.replace(draw, form=DEDUCTION), lower):
            return example
    raise TooLong(f"config.tasks.context={draw.cfg.tasks.context} holds no program with a pair; make it larger")


def draw_form(rng: random.Random, cfg: Config) -> int:
    """What an example is to be, a task kind or PROPOSE, by the shares of `config.warmup`."""
    shares = [*(kind.training_share(cfg.warmup) for kind in TASK_KINDS), cfg.warmup.propose]
    return rng.choices([*range(len(TASK_KINDS)), PROPOSE], shares)[0]


def _asks_inputs(form: int) -> bool:
    return form != PROPOSE and TASK_KINDS[form].inverse


def pack_step(cfg: Config, order: BatchOrder, step: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One step's rows as the arrays of a `stream.Batch`, and the programs among them that the sandbox is to confirm."""
    size, most = order.batch_size, examples_at_most(order.context)
    arrays = {
        "tokens": np.full((size, order.context), tokens.PAD, np.uint16),
        "mask": np.zeros((size, order.context), bool),
        "kind": np.full((size, most), -1, np.int8),
        "level": np.full((size, most), -1, np.int8),
        "skeleton": np.zeros((size, most), np.uint32),
        "productions": np.zeros((size, most, NUM_PRODUCTIONS), bool),
    }
    audit = []
    for i, examples in enumerate(fill_rows(cfg, order, step)):
        at = 0
        for j, example in enumerate(examples):
            end = at + len(example.ids)
            arrays["tokens"][i, at:end] = example.ids
            arrays["mask"][i, at:end] = example.mask
            arrays["kind"][i, j], arrays["level"][i, j] = example.form, example.level
            arrays["skeleton"][i, j] = example.program.skeleton
            arrays["productions"][i, j, list(example.program.productions)] = True
            at = end
            if example.program.hash % AUDIT_EVERY == 0:
                audit.append(dataclasses.asdict(example.program))
    arrays["productions"] = np.packbits(arrays["productions"], axis=-1)
    return {"audit": audit}, arrays


def heldout_candidates(cfg: Config, split: Split, level: int, start: int, stop: int) -> list[Program]:
    """Programs `start` … `stop` − 1 of a held-out set, duplicates among them."""
    draw = lambda index: programs.generate(cfg.seed, programs.HELDOUT_BATCH, index, level, split, pairs=cfg.tasks.pairs)
    return [draw(index) for index in range(start, stop)]


def heldout_slice(cfg: Config, split: Split, level: int, start: int, stop: int) -> dict[str, Any]:
    """``heldout_candidates`` as dicts, and of dev and test programs what they do (``behaviours_of``)."""
    found = heldout_candidates(cfg, split, level, start, stop)
    done = lambda program: sorted(behaviours_of(program.code, program.inputs, cfg.sandbox))
    behaviours = [[] if split == "train" else done(program) for program in found]
    return {"items": [dataclasses.asdict(program) for program in found], "behaviours": behaviours}


def draw_task(cfg: Config, step: int, place: int, open_levels: int) -> Task:
    """Task `place` for self-play's ring: kinds in turn, levels evenly, short enough for a rollout. Raises TooLong."""
    batch = PHASE_OFFSETS["tasks"] + step
    kind = TASK_KINDS[place % len(TASK_KINDS)]
    rng = random.Random(f"task/{cfg.seed}/{batch}/{place}")
    level = rng.randrange(open_levels)
    turn = 0
    while True:
        program = programs.generate(
            cfg.seed, batch, place + turn * RETRY_STRIDE, level, pairs=cfg.tasks.pairs, inverse=kind.inverse
        )
        task = kind.task_of_program(program, cfg)
        if usable_in_ring(task, program.traces[0], cfg):
            return task
        turn += 1
        if turn % TRIES == 0:
            level = max(0, level - 1)
        if turn > 100 * TRIES:
            raise TooLong("config.tasks.prompt, record or completion holds no generated task; make them larger")


def draw_tasks(cfg: Config, step: int, open_levels: int, start: int, stop: int) -> dict[str, Any]:
    """Tasks `start` … `stop` − 1 for self-play's ring, as dicts, and what the program of each does."""
    tasks = [draw_task(cfg, step, place, open_levels) for place in range(start, stop)]
    done = [sorted(behaviours_of(task.code, task.inputs, cfg.sandbox)) for task in tasks]
    return {"items": [dataclasses.asdict(task) for task in tasks], "behaviours": done}
