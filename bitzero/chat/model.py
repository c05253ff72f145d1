"""The model that is asked: read from its file, at the precisions it has, a few rows of an answer at a time."""

import collections
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from bitzero.evaluation.questions import Solver
from bitzero.evaluation.streaming import stream_rows
from bitzero.model import delta as deltas
from bitzero.model import packing
from bitzero.model.delta import Delta
from bitzero.run import packed_file
from bitzero.tasks.tokens import PAD

ROWS = 8  # answers decoded side by side; one shape, so that little is compiled
Bits = Literal["ternary", "all"]  # what answers
Wanted = Literal["auto", Bits]  # what a person asks for: auto is all where ternary alone does not verify


@dataclasses.dataclass
class AskedModel:
    """A packed model and what has been drawn from it."""

    path: pathlib.Path
    solver: Solver
    base: dict[Bits, dict[str, Any]]  # as the file has them, by precision; the same tree where the model has no tiers
    weights: dict[Bits, dict[str, Any]]  # those that are asked: the base, under the person's delta where there is one
    tokens: int = 0  # drawn so far, of all rows
    seconds: float = 0.0  # that this took
    asked: int = 0  # draws so far: the seed of the next
    wait: Callable[[Bits], None] = lambda bits: None  # called before every draw: until what it needs is compiled

    @property
    def has_tiers(self) -> bool:
        """Whether there are residual bits beyond the ternary base."""
        return self.base["ternary"] is not self.base["all"]

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest question."""
        return self.solver.cfg.tasks.prompt


def load(path: pathlib.Path, say: Callable[[str], None]) -> AskedModel:
    """The model in a packed file. Raises ``RunError`` with one line for what is none."""
    solver = packed_file.load(path, batch_size=ROWS, say=say)
    tiers = packing.stored_bits(solver.weights) > 2.0
    ternary = packing.without_tiers(solver.weights) if tiers else solver.weights
    base: dict[Bits, dict[str, Any]] = {"ternary": ternary, "all": solver.weights}
    return AskedModel(path=path, solver=solver, base=base, weights=base)


def use_delta(model: AskedModel, delta: Delta | None) -> None:
    """Asks the base under ``delta`` from now on, or the base itself; compiles nothing."""
    if delta is None:
        model.weights = model.base
        return
    every = deltas.applied(model.base["all"], delta)
    ternary = deltas.applied(model.base["ternary"], delta) if model.has_tiers else every
    model.weights = {"ternary": ternary, "all": every}


def draw(
    model: AskedModel, prompt: Sequence[int], temperatures: Sequence[float], bits: Bits
) -> Iterator[list[list[int]]]:
    """The ids of every row so far, once after each new token; ends when all rows have."""
    model.wait(bits)
    solver = dataclasses.replace(model.solver, weights=model.weights[bits])
    rows: list[list[int]] = [[] for _ in temperatures]
    model.asked += 1
    stream = stream_rows(solver, prompt, temperatures, max_new=solver.cfg.tasks.answer, seed=model.asked)
    while True:
        started = time.perf_counter()
        new = next(stream, None)
        model.seconds += time.perf_counter() - started
        if new is None:
            return
        for row, token in zip(rows, new, strict=True):
            row.append(token)
        model.tokens += sum(token != PAD for token in new)
        yield rows


def drawn(model: AskedModel, prompt: Sequence[int], temperatures: Sequence[float], bits: Bits) -> list[list[int]]:
    """The ids of every row, whole."""
    [rows] = collections.deque(draw(model, prompt, temperatures, bits), maxlen=1)
    return rows


def warm_up(model: AskedModel, bits: Bits) -> None:
    """Compiles what every answer at these bits needs, or fetches it from the cache; needs no turn."""
    prompt, max_new = model.solver.kinds[0].proposer_prompt(0, None), model.solver.cfg.tasks.answer
    solver = dataclasses.replace(model.solver, weights=model.weights[bits])
    next(stream_rows(solver, prompt, [0.0] * ROWS, max_new=max_new, seed=0))
