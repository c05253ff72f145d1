"""Generated programs: `generate` is a pure function from (seed, batch, index, level, split) to a labelled program.

Candidates are drawn (`shapes.py`) until one passes: it must belong to the split, run on enough inputs of its pool,
answer them differently, and, after statements without effect are deleted, have the level that was asked for. What
passes depends on the draw and on fuel alone, never on a clock, so the same arguments give the same program on every
machine.
"""

import argparse
import builtins
import dataclasses
import keyword
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from bitzero.generator.execute import (
    BOTH,
    FUEL,
    Events,
    InstrumentedProgram,
    Rejected,
    canonical_text,
    minimise,
    source_of,
    trace_text,
)
from bitzero.generator.expressions import COMPREHENSION, CONDITIONAL, MAX_WIDTH, uses_name
from bitzero.generator.scope import POOL_SIZE, DeadDraw, Scope, Weights
from bitzero.generator.shapes import SHAPES, Shape, draw_candidate
from bitzero.generator.simplest import simplest_input
from bitzero.generator.statements import NAME_PATTERN, Candidate, Statement
from bitzero.tasks import levels, trivial
from bitzero.tasks.alpha import canonical, hash_text, skeleton_of_text, split_text

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
HELDOUT_BATCH = -1  # the batch that held-out programs are drawn under; those of training are never negative
PAIRS = 6
MAX_PAIRS = POOL_SIZE - 2  # some inputs of the pool fail
TRIVIAL_SHARE = 0.05  # of the programs may be answered by a constant, a copy of an argument or another trivial rule
MAX_DRAWS = 200_000


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program with its labels."""

    code: str  # helper functions and `def f(...)`, as `ast.unparse` prints it, minimised, names at random
    inputs: tuple[str, ...]  # distinct argument lists, canonical literals: "[1, 2], 3"
    outputs: tuple[str, ...]  # canonical text of f on each
    traces: tuple[str, ...]  # trace text on each, without the answer; '' where there is nothing to trace
    level: int  # 0…5, measured
    split: Split
    hash: int  # 64 bits of the canonical source
    productions: tuple[int, ...] = dataclasses.field(default=(), repr=False)  # their numbers, helpers aside
    skeleton: int = dataclasses.field(default=0, repr=False)  # 32 bits of the source without its constants


@dataclass(slots=True)
class Counts:
    """What became of the candidates; a field for each reason of `Rejected`."""

    drawn: int = 0
    kept: int = 0
    dead: int = 0  # the draw led nowhere
    split: int = 0  # of another split
    failed: int = 0  # too few inputs ran within the level's sizes
    constant: int = 0
    trivial: int = 0
    level: int = 0  # of another level, or an argument or condition does nothing


@dataclass(frozen=True, slots=True)
class Specification:
    """What a program has to be."""

    level: int
    split: Split
    shape: Shape
    may_be_trivial: bool  # answered by a trivial rule
    inverse: bool  # its inputs must not be guessable from its outputs
    simplest: bool  # its inputs are the simplest ones found that lead to its outputs
    pairs: int
    weights: Weights | None

    @property
    def width(self) -> int:
        """Characters a value may have."""
        return MAX_WIDTH[levels.VOCABULARIES[self.level] - 1]


def generate(
    seed: int, batch: int, index: int, level: int, split: Split = "train", *, pairs: int = PAIRS,
    inverse: bool = False, simplest: bool = False, weights: Weights | None = None, counts: Counts | None = None,
) -> Program:  # fmt: skip
    """The program of these arguments: of that measured level and split.

    Each argument but `counts` is part of what names the program. `batch` and `index` number the programs of a seed.
    With `inverse`, for abduction, a program whose inputs a trivial rule mostly guesses from its outputs counts as
    trivial too; at most `TRIVIAL_SHARE` are. With `simplest` its inputs are made so (`simplest.py`) once it has
    passed; two of them may then be one. `weights` are those of the productions, for training programs; without
    any, all are chosen alike. `counts` is added to. Raises ValueError for a level outside 0…5, an
    unknown split, or more pairs than the pool gives.
    """
    if not 0 <= level < levels.NUM_LEVELS:
        raise ValueError(f"level {level} is not one of 0 to {levels.NUM_LEVELS - 1}")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    if not 2 <= pairs <= MAX_PAIRS:
        raise ValueError(f"config.tasks.pairs={pairs} must be from 2 to {MAX_PAIRS}")
    rng = random.Random(f"{seed}/{batch}/{index}/{level}/{split}")
    counts = counts or Counts()
    may_be_trivial = rng.random() < TRIVIAL_SHARE
    shape = rng.choice(SHAPES[level])  # once, so that shapes whose draws often die are not rarer
    spec = Specification(level, split, shape, may_be_trivial, inverse, simplest, pairs, weights)
    for _ in range(MAX_DRAWS):
        counts.drawn += 1
        try:
            program = _draw_program(rng, spec)
        except DeadDraw:
            counts.dead += 1
        except Rejected as rejected:
            setattr(counts, rejected.reason, getattr(counts, rejected.reason) + 1)
        else:
            counts.kept += 1
            return program
    raise RuntimeError(f"no program of level {level} in {MAX_DRAWS} draws")


def _draw_program(rng: random.Random, spec: Specification) -> Program:
    """One candidate as a labelled program. Raises `DeadDraw`, or `Rejected` with the reason."""
    scope = Scope(rng, levels.VOCABULARIES[spec.level], spec.may_be_trivial, spec.weights)
    candidate = draw_candidate(scope, spec.level, spec.shape)
    # The split comes first, before anything runs: 15 of 16 candidates for a held-out split end here.
    text, line_of, canonical_source = _source_in_split(candidate, spec.split)
    # Inputs and their outputs.
    program = InstrumentedProgram(candidate, FUEL)
    inputs, texts, outputs = choose_inputs(program, spec.pairs, spec.width, levels.EVENTS[spec.level])
    if len(set(outputs)) < 2:
        raise Rejected("constant")
    if not spec.may_be_trivial and (
        is_trivially_answered(texts, outputs) or (spec.inverse and inputs_are_guessable(program, inputs, outputs))
    ):
        raise Rejected("trivial")
    # Without its dead statements it is another program, perhaps of another split.
    if minimise(program, inputs, outputs):
        text, line_of, canonical_source = _source_in_split(candidate, spec.split)
    # Traces; each condition must be seen true and false in these runs.
    program.recorder.truths_seen.clear()
    recorded = [program.record_events(values) for values in inputs]
    _check_recorded_runs(program, text, recorded, spec)
    if spec.simplest:
        inputs = [simplest_input(program, *pair) for pair in zip(inputs, outputs, strict=True)]
        texts = [", ".join(map(canonical_text, values)) for values in inputs]
        recorded = [program.record_events(values) for values in inputs]
    names = draw_names(rng, text)
    return Program(
        code=rename_variables(text, names),
        inputs=tuple(texts),
        outputs=tuple(outputs),
        traces=tuple(trace_text(program, events, line_of, names) for events in recorded),
        level=spec.level,
        split=spec.split,
        hash=hash_text(canonical_source),
        skeleton=skeleton_of_text(canonical_source),
        productions=tuple(sorted({number for item in statements_of(candidate) for number in item.productions})),
    )


def _source_in_split(candidate: Candidate, split: Split) -> tuple[str, dict[int, int], str]:
    """`source_of` the candidate and its canonical form; raises `Rejected` if that belongs to another split."""
    text, line_of = source_of(candidate)
    canonical_source = canonical_form(text, candidate)
    if split_text(canonical_source) != split:
        raise Rejected("split")
    return text, line_of, canonical_source


def _check_recorded_runs(program: InstrumentedProgram, text: str, recorded: list[Events], spec: Specification) -> None:
    """Raises `Rejected` unless the level is right, values are short, conditions take both ways, arguments are used."""
    candidate, truths_seen = program.candidate, program.recorder.truths_seen
    firsts = {i for i, report in enumerate(program.reports) if report.first}
    changes = max(sum(report in firsts for report, _ in events) for events in recorded)
    body = text.rsplit("def f(", 1)[1].split("\n", 1)[1]
    if (
        levels.level_of_facts(facts_of(candidate, changes)) != spec.level
        or any(seen != BOTH for switch, seen in truths_seen.items() if program.switches[switch])
        or any(len(value) > spec.width for events in recorded for _, value in events)
        or not all(uses_name(body, arg.name) for arg in candidate.args)
    ):
        raise Rejected("level")


class _Run(NamedTuple):
    """A run on one input of the pool; sorted, the most useful come first."""

    repeats: int  # runs before it with the same output, one more if that is a trivial answer
    place: int  # of the input in the pool
    values: tuple[Any, ...]
    text: str
    output: str


ChosenInputs = tuple[list[tuple[Any, ...]], list[str], list[str]]  # argument values, their texts, outputs


def choose_inputs(program: InstrumentedProgram, pairs: int, width: int, events: int) -> ChosenInputs:
    """`pairs` inputs of the pool with their texts and outputs.

    Inputs whose output is new and no trivial answer are preferred, so that outputs differ and branches go both ways.
    Raises `Rejected` if fewer inputs run with at most `events` changes of variables and `width` characters of output.
    """
    seen: set[str] = set()
    runs: list[_Run] = []
    repeats_of: dict[str, int] = {}
    best = 0
    for place in range(POOL_SIZE):
        if best == pairs:
            break  # no later input could displace one of these
        values = tuple(arg.vals[place] for arg in program.candidate.args)
        parts = [canonical_text(value) for value in values]
        text = ", ".join(parts)
        output = program.output(values) if text not in seen else None
        if output is None or len(output) > width or program.num_changes() > events:
            continue
        seen.add(text)
        repeats = repeats_of[output] = repeats_of.get(output, -1) + 1
        repeats += trivial.is_constant_or_copy(output, parts)
        best += repeats == 0
        runs.append(_Run(repeats, place, values, text, output))
    if len(runs) < pairs:
        raise Rejected("failed")
    chosen = sorted(sorted(runs)[:pairs], key=lambda run: run.place)
    return [run.values for run in chosen], [run.text for run in chosen], [run.output for run in chosen]


def is_trivially_answered(texts: list[str], outputs: list[str]) -> bool:
    """Whether more than a third of the pairs are answered by a constant or by a copy of an argument."""
    hits = sum(trivial.is_constant_or_end(output, text) for text, output in zip(texts, outputs, strict=True))
    return 3 * hits > len(outputs)


def inputs_are_guessable(program: InstrumentedProgram, inputs: list[tuple[Any, ...]], outputs: list[str]) -> bool:
    """Whether a trivial guess at the input gives more than a third of the outputs: the output itself as one argument,
    '' or 0 as the others.
    """
    hits = 0
    for values, gold in zip(inputs, outputs, strict=True):
        output = program.run(values)
        guesses = [
            tuple(output if i == place else filler for i in range(len(values)))
            for place in range(len(values))
            for filler in trivial.FILL_VALUES[: len(values)]
        ]
        hits += any(program.output(guess) == gold for guess in guesses)
    return 3 * hits > len(outputs)


def facts_of(candidate: Candidate, events: int) -> levels.Facts:
    """What the level of a program follows from; `events` is the largest number of changes over its runs."""
    nested = list(_with_loop_depth(candidate.body, 0))
    statements = statements_of(candidate)
    looped = [item for item, depth in nested if depth]
    return levels.Facts(
        statements=sum(item.form != "return" for item in statements),
        operations=sum(item.ops for item in statements),
        vocabulary=max([item.vocabulary for item in statements]) if not candidate.helpers else 3,
        comprehensions=sum(bool(item.features & COMPREHENSION) for item in statements),
        branches=sum((item.form == "if") + bool(item.features & CONDITIONAL) for item in statements),
        loops=sum(item.form in ("for", "while") for item in statements),
        depth=max((depth + 1 for item, depth in nested if item.form in ("for", "while")), default=0),
        whiles=sum(item.form == "while" for item in statements),
        builds=sum(item.changes_dict for item in looped),
        helpers=len(candidate.helpers),
        events=events,
    )


def statements_of(candidate: Candidate) -> list[Statement]:
    """Every statement of the body, those of its blocks included."""
    return [item for item, _ in _with_loop_depth(candidate.body, 0)]


def _with_loop_depth(body: list[Statement], depth: int) -> Iterator[tuple[Statement, int]]:
    """Every statement of a body, blocks included, with the number of loops around it."""
    for item in body:
        yield item, depth
        inner = depth + (item.form in ("for", "while"))
        yield from _with_loop_depth(item.body, inner)
        yield from _with_loop_depth(item.orelse, inner)


def canonical_form(text: str, candidate: Candidate) -> str:
    """`alpha.canonical` of a source whose names are written _1, _2 …

    `alpha.canonical` numbers names in the order of the syntax tree. Without helpers, comprehensions, lambdas and
    conditional expressions that is the order of the text, and renumbering the text is thirty times faster.
    """
    if candidate.helpers or " for " in text.replace("    for ", "") or "lambda" in text or " else " in text:
        return canonical(text)
    order: dict[str, str] = {}
    return NAME_PATTERN.sub(lambda found: order.setdefault(found[0], f"v{len(order)}"), text)


RESERVED = frozenset((*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "f"))
LETTERS = "abcdeghijklmnopqrstuvwxyz"


def draw_names(rng: random.Random, text: str) -> dict[str, str]:
    """A random name for each of the text's variables, mostly of one letter."""
    names: dict[str, str] = {}
    for found in dict.fromkeys(NAME_PATTERN.findall(text)):
        while True:
            size = 1 if rng.random() < 0.9 else rng.randint(2, 4)
            name = "".join(rng.choices(LETTERS, k=size))
            if name not in RESERVED and name not in names.values():
                break
        names[found] = name
    return names


