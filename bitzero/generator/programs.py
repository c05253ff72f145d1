"""Generated programs: `generate` is a pure function from (seed, unit, index, level, split) to a labelled program.

A candidate is drawn on a pool of inputs (`build.py`), run, given its inputs, minimised, measured and split; the first
that passes is kept. Acceptance depends on fuel and on the draw alone, never on a clock, so the same arguments give the
same program on every machine.
"""

import argparse
import builtins
import keyword
import random
from dataclasses import dataclass
from typing import Any

from bitzero.generator.execute import Events, Instrumented, Rejected, minimise, source, text_of, trace_text
from bitzero.generator.expressions import COMPREHENSION, CONDITIONAL, WIDTH, uses
from bitzero.generator.scope import POOL, Dead, Scope
from bitzero.generator.shapes import SHAPES, Shape, candidate
from bitzero.generator.statements import NAME, Candidate, Stmt
from bitzero.tasks import levels
from bitzero.tasks.alpha import canonical, hash_text, split_text
from bitzero.tasks.trivial import CONSTANTS

PAIRS = 6
MAX_PAIRS = POOL - 2  # some inputs of the pool fail
FUEL = 128  # reports of one run: three times the events of the last level, so that a `while` gone astray ends soon
TRIVIAL_SHARE = 0.05  # of the draws may give a constant, identity or otherwise trivially answered program
MAX_DRAWS = 200_000


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program with its labels."""

    code: str  # helper functions and `def f(...)`, as `ast.unparse` prints it, minimised, names at random
    inputs: tuple[str, ...]  # distinct argument lists, canonical literals: "[1, 2], 3"
    outputs: tuple[str, ...]  # canonical text of f on each
    traces: tuple[str, ...]  # trace text on each, without the answer; '' where there is nothing to trace
    level: int  # 0…5, measured
    split: str  # train | dev | test
    hash: int  # 64 bits of the canonical source


@dataclass(slots=True)
class Counts:
    """What became of the candidates, by reason, for the benchmark."""

    drawn: int = 0
    kept: int = 0
    dead: int = 0  # the draw led nowhere
    split: int = 0  # of another split
    failed: int = 0  # too few inputs ran within the level's sizes
    constant: int = 0
    trivial: int = 0
    level: int = 0  # of another level, or an argument or condition does nothing


@dataclass(frozen=True, slots=True)
class Wish:
    """What a program has to be."""

    level: int
    split: str
    shape: Shape
    trivial: bool  # may be answered by a trivial rule
    inverse: bool  # its inputs must not be guessed from its outputs
    pairs: int
    fuel: int

    @property
    def width(self) -> int:
        """Characters a value may have."""
        return WIDTH[levels.TIERS[self.level] - 1]


def generate(
    seed: int, unit: int, index: int, level: int, split: str = "train", *, pairs: int = PAIRS, fuel: int = FUEL,
    inverse: bool = False, counts: Counts | None = None,
) -> Program:  # fmt: skip
    """The program of these arguments: of that measured level and split.

    With `inverse`, programs whose inputs are mostly guessed from the output by a trivial rule are capped as well.
    Raises ValueError for a level outside 0…5 or more pairs than the pool gives.
    """
    if not 0 <= level < levels.NUM_LEVELS:
        raise ValueError(f"level {level} is not one of 0 to {levels.NUM_LEVELS - 1}")
    if not 2 <= pairs <= MAX_PAIRS:
        raise ValueError(f"config.tasks.pairs={pairs} must be from 2 to {MAX_PAIRS}")
    rng = random.Random(f"{seed}/{unit}/{index}/{level}/{split}")
    counts = counts or Counts()
    trivial = rng.random() < TRIVIAL_SHARE
    shape = rng.choice(SHAPES[level])  # once, so that shapes whose draws often die are not rarer
    wish = Wish(level, split, shape, trivial, inverse, pairs, min(fuel, FUEL))
    for _ in range(MAX_DRAWS):
        counts.drawn += 1
        try:
            made = _attempt(rng, wish)
        except Dead:
            counts.dead += 1
        except Rejected as reason:
            setattr(counts, reason.args[0], getattr(counts, reason.args[0]) + 1)
        else:
            counts.kept += 1
            return made
    raise RuntimeError(f"no program of level {level} in {MAX_DRAWS} draws")


def _attempt(rng: random.Random, wish: Wish) -> Program:
    """One candidate, made a program; raises `Dead` or `Rejected` where it ends."""
    drawn = candidate(Scope(rng, levels.TIERS[wish.level], booleans=wish.trivial), wish.level, wish.shape)
    text, places, form = _source_of_split(drawn, wish.split)  # before anything runs: held-out splits are small
    program = Instrumented(drawn, wish.fuel)
    inputs, texts, outputs = choose(program, wish.pairs, wish.width, levels.EVENTS[wish.level])
    if len(set(outputs)) < 2:
        raise Rejected("constant")
    if not wish.trivial and (easy(texts, outputs) or (wish.inverse and guessed(program, inputs, outputs))):
        raise Rejected("trivial")
    if minimise(program, inputs, outputs):
        text, places, form = _source_of_split(drawn, wish.split)
    program.tape.truth.clear()  # conditions must open both ways in the recorded runs
    recorded = [program.record(values) for values in inputs]
    _check(program, text, recorded, wish)
    names = naming(rng, text)
    return Program(
        code=rename(text, names),
        inputs=tuple(texts),
        outputs=tuple(outputs),
        traces=tuple(trace_text(program, events, places, names) for events in recorded),
        level=wish.level,
        split=wish.split,
        hash=hash_text(form),
    )


def _source_of_split(drawn: Candidate, split: str) -> tuple[str, dict[int, int], str]:
    """Source, lines of its statements, canonical form; `Rejected` if that belongs to another split."""
    text, places = source(drawn)
    form = normal(text, drawn)
    if split_text(form) != split:
        raise Rejected("split")
    return text, places, form


def _check(program: Instrumented, text: str, recorded: list[Events], wish: Wish) -> None:
    """Raise `Rejected` unless the level is the wished one and every value small, condition open, argument used."""
    drawn, truth = program.made, program.tape.truth
    firsts = {i for i, report in enumerate(program.reports) if report.first}
    changes = max(sum(report in firsts for report, _ in events) for events in recorded)
    body = text.rsplit("def f(", 1)[1].split("\n", 1)[1]
    if (
        levels.measure(facts(drawn, changes)) != wish.level
        or any(seen != 3 for switch, seen in truth.items() if program.switches[switch])
        or any(len(value) > wish.width for events in recorded for _, value in events)
        or not all(uses(body, arg.name) for arg in drawn.args)
    ):
        raise Rejected("level")


Chosen = tuple[list[tuple[Any, ...]], list[str], list[str]]


def choose(program: Instrumented, pairs: int, width: int, events: int) -> Chosen:
    """`pairs` inputs of the pool with their texts and outputs; `Rejected` if fewer run within `events` and `width`.

    Inputs whose output is new and not a trivial constant or copy come first, so outputs differ and branches flip.
    """
    seen: set[str] = set()
    found: list[tuple[int, int, tuple[Any, ...], str, str]] = []
    outputs: dict[str, int] = {}
    best = 0
    for place in range(POOL):
        if best == pairs:
            break  # no later input could displace one of these
        values = tuple(arg.vals[place] for arg in program.made.args)
        parts = [text_of(value) for value in values]
        text = ", ".join(parts)
        output = program.output(values) if text not in seen else None
        if output is None or len(output) > width or program.changes() > events:
            continue
        seen.add(text)
        repeats = outputs[output] = outputs.get(output, -1) + 1
        worth = repeats + (output in CONSTANTS or output in parts)  # the lower the better
        best += worth == 0
        found.append((worth, place, values, text, output))
    if len(found) < pairs:
        raise Rejected("failed")
    found = sorted(sorted(found)[:pairs], key=lambda item: item[1])
    return [item[2] for item in found], [item[3] for item in found], [item[4] for item in found]


def easy(texts: list[str], outputs: list[str]) -> bool:
    """Whether more than a third of the pairs are answered by a constant or by a copy of an argument."""
    hits = 0
    for text, output in zip(texts, outputs, strict=True):
        hits += output in CONSTANTS or output == text or text.startswith(output + ", ") or text.endswith(", " + output)
    return 3 * hits > len(outputs)


def guessed(program: Instrumented, inputs: list[tuple[Any, ...]], outputs: list[str]) -> bool:
    """Whether the output itself, as one argument beside '' or 0, leads to more than a third of the outputs."""
    hits = 0
    for values, gold in zip(inputs, outputs, strict=True):
        output = program.call(values)
        guesses = [
            tuple(output if i == place else fill for i in range(len(values)))
            for place in range(len(values))
            for fill in (("", 0) if len(values) > 1 else ("",))
        ]
        hits += any(program.output(guess) == gold for guess in guesses)
    return 3 * hits > len(outputs)


def facts(drawn: Candidate, events: int) -> levels.Facts:
    """What the level of a program is measured by; `events` is the largest number of changes over its runs."""
    found = list(_walk(drawn.body, 0))
    stmts = [item for item, _ in found]
    looped = [item for item, depth in found if depth]
    return levels.Facts(
        statements=sum(item.kind != "return" for item in stmts),
        operations=sum(item.ops for item in stmts),
        tier=max([item.tier for item in stmts]) if not drawn.helpers else 3,
        comprehensions=sum(bool(item.features & COMPREHENSION) for item in stmts),
        branches=sum((item.kind == "if") + bool(item.features & CONDITIONAL) for item in stmts),
        loops=sum(item.kind in ("for", "while") for item in stmts),
        depth=max((depth + 1 for item, depth in found if item.kind in ("for", "while")), default=0),
        whiles=sum(item.kind == "while" for item in stmts),
        builds=sum("builds" in item.marks for item in looped),
        helpers=len(drawn.helpers),
        events=events,
    )


def _walk(body: list[Stmt], depth: int) -> Any:
    for item in body:
        yield item, depth
        inner = depth + (item.kind in ("for", "while"))
        yield from _walk(item.body, inner)
        yield from _walk(item.orelse, inner)


def normal(text: str, drawn: Candidate) -> str:
    """`alpha.canonical` of a source whose names are written _1, _2 …

    Where no comprehension, lambda or conditional expression moves a name away from its place in the text, numbering the
    names as they stand is the same and thirty times faster.
    """
    if drawn.helpers or " for " in text.replace("    for ", "") or "lambda" in text or " else " in text:
        return canonical(text)
    order: dict[str, str] = {}
    return NAME.sub(lambda found: order.setdefault(found[0], f"v{len(order)}"), text)


RESERVED = frozenset((*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "f"))
LETTERS = "abcdeghijklmnopqrstuvwxyz"


def naming(rng: random.Random, text: str) -> dict[str, str]:
    """A random name for each of the text's variables, mostly of one letter."""
    names: dict[str, str] = {}
    for found in dict.fromkeys(NAME.findall(text)):
        while True:
            size = 1 if rng.random() < 0.9 else rng.randint(2, 4)
            name = "".join(rng.choices(LETTERS, k=size))
            if name not in RESERVED and name not in names.values():
                break
        names[found] = name
    return names


def rename(text: str, names: dict[str, str]) -> str:
    """The text with its variables named."""
    return NAME.sub(lambda found: names[found[0]], text)


def heldout(seed: int, split: str, level: int, n: int) -> list[Program]:
    """`n` programs of a split and level that differ in structure; the same ones for the same arguments."""
    kept: dict[int, Program] = {}
    index = 0
    while len(kept) < n:
        made = generate(seed, -1, index, level, split)
        kept.setdefault(made.hash, made)
        index += 1
    return list(kept.values())


def main() -> None:
    """Print samples: `python -m bitzero.generator.programs --level 1 -n 20`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("-n", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="train", choices=("train", "dev", "test"))
    flags = parser.parse_args()
    for index in range(flags.n):
        made = generate(flags.seed, 0, index, flags.level, flags.split)
        print(made.code)
        for given, value, trace in zip(made.inputs, made.outputs, made.traces, strict=True):
            print(f"  f({given}) = {value}    {trace}")


if __name__ == "__main__":
    main()
