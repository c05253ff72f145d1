"""What is left of the layers where a machine offers fewer of them: each case is made by denying the calls for real."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from bitzero.sandbox import Job, Sandbox
from bitzero.sandbox.seccomp import AARCH64, X86_64, machine
from tests.sandbox.interpreters import python_for

ROOT = Path(__file__).parents[2]
NUMBERS = {
    X86_64: {"unshare": 272, "mount": 165, "pivot_root": 155, "landlock": 444},
    AARCH64: {"unshare": 97, "mount": 40, "pivot_root": 41, "landlock": 444},
}[machine()]
# A filter like a container's: the numbers given fail with EPERM, prctl(PR_SET_SECCOMP) with EINVAL if asked.
DENY = """
import ctypes, errno, json, os, struct, sys
denied, no_filter, user, limits, unsafe = json.loads(sys.argv[1])
code = [(0x20, 0, 0, 0)]
for number in denied:
    code += [(0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | errno.EPERM)]
if no_filter:
    code += [(0x15, 0, 3, no_filter), (0x20, 0, 0, 16), (0x15, 0, 1, 22), (0x06, 0, 0, 0x50000 | errno.EINVAL)]
code += [(0x06, 0, 0, 0x7FFF0000)]
if user:
    os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
libc = ctypes.CDLL(None, use_errno=True)
raw = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in code))
prog = struct.pack("H6xP", len(code), ctypes.addressof(raw))
if len(code) > 2:
    assert os.geteuid() == 0 or libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, prog, 0, 0) == 0, ctypes.get_errno()
from bitzero.sandbox import Job, Sandbox, SandboxUnavailable
try:
    with Sandbox(workers=2, allow_unsafe=unsafe) as box:
        jobs = [Job(id=0, code=c, inputs=("",)) for c in (
            "def f(): return [1]",
            "def f():\\n while True: pass",
            "def f(): return 'a' * 10**9",
            "def f(): return open('/etc/passwd')")]
        kinds = [o.kind for group in box.validate(jobs) for o in group]
        print(json.dumps({"report": box.report(), "kinds": kinds}))
except SandboxUnavailable as error:
    print(json.dumps({"refused": str(error)}))
"""


def host(*denied: str, no_filter: bool = False, user: int = 0, unsafe: bool = False) -> dict[str, Any]:
    prctl = {X86_64: 157, AARCH64: 167}[machine()] if no_filter else 0
    arguments = json.dumps([[NUMBERS[name] for name in denied], prctl, user, None, unsafe])
    done = subprocess.run(
        [python_for(user), "-c", DENY, arguments],
        capture_output=True,
        text=True,
        timeout=100,
        cwd="/",
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


WORKING = ["ok", "timeout", "memory", "forbidden"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def test_this_machine() -> None:
    answer = host()
    assert answer["kinds"] == WORKING and answer["report"]["layers"]["seccomp"] == "active"


@as_root
def test_an_ordinary_user() -> None:
    answer = host(user=1000)
    assert answer["kinds"] == WORKING
    assert answer["report"]["layers"]["seccomp"] == "active"


@pytest.mark.parametrize("user", [0, pytest.param(1000, marks=as_root)])
def test_a_container_without_namespaces(user: int) -> None:
    answer = host("unshare", "mount", "pivot_root", user=user)
    assert answer["kinds"] == WORKING
    assert answer["report"]["layers"]["user namespace"] == "unavailable (EPERM)"
    landlock = answer["report"]["layers"]["landlock"]
    assert answer["report"]["level"] == ("full" if landlock == "active" else "reduced")


def test_a_container_that_also_denies_landlock_is_reduced() -> None:
    answer = host("unshare", "mount", "pivot_root", "landlock")
    assert answer["kinds"] == WORKING
    assert answer["report"]["level"] == "reduced"
    assert answer["report"]["layers"]["landlock"] == "unavailable (EPERM)"


def test_without_a_filter_it_refuses_and_names_the_override() -> None:
    refused = host(no_filter=True)["refused"]
    assert "sandbox.allow_unsafe" in refused and "\n" not in refused


def test_the_override_runs_and_says_unsafe() -> None:
    answer = host(no_filter=True, unsafe=True)
    assert answer["kinds"] == WORKING
    assert answer["report"]["level"] == "unsafe"
    assert answer["report"]["layers"]["seccomp"].startswith("unavailable (EINVAL")


def view_of(zygote: int, child: str) -> dict[str, Any]:
    """What /proc tells of a child that has closed itself in; nothing before."""
    status = Path(f"/proc/{child}/status").read_text()
    if "\nSeccomp:\t2\n" not in status:
        return {}
    return dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line) | {
        "fd": os.listdir(f"/proc/{child}/fd"),
        "limits": Path(f"/proc/{child}/limits").read_text(),
        "environ": Path(f"/proc/{zygote}/environ").read_bytes().split(b"\0")[0],
    }


def test_the_kernels_own_view_of_a_child() -> None:
    """While a program runs: one descriptor, no privileges, no environment but the hash seed, an empty root."""
    with Sandbox(seeds=(7,), workers=1, cache=0) as box:
        [process] = box.pools.processes[7]
        seen: dict[str, Any] = {}

        def look() -> None:
            pid = process.inner or process.popen.pid
            while not seen:
                for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the reader, which has ended
                        seen.update(view_of(pid, child))

        thread = threading.Thread(target=look)
        thread.start()
        [[outcome]] = box.run([Job(id=0, code="def f(): return sum(iter(int, 1))", inputs=("",))])
        thread.join()
    assert outcome.kind == "timeout"
    assert seen["fd"] == ["1"] and seen["NoNewPrivs"] == "1" and seen["Threads"] == "1"
    assert int(seen["CapEff"], 16) == int(seen["CapPrm"], 16) == 0
    assert set(seen["Uid"].split()) == {"65534" if os.geteuid() == 0 else str(os.geteuid())}
    assert seen["environ"] == b"PYTHONHASHSEED=7"
    for name, value in (("Max processes", 0), ("Max file size", 0), ("Max core file size", 0)):
        assert [line.split()[-3] for line in seen["limits"].splitlines() if line.startswith(name)] == [str(value)]


def test_the_inner_process_says_nothing_before_its_number_is_told() -> None:
    """However long the outer one takes: on a busy machine the number once came after "ready", as the first reply."""
    code = """
import os, time
from bitzero.sandbox import layers

class Kernel:
    def call(self, *arguments):
        return 0

write = os.write
os.write = lambda descriptor, data: (time.sleep(0.3), write(descriptor, data))
try:
    layers.become_first_process(Kernel())
except OSError:  # there is no namespace here
    pass
write(1, b"ready")
"""
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=False, timeout=60
    ).stdout
    assert 0 < said.index(b"pid=") < said.index(b"ready")
