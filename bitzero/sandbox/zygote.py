"""The warm process that forks children for each program. Trusted, single-threaded, never parses what it passes on.

Started by ``process`` with PYTHONHASHSEED set, so two zygotes differ in string hashes and in addresses. It takes an
order (texts with tags, ``pages``) on descriptor 0 and answers on descriptor 1 with one message per text that has an
outcome (how the child ended, processor time, whether order may matter, the child's own message), then ``end``; an empty
message is a sign of life. All texts of an order are read by one child (``reader``); then every input of a program has
a child of its own, forked from a process that holds that program and that input alone, in pages that are wiped. Inputs
of a program that can leave nothing behind (``purity``) share a child as long as it lives; whatever may have come of
sharing is run again with its input first in a child.
"""

import codecs
import contextlib
import errno
import gc
import marshal
import mmap
import os
import signal
import sys
import time
import unicodedata
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from bitzero.sandbox import child, identity, layers, limits, pages, reader, screen, seccomp, wire

OUT_OF_MEMORY, BROKEN = 97, 98  # exit statuses of a child that could not write its verdict
TRAY_BYTES = 8 << 20
_CLOCKS = ["time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime"]
_CLOCKS += [*(f"{name}_ns" for name in _CLOCKS), "localtime", "gmtime", "ctime", "asctime", "strftime"]
CODECS = ("ascii", "latin-1", "utf-8", "utf-16", "utf-32", "unicode_escape", "raw_unicode_escape", "cp1252", "rot13")
WARM_RUNS = 12  # enough for the interpreter to specialise the code of this package before it is shared with children
WARM = (
    (pages.CODE,
     b"def g(a, *, k=1): return a + k\ndef f(xs, s='b'):\n    t = 0\n    for x in xs:\n        if x % 2:\n"
     b"            t += g(x)\n    return [t, s.upper(), {x: (x,) for x in xs}, {1}, 0.5, None, f'{t:>{3}}']"),
    (pages.INPUT, b"[1, -2], s='b'"),
    (pages.CODE, b"def f(x): return lambda: x"),
    (pages.INPUT, b"{'a': 1}"),
    (pages.LITERAL, b"[1, -2.5, ('a', b'b'), {1: None}, {True}]"),
    (pages.PROGRAM,
     b"def g(a): return [b for b in a]\ndef f(a):\n    'text'\n    c = g(a=a)\n    c.sort()\n    return c"),
)  # fmt: skip


class Settings(NamedTuple):
    """Limits as the command line gives them, in this order."""

    fuel: int
    cpu_us: int
    memory_mb: int
    value_bytes: int
    depth: int
    hang_ms: int  # wall time of one child
    order_bytes: int  # of the largest order


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
    layers.enter(layers.SystemCalls(), report)
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
        warm_up()
    identity.close()


