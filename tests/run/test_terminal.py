"""Whatever becomes of the terminal, the pipe or the log: the program goes on, and what it says is lost at most."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# Says something by ``print`` and by the live line, and leaves a file that says it came to its end.
TALKS = """
import pathlib, sys
from bitzero.run.terminal import settle_streams
settle_streams()
from bitzero.run.progress import Progress
with Progress() as progress:
    for i in range(2_000):
        print(f"BitZero · {i} → λ ≤ 1 ½", flush=True)
        progress.say(f"step {i} – saved…")
    print("on stderr ×", file=sys.stderr)
pathlib.Path(sys.argv[1]).touch()
"""


def talk(tmp_path, **streams):
    end = tmp_path / "end"
    return end, subprocess.Popen([sys.executable, "-c", TALKS, str(end)], cwd=ROOT, **streams)


def test_a_reader_that_leaves_after_two_lines(tmp_path):
    end, process = talk(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process.stderr:
        with process.stdout:
            first = [process.stdout.readline() for _ in range(2)]
        error = process.stderr.read().decode()
    assert process.wait(60) == 0 and end.exists()
    assert first == ["BitZero · 0 → λ ≤ 1 ½\n".encode(), "step 0 – saved…\n".encode()]
    assert error == "on stderr ×\n"  # not a word about the pipe, at the exit neither


def test_a_full_disk(tmp_path):
    with open("/dev/full", "w") as full:
        end, process = talk(tmp_path, stdout=full, stderr=full)
        assert process.wait(60) == 0 and end.exists()


def test_a_terminal_that_is_gone(tmp_path):
    ours, its = os.openpty()
    end, process = talk(tmp_path, stdout=its, stderr=its)
    os.close(its)
    seen = b""
    while b"BitZero" not in seen:
        seen += os.read(ours, 1_000)
    os.close(ours)
    assert process.wait(60) == 0 and end.exists()


def test_streams_that_were_closed(tmp_path):
    end = tmp_path / "end"
    shell = 'exec "$0" -c "$1" "$2" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", shell, sys.executable, TALKS, str(end)], cwd=ROOT, timeout=60)
    assert done.returncode == 0 and end.exists()


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("ascii", "BitZero - 0 -> lambda <= 1 ?"),
        ("latin-1", "BitZero · 0 -> lambda <= 1 ½"),
        ("utf-8", "BitZero · 0 → λ ≤ 1 ½"),
    ],
)
def test_an_encoding_that_lacks_a_character(tmp_path, encoding, line):
    env = os.environ | {"PYTHONIOENCODING": encoding}
    end, process = talk(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    lines = process.communicate(timeout=60)[0].decode(encoding).splitlines()
    assert process.returncode == 0 and end.exists()
    assert lines[0] == line and len(lines) == 4_001
