"""A run's directory: one owner at a time, its configuration, and JSON files that are whole or absent.

``<workdir>`` holds ``config.json``, ``checkpoints/``, ``tb/``, ``eval.json``, ``run.json`` and ``lock``.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import typing
from collections.abc import Iterator
from typing import Any

from bitzero.config import Config, ConfigError, updated

# What a later sitting may change without becoming another experiment: how long it sits, how much of the machine it
# takes, and how much it asks in the end. A group's name stands for all its keys.
_FREE = frozenset(
    {"run.minutes", "run.until", "run.nice", "run.keep", "tasks.nice", "tasks.workers", "sandbox.workers", "eval"}
)


class RunError(RuntimeError):
    """A run that cannot go on; the message is one line: what, where, what to do."""


@contextlib.contextmanager
def owned(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Creates ``path`` and holds its lock; raises ``RunError`` when it cannot be written or another run owns it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / "lock", "a+")
    except OSError as error:
        raise RunError(f"cannot write to {path}: {error.strerror}; choose another --workdir") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"another run is using {path}{_owner(lock)}; wait for it, or choose another --workdir"
            ) from None
        with _io_as_sentence(path):
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        yield path  # the kernel drops the lock with the process, however it ends


def settle_config(path: pathlib.Path, cfg: Config) -> None:
    """Writes ``config.json``, or checks that the one there is the same experiment; raises ``ConfigError``."""
    file = path / "config.json"
    now = dataclasses.asdict(cfg)
    if file.exists():
        before = updated(read_json(file))
        changed = [key for key in _differences(before, now) if key not in _FREE and key.split(".")[0] not in _FREE]
        if changed:
            key = changed[0]
            raise ConfigError(
                f"{path} was started with config.{key}={_at(before, key)!r}, this command says {_at(now, key)!r}; "
                "use the same config, or another --workdir"
            )
    write_json(file, now)


def write_json(file: pathlib.Path, value: Any) -> None:
    """Replaces ``file`` by ``value`` as JSON in one step: a reader sees the old text or the new, never a part."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with _io_as_sentence(file):
        try:
            with open(draft, "w") as handle:
                json.dump(value, handle, indent=1)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(draft, file)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def read_json(file: pathlib.Path) -> Any:
    """The JSON value in ``file``; raises ``RunError`` when it is missing or not JSON."""
    try:
        return json.loads(file.read_text())
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror}") from None
    except ValueError:
        raise RunError(f"{file} is not JSON; remove it, or choose another --workdir") from None


@contextlib.contextmanager
def _io_as_sentence(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write to {path}: {error.strerror}; free space or choose another --workdir") from None


def _owner(lock: typing.TextIO) -> str:
    lock.seek(0)
    pid = lock.read().strip()
    return f" (process {pid})" if pid.isdigit() else ""


def _differences(before: Any, now: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys at which two nested dicts differ."""
    for key in sorted({*before, *now}):
        a, b = before.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield prefix + key


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
