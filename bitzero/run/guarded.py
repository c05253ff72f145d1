"""Disk cache of what held-out programs do, which takes minutes of a core to find."""

import ast
import functools
import hashlib
import json
import pathlib
import sys

from bitzero.config import Config
from bitzero.generator.stream import Stream, Tell, silent
from bitzero.run import device
from bitzero.run.workdir import keep_file

ROOMS = ("config", "generator", "tasks", "sandbox")  # whose code decides what a program does


def guarded_behaviours(stream: Stream, tell: Tell = silent) -> frozenset[int]:
    """``stream.guarded_behaviours(tell)``, from the machine's cache where they were found before.

    A file that is not what this function wrote is made again. Raises ``GeneratorFailed``, and what ``tell`` raises.
    """
    file = _file(stream.cfg)
    if file and (known := _read(file)):
        return known
    found = stream.guarded_behaviours(tell)
    if file:
        keep_file(file, json.dumps(sorted(found)).encode())
    return found


def request_guarded(stream: Stream) -> None:
    """Lets the stream find them whenever no training data is wanted, unless this machine knows them."""
    file = _file(stream.cfg)
    if not (file and _read(file)):
        stream.request_guarded()


def _file(cfg: Config) -> pathlib.Path | None:
    """Where this machine keeps them; None where it keeps nothing."""
    cache = device.cache_directory()
    return cache / f"guarded-{fingerprint(cfg)}.json" if cache else None


def fingerprint(cfg: Config) -> str:
    """16 hexadecimal digits of what the behaviours follow from: settings, the code of four rooms, the interpreter."""
    limits = (cfg.sandbox.fuel, cfg.sandbox.cpu_s, cfg.sandbox.value_bytes)
    settings = (cfg.seed, cfg.tasks.pairs, cfg.tasks.guarded, limits, sys.version_info[:3])
    return hashlib.sha256(repr((*settings, code_of(ROOMS))).encode()).hexdigest()[:16]


@functools.cache
def code_of(places: tuple[str, ...]) -> str:
    """A hash of what the sources in these rooms (or files) do: of their syntax trees, so that no comment counts."""
    found = hashlib.sha256()
    house = pathlib.Path(__file__).parents[1]
    for place in places:
        inside = (house / place).rglob("*.py") if (house / place).is_dir() else [house / place]
        for file in sorted(inside):
            found.update(f"{file.relative_to(house)}\0{without_prose(file.read_text())}\0".encode())
    return found.hexdigest()


def without_prose(source: str) -> str:
    """The syntax tree of a module as text, without what stands alone as a string: docstrings."""
    tree = ast.parse(source)
    is_text = lambda node: isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [item for item in node.body if not is_text(item)]
    return ast.dump(tree)


def _read(file: pathlib.Path) -> frozenset[int] | None:
    """The numbers in ``file``; None where there are none."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    whole = isinstance(found, list) and all(type(number) is int for number in found)
    return frozenset(found) if whole else None
