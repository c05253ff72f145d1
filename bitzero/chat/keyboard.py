"""Where questions come from: a terminal with line editing, history and completion, or a pipe, a line after another."""

import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

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


def piped(readline: Callable[[int], bytes]) -> Iterator[str]:
    """The questions of a pipe: lines are joined until one is complete, and what is left at the end is one too.

    One that is longer than any question may be comes as far as it was read; the rest of it, up to the next empty line,
    is dropped, for to look for its end line by line would take hours.
    """
    lines, gathered = _lines(readline), ""
    for text in lines:
        begun, gathered = gathered, f"{gathered}\n{text}" if gathered else text
        whole = not (begun and intent.stays_open(begun, text)) and is_complete(gathered)
        if whole or len(gathered) > intent.MAX_CHARS:
            if gathered.strip():
                yield gathered
            if not whole:
                _drop_rest(lines, gathered)
            gathered = ""
    if gathered.strip():
        yield gathered


def _lines(readline: Callable[[int], bytes]) -> Iterator[str]:
    while line := readline(_LONGEST_LINE):
        yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")


def _drop_rest(lines: Iterator[str], begun: str) -> None:
    """Reads on to where a text that began so ends: at the closing quotes, or at an empty line."""
    quoted = begun.lstrip().startswith(QUOTES)
    for line in lines:
        if line.rstrip().endswith(QUOTES) if quoted else not line.strip():
            return


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
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))  # None: it was closed
