"""Speed of the sandbox beside the usual ways to run untrusted Python: ``python benchmarks/executor.py``.

Prints a table and writes ``benchmarks/results/executor.json``. Every row is measured in this run on the same programs.
Processor time counts everything: host, zygotes, children, supervisors. Wall figures depend on what else the machine
does, so compare machines by processor time. ``--programs`` and ``--baseline`` set the sizes of the samples.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from bitzero.config import Config  # noqa: E402
from bitzero.generator.programs import Program, generate  # noqa: E402
from bitzero.sandbox import Job, Sandbox  # noqa: E402
from bitzero.tasks.gates import Proposal, validate  # noqa: E402
from bitzero.tasks.judge import judge  # noqa: E402
from bitzero.tasks.kinds import DEDUCTION, INDUCTION, TASK_KINDS, Task  # noqa: E402

LIMIT_S = 0.5
WORKERS = 2
LOOP = ("def f(n):\n    while True:\n        n += 1", "1")
PROGRAMS = (
    ("def f(a, b):\n    c = a[1:] + [b]\n    return sorted(c)", "[3, 1, 2], 5"),
    ("def f(s):\n    out = ''\n    for ch in s:\n        out = ch + out\n    return out", "'hello'"),
    ("def f(n):\n    t = 0\n    for i in range(n):\n        if i % 3 == 0:\n            t += i\n    return t", "20"),
    ("def f(xs):\n    return [x * 2 for x in xs if x > 1]", "[1, 2, 3, 4]"),
    ("def f(d, k):\n    d[k] = len(d)\n    return d", "{'a': 1}, 'b'"),
)
Sample = list[tuple[str, str]]


def sample(count: int, loops: float) -> Sample:
    """``count`` programs, a share of them endless, evenly spread; each differs by a comment so that none is cached."""
    every = round(1 / loops) if loops else 0
    chosen = [LOOP if every and i % every == every - 1 else PROGRAMS[i % len(PROGRAMS)] for i in range(count)]
    return [(f"{code}\n# {i}", text) for i, (code, text) in enumerate(chosen)]


# The sandbox


def processor_s(box: Sandbox) -> float:
    """Seconds this process and all zygotes with their ended children have used."""
    total = time.process_time()
    tick = os.sysconf("SC_CLK_TCK")
    for process in (process for pool in box.pools.processes.values() for process in pool):
        for pid in {process.popen.pid, process.inner or process.popen.pid}:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(map(int, fields[11:15])) / tick
    return total


def sandboxed(call: str, programs: Sample, inputs: int = 1, cache: int = 0) -> dict[str, float]:
    """Throughput of one batch, then the latency of single programs."""
    with Sandbox(workers=WORKERS, cache=cache) as box:
        jobs = [Job(id=i, code=code, inputs=(text,) * inputs) for i, (code, text) in enumerate(programs)]
        method: Callable[[list[Job]], Any] = getattr(box, call)
        method(jobs[:20] if not cache else jobs)
        start_s, start_cpu_s = time.perf_counter(), processor_s(box)
        outcomes = method(jobs)
        wall_s, cpu_s = time.perf_counter() - start_s, processor_s(box) - start_cpu_s
        latencies = [timed(lambda job=job: method([job])) for job in jobs[:100]]
    wanted = [("timeout" if code.startswith(LOOP[0]) else "ok") for code, _ in programs]
    assert [group[0].kind for group in outcomes] == wanted
    return row(len(programs), wall_s, cpu_s, latencies)


# A self-play step

PROPOSALS, ANSWERS = 16, 8  # a step, and of each task


def step_of(number: int) -> tuple[list[Proposal], list[Task], list[list[str]]]:
    """Proposals, tasks and answers of step ``number``: programs of levels 0 to 3, a statement that does nothing in
    every second one, a third of each kind; answers that are all different, one in eight of them right.
    """
    cfg = Config()
    programs = [generate(0, number, index, index % 4) for index in range(2 * PROPOSALS)]
    proposals = []
    for index, program in enumerate(programs[:PROPOSALS]):
        kind = index % len(TASK_KINDS)
        head, mark, last = program.code.rpartition("\n    return ")
        code = f"{head}\n    spare = 7{mark}{last}" if index % 2 else program.code
        proposals.append(Proposal(kind=kind, code=code, inputs=program.inputs[: 6 if kind == INDUCTION else 1]))
    tasks = [TASK_KINDS[i % len(TASK_KINDS)].task_of_program(p, cfg) for i, p in enumerate(programs[PROPOSALS:])]
    others = [generate(1, number, index, index % 4) for index in range(ANSWERS)]
    return proposals, tasks, [answers_to(task, others, index) for index, task in enumerate(tasks)]


def answers_to(task: Task, others: list[Program], index: int) -> list[str]:
    """Answers of the task's own form that differ in their text; the last is right."""
    if task.kind == DEDUCTION:
        return [*(other.outputs[index % 6] + " " * at for at, other in enumerate(others[1:])), task.outputs[0] + " "]
    if task.kind == INDUCTION:
        return [*(f"{other.code}\n# {index}" for other in others[1:]), f"{task.code}\n# {index}"]
    given = task.inputs[0]
    return [*(f"{given[:-1]}{at}{given[-1]}" for at in range(ANSWERS - 1)), f"{given} "]


