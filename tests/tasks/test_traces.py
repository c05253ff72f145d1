"""The trace's form: written and read back, and never dearer in tokens than it is."""

import pytest

from bitzero.generator.programs import generate
from bitzero.tasks import traces
from bitzero.tasks.tokens import decode, encode

TOKENS = (400, 1765, 1727, 4635, 5814)  # of the traces of twenty programs of each level


def test_items_are_joined_and_found_again():
    items = [traces.change(1, "a", "[1, 2]"), traces.change(12, "b", "';'"), "'x;y'", "-3"]
    text = traces.join(items)
    assert text == "1:a=[1, 2];12:b=';';'x;y';-3"
    assert traces.items_of(text) == items
    assert traces.items_of(r"1:a='\';';2") == [r"1:a='\';'", "2"]
    assert traces.items_of(traces.join([])) == []


@pytest.mark.parametrize("level", range(len(TOKENS)))
def test_a_trace_costs_no_more_tokens_than_it_did(level):
    found = [trace for i in range(20) for trace in generate(0, 0, i, level).traces]
    assert sum(len(encode(trace)) for trace in found) <= TOKENS[level]
    assert all(decode(encode(trace)) == trace for trace in found)


def test_the_start_of_an_item_is_one_token():
    assert [len(encode(start)) for start in traces.STARTS] == [1] * 9
