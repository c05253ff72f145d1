"""The warm process that forks one child per program. Trusted, single-threaded, never parses what it passes on.

Started by ``process`` with PYTHONHASHSEED set, so two zygotes differ in string hashes and in addresses. It reads a job
(``wire``: mode, code, inputs) on descriptor 0 and answers on descriptor 1 with one message per child (status word,
processor time, the child's own messages), then ``end``; an empty message is a sign of life. A job whose child dies is
run again one input at a time, so that a death decides over its own input only.
"""

import codecs
import contextlib
import errno
import gc
import mmap
import os
import signal
import sys
import time
import unicodedata
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from bitzero.sandbox import child, identity, layers, limits, screen, seccomp, wire

OUT_OF_MEMORY, BROKEN = 97, 98  # exit statuses of a child that could not write its verdict
TRAY_BYTES = 8 << 20
MAX_CPU_DEATHS = 2  # a job that ran out of processor time this often is not run further
CODECS = ("ascii", "latin-1", "utf-8", "utf-16", "utf-32", "unicode_escape", "raw_unicode_escape", "cp1252", "rot13")
WARM_RUNS = 12  # enough for the interpreter to specialise the code of this package before it is shared with children
WARM = (
    ("run", "def g(a, *, k=1): return a + k\ndef f(xs, s='b'):\n    t = 0\n    for x in xs:\n        if x % 2:\n"
     "            t += g(x)\n    return [t, s.upper(), {x: (x,) for x in xs}, {1}, 0.5, None, f'{t:>{3}}']",
     "[1, -2], s='b'"),
    ("run", "def f(x): return lambda: x", "{'a': 1}"),
    ("literal", "", "[1, -2.5, ('a', b'b'), {1: None}, {True}]"),
    ("parse", "", "def g(a): return [b for b in a]\ndef f(a):\n    'text'\n    c = g(a=a)\n    c.sort()\n    return c"),
)  # fmt: skip


class Settings(NamedTuple):
    """Limits as the command line gives them, in this order."""

    fuel: int
    cpu_us: int
    memory_mb: int
    value_bytes: int
    depth: int
    code_bytes: int
    hang_ms: int  # wall time of one child


def _refused_memory(memory_mb: int) -> NoReturn:
    try:
        mmap.mmap(-1, memory_mb << 20)
    except OSError:
        os._exit(0)
    os._exit(1)


def _die_of(made: seccomp.Filter) -> NoReturn:
    try:
        made.install()
    except OSError as error:
        os._exit(error.errno or errno.EIO)
    os.getppid()
    os._exit(errno.EIO)


class Ended(NamedTuple):
    """How a child ended; what it wrote lies in the zygote's tray."""

    status: int  # as waitpid gives it
    cpu_us: int
    size: int  # bytes in the tray
    killed: str = ""  # why the zygote ended it: "hung" | "flood"


