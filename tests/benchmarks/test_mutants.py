"""The table of mutants fits the code, and a mutant that no test sees is told from one that breaks the tree."""

import dataclasses

import pytest

from benchmarks import mutants
from benchmarks.mutants import MUTANTS, ROOT, Mutant


def test_every_mutant_is_one_edit_and_its_tests_are_there():
    assert mutants.misfits(MUTANTS, ROOT) == []
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:  # each still is a program
        compile((ROOT / mutant.file).read_text().replace(mutant.text, mutant.instead), mutant.file, "exec")


def test_a_mutant_that_no_longer_fits_is_named():
    gone = dataclasses.replace(MUTANTS[0], name="gone", text="no such text", tests=("tests/none.py",))
    often = dataclasses.replace(MUTANTS[0], name="often", text="jnp")
    first, second, third = mutants.misfits((gone, often), ROOT)
    assert "gone" in first and "0 times" in first
    assert "no tests/none.py" in second
    assert "often" in third and "not once" in third


@pytest.mark.parametrize(
    ("instead", "result", "by"),
    [("2", "killed", "test_one"), ("1  # the same", "survived", ""), ("1 +", "not judged", "ERROR")],
)
def test_what_becomes_of_a_mutant(tmp_path, instead, result, by):
    (tmp_path / "test_code.py").write_text("from code_here import ONE\n\ndef test_one():\n    assert ONE == 1\n")
    (tmp_path / "code_here.py").write_text("ONE = 1\n")
    mutant = Mutant("one", "code_here.py", "1", instead, ("test_code.py",))
    row = mutants.judge(mutant, tmp_path, 60.0)
    assert row["result"] == result and by in row["by"]
    assert (tmp_path / "code_here.py").read_text() == "ONE = 1\n"
