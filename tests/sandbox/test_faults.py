"""Faults of the machine around the sandbox: every job still gets exactly one outcome, in order, and nothing hangs."""

import contextlib
import dataclasses
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bitzero.sandbox import Job, Limits, Sandbox, literal_job, process
from bitzero.sandbox.process import Process
from tests.sandbox.attack import open_to_all
from tests.sandbox.interpreters import python_for

ROOT = Path(__file__).parents[2]
ENDLESS = "def f(): return sum(iter(int, 1))"
SOAK = 100_000  # programs


def echo(count: int) -> list[Job]:
    return [Job(id=n, code="def f(a): return a", inputs=(str(n),)) for n in range(count)]


def pid_of(process: Process) -> int:
    return process.inner or process.popen.pid


def children(process: Process) -> list[int]:
    pid = pid_of(process)
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_stopped_child_is_ended_by_the_hang_guard() -> None:
    with Sandbox(Limits(cpu_s=0.2), workers=2, cache=0) as box:
        stopped: list[int] = []

        def stop_first_child() -> None:
            while not stopped:
                for pool in box.pools.processes.values():
                    for pid in children(pool[0]):
                        os.kill(pid, signal.SIGSTOP)
                        stopped.append(pid)

        thread = threading.Thread(target=stop_first_child)
        thread.start()
        [[outcome]] = box.run([Job(id=0, code=ENDLESS, inputs=("",))])
        thread.join()
        assert (outcome.kind, outcome.detail) == ("timeout", "cpu")  # by the second try; a stop alone is no verdict
        assert not any(Path(f"/proc/{pid}").exists() for pid in stopped)


