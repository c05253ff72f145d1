"""The live line: what a person sees of a run, on a terminal as one changing line, in a log as a line now and then."""

import dataclasses
import time
from types import TracebackType

import rich.console
import rich.live
import rich.text

_LOG_EVERY_S = 10.0  # seconds between lines where the output is not a terminal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """What the live line says; a field that is None is not known yet and left out of it."""

    phase: str
    step: int
    total: int  # step at which the phase ends
    tokens_s: float | None = None  # tokens trained on or sampled, a second
    loss: float | None = None
    accuracy: dict[int, float] = dataclasses.field(default_factory=dict)  # level → dev accuracy, 0–1
    valid: float | None = None  # share of proposals that pass every gate
    waits: dict[str, float] = dataclasses.field(default_factory=dict)  # for whom → share of the time, 0–1
    left_s: float | None = None  # seconds to the end of the phase

    def line(self) -> str:
        """The status as one line of text."""
        parts = [self.phase, f"step {self.step:,}/{self.total:,}"]
        if self.tokens_s is not None:
            parts.append(f"{self.tokens_s:,.0f} tokens/s")
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        if self.accuracy:
            parts.append("dev " + " ".join(f"L{level} {100 * share:.0f}%" for level, share in self.accuracy.items()))
        if self.valid is not None:
            parts.append(f"valid proposals {100 * self.valid:.0f}%")
        if waits := [f"{name} {100 * share:.0f}%" for name, share in self.waits.items() if share >= 0.005]:
            parts.append(f"waiting for {', '.join(waits)}")
        if self.left_s is not None:
            parts.append(f"{clock_text(self.left_s)} left")
        return " · ".join(parts)


class Progress:
    """Context manager that shows ``Status`` lines and sentences between them."""

    def __init__(self, console: rich.console.Console | None = None) -> None:
        self.console = console or rich.console.Console(highlight=False, soft_wrap=True)
        self._live: rich.live.Live | None = None
        self._logged = -_LOG_EVERY_S
        self._phase = ""

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self._live = rich.live.Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, error_type: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def show(self, status: Status, *, now: bool = False) -> None:
        """Shows ``status``; in a log at most every ten seconds, at a change of phase, or when ``now``."""
        self._show(status.line(), status.phase, now)

    def count(self, what: str, done: int, total: int) -> None:
        """Shows how many there are of what is waited for; in a log as often as ``show``."""
        self._show(f"{what} · {done:,}/{total:,}", what, False)

    def _show(self, line: str, phase: str, now: bool) -> None:
        drawn = self.draw(rich.text.Text(line, overflow="ellipsis", no_wrap=True))
        if not drawn and (now or phase != self._phase or time.monotonic() - self._logged >= _LOG_EVERY_S):
            self.say(line)
            self._logged = time.monotonic()
        self._phase = phase

    def draw(self, what: rich.console.RenderableType) -> bool:
        """Shows ``what`` in the place of what was shown before; False where the output is not a terminal."""
        if self._live:
            self._live.update(what, refresh=True)
        return self._live is not None

    def say(self, sentence: str) -> None:
        """One line that stays."""
        self.console.print(rich.text.Text(sentence))


def clock_text(seconds: float | int) -> str:
    """``seconds`` as 0:07, 12:30 or 1:02:03."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
