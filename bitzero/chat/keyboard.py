"""Where questions come from: a terminal with line editing, history and completion, or a pipe, a line after another."""

import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from bitzero.chat import intent

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

QUOTES = '"""'
_LONGEST_LINE = 1 << 22  # bytes of a line of a pipe; the rest of a longer one is read as lines of its own


def is_complete(text: str) -> bool:
    """Whether Enter ends the text: `\"\"\"` holds it open until the next one, else the grammar says."""
    stripped = text.strip()
    if stripped.startswith(QUOTES):
        return len(stripped) >= 2 * len(QUOTES) and stripped.endswith(QUOTES)
    return stripped.startswith("/") or intent.is_complete(text)


def piped(stream: BinaryIO) -> Iterator[str]:
    """The questions of a pipe: lines are joined until one is complete, and what is left at the end is one too."""
    gathered = ""
    while line := stream.readline(_LONGEST_LINE):
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        gathered = f"{gathered}\n{text}" if gathered else text
        if is_complete(gathered):
            if gathered.strip():
                yield gathered
            gathered = ""
    if gathered.strip():
        yield gathered


def typed(before: Callable[[], list[str]], words: Callable[[], list[str]]) -> Callable[[], str]:
    """A function that reads one question from the terminal; ``before`` are earlier ones, ``words`` what Tab completes.

    It raises ``KeyboardInterrupt`` for Ctrl-C and ``EOFError`` for Ctrl-D on an empty line.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import InMemoryHistory

    history = InMemoryHistory()
    for text in before():
        history.append_string(text)
    session: PromptSession[str] = PromptSession(
        history=history, multiline=True, key_bindings=_bindings(), enable_history_search=True,
        completer=WordCompleter(words, sentence=False, pattern=_WORD), complete_while_typing=False,
        prompt_continuation="... ",
    )  # fmt: skip
    return lambda: session.prompt(">>> ")


def _bindings() -> "KeyBindings":
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.keys import Keys

    keys = KeyBindings()

    @keys.add("enter")
    @keys.add("c-j")
    def _(event: "KeyPressEvent") -> None:
        buffer = event.current_buffer
        if is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @keys.add(Keys.BracketedPaste)
    def _(event: "KeyPressEvent") -> None:
        if len(event.data) > intent.MAX_CHARS:  # drawing it would take minutes; the answer says that it is too long
            event.app.exit(result=event.data)
        else:
            event.current_buffer.insert_text(event.data.replace("\r\n", "\n").replace("\r", "\n"))

    return keys


_WORD = re.compile(r"/?[A-Za-z_]\w*|/")


def is_terminal() -> bool:
    """Whether a person types here."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
