"""The task forms: golden sequences, round trips, what counts as a well-formed completion, trivial answers."""

import dataclasses
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitzero.config import Config
from bitzero.tasks import kinds, sequences, tokens
from bitzero.tasks.kinds import ABDUCTION, DEDUCTION, INDUCTION, PROPOSE, TASK_KINDS, Task
from bitzero.tasks.tokens import EOS, decode, encode

CFG = Config()
CODE = "def f(a, b):\n    c = a[1:] + [b]\n    return sorted(c)"


@dataclass(frozen=True)
class Example:
    """A program with the fields of ``programs.Program`` that a training sequence reads."""

    code: str = CODE
    inputs: tuple[str, ...] = ("[1, 2], 0", "[3, 1], 9", "[0, 5, 4], 1", "[7], 2", "[6, 6], 3", "[8, 0], 8")
    outputs: tuple[str, ...] = ("[0, 2]", "[1, 9]", "[1, 4, 5]", "[2]", "[3, 6]", "[0, 8]")
    traces: tuple[str, ...] = ("1:c=[2, 0]", "1:c=[1, 9]", "1:c=[5, 4, 1]", "1:c=[2]", "1:c=[6, 3]", "1:c=[0, 8]")
    level: int = 1


def task(kind, *, inputs=("[1, 2], 0",), outputs=("[0, 2]",), shown=1, code=CODE):
    return Task(kind=kind, level=1, code=code, inputs=inputs, outputs=outputs, shown=shown)


def induction(inputs, outputs, shown=3):
    return task(INDUCTION, inputs=inputs, outputs=outputs, shown=shown)


@pytest.mark.parametrize(
    ("kind", "trace", "text"),
    [
        (DEDUCTION, False, f"<solve><deduction>{CODE}<in>[1, 2], 0<out><direct>"),
        (DEDUCTION, True, f"<solve><deduction>{CODE}<in>[1, 2], 0<out><trace>"),
        (ABDUCTION, False, f"<solve><abduction>{CODE}<out>[0, 2]<in>"),
    ],
)
def test_solve_prompts(kind, trace, text):
    assert decode(kinds.solve_prompt(task(kind), trace)) == text


def test_an_induction_prompt_shows_only_the_first_pairs():
    asked = induction(("1", "2", "3", "4", "5"), ("2", "3", "4", "5", "6"))
    expected = "<solve><induction><in>1<out>2<in>2<out>3<in>3<out>4<prog>"
    assert decode(kinds.solve_prompt(asked, False)) == expected


def test_propose_prompts():
    assert decode(kinds.propose_prompt(DEDUCTION, 2, None)) == "<propose><deduction><L2><prog>"
    assert decode(kinds.propose_prompt(ABDUCTION, 0, CODE)) == f"<propose><abduction><L0><prog>{CODE}<prog>"
    assert decode(kinds.propose_prompt(INDUCTION, 0, CODE)) == f"<propose><induction><L0><prog>{CODE}<in>"
    with pytest.raises(ValueError, match="needs the program"):
        kinds.propose_prompt(INDUCTION, 0, None)


def test_kinds_are_named_in_turn():
    assert kinds.in_turn("") == (DEDUCTION, ABDUCTION, INDUCTION)
    assert kinds.in_turn("induction, abduction,induction") == (INDUCTION, ABDUCTION, INDUCTION)
    with pytest.raises(ValueError):
        kinds.in_turn("deduction,")


@pytest.mark.parametrize("made", [task(DEDUCTION), task(ABDUCTION), induction(tuple("12345"), tuple("23456"))])
def test_a_record_gives_its_task_back(made):
    ids = kinds.record(made)
    assert kinds.task_of(ids + [tokens.PAD] * 5) == made
    assert len(ids) <= CFG.tasks.record