def main(arguments: list[str]) -> NoReturn:
    """Serve until descriptor 0 closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the host ends its zygotes itself
    settings = Settings(*(int(text) for text in arguments))
    preload()
    report: layers.Report = {}
    layers.enter(layers.Kernel(), report)
    close_doors()
    zygote = Zygote(settings, report)
    layers.attempt(report, "rlimits", zygote.limit_memory)
    layers.attempt(report, "seccomp", zygote.prepare_filter)
    gc.collect()
    zygote.filling = fill_holes()
    gc.freeze()
    zygote.send(*(f"{name}={state}".encode() for name, state in report.items()))
    zygote.serve()
    os._exit(0)


def preload() -> None:
    """Load everything a child may need: afterwards there is no file system to import from."""
    for name in (*screen.MODULES, "collections.abc"):
        __import__(name)
    for name in child.INTERNAL:
        with contextlib.suppress(ImportError):
            __import__(name)
    for name in CODECS:
        codecs.lookup(name)
    unicodedata.lookup("SPACE")
    for _ in range(WARM_RUNS):
        for mode, code, text in WARM:
            task = child.Task(mode, code, [text, text], 1000, 8192, 32)
            child.each(task, child.Results(task))
    identity.close()


def fill_holes() -> list[object]:
    """Objects that occupy the free places in half-used pages, to be held for good.

    A child then allocates in empty pages, one after the other, instead of copying an old page for a place or two in it:
    a fifth fewer pages copied by each child, measured.
    """
    held: list[object] = []
    for size in range(16, 513, 16):  # the size classes of Python's allocator; an empty bytes object takes 33
        for index in range(16_384 // size):
            held.append(bytes(size - 33) if size > 33 else float(index) if size == 32 else object())
    return held


def close_doors() -> None:
    """No imports, no warnings (they open files), no garbage collection at moments a program could observe."""
    warnings.simplefilter("ignore")
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.stdin = sys.stdout = sys.stderr = None
    gc.disable()
    os.closerange(3, 64)


class Zygote:
    """Runs jobs in children, one child at a time."""

    def __init__(self, settings: Settings, report: layers.Report) -> None:
        self.settings = settings
        self.filter: seccomp.Filter | None = None
        # In a process namespace the zygote is the first process, and the kernel ends all others with it.
        self.limits = limits.ChildLimits(settings.cpu_us, die_with_parent=report.get("pid namespace") != "active")
        self.running = 0  # pid of the current child
        self.killed = ""
        self.filling: list[object] = []
        # Results pass through pages that are given back before the next fork: no child inherits another one's values.
        self.tray = mmap.mmap(-1, TRAY_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        signal.signal(signal.SIGALRM, self.on_alarm)

    def limit_memory(self) -> None:
        """Lower the limits that children inherit and see that one cannot have more memory than it may."""
        limits.restrict_zygote(self.settings.memory_mb)
        ended = self.run_child(lambda: _refused_memory(self.settings.memory_mb))
        if ended.status != 0:
            raise OSError(errno.EIO, "the memory limit did not hold")

    def prepare_filter(self) -> None:
        """Make the filter and see it hold: a sacrificial child that asks for its parent's number must die of it."""
        made = seccomp.Filter(child.RESULT_FD)
        ended = self.run_child(lambda: _die_of(made))
        if os.WIFEXITED(ended.status):
            raise OSError(os.WEXITSTATUS(ended.status), "seccomp")
        if os.WTERMSIG(ended.status) != signal.SIGSYS:
            raise OSError(errno.EIO, "the filter did not hold")
        self.filter = made

    def on_alarm(self, *_: Any) -> None:
        self.kill("hung")

    def kill(self, why: str) -> None:
        if self.running:
            self.killed = why
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.running, signal.SIGKILL)

    def run_child(self, work: Callable[[], Any], capacity: int = 0) -> Ended:
        """Fork, confine, work; wait for the end. ``capacity``: bytes a child may write, more ends it."""
        reader, writer = os.pipe()
        try:
            self.running = os.fork()
        except OSError:
            os.close(reader)
            os.close(writer)
            raise
        if self.running == 0:
            self.become_child(writer, work)
        os.close(writer)
        self.killed = ""
        signal.setitimer(signal.ITIMER_REAL, self.settings.hang_ms / 1e3, 0.5)
        size = self.read_all(reader, min(capacity, TRAY_BYTES - 1))
        os.close(reader)
        _, status, usage = os.wait4(self.running, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.running = 0
        return Ended(status, round((usage.ru_utime + usage.ru_stime) * 1e6), size, self.killed)

    def read_all(self, reader: int, capacity: int) -> int:
        """Bytes read into the tray until the child has closed its end."""
        size = 0
        with memoryview(self.tray) as view:
            while count := os.readv(reader, [view[size:]]):
                size += count
                if size > capacity:
                    self.kill("flood")
                    return 0
        return size

    def become_child(self, writer: int, work: Callable[[], Any]) -> NoReturn:
        try:
            os.dup2(writer, child.RESULT_FD)
            os.close(0)
            os.closerange(2, writer + 1)
            self.limits.apply()
            if self.filter is not None:
                self.filter.install()
            work()
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except BaseException:
            os._exit(BROKEN)
        os._exit(BROKEN)

    def serve(self) -> None:
        buffer = b""
        while part := os.read(0, 65536):
            buffer += part
            bodies, buffer = wire.split(buffer)
            for body in bodies:
                mode, code, *inputs = [field.decode("utf-8", "replace") for field in wire.unpack(body)]
                self.job(mode, code, inputs)

    def send(self, *fields: bytes) -> None:
        write_all(wire.pack(list(fields)))

    def send_tray(self, word: str, cpu_us: int, size: int) -> None:
        """One message whose last field is the head of the tray, written from where it lies."""
        head = wire.pack([word.encode(), str(cpu_us).encode()])[4:]
        write_all((len(head) + 4 + size).to_bytes(4, "little") + head + size.to_bytes(4, "little"))
        with memoryview(self.tray) as view, view[:size] as body:
            write_all(body)

    def job(self, mode: str, code: str, inputs: list[str]) -> None:
        """Run all inputs, in one child if none of them ends it, and send their verdicts in order."""
        pending = [inputs]
        deaths = 0
        while pending:
            group = pending.pop(0)
            if deaths >= MAX_CPU_DEATHS and mode == "run":  # else the texts have nothing to do with each other
                for _ in group:
                    self.send(b"budget", b"0", b"")
                continue
            ended = self.fork_for(mode, code, group)
            count, size = self.complete(ended, len(group))
            if not count and len(group) > 1:
                pending = [[text] for text in group] + pending
                self.send()
            else:
                word = status_word(ended, self.settings.cpu_us)
                deaths += word == "cpu"
                self.send_tray(word, ended.cpu_us, size)
                if count and group[count:]:
                    pending.insert(0, group[count:])
            self.tray.madvise(mmap.MADV_DONTNEED)
        self.send(b"end")

    def complete(self, ended: Ended, expected: int) -> tuple[int, int]:
        """Number and bytes of the messages of a child that left in order, or (0, 0): then its death decides.

        A child that stopped for want of memory after earlier inputs is cut before that input, which then runs first.
        """
        ends = message_ends(self.tray, ended.size) if ended.status == 0 else []
        if not ends or ends[-1] != ended.size or len(ends) > expected:
            return 0, 0
        start = ends[-2] if len(ends) > 1 else 0
        stopped = self.tray[start + 8 : start + 9] == b"1"
        if len(ends) < expected and not stopped:
            return 0, 0
        if stopped and start and b"memory" in self.tray[start + 9 : start + 20]:
            return len(ends) - 1, start
        return len(ends), ended.size

    def fork_for(self, mode: str, code: str, inputs: list[str]) -> Ended:
        s = self.settings
        task = child.Task(mode, code, inputs, s.fuel, s.value_bytes, s.depth)
        each = s.value_bytes + 512 if mode != "parse" else 64 * s.code_bytes
        for pause_s in (0.05, 0.2, 1.0):
            try:
                return self.run_child(lambda: child.work(task), capacity=each * len(inputs))
            except OSError:
                time.sleep(pause_s)  # out of processes or memory: others on this machine may give some back
        return Ended(signal.SIGKILL, 0, 0, "hung")


def message_ends(data: mmap.mmap, size: int) -> list[int]:
    """Where each whole message within the first ``size`` bytes ends; only lengths are looked at."""
    ends = []
    at = 0
    while at + 4 <= size:
        at += 4 + int.from_bytes(data[at : at + 4], "little")
        if at > size:
            break
        ends.append(at)
    return ends


def write_all(data: bytes | memoryview) -> None:
    """Write to the host, however little the pipe takes at once."""
    at = 0
    while at < len(data):
        at += os.write(1, data[at:])


def status_word(ended: Ended, cpu_us: int) -> str:
    """One word for how a child ended: done, cpu, syscall, memory, crash, silent, flood, hung, killed."""
    if os.WIFSIGNALED(ended.status):
        number = os.WTERMSIG(ended.status)
        if number in (signal.SIGPROF, signal.SIGXCPU) or (ended.killed == "hung" and ended.cpu_us >= 0.9 * cpu_us):
            return "cpu"
        if ended.killed:
            return ended.killed
        return {int(signal.SIGSYS): "syscall", int(signal.SIGKILL): "killed"}.get(number, "crash")
    return {0: "done", OUT_OF_MEMORY: "memory"}.get(os.waitstatus_to_exitcode(ended.status), "silent")
