"""Two hundred ordinary functions, in the form in which people write them, by theme.

A file holds programs one after the other; each begins with a line ``### inputs``, argument lists parted by `` | ``.
"""

from pathlib import Path
from typing import NamedTuple


class Ordinary(NamedTuple):
    """One program; ``f`` is called with each of the argument lists."""

    theme: str
    code: str
    inputs: tuple[str, ...]


def programs() -> list[Ordinary]:
    """All of them, in a fixed order."""
    found = []
    for path in sorted(Path(__file__).parent.glob("*.txt")):
        for block in path.read_text().split("### ")[1:]:
            inputs, code = block.split("\n", 1)
            found.append(Ordinary(path.stem, code, tuple(text.strip() for text in inputs.split(" | "))))
    return found
