"""The curriculum's levels: the level of a program from what it holds and what it did, and the mix of a batch.

Levels fix structure and vocabulary together: L0 one return of one or two operations, vocabulary 1 · L1 one or two
straight-line statements, vocabulary 1 · L2 three or four statements, or one comprehension or `if`, vocabulary 2 · L3
one loop, at most 8 events, vocabulary 2 · L4 loop and `if`, at most 16 events, vocabulary 3 · L5 nested loops, `while`,
dicts built in loops, helper functions, at most 40 events, vocabulary 3. A vocabulary holds those below it.
"""

import dataclasses
import random
import re
from collections.abc import Sequence

from bitzero.config import NUM_LEVELS
from bitzero.sandbox import Parsed

EVENTS = (8, 8, 8, 8, 16, 40)  # executed changes of variables that a level may have
MAX_EVENTS = EVENTS[-1]
VOCABULARIES = (1, 1, 2, 2, 3, 3)  # the vocabulary of each level
VOCABULARY_LEVEL = {1: 0, 2: 2, 3: 4}  # the first level with each vocabulary
assert len(EVENTS) == len(VOCABULARIES) == NUM_LEVELS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What a level is measured by, after minimisation and execution."""

    statements: int  # returns at the function's own level not counted
    operations: int  # of the whole program
    vocabulary: int  # 1…3, the largest that one of its operations needs
    comprehensions: int
    branches: int  # `if` statements and conditional expressions
    loops: int  # `for` and `while`
    depth: int  # of nested loops
    whiles: int
    builds: int  # dict items set in a loop
    helpers: int
    events: int  # largest number over the inputs of executed changes of a variable


def level_of_facts(facts: Facts) -> int | None:
    """Level 0…5 of a program, or None if it is beyond the last.

    >>> level_of_facts(Facts(statements=2, operations=3, vocabulary=1, comprehensions=0, branches=0, loops=0,
    ...                      depth=0, whiles=0, builds=0, helpers=0, events=2))
    1
    """
    if facts.events > MAX_EVENTS:
        return None
    by_events = 0 if facts.events <= EVENTS[0] else 4 if facts.events <= EVENTS[4] else 5
    return max(level_of_structure(facts), by_events, VOCABULARY_LEVEL[facts.vocabulary])


def level_of_structure(facts: Facts) -> int:
    """Level that the structure alone asks for."""
    if facts.whiles or facts.depth > 1 or facts.helpers or facts.builds:
        return 5
    if facts.loops:
        return 4 if facts.loops > 1 or facts.branches else 3
    extra = facts.comprehensions + facts.branches
    if facts.statements > 4 or extra > 1:
        return 3
    if facts.statements > 2 or extra or facts.operations > 6:
        return 2
    if facts.statements or facts.operations > 2:
        return 1
    return 0


_OPERATION = re.compile(r"(?<=[\w\])}'])(?:[\[(.]| (?:[-+*/%<>=!&|^]+|and|or|in|is|not in|is not) )")
_LOOP = re.compile(r"^( *)(?:for|while) ", re.MULTILINE)
_VOCABULARY_1 = frozenset(("True", "False", "len", "max", "min", "range", "sorted", "sum", ".append", ".count"))
_VOCABULARY_2 = re.compile(r"//|%|\b(?:enumerate|zip|tuple|dict)\(|[{]")


def level_of_text(program: Parsed) -> int:
    """Level of a proposed program: the curriculum's structure rule and vocabulary, read off the text.

    Events are not measured (the sandbox reports fuel, not changes of variables), so long runs stay at their structure.
    """
    source = program.source
    indents = {match.group(1) for match in _LOOP.finditer(source)}
    facts = Facts(
        statements=max(0, program.statements - 1),
        operations=len(_OPERATION.findall(source.partition(":\n")[2])),
        vocabulary=1 if set(program.names) <= _VOCABULARY_1 and not _VOCABULARY_2.search(source) else 2,
        comprehensions=0,
        branches=program.branches,  # comprehensions are among them
        loops=program.loops,
        depth=len(indents),
        whiles=len(re.findall(r"^ *while ", source, re.MULTILINE)),
        builds=0,
        helpers=source.count("\ndef ") + source.startswith("def ") - 1,
        events=0,
    )
    return max(level_of_structure(facts), VOCABULARY_LEVEL[facts.vocabulary])


def draw_level(rng: random.Random, open_levels: int, frontier: int, weights: Sequence[int] = ()) -> int:
    """A level for one item: by the open levels' weights, or half uniform over the open ones and half at the frontier.

    The latter is the mixed curriculum of Zaremba & Sutskever (1410.4615), which they found better than a merely rising
    difficulty.
    """
    if weights:
        return rng.choices(range(open_levels), weights[:open_levels])[0]
    return frontier if rng.random() < 0.5 else rng.randrange(open_levels)
