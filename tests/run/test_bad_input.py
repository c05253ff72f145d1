"""What a person can get wrong: each is one clear line, a non-zero exit code, no traceback, and nothing lost."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SMOKE = "--config=experiments/smoke.py"
pytestmark = pytest.mark.timeout(600)


def refused(*arguments, code=2, prefix=()):
    """The one line on stderr with which ``launch.py`` refuses."""
    done = subprocess.run(
        [*prefix, sys.executable, "launch.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, lines
    return lines[0].removeprefix("launch.py: ")


def experiment(tmp_path, body):
    file = tmp_path / "mine.py"
    file.write_text("from bitzero import config as configuration\n\n\ndef get_config(variant=None):\n" + body)
    return f"--config={file}"


def test_no_experiment():
    assert refused() == "which experiment? give --config=experiments/azr_small.py"


@pytest.mark.parametrize("mode", ["train", "eval", "export"])
def test_a_folder_alone_that_holds_no_run(tmp_path, mode):
    line = refused(f"--mode={mode}", f"--workdir={tmp_path}")
    assert line == f"there is no run in {tmp_path}; give --config=experiments/azr_small.py to start one there"
    (tmp_path / "config.json").write_text("[]")
    again = refused(f"--mode={mode}", f"--workdir={tmp_path}")
    assert again == f"{tmp_path}/config.json holds no settings; give the --config of that run"


@pytest.mark.parametrize("name", ["experiments/azr_smal.py", "azr_smal.py"])
def test_missing_experiment_file(name):
    line = refused(f"--config={name}")
    assert line.startswith(f"no experiment file {name}; there is: ") and "experiments/azr_small.py" in line


def test_unknown_variant():
    assert refused("--config=experiments/azr_small.py:day").endswith("unknown variant 'day'; there is: hour")


def test_unknown_key_on_the_command_line():
    line = refused(SMOKE, "--config.warmup.stpes=3")
    assert line == "unknown key config.warmup.stpes; did you mean config.warmup.steps?"


def test_unknown_key_in_an_experiment(tmp_path):
    place = experiment(
        tmp_path, "    config = configuration.default()\n    config.warmup.stpes = 3\n    return config\n"
    )
    assert refused(place) == f"{tmp_path}/mine.py: unknown key stpes; did you mean steps?"


def test_wrong_type_in_an_experiment(tmp_path):
    place = experiment(tmp_path, "    config = configuration.default()\n    config.seed = 'x'\n    return config\n")
    assert "seed" in refused(place)


def test_an_experiment_that_is_not_python(tmp_path):
    assert refused(experiment(tmp_path, "    return (\n")).startswith(f"{tmp_path}/mine.py, line 5: ")


def test_wrong_type_on_the_command_line():
    assert refused(SMOKE, "--config.seed", "many") == "config.seed must be a whole number, not 'many'"


def test_negative_size():
    assert refused(SMOKE, "--config.model.width=-8") == "config.model.width must be at least 1; it is -8"


def test_a_word_that_is_no_flag():
    assert refused(SMOKE, "warmup.steps=3").startswith("unknown argument 'warmup.steps=3'")


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--mode=chatt", "flag --mode=chatt: value should be one of <train|eval|export|sweep|chat|adapt>"),
        ("--jsn", "Unknown command line flag 'jsn'. Did you mean: json ?"),
        ("--prompt", "Missing value for flag --prompt"),
        ("--seeds=x", "flag --seeds=x: invalid literal for int() with base 10: 'x'"),
    ],
)
def test_a_mistyped_flag(flag, said):
    assert refused(SMOKE, flag) == said


@pytest.mark.parametrize("flag", ["--model", "--workdir", "--profile_dir"])
def test_a_home_that_is_nobodys(flag, tmp_path):
    model = [] if flag == "--model" else [f"--model={tmp_path / 'm.npz'}"]
    mode = "--mode=train" if flag == "--workdir" else "--mode=chat"
    words = [SMOKE] if flag == "--workdir" else model
    assert refused(mode, *words, f"{flag}=~nobody-of-that-name/x").startswith(
        "~nobody-of-that-name/x: there is no such"
    )


@pytest.mark.parametrize("mode", ["chat", "adapt"])
def test_a_run_that_has_no_packed_model_yet(mode, tmp_path):
    line = refused(SMOKE, f"--mode={mode}")
    assert line == "there is no runs/smoke/packed.npz; --mode=export makes it, or --model=FILE names another model"
    assert refused(f"--workdir={tmp_path}", f"--mode={mode}").startswith(f"there is no {tmp_path}/packed.npz; ")
    assert refused(SMOKE, "--model=m.npz", f"--mode={mode}").startswith("--model has its own configuration; leave out")


def test_read_only_workdir():
    line = refused(SMOKE, "--workdir=/proc/bitzero", code=1)
    assert line.startswith("cannot write to /proc/bitzero: ") and line.endswith("choose another --workdir")


def test_another_experiments_workdir(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"seed": 7}))
    line = refused(SMOKE, f"--workdir={tmp_path}")
    assert line.startswith(f"{tmp_path} was started with config.") and line.endswith("or another --workdir")


def test_evaluation_without_a_checkpoint(tmp_path):
    line = refused(SMOKE, f"--workdir={tmp_path}", "--mode=eval", code=1)
    assert line == f"no checkpoint in {tmp_path}/checkpoints; train first, with --mode=train"


def test_a_second_run_on_one_workdir(tmp_path):
    from bitzero.run import workdir

    with workdir.owned(tmp_path):
        line = refused(SMOKE, f"--workdir={tmp_path}", code=1)
    assert line.startswith(f"another run is using {tmp_path} (process {os.getpid()})")


def test_checkpoint_of_another_shape(finished, tmp_path):
    home = finished.copy(tmp_path / "copy")
    (home / "config.json").unlink()
    line = refused(SMOKE, f"--workdir={home}", "--config.model.width=64", "--config.eval.items=1", code=1)
    assert line.startswith(f"checkpoint {home}/checkpoints/28 is of another model: ")
    first = ".allocation.age['down'] is int32[1,2] there and int32[1,4] here"
    assert line.endswith(f": {first}; use its config, or another --workdir")
    assert (home / "checkpoints" / "28").is_dir()


def test_corrupt_checkpoint_falls_back_to_the_one_before(launch, finished, tmp_path):
    home = finished.copy(tmp_path / "copy")
    for file in (home / "checkpoints" / "28" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    again = launch(home, "--mode=eval")
    assert again.end() == 0, again.text
    assert f"checkpoint {home}/checkpoints/28 is damaged" in again.text
    assert "falling back to the one before it" in again.text and "evaluating step 24" in again.text


def test_full_disk(launch, tmp_path):
    """A file system of 6 MB, mounted for the run alone, fills up: a sentence, and the earlier checkpoint reads back."""
    place = tmp_path / "small"
    place.mkdir()
    script = f'mount -t tmpfs -o size=6m none {place} && "$@"; code=$?; ls {place}/run/checkpoints; exit $code'
    prefix = ("unshare", "-Urm", "sh", "-c", script, "sh")
    if subprocess.run(["unshare", "-Urm", "sh", "-c", f"mount -t tmpfs none {place}"], capture_output=True).returncode:
        pytest.skip("this machine lets no test mount a file system")
    run = launch(place / "run", "--config.run.keep=99", "--config.warmup.steps=400", prefix=prefix)
    assert run.end() == 1, run.text
    said = [line for line in run.text.splitlines() if line.startswith("launch.py: ")]
    assert len(said) == 1 and "Traceback" not in run.text
    assert "is full; free space" in said[0] or "cannot save step" in said[0] or "cannot write" in said[0]
    assert run.text.splitlines()[-1].isdigit()  # a committed checkpoint is still there


_NO_SECCOMP = """
import ctypes, os, struct, sys
# A filter that answers seccomp(2) and prctl(PR_SET_SECCOMP) with ENOSYS: a kernel without system-call filters.
def op(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
program = b"".join([
    op(0x20, 0, 0, 0), op(0x15, 4, 0, 317), op(0x15, 0, 2, 157),
    op(0x20, 0, 0, 16), op(0x15, 1, 0, 22), op(0x06, 0, 0, 0x7FFF0000), op(0x06, 0, 0, 0x00050000 | 38),
])
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(program)
class Prog(ctypes.Structure): _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Prog(len(program) // 8, ctypes.addressof(buffer))), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the filter names x86-64 system calls")
def test_no_seccomp_refuses_and_names_the_override(tmp_path):
    prefix = (sys.executable, "-c", _NO_SECCOMP)
    line = refused(SMOKE, f"--workdir={tmp_path}", code=1, prefix=prefix)
    assert "sandbox.allow_unsafe" in line
