"""The simplest input that leads to an output: of several right answers to an abduction, one that can be worked out.

What is drawn at random tells nothing of the program. What is left of it when everything that does not matter for the
output is gone does, and it is shorter. Found as property-based testing shrinks a counterexample: step by step to a
simpler value with the same output, until no step is left (Hypothesis, MacIver and Donaldson, ECOOP 2020).
"""

from collections.abc import Iterator
from typing import Any

from bitzero.generator.execute import InstrumentedProgram

MOST_RUNS = 60  # of the program, for one input
LARGEST = 12  # of the numbers that are tried in the place of another


def simplest_input(program: InstrumentedProgram, values: tuple[Any, ...], output: str) -> tuple[Any, ...]:
    """``values``, which lead to ``output`` (canonical text), one after another as simple as the others let it be."""
    runs, changed = 0, True
    while changed:
        changed = False
        for place in range(len(values)):
            for simpler in simpler_values(values[place]):
                if (runs := runs + 1) > MOST_RUNS:
                    return values
                trial = (*values[:place], simpler, *values[place + 1 :])
                if program.output(trial) == output:
                    values, changed = trial, True
                    break
    return values


def simpler_values(value: Any) -> Iterator[Any]:
    """Values of the same type a step simpler, the simplest first: nothing, a part less, a smaller part.

    No value is ever followed by itself, however many steps one goes: they get shorter, then nearer to 0 or 'a'.
    """
    match value:
        case bool():
            yield from [False] * value
        case int():
            yield from range(min(abs(value), LARGEST))
            if value < 0:
                yield -value
        case str():
            yield from _with_less(value, value[:0])
            yield from (value[:i] + "a" + value[i + 1 :] for i, letter in enumerate(value) if letter > "a")
        case list() | tuple():
            yield from _with_less(value, value[:0])
            parts: Any = value
            for i, part in enumerate(value):
                yield from (parts[:i] + type(parts)([simpler]) + parts[i + 1 :] for simpler in simpler_values(part))
        case set():  # an empty one has no literal
            yield from (value - {part} for part in sorted(value) if len(value) > 1)
        case dict():
            yield from [{}] * bool(value)
            for key, part in value.items():
                yield {other: value[other] for other in value if other != key}
                yield from (value | {key: simpler} for simpler in simpler_values(part))
        case _:
            raise ValueError(f"no argument of a generated program is a {type(value).__name__}")


def _with_less(value: Any, nothing: Any) -> Iterator[Any]:
    """A sequence without its parts, then without one of them, the last ones first."""
    if value:
        yield nothing
    if len(value) > 1:
        yield from (value[:i] + value[i + 1 :] for i in reversed(range(len(value))))