OUT_OF_PROCESSES = """
import os, resource, sys
os.setgroups([]); os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000)
from bitzero.sandbox import Job, Sandbox
jobs = [Job(id=n, code="def f(a): return a", inputs=(str(n),)) for n in range(2)]
with Sandbox(workers=2, cache=0) as box:
    for soft in (0, 100):
        for [process] in box.pools.processes.values():
            _, hard = resource.prlimit(process.inner or process.popen.pid, resource.RLIMIT_NPROC)
            resource.prlimit(process.inner or process.popen.pid, resource.RLIMIT_NPROC, (soft, hard))
        print([outcome.value or outcome.kind for [outcome] in box.run(jobs)], box.report()["infra"])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root is exempt from the limit, so the test becomes somebody else")
def test_out_of_processes() -> None:
    command = [python_for(1000), "-c", OUT_OF_PROCESSES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(ROOT)}, cwd="/")
    assert done.stdout == "['infra', 'infra'] 2\n['0', '1'] 2\n", done.stderr


def test_a_closed_pipe() -> None:
    with Sandbox(workers=2, cache=0) as box:
        for pool in box.pools.processes.values():
            assert pool[0].popen.stdin is not None
            pool[0].popen.stdin.close()
        impure = [dataclasses.replace(job, code=f"import math\n{job.code}") for job in echo(5)]  # needs both seeds
        assert [outcome.value for [outcome] in box.validate(impure)] == list("01234")
        assert box.report()["respawns"] == 2


def test_no_file_is_written() -> None:
    """A full disk does not matter: with a file size limit of zero everything still works."""
    script = (
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "from bitzero.sandbox import Job, Sandbox\n"
        "with Sandbox(workers=2) as box:\n"
        "    print(box.validate([Job(id=0, code='def f(a): return a', inputs=('7',))])[0][0].value)"
    )
    done = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.stdout, done.returncode) == ("7\n", 0), done.stderr


def test_killed_again_and_again() -> None:
    """Zygotes die at random moments; an outcome is right or ``infra``, never missing, never another job's."""
    rng = random.Random(5)
    with Sandbox(workers=2, cache=0) as box:
        done = threading.Event()

        def kill_now_and_then() -> None:
            while not done.wait(rng.uniform(0.05, 0.25)):
                pool = rng.choice(list(box.pools.processes.values()) or [[]])
                for process in pool[:1]:
                    with contextlib.suppress(ProcessLookupError):  # it may just have been replaced
                        os.kill(pid_of(process), signal.SIGKILL)

        thread = threading.Thread(target=kill_now_and_then)
        thread.start()
        try:
            for _ in range(50):  # a fast machine has done with the first ones before anything is killed
                results = box.run(echo(200))
                wrong = [n for n, [run] in enumerate(results) if run.kind != "infra" and run.value != str(n)]
                assert len(results) == 200 and not wrong
                if box.pools.respawns > 2:
                    break
        finally:
            done.set()
            thread.join()
        assert box.pools.respawns > 2
        assert [outcome.value for [outcome] in box.run(echo(3))] == ["0", "1", "2"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read another process's memory")
def test_no_text_of_a_job_stays_in_a_zygote() -> None:
    """A later program inherits the zygote's memory: an earlier one, its input and its value must not be there."""
    code = "def f(nutmegs): return ''.join(chr(ord(c) + 1) for c in nutmegs)"
    with Sandbox(seeds=(1,), workers=1, cache=0) as box:
        zygote = pid_of(box.pools.processes[1][0])
        [[outcome]] = box.run([Job(id=0, code=code, inputs=("'ZkognmdHrsgdrdbqds'",))])
        box.run([literal_job(0, ("'ZkognmdHrsgdrdbqds'",))])
        box.parse([code])
        assert outcome.value == "'[lphoneIsthesecret'"
        for secret in (b"ZkognmdHrsgdrdbqds", b"[lphoneIsthesecret", b"nutmegs"):
            assert occurrences(zygote, secret) == 0
        assert occurrences(zygote, b"UserException") > 0  # a text of the zygote's own: the search works


def occurrences(pid: int, needle: bytes) -> int:
    """How often ``needle`` stands in the writable memory of a process."""
    found = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if line.split()[1].startswith("rw") and "[v" not in line:
                start, end = (int(text, 16) for text in line.split()[0].split("-"))
                memory.seek(start)
                found += memory.read(end - start).count(needle)
    return found


def test_calls_from_several_threads_take_turns(box: Sandbox) -> None:
    results: dict[int, list[str | None]] = {}

    def call(offset: int) -> None:
        jobs = [Job(id=n, code="def f(a): return a", inputs=(str(offset + n),)) for n in range(10)]
        results[offset] = [outcome.value for [outcome] in box.run(jobs)]

    threads = [threading.Thread(target=call, args=(offset,)) for offset in range(0, 50, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {offset: [str(offset + n) for n in range(10)] for offset in range(0, 50, 10)}


def resident_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def mixture(start: int, count: int) -> list[Job]:
    """Honest programs, one in ten endless, one in fifty a crash of the interpreter."""
    crash = (
        "import operator, collections\ndef f(n):\n"
        "    m = operator.attrgetter('__globals__')(collections.namedtuple)['_sys'].modules\n"
        "    return operator.methodcaller('string_at', n)(m['ctypes'])"
    )
    codes = []
    for index in range(start, start + count):
        code = "def f(n): return [n, n * 2]"
        code = crash if index % 50 == 7 else "def f(n):\n    while n: pass" if index % 10 == 3 else code
        codes.append(Job(id=index, code=f"{code}\n# {index}", inputs=("1",)))
    return codes


def soak(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {7: "Crash"}
    monkeypatch.setattr(process, "_BOOT", open_to_all(process._BOOT))  # only so does a program get at ``ctypes``
    with Sandbox(workers=2, cache=0) as box:
        marks = []
        for start in range(0, count, 500):
            for job, [outcome] in zip(mixture(start, 500), box.run(mixture(start, 500)), strict=True):
                index = int(job.id)
                if index % 50 in expected:
                    assert (outcome.kind, outcome.exc) == ("exception", "Crash")
                elif index % 10 == 3:
                    assert (outcome.kind, outcome.detail) == ("timeout", "fuel")
                else:
                    assert outcome.value == "[1, 2]"
            gc.collect()
            pids = [os.getpid(), *(pid_of(pool[0]) for pool in box.pools.processes.values())]
            marks.append([(resident_kib(pid), descriptors(pid)) for pid in pids])
        early, late = marks[len(marks) // 4], marks[-1]
        for (kib_before, open_before), (kib_after, open_after) in zip(early, late, strict=True):
            assert kib_after - kib_before < 2048 and open_after == open_before
        assert box.pools.respawns == 0 and box.report()["infra"] == 0
        assert all(not children(pool[0]) for pool in box.pools.processes.values())


def test_short_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    soak(1_000, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    start_s = time.monotonic()
    soak(SOAK, monkeypatch)
    assert time.monotonic() - start_s < 3600
