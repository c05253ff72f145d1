"""The deltas that a person's tasks have taught one base model: numbered files, an index, and a place among them.

``<home>/<hash of the base>/`` holds ``0001.npz`` …, ``index.json`` and ``lock``; readable by their owner alone, at most
``MOST_BYTES`` together. A file is written whole before the index names it, and read without trust.
"""

import hashlib
import io
import json
import pathlib
import re
from typing import Any

import jax.numpy as jnp
import numpy as np

from bitzero.model import delta as deltas
from bitzero.model.delta import Delta
from bitzero.run import workdir
from bitzero.run.packed_file import believed
from bitzero.run.workdir import RunError

FORMAT = 1
MOST_BYTES = 2_000_000  # of all deltas of a base; the oldest go first
_HEADER = "header"
MODE = 0o600


def hash_of(base: pathlib.Path) -> str:
    """What names a base: SHA-256 of its packed file, in hex. Raises ``RunError``."""
    try:
        return hashlib.sha256(base.read_bytes()).hexdigest()
    except OSError as error:
        raise RunError(f"cannot read {base}: {error.strerror}") from None


class Deltas:
    """The deltas of one base, in a folder of a profile; 0 is the base itself, n its n-th delta."""

    def __init__(self, home: pathlib.Path, base: pathlib.Path) -> None:
        self.home = home
        self.base = hash_of(base)
        self.folder = home / self.base[:16]
        self._index = self.folder / "index.json"

    # ---- reading ----

    def entries(self) -> list[dict[str, Any]]:
        """What is known of each delta, the oldest first. Raises ``RunError`` for an index that is none."""
        return self._read()[0]

    def current(self) -> int:
        """Which one is in use. Raises ``RunError`` likewise."""
        return self._read()[1]

    def load(self, tree: dict[str, Any]) -> Delta | None:
        """The delta in use, or None for the base itself. Raises ``RunError`` where it is not one of this base."""
        entries, at = self._read()
        return read_delta(self.folder / entries[at - 1]["file"], self.base, tree) if at else None

    def others(self) -> int:
        """How many other bases there are deltas of."""
        return sum(file.parent != self.folder for file in self.home.glob("*/index.json"))

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        try:
            if not self._index.exists():
                return [], 0
        except OSError as error:  # a folder that cannot be entered, a path that is too long
            raise RunError(f"cannot read {self._index}: {error.strerror}") from None
        found = workdir.read_json(self._index)
        try:
            entries, at = found["deltas"], found["current"]
            named = all(re.fullmatch(r"\d{4,9}\.npz", entry["file"]) for entry in entries)
            if named and type(at) is int and 0 <= at <= len(entries):
                return entries, at
        except (KeyError, TypeError):
            pass
        raise RunError(f"{self._index} is no index of deltas; remove {self.folder} to begin again")

    # ---- writing ----

    def make_folder(self) -> None:
        """Makes the folder, for its owner alone. Raises ``RunError``."""
        try:
            workdir.make_private(self.folder)
        except OSError as error:
            raise RunError(f"cannot write to {self.folder}: {error.strerror}; --profile_dir names another") from None

    def keep(self, delta: Delta, about: dict[str, Any]) -> None:
        """Makes ``delta`` the one in use, after the one that was; what was undone goes. Raises ``RunError``.

        ``about`` goes into the index.
        """
        entries, at = self._read()
        content = _content(delta, self.base)
        if len(content) > MOST_BYTES:
            raise RunError(f"a delta of {len(content):,} bytes is not kept, {MOST_BYTES:,} are the most")
        number = 1 + max((int(entry["file"][:-4]) for entry in entries), default=0)
        name = f"{number:04}.npz"
        workdir.replace_file(self.folder / name, content, MODE)
        kept = [*entries[:at], about | {"file": name, "bytes": len(content)}]
        while sum(self._size(entry) for entry in kept) > MOST_BYTES:
            kept = kept[1:]
        self._write(kept, len(kept))
        for gone in {entry["file"] for entry in entries} - {entry["file"] for entry in kept}:
            (self.folder / gone).unlink(missing_ok=True)

    def _size(self, entry: dict[str, Any]) -> int:
        """Bytes of its file; what the index says of it is not asked."""
        try:
            return (self.folder / entry["file"]).stat().st_size
        except OSError:
            return 0

    def note(self, about: dict[str, Any]) -> None:
        """Writes what came of the last try, kept or not, as ``last.json``."""
        workdir.replace_file(self.folder / "last.json", json.dumps(about, indent=1).encode(), MODE)

    def move(self, steps: int) -> bool:
        """Goes back (−1) or forth (1); False where there is nothing there. Raises ``RunError``."""
        entries, at = self._read()
        if not 0 <= at + steps <= len(entries):
            return False
        self._write(entries, at + steps)
        return True

    def _write(self, entries: list[dict[str, Any]], at: int) -> None:
        text = json.dumps({"base": self.base, "current": at, "deltas": entries}, indent=1)
        workdir.replace_file(self._index, text.encode(), MODE)


def told(about: dict[str, Any]) -> str:
    """What was measured of a delta, in one line; what an index of another program lacks is left out."""
    found = []
    for name, called in (("own", "your held-back tasks"), ("general", "held-out tasks of the generator")):
        try:
            row = {key: 100 * float(about[name][key]) for key in ("before", "after", "gain", "ci_low", "ci_high")}
            count = int(about[name]["n"])
        except (KeyError, TypeError, ValueError):
            continue
        found.append(
            f"{called} {row['before']:.1f} → {row['after']:.1f} % ({row['gain']:+.1f} points, 95 % "
            f"{row['ci_low']:+.1f} to {row['ci_high']:+.1f}, {count} tasks)"
        )
    return "; ".join(found)


def _content(delta: Delta, base: str) -> bytes:
    header = json.dumps({"format": FORMAT, "base": base}).encode()
    arrays = {path: np.asarray(leaf, np.float32) for path, leaf in delta.items()}
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays, **{_HEADER: np.frombuffer(header, np.uint8)})
    return out.getvalue()


def read_delta(path: pathlib.Path, base: str, tree: dict[str, Any]) -> Delta:
    """A delta from its file. Raises ``RunError`` for one of another base than that of hash ``base``, or none at all."""
    with believed(path, "is no delta of this model"):
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes are too many")
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:  # NumPy leaves a broken file open
            header = json.loads(bytes(file[_HEADER]))
            if header["base"] != base:
                raise RunError(f"{path} was learned on another base model ({header['base'][:16]}); it is not used")
            if header["format"] != FORMAT:
                raise RunError(f"{path} has format {header['format']}, this program reads {FORMAT}; it is not used")
            found = {name: file[name] for name in file.files if name != _HEADER}
        deltas.check(found, tree)
        return {name: jnp.asarray(array) for name, array in found.items()}