WORD = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from([DEDUCTION, ABDUCTION, INDUCTION]), st.integers(0, 5), WORD, st.lists(WORD, min_size=5, max_size=6)
)
def test_records_round_trip_for_any_text(kind, level, code, texts):
    made = Task(kind=kind, level=level, code=code, inputs=tuple(texts), outputs=tuple(texts[::-1]), shown=3)
    assert kinds.task_of(kinds.record(made)) == made


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 511), max_size=40))
def test_ids_that_are_no_record_raise_one_error(ids):
    try:
        kinds.task_of(ids)
    except kinds.BadRecord:
        pass


@pytest.mark.parametrize(
    ("kind", "ids", "answer"),
    [
        (DEDUCTION, [*encode("[1]"), EOS, *encode("junk")], "[1]"),
        (DEDUCTION, [*encode("1:c=[1]"), tokens.ANS, *encode("7"), EOS], "7"),
        (DEDUCTION, encode("[1]"), None),  # cut off
        (DEDUCTION, [EOS], None),  # empty
        (DEDUCTION, [tokens.ANS, EOS], None),
        (DEDUCTION, [*encode("1"), tokens.ANS, *encode("2"), tokens.ANS, *encode("3"), EOS], None),
        (DEDUCTION, [*encode("1"), tokens.PAD, EOS], None),
        (ABDUCTION, [*encode("[1], 2"), EOS], "[1], 2"),
        (ABDUCTION, [*encode("1"), tokens.ANS, *encode("2"), EOS], None),
        (ABDUCTION, [*encode("1"), tokens.IN, *encode("2"), EOS], None),
        (INDUCTION, [*encode(CODE), EOS], CODE),
    ],
)
def test_answers_are_cut_out_of_completions(kind, ids, answer):
    assert kinds.answer_of(kind, ids) == answer


def test_proposals_are_cut_out_of_completions():
    prompt = kinds.propose_prompt(DEDUCTION, 1, None)
    good = [*encode(CODE), tokens.IN, *encode("[1], 2"), EOS]
    assert kinds.proposal_of(DEDUCTION, prompt, good) == (CODE, ("[1], 2",))
    assert kinds.proposal_of(DEDUCTION, prompt, good[:-1]) is None
    assert kinds.proposal_of(DEDUCTION, prompt, [*encode(CODE), EOS]) is None
    assert kinds.proposal_of(DEDUCTION, prompt, [*good[:-1], tokens.IN, *encode("1"), EOS]) is None
    assert kinds.proposal_of(DEDUCTION, prompt, [tokens.IN, *encode("1"), EOS]) is None


def test_an_induction_proposal_takes_its_program_from_the_prompt():
    prompt = [tokens.PAD] * 4 + kinds.propose_prompt(INDUCTION, 1, CODE)
    ids = [*encode("1"), tokens.IN, *encode("2"), EOS]
    assert kinds.proposal_of(INDUCTION, prompt, ids) == (CODE, ("1", "2"))
    assert kinds.proposal_of(INDUCTION, prompt[:-1], ids) is None


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", ()),
        ("1", ("1",)),
        ("[1, 2], 'a,b', {1: (2, 3)}", ("[1, 2]", "'a,b'", "{1: (2, 3)}")),
        (r"'\',', 2", (r"'\','", "2")),
        ("0) or (1", None),  # the paste attack: a bracket that closes what it did not open
        ("[1", None),
        ("'a", None),
    ],
)
def test_arguments_are_split_without_evaluation(text, pieces):
    assert kinds.split_args(text) == pieces


def test_a_deduction_sequence_packs_traced_pairs():
    cfg = dataclasses.replace(CFG, warmup=dataclasses.replace(CFG.warmup, trace=1.0))
    ids, mask = sequences.training_example(DEDUCTION, Example(), random.Random(0), cfg)
    head, first, *_ = decode(ids).split("<in>")
    assert head == f"<solve><deduction>{CODE}"
    assert decode(ids).count("<in>") == CFG.tasks.packed
    given, answer = first.split("<out>")
    i = Example().inputs.index(given)
    assert answer == f"<trace>{Example().traces[i]}<ans>{Example().outputs[i]}<eos>"
    assert decode([t for t, m in zip(ids, mask, strict=True) if m]).startswith(answer.removeprefix("<trace>"))


