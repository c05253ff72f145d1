"""Where the library comes from, and what is said where it cannot."""

import os
import pathlib
import subprocess
import sys

import pytest

from bitzero.native import build

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch):
    """As if no other test had loaded it."""
    monkeypatch.setattr(build, "_loaded", [])


def test_without_a_compiler_there_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.Unavailable, match=r"no C\+\+ compiler \(g\+\+ or clang\+\+; CXX names another\)"):
        build.load(tmp_path)


@pytest.mark.parametrize(
    "script, said",
    [
        ("exit 127", "cannot compile it: no message"),
        ("echo 'x.cpp:1: error: no room' >&2; exit 1", "cannot compile it: x.cpp:1: error: no room"),
        ('while [ "$1" != -o ]; do shift; [ $# = 0 ] && exit 0; done; echo junk > "$2"', "the library does not load"),
    ],
)
def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path, script, said):
    compiler = tmp_path / "broken"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(build.Unavailable, match=said):
        build.load(tmp_path)


def test_a_compiler_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    with pytest.raises(build.Unavailable, match="does not run"):
        build.load(tmp_path)


def test_it_is_built_once(monkeypatch, tmp_path):
    """The second time nothing compiles: the folder has it."""
    calls = []
    compile_it = build._compile
    monkeypatch.setattr(build, "_compile", lambda *words: (calls.append(words), compile_it(*words)))
    assert build.built(tmp_path) == build.built(tmp_path) == next(tmp_path.iterdir())
    assert len(calls) == 1


@pytest.mark.long
def test_a_processor_without_512_bits_computes_the_same(tmp_path):
    """The narrower vectors of such a processor, by a flag, through the tests of this room."""
    code = (
        "import sys, pytest; from bitzero.native import build; "
        "build._FLAGS += ('-mno-avx512f',); sys.exit(pytest.main(sys.argv[1:]))"
    )
    tests = [str(ROOT / "tests" / "native" / name) for name in ("test_functions.py", "test_step.py")]
    command = [sys.executable, "-c", code, "-q", "-n0", *tests]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:]
