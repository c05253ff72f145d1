"""One warm zygote as the host sees it: started with ``Popen``, fed one order at a time, heard without blocking."""

import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from bitzero.sandbox import pages, wire
from bitzero.sandbox.jobs import Limits, SandboxUnavailable

GRACE_S = 5.0  # beyond the hang guard of a child, before a silent zygote is given up
START_S = 60.0
_BOOT = (
    "import sys, types\n"  # not the package itself: its host side would only make every fork dearer
    "for name, path in (('bitzero', sys.argv[1]), ('bitzero.sandbox', sys.argv[1] + '/sandbox')):\n"
    "    package = sys.modules[name] = types.ModuleType(name)\n"
    "    package.__path__ = [path]\n"
    "from bitzero.sandbox import zygote\n"
    "zygote.main(sys.argv[2:])\n"
)


Mode = Literal["run", "literal", "parse"]
_TAGS = {"literal": b"l", "parse": b"p"}


class Order(NamedTuple):
    """One request: a program with its inputs, or a group of texts to parse."""

    mode: Mode
    code: str
    inputs: tuple[str, ...]
    joined: bool = False  # of the same owner as the order before it

    def texts(self) -> list[bytes]:
        """What is sent: each text behind its tag (``pages``)."""
        if self.mode == "run":
            head = pages.JOINED if self.joined else pages.CODE
            return [head + self.code.encode(), *(b"i" + text.encode() for text in self.inputs)]
        return [_TAGS[self.mode] + text.encode() for text in self.inputs]

    def size(self) -> int:
        """Bytes that it takes of a message."""
        return sum(4 + len(text) for text in self.texts())


class Reply(NamedTuple):
    """What a zygote says of one input."""

    word: str  # how the child ended (``zygote.status_word``)
    cpu_us: int  # of the whole child
    touched: bool  # whether hash order or addresses may matter
    body: bytes  # the child's own message: hostile
    settled: bool = False  # the program is pure, so that no other seed can tell otherwise


class Process:
    """A zygote with one hash seed, and the order it is at work on. It takes orders once ``wait_ready`` has returned."""

    def __init__(self, seed: int, limits: Limits) -> None:
        self.seed = seed
        self.patience_s = hang_s(limits) + GRACE_S
        self.busy = False  # an order is out
        self.replies: list[Reply] = []
        self.deadline = 0.0
        self.buffer = b""
        self.inner = 0  # process number of the first process in the zygote's own namespace, 0 without one
        self.popen = _start(seed, limits)
        assert self.popen.stdin is not None
        os.set_blocking(self.popen.stdin.fileno(), False)
        self.layers: dict[str, str] = {}  # state of each layer, which a zygote sends when it is ready

    def wait_ready(self) -> None:
        """Block until the zygote is warm and closed in. Raises ``SandboxUnavailable`` if it cannot start."""
        deadline = time.monotonic() + START_S
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno(), selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())):
                messages = self._messages()
                if messages is None:
                    break
                said = dict(field.decode().split("=", 1) for fields in messages for field in fields)
                self.inner = int(said.pop("pid", self.inner))
                if said:
                    self.layers = said
                    return
        self.kill()
        raise SandboxUnavailable("sandbox: its process did not start; is this Python installation complete?")

    def fileno(self) -> int:
        """Descriptor that becomes readable when the zygote says something or ends."""
        assert self.popen.stdout is not None
        return self.popen.stdout.fileno()

    def send(self, orders: Sequence[Order]) -> None:
        """Begin ``orders``, one message. A zygote that is dead already shows itself as end of file later."""
        self.busy, self.replies = True, []
        self.deadline = time.monotonic() + self.patience_s
        data = wire.pack([text for order in orders for text in order.texts()])
        assert self.popen.stdin is not None
        try:
            while data:
                data = data[self._write(self.popen.stdin.fileno(), data) :]
        except (OSError, ValueError):  # a broken or a closed pipe, or nobody reads: the deadline decides
            pass

    def _write(self, descriptor: int, data: bytes) -> int:
        """Bytes taken by the pipe, waiting until the deadline for it to take some. Raises ``TimeoutError``."""
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            if not poll.poll(max(0.0, self.deadline - time.monotonic()) * 1e3):
                raise TimeoutError from None
            return 0

    def hear(self) -> list[Reply] | None:
        """All replies if the order is finished, an empty list if it is not yet. Raises ``EOFError`` if it died."""
        messages = self._messages()
        if messages is None:
            raise EOFError
        self.deadline = time.monotonic() + self.patience_s
        for fields in messages:
            if fields == [b"end"]:
                self.busy = False
                return self.replies
            if fields:  # an empty message only says that it is alive
                word, cpu_us, flags, body = fields
                told = int(flags)
                self.replies.append(
                    Reply(word.decode(), int(cpu_us), bool(told & pages.TOUCHED), body, bool(told & pages.PURE))
                )
        return []

    def _messages(self) -> list[list[bytes]] | None:
        """Messages that have arrived, or None at end of file."""
        try:
            data = os.read(self.fileno(), 1 << 16)
        except OSError:
            return None
        bodies, self.buffer = wire.split(self.buffer + data)
        return [wire.unpack(body) for body in bodies] if data else None

    def close(self) -> None:
        """Let an idle process leave by itself; then make sure."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        try:
            self.popen.wait(timeout=0.0 if self.busy else 1.0)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """End the process and everything in it, and reap it. The inner one first: the outer one then reaps it."""
        if self.inner and self.popen.poll() is None:
            try:
                os.kill(self.inner, signal.SIGKILL)
                self.popen.wait(timeout=1.0)
            except (OSError, subprocess.TimeoutExpired):
                pass
        self.popen.kill()
        self.abandon()
        self.popen.wait()

    def abandon(self) -> None:
        """Close this process's ends of the pipes: all that a process forked off the host may do."""
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()


def hang_s(limits: Limits) -> float:
    """Wall seconds a child may take: 20 times its processor time, so that a loaded machine fails no honest program."""
    return max(4.0, 20 * limits.cpu_s)


def order_bytes(limits: Limits) -> int:
    """The largest message to a zygote: some texts of ordinary length, or a few of the longest."""
    return (1 << 18) + 4 * limits.code_bytes


def _start(seed: int, limits: Limits) -> "subprocess.Popen[bytes]":
    """A Python of its own with nothing inherited but the hash seed: ``-E`` and ``-I`` would ignore that too."""
    numbers = (limits.fuel, round(limits.cpu_s * 1e6), limits.memory_mb, limits.value_bytes, limits.depth)
    command = [sys.executable, "-S", "-s", "-P", "-B", "-c", _BOOT, str(Path(__file__).parent.parent)]
    kept = {key: value for key, value in os.environ.items() if key == "LD_LIBRARY_PATH"}
    return subprocess.Popen(
        command + [str(number) for number in (*numbers, round(1e3 * hang_s(limits)), order_bytes(limits))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        start_new_session=True,  # Ctrl-C in a terminal is for the host, which decides when to stop
        # Binding a function of the C library at its first call saves the vector registers on the stack, with the last
        # text that was copied in them: all are bound at the start.
        env={"PYTHONHASHSEED": str(seed), "LD_BIND_NOW": "1"} | kept,
    )
