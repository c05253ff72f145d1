"""Personas as files, and what a history changes about them, each with its reason."""

import dataclasses
import pathlib
import re

import pytest

from bitzero.chat import persona, wording
from bitzero.chat.adaptation import RESET, adapt
from bitzero.chat.answers import Answer
from bitzero.chat.persona import PersonaError


def puzzle(right):
    return {"kind": "puzzle", "right": right}


def test_three_are_built_in_and_differ(tmp_path):
    assert persona.names(tmp_path) == ["playful", "terse", "tutor"]
    said = {persona.read(name, tmp_path).phrase("wrong", answer=1, python=2) for name in persona.names(tmp_path)}
    assert len(said) == 3


def test_a_person_adds_one_and_leaves_out_what_they_like(tmp_path):
    (tmp_path / "personas").mkdir()
    (tmp_path / "personas" / "pirate.toml").write_text('greeting = "Arr"\n[phrases]\nright = "Aye: $answer $odd"\n')
    found = persona.read("pirate", tmp_path)
    assert (found.name, found.greeting, found.verbosity) == ("pirate", "Arr", "long")
    assert found.phrase("right", answer="{x.__class__}") == "Aye: {x.__class__} $odd"
    assert "pirate" in persona.names(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a =", "is not TOML"),
        (f"a = {'[' * 100_000}", "is not TOML"),
        ('colour = "red"', "colour is no setting"),
        ('verbosity = "loud"', "verbosity must be one of short, normal, long"),
        ("greeting = 3", "greeting must be a text"),
        ('puzzles = ["chess"]', "puzzles must be a list of"),
        ('[phrases]\nhello = "x"', "hello is no phrase"),
    ],
)
def test_a_broken_persona_is_refused_in_a_line(tmp_path, text, sentence):
    (tmp_path / "personas").mkdir()
    (tmp_path / "personas" / "odd.toml").write_text(text)
    with pytest.raises(PersonaError, match=sentence) as refused:
        persona.read("odd", tmp_path)
    assert "\n" not in str(refused.value)


def test_a_name_is_no_path(tmp_path):
    for name in ("../personas/tutor", "nobody"):
        with pytest.raises(PersonaError, match="no persona"):
            persona.read(name, tmp_path)


def test_the_level_follows_success_and_says_why(tmp_path):
    tutor = persona.read("tutor", tmp_path)
    assert adapt(tutor, []).reasons == () and adapt(tutor, []).level == 0
    up = [puzzle(True)] * 4
    assert adapt(tutor, up).level == 2
    assert adapt(tutor, [*up, puzzle(False), puzzle(False)]).level == 1
    assert adapt(tutor, up).reasons == ("puzzles are of level 2: 4 of 4 were right",)
    assert adapt(tutor, [*up, {"kind": RESET}]).reasons == ()


def test_choices_and_questions_become_preferences(tmp_path):
    tutor = persona.read("tutor", tmp_path)
    choice = {"kind": "choice", "setting": "verbosity", "value": "short"}
    assert adapt(tutor, [choice]).verbosity == "long"
    assert adapt(tutor, [choice, choice]).verbosity == "short"
    asked = adapt(tutor, [{"kind": "induction"}] * 5)
    assert asked.puzzles == ("induction", "deduction", "abduction")
    assert asked.reasons == ("induction puzzles come first: 5 of your last 5 questions were of that kind",)


def test_a_folder_that_cannot_be_entered_leaves_the_built_in_ones(tmp_path):
    nowhere = tmp_path / ("x" * 300)
    assert persona.names(nowhere) == ["playful", "terse", "tutor"]
    assert persona.read("tutor", nowhere).name == "tutor"


def test_the_first_line_of_a_persona_names_the_words_that_are_filled_in():
    text = (persona._BUILT_IN / "tutor.toml").read_text().splitlines()[0]
    found = Answer(kind="abduction", question="", answer="a", python="p", tries=2, confidence=0.5, note="n")
    promised = re.findall(r"\$(\w+)", text)
    said = dict.fromkeys(("found", "guess", "nothing"), " ".join(f"${word}" for word in promised))
    own = dataclasses.replace(persona.read("tutor", pathlib.Path()), phrases=said)
    [(line, _), *_] = wording.answer_lines(dataclasses.replace(found, right=True, votes={"a": 1.0}), own, "short")
    assert len(promised) == 6 and "$" not in line