def test_a_trace_over_the_answer_budget_becomes_direct():
    short = dataclasses.replace(CFG.tasks, answer=8)
    cfg = dataclasses.replace(CFG, tasks=short, warmup=dataclasses.replace(CFG.warmup, trace=1.0))
    ids, _ = sequences.training_example(DEDUCTION, Example(), random.Random(0), cfg)
    assert tokens.TRACE not in ids
    assert tokens.DIRECT in ids


def test_an_abduction_sequence_names_the_program_once():
    ids, mask = sequences.training_example(ABDUCTION, Example(), random.Random(1), CFG)
    assert decode(ids).count(CODE) == 1
    assert decode(ids).count("<eos>") == CFG.tasks.packed
    first = decode(ids).split("<out>")[1]
    value, given = first.removesuffix("<eos>").split("<in>")
    assert Example().inputs[Example().outputs.index(value)] == given
    answers = [pair.split("<in>")[1].removesuffix("<eos>") for pair in decode(ids).split("<out>")[1:]]
    assert sum(mask) == sum(len(encode(text)) + 1 for text in answers)


def test_an_induction_sequence_is_answered_by_the_program():
    ids, mask = sequences.training_example(INDUCTION, Example(), random.Random(2), CFG)
    assert decode([t for t, m in zip(ids, mask, strict=True) if m]) == CODE + "<eos>"
    assert ids.count(tokens.OUT) == CFG.tasks.shown


def test_proposals_come_in_all_kinds_with_and_without_a_reference():
    rng, seen = random.Random(3), set()
    for _ in range(200):
        ids, mask = sequences.training_example(PROPOSE, Example(), rng, CFG, reference="def f(a):\n    return a")
        start = mask.index(True)
        assert all(mask[start:])
        assert len(ids) - start <= CFG.tasks.completion
        assert kinds.proposal_of(tokens.KIND_TAGS.index(ids[1]), ids[:start], ids[start:]) is not None
        seen.add((ids[1], ids[:start].count(tokens.PROG)))
    d, a, i = tokens.KIND_TAGS
    assert seen == {(d, 1), (d, 2), (a, 1), (a, 2), (i, 1)}


def test_trivial_proposals_are_not_taught():
    rng = random.Random(4)
    sign = Example(outputs=("True", "False", "[7]", "True", "False", "True"))  # only the third input is worth asking
    taught = {decode(sequences.training_example(PROPOSE, sign, rng, CFG)[0]) for _ in range(100)}
    single = [text for text in taught if "<deduction>" in text]
    assert single
    assert all("<in>[0, 5, 4], 1<eos>" in text for text in single)
    constant = Example(outputs=("True",) * 6)
    with pytest.raises(kinds.TooLong):
        sequences.training_example(PROPOSE, constant, rng, CFG)


@pytest.mark.parametrize("form", [DEDUCTION, ABDUCTION, INDUCTION, PROPOSE])
def test_a_long_program_is_too_long(form):
    with pytest.raises(kinds.TooLong):
        sequences.training_example(form, Example(code="x" * 200), random.Random(0), CFG)


@pytest.mark.parametrize(("form", "least", "most"), [(DEDUCTION, 29, 33), (ABDUCTION, 26, 30), (INDUCTION, 41, 49)])
def test_what_could_not_be_asked_is_not_taught(form, least, most):
    """``least`` and ``most`` are the prompts' lengths over the orders of the pairs."""
    told = lambda prompt: dataclasses.replace(CFG, tasks=dataclasses.replace(CFG.tasks, packed=1, prompt=prompt))
    begins = lambda seed, prompt: sequences.training_example(form, Example(), random.Random(seed), told(prompt))[1]
    assert {begins(seed, 96).index(True) for seed in range(30)} >= {least, most}
    with pytest.raises(kinds.TooLong):
        begins(0, least - 1)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from([DEDUCTION, ABDUCTION, INDUCTION, PROPOSE]), st.integers(0, 10**6))