def stepped(count: int) -> dict[str, float]:
    """``count`` self-play steps, one after the other: the figures are those of a step."""
    steps = [step_of(number) for number in range(count + 1)]
    with Sandbox(workers=WORKERS) as box:
        box.validate([Job(id=0, code="def f(a): return len({a})", inputs=("1",))])  # starts the zygotes of all seeds
        latencies = []
        for number, (proposals, tasks, answers) in enumerate(steps):
            if number == 1:  # the first is a warm-up
                start_s, start_cpu_s = time.perf_counter(), processor_s(box)
            began_s = time.perf_counter()
            verdicts = validate(box, proposals, Config())
            judged = judge(box, tasks, answers)
            latencies.append(time.perf_counter() - began_s)
            assert sum(verdict.gate == 0 for verdict in verdicts) > PROPOSALS // 4
            assert all(group[-1].correct for group in judged)
        wall_s, cpu_s = time.perf_counter() - start_s, processor_s(box) - start_cpu_s
    return row(count, wall_s, cpu_s, latencies[1:])


def timed(action: Callable[[], Any]) -> float:
    start_s = time.perf_counter()
    action()
    return time.perf_counter() - start_s


def row(count: int, wall_s: float, cpu_s: float, latencies: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "programs_per_s": count / wall_s,
        "cpu_ms_per_program": 1e3 * cpu_s / count,
        "p50_ms": 1e3 * cuts[49],
        "p99_ms": 1e3 * cuts[98],
    }


# What is usual elsewhere


def by_subprocess(program: tuple[str, str]) -> str:
    """A fresh interpreter per program, killed after the limit."""
    code, text = program
    command = [sys.executable, "-I", "-S", "-c", f"{code}\nprint(repr(f({text})))"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S).stdout
    except subprocess.TimeoutExpired:
        return "timeout"


class Late(Exception):
    """The alarm of the pool and of the check below."""


def _late(*_: Any) -> None:
    raise Late


def in_pool(program: tuple[str, str]) -> str:
    """``exec`` in a process of a pool, interrupted by an alarm. No isolation from other programs."""
    code, text = program
    signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    names: dict[str, Any] = {}
    try:
        exec(code, names)
        return repr(eval(f"f({text})", names))
    except Late:
        return "timeout"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _checked(program: tuple[str, str], result: Any) -> None:
    """Child of ``by_check``: built-ins that could harm are set to None, output is swallowed, an alarm ends it."""
    os.kill = os.system = os.fork = os.remove = None  # type: ignore[assignment]
    subprocess.Popen = None  # type: ignore[assignment, misc]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        result.append(in_pool(program))


def by_check(program: tuple[str, str]) -> str:
    """The scheme of HumanEval's check: a manager process and a worker process for every program."""
    with SyncManager(ctx=CONTEXT) as manager:
        result = manager.list()
        process = CONTEXT.Process(target=_checked, args=(program, result))
        process.start()
        process.join(timeout=LIMIT_S + 1)
        if process.is_alive():
            process.kill()
            process.join()
        return result[0] if result else "timeout"


CONTEXT = multiprocessing.get_context("fork")


def baseline(check: Callable[[tuple[str, str]], str], programs: Sample, pooled: bool = False) -> dict[str, float]:
    """``WORKERS`` at a time. Children's processor time is complete once they are reaped."""
    before = usage_s()
    latencies: list[float] = []

    def one(program: tuple[str, str]) -> None:
        latencies.append(timed(lambda: check(program)))

    start_s = time.perf_counter()
    if pooled:
        with CONTEXT.Pool(WORKERS) as pool:
            start_s = time.perf_counter()
            latencies += [latency for latency, _ in pool.imap(_timed_in_pool, programs)]
            wall_s = time.perf_counter() - start_s
            pool.close()
            pool.join()
    else:
        with ThreadPoolExecutor(WORKERS) as threads:
            list(threads.map(one, programs))
        wall_s = time.perf_counter() - start_s
    return row(len(programs), wall_s, usage_s() - before, latencies)


def _timed_in_pool(program: tuple[str, str]) -> tuple[float, str]:
    start_s = time.perf_counter()
    value = in_pool(program)
    return time.perf_counter() - start_s, value


def usage_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


# The table


def measure_executor(count: int, few: int) -> dict[str, dict[str, float]]:
    rows = {}
    for loops in (0.0, 0.1):
        name = f"{loops:.0%} loops"
        rows[f"sandbox run, {name}"] = sandboxed("run", sample(count, loops))
        rows[f"sandbox validate, {name}"] = sandboxed("validate", sample(count, loops))
        rows[f"subprocess per program, {name}"] = baseline(by_subprocess, sample(few, loops))
        rows[f"HumanEval-like check, {name}"] = baseline(by_check, sample(few, loops))
        rows[f"pool with alarm (no isolation), {name}"] = baseline(in_pool, sample(count, loops), pooled=True)
    rows["sandbox run, 6 inputs a program"] = sandboxed("run", sample(count, 0.0), inputs=6)
    rows["self-play step, 16 proposals, 128 answers"] = stepped(max(2, count // 20))
    rows["sandbox run, all in the cache"] = sandboxed("run", sample(count, 0.0), cache=10 * count)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=400)
    parser.add_argument("--baseline", type=int, default=60)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "executor.json")
    arguments = parser.parse_args()
    load_before = os.getloadavg()[0]
    rows = measure_executor(arguments.programs, arguments.baseline)
    with Sandbox(workers=WORKERS) as box:
        level = box.report()["level"]
    print(f"{'':46}{'programs/s':>12}{'CPU ms/program':>16}{'p50 ms':>9}{'p99 ms':>9}")
    for name, values in rows.items():
        print(
            f"{name:46}{values['programs_per_s']:12.0f}{values['cpu_ms_per_program']:16.2f}"
            f"{values['p50_ms']:9.1f}{values['p99_ms']:9.1f}"
        )
    machine = {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "level": level,
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
    }
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"commit": commit, "machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
