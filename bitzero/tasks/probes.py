"""Other inputs of the same types as a given one, drawn from a hash, by rewriting the canonical text alone.

A probe tells a constant from a function and a dead statement from a live one. The given text comes back from the
sandbox in canonical form, but stands for what a model wrote: it is rewritten as text and never evaluated.
"""

import random
import re

from bitzero.tasks.kinds import split_args

PROBES = 3  # per program
_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|\d+|True|False")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def draw_probes(given: str, seed: int) -> tuple[str, ...]:
    """`PROBES` argument lists like `given`, in general distinct from it; a function of the arguments alone."""
    rng = random.Random(seed)
    args = split_args(given) or ()
    return tuple(", ".join(_resized(_redrawn(arg, rng), rng) for arg in args) for _ in range(PROBES))


def _redrawn(text: str, rng: random.Random) -> str:
    """Numbers of as many digits, other letters, other truth values."""
    return _TOKEN.sub(lambda match: _other(match.group(), rng), text)


def _other(token: str, rng: random.Random) -> str:
    if token[0] == "'":
        return "".join(_letter(char, token, rng) for char in token) if "\\" not in token else token
    if token[0].isdigit():
        return str(rng.randrange(10 ** min(len(token), 6)))
    return rng.choice(("True", "False"))


def _letter(char: str, word: str, rng: random.Random) -> str:
    """Half of the time a letter of the same word, so that repeated letters stay likely."""
    if char.lower() not in _LETTERS:
        return char
    own = [other for other in word if other.lower() in _LETTERS]
    other = rng.choice(own if rng.random() < 0.5 else _LETTERS)
    return other.upper() if char.isupper() else other.lower()


def _resized(arg: str, rng: random.Random) -> str:
    """A list or string loses or doubles an end about two times in three."""
    change = rng.randrange(3)
    if change == 2 or len(arg) < 3:
        return arg
    if arg[0] == "[" and arg[-1] == "]":
        items = list(split_args(arg[1:-1]) or ())
        items = items[:-1] if change else items + items[:1]
        return "[" + ", ".join(items) + "]"
    if arg[0] == arg[-1] == "'" and "\\" not in arg:
        return f"'{arg[1:-2]}'" if change else f"'{arg[1:-1]}{arg[1]}'"
    return arg
