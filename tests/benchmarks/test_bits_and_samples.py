"""The questions of the comparison are what a chat understands, and its differences are paired."""

from benchmarks import bits_and_samples
from bitzero.chat import comparing, intent
from bitzero.generator.programs import generate


def test_a_program_becomes_a_question_of_each_kind():
    """A call, a value to be reached, and examples: each is understood as what it is, with the program's own values."""
    for index in range(12):
        made = generate(seed=3, batch=0, index=index, level=index % 4, split="dev")
        call, wanted, examples = map(intent.understand, bits_and_samples.asked_about(made, shown=3))
        assert isinstance(call, intent.CallQuestion) and (call.name, call.args) == ("f", made.inputs[0])
        assert isinstance(wanted, intent.InputQuestion) and wanted.value == made.outputs[0]
        assert isinstance(examples, intent.PairsQuestion) and examples.inputs == made.inputs[:3]


def record(level, **verified):
    ways = dict.fromkeys(comparing.WAYS, False) | verified
    return {"level": level, "about": "deduction", "verified": ways}


def test_differences_are_of_the_same_questions():
    """Two questions that bits alone answer and one that samples alone do, of four."""
    rows = [record(0, auto=True), record(1, auto=True), record(1, ternary=True), record(1, auto=True, ternary=True)]
    found = bits_and_samples.paired(rows)
    assert found["verified"] == {"few": 0, "auto": 3, "all": 0, "ternary": 2}
    gain, low, high = found["gains"]["auto - ternary"]
    assert gain == 0.25 and low < gain < high
    assert [level for level, _ in bits_and_samples.grouped(rows, "level")] == [0, 1]