def rename_variables(text: str, names: dict[str, str]) -> str:
    """The text with its variables named."""
    return NAME_PATTERN.sub(lambda found: names[found[0]], text)


def heldout(seed: int, split: Split, level: int, n: int) -> list[Program]:
    """`n` programs of a split and level with different hashes; the same ones for the same arguments."""
    kept: dict[int, Program] = {}
    index = 0
    while len(kept) < n:
        program = generate(seed, HELDOUT_BATCH, index, level, split)
        kept.setdefault(program.hash, program)
        index += 1
    return list(kept.values())


def as_asked(candidates: Iterable[Program]) -> Iterator[Program]:
    """Candidates as questions: a program that comes again comes with another input first.

    So questions keep the generator's own distribution, in which small programs come more than once, and a larger set
    only narrows an interval. A program none of whose inputs is new is left out.
    """
    asked: dict[int, set[str]] = {}
    for program in candidates:
        before = asked.setdefault(program.hash, set())
        first = next((i for i, given in enumerate(program.inputs) if given not in before), None)
        if first is not None:
            before.add(program.inputs[first])
            turn = lambda texts, first=first: (*texts[first:], *texts[:first])
            yield dataclasses.replace(
                program, inputs=turn(program.inputs), outputs=turn(program.outputs), traces=turn(program.traces)
            )


def main() -> None:
    """Print samples: `python -m bitzero.generator.programs --level 1 -n 20`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("-n", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="train", choices=SPLITS)
    flags = parser.parse_args()
    for index in range(flags.n):
        program = generate(flags.seed, 0, index, flags.level, flags.split)
        print(program.code)
        for given, value, trace in zip(program.inputs, program.outputs, program.traces, strict=True):
            print(f"  f({given}) = {value}    {trace}")


if __name__ == "__main__":
    main()
