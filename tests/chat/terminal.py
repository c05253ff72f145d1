"""The real program at a pseudo-terminal, and at a pipe."""

import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

ROOT = pathlib.Path(__file__).parents[2]
# A session of its own has no terminal yet, and Ctrl-C goes to the one that has it.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>()][\w]?)")


def command(model, profile, *more):
    return [sys.executable, "launch.py", "--mode=chat", f"--model={model}", f"--profile_dir={profile}", *more]


def ran(model, profile, *more, given=b""):
    """The finished program: exit code, standard output and error."""
    done = subprocess.run(command(model, profile, *more), cwd=ROOT, input=given, capture_output=True, timeout=200)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Terminal:
    """The program at a pseudo-terminal: what is typed goes in, what a person would read comes out."""

    def __init__(self, model, profile, *more):
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (50, 200))
        environment = os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        start = [sys.executable, "-c", _TAKE_TERMINAL, *command(model, profile, *more)]
        self.process = subprocess.Popen(
            start, cwd=ROOT, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.raw = ""
        self.seen = 0  # characters of the text that were expected already

    def text(self):
        return _ESCAPES.sub("", self.raw)

    def type(self, text):
        data = text.encode("utf-8", "surrogateescape")
        while data:  # a terminal takes a few KiB at once, and its reader has to be heard meanwhile
            _, writable, _ = select.select([], [self.master], [], 0.1)
            if writable:
                data = data[os.write(self.master, data[:1024]) :]
            self.read(0)

    def read(self, seconds):
        ready, _, _ = select.select([self.master], [], [], seconds)
        try:
            self.raw += os.read(self.master, 1 << 16).decode(errors="replace") if ready else ""
        except OSError:  # the other end is closed
            return False
        return True

    def expect(self, pattern, seconds=150):
        """What is said up to a pattern, after what was expected before."""
        end = time.monotonic() + seconds
        while not (found := re.compile(pattern).search(self.text(), self.seen)):
            if time.monotonic() > end or not self.read(0.2):
                raise AssertionError(f"{pattern!r} was not said: {self.text()[self.seen :]!r}")
        said, self.seen = self.text()[self.seen : found.end()], found.end()
        return said

    def ask(self, text, pattern):
        """Types a line and waits for what it should lead to."""
        self.ready()
        self.type(f"{text}\r")
        return self.expect(pattern)

    def ready(self, seconds=60):
        """Waits for the prompt: before it is there the terminal itself takes what is typed, echoes and edits it."""
        end = time.monotonic() + seconds
        while termios.tcgetattr(self.master)[3] & termios.ICANON:
            assert time.monotonic() < end, f"no prompt after {self.text()[-200:]!r}"
            self.read(0.05)

    def leave(self, seconds=60):
        """Ctrl-D; the exit code."""
        self.ready()
        self.type("\x04")
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end and self.read(0.1):
            pass
        return self.process.wait(10)

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.master)
