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
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bitzero import config as configuration
from bitzero.config import Config, ConfigError
from bitzero.run import experiment


class RunError(RuntimeError):
    """A run that cannot go on; the message is one line: what, where, what to do."""


@contextlib.contextmanager
def owned(path: pathlib.Path, mode: int = 0o666, flag: str = "--workdir") -> Iterator[pathlib.Path]:
    """Creates ``path`` and holds its lock; raises ``RunError`` when it cannot be written or another run owns it.

    A new lock has ``mode``, less the umask; ``flag`` is what names another folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / "lock", "a+", opener=lambda name, flags: os.open(name, flags, mode))
    except OSError as error:
        raise RunError(f"cannot write to {path}: {error.strerror}; choose another {flag}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"another run is using {path}{_owner_text(lock)}; wait for it, or choose another {flag}"
            ) from None
        with _errors_as_sentence(path):
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        yield path  # the kernel drops the lock with the process, however it ends


def make_private(folder: pathlib.Path) -> None:
    """Creates ``folder`` and what is missing above it, for their owner alone; ``OSError`` where that cannot be."""
    for place in [*reversed(folder.parents), folder]:
        if not os.path.isdir(place):
            place.mkdir(mode=0o700, exist_ok=True)


def settle_config(path: pathlib.Path, cfg: Config, say: Callable[[str], None]) -> None:
    """Writes ``config.json``, or checks that the one there is the same experiment; raises ``ConfigError``.

    ``say`` takes a line for every setting of an older program that is left out.
    """
    check_config(path, cfg, say)
    write_json(path / "config.json", dataclasses.asdict(cfg))


def check_config(path: pathlib.Path, cfg: Config, say: Callable[[str], None]) -> None:
    """Checks that ``config.json``, if there is one, is the same experiment, and writes nothing; see above."""
    file = path / "config.json"
    if file.exists():
        before, lines = configuration.stored_settings(read_json(file), str(file))
        for line in lines:
            say(f"{file}: {line}")
        for key, value in sorted(configuration.flat_settings(cfg).items()):
            if configuration.acts_on_training(key) and before[key] != value:
                why = f" ({configuration.FIXED[key]})" if key in configuration.FIXED else ""
                raise ConfigError(
                    f"{path} was started with config.{key}={before[key]!r}, this command says {value!r}{why}; "
                    "use the same config, or another --workdir"
                )


def config_of(path: pathlib.Path, overrides: Iterable[experiment.Override]) -> Config:
    """The configuration of the run in ``path`` with ``overrides``, which ``check_config`` has yet to allow.

    Raises ``ConfigError`` where there is no run, ``RunError`` where its file cannot be read.
    """
    file = path / "config.json"
    if not file.exists():
        raise ConfigError(f"there is no run in {path}; give --config=experiments/azr_small.py to start one there")
    settings, _ = configuration.without_old(read_json(file))  # `check_config` says what is left out
    if not isinstance(settings, dict):
        raise ConfigError(f"{file} holds no settings; give the --config of that run")
    try:
        cfg = configuration.freeze(settings)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    return experiment.with_overrides(experiment.of_this_machine(cfg), overrides)


def write_json(file: pathlib.Path, value: Any) -> None:
    """Replaces ``file`` by ``value`` as JSON; raises ``RunError`` when the disk refuses."""
    replace_file(file, json.dumps(value, indent=1).encode())


def replace_file(file: pathlib.Path, content: bytes, mode: int = 0o666) -> None:
    """Replaces ``file`` in one step: a reader sees the old content or the new, never a part, whatever is killed when.

    A new file has ``mode``, less the umask. Raises ``RunError`` when the disk refuses; the old file is untouched then.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with _errors_as_sentence(file):
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(draft, file)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def keep_file(file: pathlib.Path, content: bytes) -> None:
    """``replace_file`` for what only saves a later process its work: a disk that refuses costs no more than that."""
    with contextlib.suppress(RunError):
        replace_file(file, content)


def read_json(file: pathlib.Path) -> Any:
    """The JSON value in ``file``; raises ``RunError`` when it is missing or not JSON."""
    try:
        return json.loads(file.read_text())
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise RunError(f"{file} is not JSON; remove it, or choose another --workdir") from None


@contextlib.contextmanager
def _errors_as_sentence(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write to {path}: {error.strerror}; free space or choose another --workdir") from None


def _owner_text(lock: typing.TextIO) -> str:
    lock.seek(0)
    pid = lock.read().strip()
    return f" (process {pid})" if pid.isdigit() else ""
