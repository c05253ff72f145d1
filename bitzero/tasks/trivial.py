"""Answers that need no thought: the values that trivial rules are made of, and what counts as one of them.

The rules for tasks belong to their kinds (``kinds/*.py``: ``trivial_rules``, ``trivial_answers``, ``is_trivial``); the
generator caps programs by the same values before they become tasks.
"""

from collections.abc import Sequence

CONSTANTS = ("''", "0", "1", "True", "False", "[]")  # tried as an output, and as every argument at once
FILL_VALUES = ("", 0)  # of the arguments beside one that is guessed
FILLS = tuple(map(repr, FILL_VALUES))
RULED_ARGS = 3  # argument places that have a named rule; the generator's programs have one to three arguments


def is_constant_or_copy(output: str, args: Sequence[str]) -> bool:
    """Whether the value is a trivial constant or one of the arguments."""
    return output in CONSTANTS or output in args


def is_constant_or_end(output: str, given: str) -> bool:
    """Whether the value is a trivial constant, or the first or last argument of the list ``given``."""
    return output in CONSTANTS or output == given or given.startswith(output + ", ") or given.endswith(", " + output)
