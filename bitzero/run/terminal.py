"""What the program writes to a terminal, a pipe or a log: never a reason for a run to end.

A reader may go away (``| head``, a closed terminal), a disk may be full, an encoding may know ASCII alone. None of it
says anything about the training, so the streams fall silent or plain and the run goes on.
"""

import codecs
import io
import os
import sys

_PLAIN = "plain"  # name of the encoding error handler
_ASCII = {
    "·": "-", "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "÷": "/", "±": "+/-", "≤": "<=", "≥": ">=", "→": "->",
    "✓": "+", "✗": "x", "λ": "lambda", "α": "alpha", "σ": "sigma", "Δ": "delta", "²": "2",
}  # fmt: skip


def settle_streams() -> None:
    """Makes standard output and error fall silent when nobody listens, and write in ASCII what they cannot encode.

    To be called once, before anything is written. A descriptor that was closed is opened on nothing, so that no file of
    the run takes its number.
    """
    codecs.register_error(_PLAIN, _in_ascii)
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            setattr(sys, name, LastingStream(stream))


class LastingStream(io.TextIOWrapper):
    """A stream on the descriptor of another one, whose writes never fail."""

    def __init__(self, like: io.TextIOWrapper) -> None:
        """Takes descriptor, encoding and buffering of ``like``, which stays open and is not to be written any more."""
        raw = io.FileIO(like.fileno(), "w", closefd=False)
        super().__init__(
            io.BufferedWriter(raw), encoding=like.encoding, errors=_PLAIN, line_buffering=like.line_buffering,
            write_through=like.write_through,
        )  # fmt: skip

    def write(self, text: str) -> int:
        """Writes ``text``, or nothing where nobody listens."""
        try:
            return super().write(text)
        except OSError:
            self._fall_silent()
            return len(text)

    def flush(self) -> None:
        """Hands on what was written, or drops it where nobody listens."""
        try:
            super().flush()
        except OSError:
            self._fall_silent()

    def _fall_silent(self) -> None:
        """Points the descriptor at nothing: what is still buffered, and all that follows, goes there."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """The characters that could not be encoded, in ASCII; an encoding error handler."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
