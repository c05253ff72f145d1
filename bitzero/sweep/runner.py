"""A sweep: every point of a sweep file with every seed, each in a process of its own, resumed by the same command.

A run counts as finished when its ``result.json`` is there. A run that was interrupted goes on from its own checkpoint;
a run that failed is tried again by the next start of the sweep. Nothing depends on the order or on ``--jobs``: every
run gets the same number of cores and XLA threads, for these numbers decide bits.
"""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from bitzero.config import ConfigError
from bitzero.run import accelerator, workdir
from bitzero.run.progress import clock_text
from bitzero.run.stop import Stop
from bitzero.run.workdir import RunError
from bitzero.sweep import results
from bitzero.sweep.plan import Plan, SweepJob, SweepOrder, describe_plan, read_plan, run_command
from bitzero.sweep.view import SweepStatus, SweepView, last_line

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch.py"
_POLL_S = 0.1
_RECALL = 20  # failures said once more at the end
_THREADS = "2"  # of XLA's pool in every run, however many cores it gets
# What a new process does before it becomes ``launch.py``: saves if the sweep is killed (linux/prctl.h,
# PR_SET_PDEATHSIG) and keeps to its cores. In a program of its own: a function between fork and exec would be one
# among the threads of whoever imported JAX.
_BEFORE_LAUNCH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if sys.argv[1]:
    os.sched_setaffinity(0, {int(core) for core in sys.argv[1].split(",")})
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def main(order: SweepOrder, *, dry_run: bool = False) -> int:
    """Runs the sweep of ``order``, or with ``dry_run`` only lists it; the value is the exit code.

    1 when a run failed (the others are finished all the same). Raises ``ConfigError`` or ``RunError``: one line each.
    """
    plan = read_plan(order)
    with SweepView() as view:
        for line in plan.notes:
            view.say(line)
        for line in describe_plan(plan) if dry_run else []:
            view.say(line)
        if dry_run:
            return 0
        choice = accelerator.choice_here(os.environ)  # its runs choose for themselves, and alike
        if choice.refusal:
            raise ConfigError(choice.refusal)
        with workdir.owned(plan.home), Stop(view.say) as stop:
            sweep = Sweep(plan, view, stop, choice.card)
            try:
                sweep.run()
            finally:
                sweep.kill()
            return sweep.finish()


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunningJob:
    """A job in a process of its own."""

    job: SweepJob
    process: subprocess.Popen[bytes]
    began: float  # time.monotonic()
    share: int  # which of the sweep's shares of the cores it has

    @property
    def log(self) -> pathlib.Path:
        """All that the process says."""
        return self.job.home / "log.txt"