def warm_up() -> None:
    """Read and run a few texts of our own here."""
    results = child.Results(1000, 8192, 32)
    tray, desk, shelf = (pages.Pages(1 << 16, hidden=False), pages.Pages(1 << 16, hidden=False), pages.Shelf(1 << 16))
    shelf.clear()
    data = b"".join(reader.records(WARM, results))
    tray.map[: len(data)] = data
    shelf.add(tray, len(data))
    while (what := shelf.step()) != "end":
        if what == "run":
            shelf.lay(desk)
            child.LoadedProgram(results).run(*marshal.loads(desk.map)[:2])


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
    """No imports, no warnings (they open files), no clocks, no garbage collection when a program could observe it."""
    for name in _CLOCKS:
        delattr(time, name)
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
        self.order = pages.ReceivedOrder(settings.order_bytes)
        self.shelf = pages.Shelf(TRAY_BYTES)
        self.desk = pages.Pages(TRAY_BYTES, hidden=False)
        self.program = child.LoadedProgram(self.results())
        # Results pass through pages that are given back before the next fork: no child inherits another one's values.
        self.tray = pages.Pages(TRAY_BYTES, hidden=False)
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
        with memoryview(self.tray.map) as view:
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
        while self.order.receive(0):
            self.shelf.clear()
            self.read_texts()
            self.order.wipe()
            self.answer_texts()
            self.shelf.wipe()
            self.send(b"end")

    def send(self, *fields: bytes) -> None:
        write_all(wire.pack(list(fields)))

    def send_tray(self, word: str, cpu_us: int, start: int, end: int) -> None:
        """One message whose last field is a part of the tray, written from where it lies."""
        size = end - start
        head = wire.pack([word.encode(), b"%d" % cpu_us, b"%d" % self.shelf.flags()])[4:]
        head = (len(head) + 4 + size).to_bytes(4, "little") + head + size.to_bytes(4, "little")
        with memoryview(self.tray.map) as view, view[start:end] as body:
            written = os.writev(1, (head, body))
            if written < len(head):
                write_all(head[written:])
            write_all(body[max(0, written - len(head)) :])

    def read_texts(self) -> None:
        """Put a record of every text of the order on the shelf, read by one child if none of them ends it."""
        pending = [list(self.order.texts())]
        while pending:
            group = pending.pop(0)
            ended = self.lend_order(group)
            count, size = whole_records(self.tray, ended, [text.tag for text in group])
            if count and self.shelf.add(self.tray, size):
                pending[:0] = [group[count:]] if group[count:] else []
            elif len(group) == 1 or ended.killed == "hung":
                for text in group:
                    self.shelf.add_death(text.tag, status_word(ended, self.settings.cpu_us))
            else:
                half = len(group) // 2
                pending[:0] = [group[:half], group[half:]]
            self.tray.wipe()
            self.send()

    def lend_order(self, group: list[pages.Text]) -> Ended:
        """Have a child read these texts."""
        self.order.hide(False)
        try:
            return self.fork_for(lambda: reader.work(self.order.copies(group), self.results()), TRAY_BYTES)
        finally:
            self.order.hide(True)

    def answer_texts(self) -> None:
        """Send the outcome of every text that has one, in order.

        What is known of the job stays on the shelf: no variable here may tell a child which input it is run on.
        """
        while True:
            match self.shelf.step():
                case "end":
                    return
                case "run":
                    self.run_inputs()
                case "budget":
                    self.send_tray("budget", 0, 0, 0)
                case _:
                    word, size = self.shelf.answer(self.tray)
                    self.send_tray(word, 0, 0, size)
                    self.tray.wipe()
                    del word, size

    def run_inputs(self) -> None:
        """The input at hand in a child that holds nothing else; with a pure program those after it too.

        What the child leaves without a result is at hand next, and first in a child then.
        """
        count = self.shelf.lay(self.desk)
        capacity = count * (self.settings.value_bytes + 512)
        ended = self.fork_for(lambda: child.work(self.desk.map, self.program), capacity)
        self.desk.wipe()
        word = status_word(ended, self.settings.cpu_us)
        told = pages.told_of(self.tray, ended.size, word, count)
        for place, (word, start, end) in enumerate(told):
            if place:
                self.shelf.step()
            if word == "cpu":
                self.shelf.died()
            self.send_tray(word, ended.cpu_us // len(told), start, end)
        self.tray.wipe()

    def results(self) -> child.Results:
        return child.Results(self.settings.fuel, self.settings.value_bytes, self.settings.depth)

    def fork_for(self, work: Callable[[], Any], capacity: int) -> Ended:
        for pause_s in (0.05, 0.2, 1.0):
            try:
                return self.run_child(work, capacity)
            except OSError:
                signal.setitimer(signal.ITIMER_REAL, pause_s)  # out of processes or memory: others may give some back
                signal.pause()
        return Ended(signal.SIGKILL, 0, 0, "hung")


def whole_records(tray: pages.Pages, ended: Ended, tags: list[bytes]) -> tuple[int, int]:
    """Number and bytes of the records of a reader that left in order, or (0, 0): then its death decides.

    A reader that stopped for want of memory after earlier texts is cut before that text, which then is read first.
    """
    at = count = 0
    while ended.status == 0 and at + pages.RECORD.size <= ended.size and count < len(tags):
        tag, state, _, size = pages.RECORD.unpack_from(tray.map, at)
        following = at + pages.RECORD.size + size
        if tag != tags[count] or state >= pages.DEATH or following > ended.size:
            return 0, 0
        if state == pages.LAST and count:
            return count, at
        at, count = following, count + 1
        if state == pages.LAST:
            break
    else:
        if count < len(tags):
            return 0, 0
    return (count, at) if at == ended.size else (0, 0)


def write_all(data: bytes | memoryview) -> None:
    """Write to the host, however little the pipe takes at once."""
    at = 0
    while at < len(data):
        at += os.write(1, data[at:])


def status_word(ended: Ended, cpu_us: int) -> str:
    """One word for how a child ended: done, fuel, cpu, syscall, memory, crash, silent, flood, hung, killed."""
    if os.WIFSIGNALED(ended.status):
        number = os.WTERMSIG(ended.status)
        if number in (signal.SIGPROF, signal.SIGXCPU) or (ended.killed == "hung" and ended.cpu_us >= 0.9 * cpu_us):
            return "cpu"
        if ended.killed:
            return ended.killed
        return {int(signal.SIGSYS): "syscall", int(signal.SIGKILL): "killed"}.get(number, "crash")
    return {0: "done", child.OUT_OF_FUEL: "fuel", OUT_OF_MEMORY: "memory"}.get(
        os.waitstatus_to_exitcode(ended.status), "silent"
    )
