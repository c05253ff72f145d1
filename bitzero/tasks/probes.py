"""Other inputs of the same types as a given one, drawn from a hash, by rewriting the canonical text alone.

A probe tells a constant from a function, a dead statement from a live one and an argument that matters from one that
does not. The given text comes back from the sandbox in canonical form, but stands for what a model wrote: it is
rewritten as text and never evaluated.
"""

import random
import re
from typing import NamedTuple

from bitzero.tasks.kinds.task import split_args

WHOLE_PROBES = 2  # with every argument changed, beside one for each argument with that one changed
_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|\d+|True|False")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TRIES = 8


class Probe(NamedTuple):
    """One argument list, and which arguments differ from the given one."""

    text: str
    changed: tuple[int, ...]


def draw_probes(given: str, seed: int) -> tuple[Probe, ...]:
    """``WHOLE_PROBES`` lists with every argument changed, then one for each argument; a function of its arguments."""
    rng = random.Random(seed)
    args = split_args(given) or ()
    whole = tuple(range(len(args)))
    return tuple(_probe(args, places, rng) for places in (*(whole,) * WHOLE_PROBES, *((k,) for k in whole)))


def more_probes(given: str, seed: int, places: tuple[int, ...], count: int) -> tuple[Probe, ...]:
    """``count`` further lists with these arguments changed."""
    rng = random.Random(f"{seed}/{places}")
    return tuple(_probe(split_args(given) or (), places, rng) for _ in range(count))


def _probe(args: tuple[str, ...], places: tuple[int, ...], rng: random.Random) -> Probe:
    near = rng.random() < 0.5  # an index that moves by one stays in its list
    known: dict[str, str] = {}  # a token comes out the same everywhere, so that a key stays in its dict
    resize = not any("{" in arg for arg in args)
    changed = (_changed(arg, rng, near, known, resize) if k in places else arg for k, arg in enumerate(args))
    return Probe(", ".join(changed), places)


def _changed(arg: str, rng: random.Random, near: bool, known: dict[str, str], resize: bool) -> str:
    """Another value of the argument's type; of a type with one value, or none of this rewriting's, a plain one."""

    def other_token(match: re.Match[str]) -> str:
        token = match.group()
        for _ in range(_TRIES):
            if token not in known:
                known[token] = _other(token, rng, near)
            if known[token] != token:
                break
            del known[token]
        return known.get(token, token)

    for _ in range(_TRIES):
        rewritten = _TOKEN.sub(other_token, arg)
        other = _resized(rewritten, rng) if resize else rewritten
        if other != arg:
            return other
    digits = [str(rng.randrange(10)) for _ in range(3)]
    plain = {
        "[]": f"[{', '.join(digits)}]",
        "()": f"({', '.join(digits)})",
        "{}": f"{{{digits[0]}: {digits[1]}}}",
        "set()": f"{{{digits[0]}}}",
        "None": digits[0],
    }
    word = "".join(rng.choices(_LETTERS, k=3))
    return plain.get(arg, f"'{word}'" if arg[0] in "'\"b" else "1.5")


def _other(token: str, rng: random.Random, near: bool) -> str:
    """Numbers of as many digits or close by, other letters, other truth values."""
    if token[0] == "'":
        return "".join(_letter(char, token, rng) for char in token) if "\\" not in token else token
    if not token[0].isdigit():
        return rng.choice(("True", "False"))
    if near and len(token) < 6:
        return str(max(0, int(token) + rng.choice((-2, -1, 1, 2))))
    return str(rng.randrange(10 ** min(len(token), 6)))


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
