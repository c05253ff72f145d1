"""The simplest input with the same output: shorter, of its type, found within its runs, and only where asked for."""

import dataclasses

import pytest

from bitzero.config import Config
from bitzero.generator import orders, programs
from bitzero.generator.simplest import MOST_RUNS, simpler_values, simplest_input
from bitzero.generator.stream import BatchOrder
from bitzero.tasks.kinds import ABDUCTION

SIMPLEST = [
    (True, False), (7, 0), (-7, 0), (30, 0), ("zbk", ""), ([3, -1], []), (["ba", ""], []), ([[2], [1, 9]], []),
    ((4, 1), ()), ({3, 5}, {3}), ({"b": 2, "c": 0}, {}),
]  # fmt: skip


class Counting:
    """A function in the place of a compiled program; `runs` counts."""

    def __init__(self, function):
        self.function, self.runs = function, 0

    def output(self, values):
        self.runs += 1
        try:
            return repr(self.function(*values))
        except (TypeError, LookupError, ValueError):
            return None


@pytest.mark.parametrize(("value", "simplest"), SIMPLEST, ids=repr)
def test_every_chain_of_simpler_values_ends_and_keeps_its_type(value, simplest):
    seen, todo = [], [value]
    while todo:
        for simpler in simpler_values(todo.pop()):
            assert type(simpler) is type(value) and simpler != value
            if simpler not in seen:
                seen.append(simpler)
                todo.append(simpler)
    assert len(seen) < 3000
    assert simplest in seen and not list(simpler_values(simplest))


@pytest.mark.parametrize(
    ("function", "values", "simplest"),
    [
        (lambda a: min(a), ([6, 6, 2, 8],), ([2],)),
        (lambda a: len(a), (["ab", "c"],), (["", ""],)),
        (lambda a: a % 5, (-13,), (2,)),
        (lambda a: a * a, (-9,), (9,)),
        (lambda a, b: [*a, max(b)], ([1], [3, 7, 2]), ([1], [7])),
        (lambda a, b: b if b in a else 0, ({"k": 3, "b": 9}, "b"), ({"b": 0}, "b")),
        (lambda a, b: a and b, (True, [4, 5]), (True, [4, 5])),
        (lambda a: max(a), ({8, 3},), ({8},)),
        (lambda a: a[1], ((5, 8, 2),), ((0, 8),)),
        (lambda a: a.count("b"), ("zbkbz",), ("bb",)),
    ],
)
def test_what_does_not_matter_for_the_output_is_gone(function, values, simplest):
    program = Counting(function)
    assert simplest_input(program, values, program.output(values)) == simplest
    assert program.runs <= MOST_RUNS + 1


def test_the_runs_are_bounded_and_what_was_found_by_then_is_kept():
    program = Counting(lambda a: sum(a))
    found = simplest_input(program, ([9] * 30 + [0],), "270")
    assert program.runs == MOST_RUNS and found == ([9] * 30,)


@pytest.mark.parametrize("level", range(6))
def test_programs_stay_the_same_and_their_inputs_lead_to_the_same_outputs(level):
    shorter = traced = 0
    for index in range(12):
        drawn, simplest = (programs.generate(3, 1, index, level, inverse=True, simplest=on) for on in (False, True))
        same = ("code", "outputs", "hash", "level", "productions")
        assert [getattr(drawn, name) for name in same] == [getattr(simplest, name) for name in same]
        space: dict = {}
        exec(simplest.code, space)  # the generator's own text
        for given, output in zip(simplest.inputs, simplest.outputs, strict=True):
            assert programs.canonical_text(space["f"](*eval(f"({given},)", {}))) == output
        for i in range(len(drawn.inputs)):
            assert drawn.traces[i] == simplest.traces[i] or drawn.inputs[i] != simplest.inputs[i]
        traced += drawn.traces != simplest.traces  # they are those of the inputs that stand there
        shorter += sum(map(len, drawn.inputs)) - sum(map(len, simplest.inputs))
    assert shorter > 0 and traced > 0


def test_only_abductions_are_taught_otherwise():
    order = BatchOrder(step=4, steps=1, batch_size=8, context=128, open_levels=3, frontier=1)
    plain = Config(seed=5)
    simplest = dataclasses.replace(plain, warmup=dataclasses.replace(plain.warmup, simplest=True))
    differ = {ABDUCTION: 0}
    for index in range(140):
        drawn, made = (orders.draw_example(cfg, order, 4, index, set()) for cfg in (plain, simplest))
        assert drawn.form == made.form and drawn.program.code == made.program.code
        differ[drawn.form] = differ.get(drawn.form, 0) + (drawn.ids != made.ids)
    assert differ.pop(ABDUCTION) > 2 and not any(differ.values())