class Sweep:
    """The jobs of a plan on their way: waiting, running, finished, failed."""

    def __init__(self, plan: Plan, view: SweepView, stop: Stop, card: str = "") -> None:
        self.plan, self.view, self.stop, self.card = plan, view, stop, card  # '' where no GPU is used
        self.failed: dict[str, str] = {}  # title → why
        self.running: dict[str, RunningJob] = {}  # title → …
        self.waiting: list[SweepJob] = []
        self.seconds: dict[bool, list[float]] = {True: [], False: []}  # is a point → wall seconds of finished jobs
        self.shares = core_shares(plan.order.jobs)
        self.memory = accelerator.memory_share(os.environ, plan.order.jobs)  # of a GPU, for each
        stop.call_when_asked(self.terminate)

    def run(self) -> None:
        """Starts jobs as cores and warm-ups allow until none is left or the sitting is asked to end."""
        for job in self.plan.jobs:
            if not job.result.exists() and not is_owned(job.home) and (why := _left_behind(job)):
                self._fail(job.title, f"{why}; remove {job.home} to run it again")
        self.waiting = [job for job in self.plan.jobs if not job.result.exists() and job.title not in self.failed]
        self._drop_needless()
        finished = len(self.plan.jobs) - len(self.waiting)
        self.view.say(f"{len(self.plan.jobs)} runs, {finished} finished already" if finished else self._greeting())
        if self.card and self.plan.order.jobs > 1:
            share = f"{100 * float(self.memory):.3g} % of its memory"
            self.view.say(f"{self.plan.order.jobs} runs at once share the {self.card}; each gets {share}")
        while self.running or (self.waiting and not self.stop.asked):
            if not self.stop.asked:
                self._start_what_can()
            time.sleep(_POLL_S)
            for one in [one for one in self.running.values() if one.process.poll() is not None]:
                self._ended(one)
            self.view.show(self.status())

    def finish(self) -> int:
        """Says how the sweep ended and reports the runs there are; the value is the exit code."""
        if self.stop.asked:
            done = sum(job.result.exists() for job in self.plan.jobs)
            self.view.say(
                f"{self.stop.asked}: {done} of {len(self.plan.jobs)} runs finished, the others saved where they "
                "stand; the same command goes on"
            )
            return 0
        self._report()
        for title, why in list(self.failed.items())[:_RECALL]:
            self.view.say(f"failed: {title}: {why}")
        if self.failed:
            runs, them = ("runs", "them") if len(self.failed) > 1 else ("run", "it")
            self.view.say(f"{len(self.failed)} {runs} failed; the same command tries {them} again")
        return 1 if self.failed else 0

    def _report(self) -> None:
        """Writes CSV, hparams and report of the finished runs, if there are any."""
        table = results.finished_rows(self.plan)
        if not table:
            return
        from bitzero.sweep import report  # not above: only a report needs matplotlib

        self.view.say("writing the report")
        results.write_csv(self.plan.home / "sweep.csv", table)
        report.write_report(self.plan, table)
        self.view.say(f"{self.plan.home / 'sweep.csv'} · {self.plan.home / 'report.html'}")

    def terminate(self) -> None:
        """Asks every running job to save and end."""
        for one in list(self.running.values()):
            one.process.terminate()

    def kill(self) -> None:
        """Ends what still runs, with all it started; after an orderly end nothing does."""
        for one in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()
        self.running.clear()

    def status(self) -> SweepStatus:
        """Counts and running jobs of this moment."""
        now = time.monotonic()
        return SweepStatus(
            total=len(self.plan.jobs),
            finished=sum(job.result.exists() for job in self.plan.jobs),
            failed=len(self.failed),
            running=[(title, now - one.began, one.log) for title, one in self.running.items()],
            left_s=self._left(now),
            waiting="waiting for another sweep's run to end" if self.waiting and not self.running else "",
        )

    def _greeting(self) -> str:
        return f"{len(self.plan.jobs)} runs, {self.plan.order.jobs} at once; each writes <its directory>/log.txt"

    def _drop_needless(self) -> None:
        """Leaves out warm-ups whose points are all finished, such as those removed to free the disk."""
        needed = {job.base.title for job in self.waiting if job.base}
        self.waiting = [job for job in self.waiting if job.point or job.title in needed]

    def _start_what_can(self) -> None:
        """Starts waiting jobs on free shares of the cores, in order, passing over those that cannot start yet."""
        for job in list(self.waiting):
            free = set(range(len(self.shares))) - {one.share for one in self.running.values()}
            if not free:
                return
            if job.base and job.base.title in self.failed:
                self.waiting.remove(job)
                self._fail(job.title, f"its {job.base.title} failed")
            elif (job.base is None or job.base.result.exists()) and not is_owned(job.home):
                self.waiting.remove(job)
                if job.result.exists():  # by another sweep, on shared warm-ups
                    continue
                try:
                    self._start(job, min(free))
                except (RunError, OSError) as error:  # a lost warm-up, a full disk: the others may still do
                    self._fail(job.title, str(error))

    def _start(self, job: SweepJob, share: int) -> None:
        job.home.mkdir(parents=True, exist_ok=True)
        if job.base:
            branch_off(job.base, job, self.plan.branch)
        words = settled_command(self.shares[share], [str(LAUNCH), *run_command(self.plan.order, job)])
        with open(job.home / "log.txt", "ab") as log:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | {"PJRT_NPROC": _THREADS, accelerator.memory_variable(os.environ): self.memory},
            )  # fmt: skip
        self.running[job.title] = RunningJob(job=job, process=process, began=time.monotonic(), share=share)
        if self.stop.asked:  # while it was being started
            process.terminate()

    def _ended(self, one: RunningJob) -> None:
        """Writes the result of a run that ended, or says why it failed."""
        job, code = one.job, one.process.returncode
        del self.running[job.title]
        seconds = time.monotonic() - one.began
        why = f"exit code {code}: {last_line(one.log)}" if code else _write_result(job)
        if why and not self.stop.asked:
            self._fail(job.title, f"{why} ({one.log})")
        elif job.result.exists():
            self.seconds[job.point is not None].append(seconds)
            self.view.say(f"{job.title} finished in {clock_text(seconds)}{_figures_text(job)}")

    def _fail(self, title: str, why: str) -> None:
        self.failed[title] = why
        self.view.say(f"{title} failed: {why}")

    def _left(self, now: float) -> float | None:
        """Seconds to the end by the mean of the jobs of each sort that ended; None before the first."""
        known = [seconds for sort in self.seconds.values() for seconds in sort]
        if not known:
            return None
        usual = {sort: sum(some or known) / len(some or known) for sort, some in self.seconds.items()}
        rest = sum(usual[job.point is not None] for job in self.waiting)
        for one in self.running.values():
            rest += max(0.0, usual[one.job.point is not None] - (now - one.began))
        return rest / len(self.shares)


