"""What a person sees of a sweep: a live table on a terminal; elsewhere a line a finished run and one now and then."""

import dataclasses
import pathlib
import time
from types import TracebackType

import rich.console
import rich.table
import rich.text

from bitzero.run.progress import Progress, clock_text

_LOG_EVERY_S = 30.0  # seconds between lines of counts where the output is not a terminal
_TAIL = 2_000  # bytes of a log in which its last line is looked for


@dataclasses.dataclass(kw_only=True)
class SweepStatus:
    """Counts and running jobs at one moment."""

    total: int
    finished: int
    failed: int
    running: list[tuple[str, float, pathlib.Path]]  # title, seconds since its start, log
    left_s: float | None  # None: not known yet
    waiting: str = ""  # what keeps the rest from starting

    def line(self) -> str:
        """The status as one line of text."""
        parts = [f"{self.finished} of {self.total} runs finished"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.running:
            parts.append("running " + ", ".join(title for title, _, _ in self.running))
        if self.waiting:
            parts.append(self.waiting)
        if self.left_s is not None:
            parts.append(f"{clock_text(self.left_s)} left")
        return " · ".join(parts)

    def table(self) -> rich.table.Table:
        """The status with a row for every running job: its title, its time, the last line it said."""
        out = rich.table.Table(title=self.line(), title_justify="left", box=None, padding=(0, 1, 0, 0))
        out.add_column("run", no_wrap=True)
        out.add_column("time", justify="right", no_wrap=True)
        out.add_column("", no_wrap=True, overflow="ellipsis")
        for title, seconds, log in self.running:
            out.add_row(title, clock_text(seconds), rich.text.Text(last_line(log)))
        return out


class SweepView:
    """Context manager that shows a ``SweepStatus`` now and then and sentences between them."""

    def __init__(self, console: rich.console.Console | None = None) -> None:
        self._progress = Progress(console)
        self._shown = time.monotonic()

    def __enter__(self) -> "SweepView":
        self._progress.__enter__()
        return self

    def __exit__(self, error_type: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.__exit__(error_type, error, trace)

    def show(self, status: SweepStatus) -> None:
        """Shows ``status``: on a terminal once a second, in a log every 30 s."""
        since = time.monotonic() - self._shown
        if since < (1.0 if self._progress.console.is_terminal else _LOG_EVERY_S):
            return
        self._shown = time.monotonic()
        if not self._progress.draw(status.table()):
            self.say(status.line())

    def say(self, sentence: str) -> None:
        """One line that stays."""
        self._progress.say(sentence)


def last_line(log: pathlib.Path) -> str:
    """The last line of a run's log that says something; '' where there is none."""
    try:
        with open(log, "rb") as handle:
            handle.seek(max(0, log.stat().st_size - _TAIL))
            text = handle.read().decode(errors="replace")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