def test_sequences_fit_and_end_with_a_target(form, seed):
    ids, mask = sequences.training_example(form, Example(), random.Random(seed), CFG, reference=CODE)
    assert len(ids) == len(mask) <= CFG.tasks.context
    assert ids[-1] == EOS
    assert mask[-1]
    assert not mask[0]


@pytest.mark.parametrize("kind", [DEDUCTION, ABDUCTION, INDUCTION])
def test_rules_and_answers_are_aligned(kind):
    made = induction(tuple("12345"), tuple("23456")) if kind == INDUCTION else task(kind)
    assert len(TASK_KINDS[kind].trivial_answers(made)) == len(TASK_KINDS[kind].trivial_rules())


@pytest.mark.parametrize("kind", [DEDUCTION, ABDUCTION, INDUCTION])
def test_further_arguments_do_not_move_the_rules(kind):
    four = tuple(f"{n}, 20, 30, 40" for n in range(5))
    made = task(kind, inputs=four, outputs=tuple("56789"), shown=3)
    three = task(kind, inputs=tuple(given[:-4] for given in four), outputs=tuple("56789"), shown=3)
    rules, answers = TASK_KINDS[kind].trivial_rules(), TASK_KINDS[kind].trivial_answers
    assert len(answers(made)) > len(rules) == len(answers(three))
    place = rules.index("output as argument 2, others 0" if kind == ABDUCTION else "argument 2")
    wanted = {DEDUCTION: "30", ABDUCTION: "0, 0, 5, 0", INDUCTION: "def f(a0, a1, a2, a3):\n    return a2"}
    assert answers(made)[place] == wanted[kind]


def by_rule(kind):
    return dict(zip(TASK_KINDS[kind].trivial_rules(), TASK_KINDS[kind].trivial_answers(task(kind)), strict=True))


def test_trivial_answers_by_hand():
    answers = by_rule(ABDUCTION)
    assert answers["all []"] == "[], []"
    assert answers["output as argument 0, others 0"] == "[0, 2], 0"
    assert answers["output as argument 1, others ''"] == "'', [0, 2]"
    assert answers["output as argument 2, others 0"] == ""
    answers = by_rule(DEDUCTION)
    assert (answers["argument 0"], answers["argument 1"], answers["argument 2"]) == ("[1, 2]", "0", "")


def test_trivial_tasks_are_recognised():
    deduction, abduction, pairs = TASK_KINDS
    assert deduction.is_trivial(task(DEDUCTION, inputs=("[1], 2",), outputs=("[1]",)))
    assert deduction.is_trivial(task(DEDUCTION, inputs=("3, 2",), outputs=("True",)))
    assert not deduction.is_trivial(task(DEDUCTION, inputs=("3, 2",), outputs=("5",)))
    doubled = task(ABDUCTION, inputs=("[1], 2",), outputs=("[1]",))
    assert not abduction.is_trivial(doubled)
    assert pairs.is_trivial(induction(tuple("12345"), tuple("12345")))  # identity
    assert pairs.is_trivial(induction(tuple("12345"), tuple("00700")))  # hidden outputs are equal
    assert pairs.is_trivial(induction(tuple("12345"), tuple("01201")))  # hidden outputs were all shown
    assert not pairs.is_trivial(induction(tuple("12345"), tuple("23456")))


def test_the_lookup_program_knows_the_shown_pairs_only():
    program = TASK_KINDS[INDUCTION].trivial_answers(induction(("1", "[2], 'x'", "3", "4", "5"), tuple("23456")))[-1]
    scope: dict = {}
    exec(program, scope)  # written by this test's own task
    assert [scope["f"](1), scope["f"]([2], "x"), scope["f"](3), scope["f"](4)] == [2, 3, 4, 4]
