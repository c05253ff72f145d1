"""A terminal that a program is talked to through, and the screen that it leaves: text, colours, moments.

Not a whole terminal: the sequences that prompt_toolkit and rich write where no cursor position is told to them. Rows
never scroll away and never end.
"""

import io
import itertools
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
from collections.abc import Callable
from dataclasses import dataclass

WIDTH, HEIGHT = 100, 60
LIMIT = 600  # seconds for any answer
# A session of its own has no terminal yet, and Ctrl-C goes to the one that has it.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
_PIECE = re.compile(r"\x1b\[(?P<args>[0-?]*)[ -/]*(?P<final>[@-~])|\x1b\][^\x07]*\x07|\x1b[()][\w]|\x1b[=>]|[^\x1b]")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07]*|[()]?)?$")


class Terminal:
    """Rows of (character, style) as the output of a program fills them."""

    def __init__(self) -> None:
        self.rows: list[list[tuple[str, str]]] = [[]]
        self.row = self.column = 0
        self._style = ""
        self._rest = ""

    def feed(self, text: str) -> None:
        """More output; a sequence that is cut in two waits for its end."""
        text = self._rest + text
        cut = _UNFINISHED.search(text)
        self._rest = cut[0] if cut else ""
        for piece in _PIECE.finditer(text[: cut.start()] if cut else text):
            if piece["final"]:
                self._control(piece["args"], piece["final"])
            elif len(piece[0]) == 1:
                self._write(piece[0])

    def lines(self, start: int, end: int) -> list[str]:
        """Rows as plain text."""
        return ["".join(char for char, _ in row).rstrip() for row in self.rows[start:end]]

    def ansi(self, start: int, end: int) -> str:
        """Rows as text with their colours."""
        return "\n".join(_with_colours(row) for row in self.rows[start:end])

    def last(self) -> int:
        """The number of the last row with text; −1: none."""
        return next((at for at in reversed(range(len(self.rows))) if self.lines(at, at + 1) != [""]), -1)

    def _write(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self._to(self.row + 1)
        elif char == "\b":
            self.column = max(0, self.column - 1)
        elif char >= " ":
            row = self.rows[self.row]
            row += [(" ", "")] * (self.column + 1 - len(row))
            row[self.column] = (char, self._style)
            self.column += 1

    def _to(self, row: int) -> None:
        self.row = max(0, row)
        self.rows += [[] for _ in range(self.row + 1 - len(self.rows))]

    def _control(self, args: str, final: str) -> None:
        first = args.split(";")[0]
        count = int(first) if first.isdecimal() else 0
        match final:
            case "A" | "B":
                self._to(self.row + max(count, 1) * (1 if final == "B" else -1))
            case "C" | "D":
                self.column = max(0, self.column + max(count, 1) * (1 if final == "C" else -1))
            case "G":
                self.column = max(count, 1) - 1
            case "K" | "J":
                del self.rows[self.row][0 if count == 2 else self.column :]
                if final == "J":
                    del self.rows[self.row + 1 :]
            case "m":
                self._style = ";".join(part for part in args.split(";") if part not in ("", "0"))


def _with_colours(row: list[tuple[str, str]]) -> str:
    runs = itertools.groupby(row, key=lambda cell: cell[1])
    return "".join(f"\x1b[0{style and ';'}{style}m{''.join(char for char, _ in run)}" for style, run in runs)


@dataclass(frozen=True, kw_only=True)
class Timed:
    """An input and when its answer came."""

    text: str
    start: int  # row of its prompt
    end: int  # row after its answer
    first: float  # seconds from Enter to the first text after it
    seconds: float  # … to the next prompt


class Conversation:
    """The program at a pseudo-terminal. What takes too long, or ends before it should, is a ``TimeoutError``."""

    def __init__(self, command: list[str], *, cwd: pathlib.Path, settings: dict[str, str], aside: str = "") -> None:
        """``aside`` begins lines that are no part of an answer."""
        self._aside = aside
        began = time.monotonic()
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (HEIGHT, WIDTH))
        environment = os.environ | {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"} | settings
        environment.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command], cwd=cwd, stdin=slave, stdout=slave, stderr=slave,
            env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.screen = Terminal()
        self._until(self._at_prompt, "no prompt")
        self.prompt_after = time.monotonic() - began

    def ask(self, text: str, *, paste: bool = False) -> Timed:
        """Types a text and Enter, and reads on to the next prompt; a Ctrl-C at its end is pressed in the answer."""
        start, stops = self.screen.last(), text.endswith("\x03")
        body = text.removesuffix("\x03")
        self._type(f"\x1b[200~{body}\x1b[201~" if paste else body.replace("\n", "\r"))
        if not paste:
            self._settle()
        typed_to = start if paste else self.screen.last()
        entered = time.monotonic()
        self._type("" if paste else "\r")
        self._until(lambda: self._answered_below(typed_to), f"no answer to {text[:60]!r}")
        first = time.monotonic() - entered
        if stops:
            self._type("\x03")
        self._until(lambda: self._prompt_below(typed_to), f"no end of the answer to {text[:60]!r}")
        seconds = time.monotonic() - entered
        return Timed(text=text, start=start, end=self.screen.last(), first=first, seconds=seconds)

    def leave(self) -> None:
        """Ctrl-D, and the program's end."""
        self._type("\x04")
        end = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.05)
        if self.process.wait(5):
            raise TimeoutError(f"it ended with {self.process.returncode} after {self._said()}")

    def kill(self) -> None:
        """Ends it whatever it does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.master)

    def peak_memory_mib(self) -> float:
        """The most memory that it had so far, without its sandbox."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024

    def _type(self, text: str) -> None:
        data = text.encode()
        while data:  # a terminal takes a few KiB at once, and its reader has to be heard meanwhile
            _, writable, _ = select.select([], [self.master], [], 0.1)
            if writable:
                data = data[os.write(self.master, data[:1024]) :]
            self._read(0)

    def _read(self, seconds: float) -> bool:
        """Whether something was read within that time."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            self.screen.feed(os.read(self.master, 1 << 16).decode(errors="replace"))
        except OSError:  # the other end is closed
            return False
        return True

    def _settle(self) -> None:
        """Until nothing more is drawn."""
        while self._read(0.3):
            pass

    def _until(self, holds: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + LIMIT
        while not holds():
            self._read(0.01)
            if self.process.poll() is not None and not self._read(0):
                raise TimeoutError(f"{otherwise}: it ended with {self.process.returncode} after {self._said()}")
            if time.monotonic() > end:
                raise TimeoutError(f"{otherwise} in {LIMIT} s after {self._said()}")

    def _answered_below(self, row: int) -> bool:
        below = [line for line in self.screen.lines(row + 1, len(self.screen.rows)) if line]
        return any(not self._aside or not line.startswith(self._aside) for line in below)

    def _prompt_below(self, row: int) -> bool:
        return self.screen.last() > row and self._at_prompt()

    def _at_prompt(self) -> bool:
        """The last row is an empty prompt, and keys are read one by one, not by the terminal."""
        last = self.screen.last()
        raw = not termios.tcgetattr(self.master)[3] & termios.ICANON
        return raw and last >= 0 and self.screen.lines(last, last + 1) == [">>>"]

    def _said(self) -> str:
        return repr("\n".join(self.screen.lines(0, len(self.screen.rows)))[-300:])


def picture(screen: Terminal, end: int, title: str) -> str:
    """The first rows of a screen as an SVG with their colours, and without a font to be fetched."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(screen.ansi(0, end)))
    svg = console.export_svg(title=title, unique_id="chat")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
