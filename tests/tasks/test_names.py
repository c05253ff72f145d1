"""Names that scripts of others import: the rooms moved, these stayed."""

import importlib

import pytest

NAMES = {
    "bitzero.tasks.alpha": "hash_text split_of split_text structural_hash",
    "bitzero.tasks.gates": "DUPLICATE GATES INFRA MAX_ARGS OK Proposal Stage Verdict hash64 level_of validate",
    "bitzero.tasks.judge": "INFRA Judgement OUTCOMES judge",
    "bitzero.tasks.kinds": """ABDUCTION BadRecord DEDUCTION Example INDUCTION KINDS MIN_HIDDEN PROPOSE Task TooLong
        answer_of finished induction_task proposal_of propose_prompt record solve_prompt split_args task_of""",
    "bitzero.tasks.tokens": """ABDUCTION_TAG ANS DEDENT DEDUCTION_TAG DIRECT EOS GLUE IN INDENT INDUCTION_TAG KIND_TAGS
        LEVELS MAX_LEVEL NEWLINE OUT PAD PROG PROPOSE SOLVE TEXT TRACE VOCAB_SIZE decode encode""",
    "bitzero.sandbox": "KINDS Job Limits Outcome Parsed Sandbox SandboxUnavailable literal_job loosely_equal same",
}


@pytest.mark.parametrize("module", NAMES)
def test_names_stay_where_scripts_look_for_them(module):
    found = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


def test_kinds_are_numbers_for_scripts():
    kinds = importlib.import_module("bitzero.tasks.kinds")
    assert (kinds.DEDUCTION, kinds.ABDUCTION, kinds.INDUCTION) == (0, 1, 2)
    assert kinds.KINDS == ("deduction", "abduction", "induction")
