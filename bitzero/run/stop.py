"""Ending a sitting on purpose: Ctrl-C, SIGTERM, a closed terminal or the configured minutes ask; nothing is lost.

The work in hand is finished and saved first.
"""

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType


class Stop:
    """Context manager; ``asked`` is '' or the reason to stop. A second signal ends the process at once.

    But for SIGHUP: a closing terminal sends it more than once, and nobody is there to insist.
    """

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self.asked = ""
        self._say = say
        self._tell: list[Callable[[], object]] = []
        self._timer: threading.Timer | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue  # nohup: the run outlives its terminal
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def call_when_asked(self, tell: Callable[[], object]) -> None:
        """Calls ``tell`` when the sitting is asked to end; at once if it was."""
        self._tell.append(tell)
        if self.asked:
            tell()

    def ask_after(self, minutes: float | int) -> None:
        """Asks after ``minutes`` from now; 0 is never."""
        if minutes:
            self._timer = threading.Timer(60 * minutes, self.ask, [f"{minutes:g} minutes are over"])
            self._timer.daemon = True
            self._timer.start()

    def ask(self, reason: str) -> None:
        """Asks the sitting to end after the work in hand."""
        self.asked = self.asked or reason
        for tell in self._tell:
            tell()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number != signal.SIGHUP:
            raise KeyboardInterrupt
        self.ask(signal.Signals(number).name)
        with contextlib.suppress(Exception):  # it may come in the middle of a write, which is not to be entered twice
            self._say("finishing the work in hand; once more to stop at once")
