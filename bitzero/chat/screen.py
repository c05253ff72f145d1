"""Where answers go: a terminal or a pipe as text, or one JSON object a question."""

import json
import sys
from typing import Protocol, runtime_checkable

from bitzero.chat import wording
from bitzero.chat.answers import Answer, Step
from bitzero.chat.session import Session
from bitzero.chat.solving import Said

_STYLES = {"plain": "", "good": "green", "bad": "red", "faint": "dim", "error": "yellow"}


@runtime_checkable
class Screen(Protocol):
    """What is said goes here."""

    def say(self, said: Said, session: Session) -> None:
        """A piece of an answer, or the answer."""
        ...

    def line(self, text: str, style: str = "faint") -> None:
        """A line beside the answers: a greeting, a warning."""
        ...


class JsonScreen:
    """One object a question on standard output; lines beside them on standard error."""

    def say(self, said: Said, session: Session) -> None:
        """The answer alone."""
        if isinstance(said, Answer):
            print(json.dumps(said.record()), flush=True)

    def line(self, text: str, style: str = "faint") -> None:
        """To standard error."""
        print(wording.printable(text), file=sys.stderr, flush=True)


class TextScreen:
    """Text with colours where the terminal has them; steps of a trace as they come."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
        self._open = ""  # pieces since the last whole line

    def say(self, said: Said, session: Session) -> None:
        """Shows a piece: the step in hand token by token, a whole step with its verdict, or the answer."""
        if isinstance(said, str):
            self._piece(said)
            return
        self._close()
        if isinstance(said, Answer) and said.kind == "error":  # without the persona, which may be what failed
            self.line(said.note or "", "error")
            return
        if isinstance(said, Step):
            if session.verbosity() != "short":
                self.line(*wording.step_line(said))
            return
        for text, style in wording.answer_lines(said, session.persona(), session.verbosity()):
            self.line(text, style)

    def line(self, text: str, style: str = "faint") -> None:
        """One line, or several of one style."""
        from rich.text import Text

        self._close()
        self._console.print(Text(wording.printable(text), style=_STYLES[style]))

    def _piece(self, text: str) -> None:
        """A token: shown on a terminal alone, where the whole step takes its place."""
        if self._console.is_terminal:
            shown = wording.printable(text).replace("\n", " ")
            self._open += shown
            self._console.file.write(shown)
            self._console.file.flush()

    def _close(self) -> None:
        if self._open:
            self._console.file.write("\r\x1b[K")
            self._open = ""