def settled_command(cores: set[int], words: list[str]) -> list[str]:
    """The command that runs Python with ``words`` on ``cores``, and asks it to save if this process dies."""
    return [sys.executable, "-c", _BEFORE_LAUNCH, ",".join(map(str, sorted(cores))), *words]


def branch_off(base: SweepJob, job: SweepJob, step: int) -> None:
    """Gives ``job`` the warm-up's checkpoint of ``step`` as its own, whole or not at all."""
    place = job.home / "checkpoints"
    if place.exists():
        return
    source, draft = base.home / "checkpoints" / str(step), job.home / "checkpoints.part"
    if not source.is_dir():
        raise RunError(f"no checkpoint {source} to branch off; remove {base.home} and run the same command again")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        shutil.copytree(source, draft / str(step))
        os.replace(draft, place)
    except OSError as error:
        raise RunError(f"cannot copy the checkpoint of {base.home} to {place}: {error}; free space") from None


def is_owned(home: pathlib.Path) -> bool:
    """Whether some process owns the run in ``home``: another sweep's, or one that a killed sweep left behind."""
    try:
        with open(home / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no such run yet, or it says itself why it cannot be had
        return False
    return False


def core_shares(jobs: int) -> list[set[int]]:
    """The two cores of each of ``jobs`` places, taken in turns; empty sets where cores have no names.

    Two, neither less nor more: XLA compiles for as many cores as the process may use, and that decides bits.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(jobs)]
    cores = sorted(os.sched_getaffinity(0))
    return [{cores[(2 * i + k) % len(cores)] for k in range(2)} for i in range(jobs)]


def _left_behind(job: SweepJob) -> str:
    """Writes the result of a run that ended after its sweep was killed; '' or why it cannot be done."""
    try:
        over = results.ran_to_its_end(job)
    except RunError as error:
        return str(error)
    except (KeyError, TypeError) as error:
        return f"its results lack {error}"
    return _write_result(job) if over else ""


def _write_result(job: SweepJob) -> str:
    """Writes the result of a run that ended well; '' or why it cannot be done."""
    try:
        results.write_result(job)
    except RunError as error:
        return str(error)
    except (KeyError, TypeError) as error:
        return f"its results lack {error}"
    return ""


def _figures_text(job: SweepJob) -> str:
    """The figures of a finished point, for its line."""
    if job.point is None:
        return ""
    row = workdir.read_json(job.result)
    names = {"stored_bits": "bits", "nats": "nats", "accuracy": "right"}
    return "".join(f" · {row[key]:.4g} {name}" for key, name in names.items() if row[key] is not None)
