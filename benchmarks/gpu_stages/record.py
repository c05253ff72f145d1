"""What a part has measured so far, in a file that is whole at any moment, and the time box it has to keep."""

import dataclasses
import json
import os
import pathlib
import time
from typing import Any


class Box:
    """Seconds that a part may take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until it ends, 0 at least."""
        return max(self._ends - time.monotonic(), 0.0)

    def has(self, seconds: float) -> bool:
        """Whether so many are left."""
        return self.left() >= seconds


class Record:
    """Rows, notes and what was cut, written to the file at every change."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._kept: dict[str, Any] = {"rows": [], "notes": {}, "cut": [], "absent": {}, "doing": ""}

    def row(self, **fields: Any) -> None:
        """One measured row."""
        self._kept["rows"].append(fields)
        self._write()

    def note(self, **fields: Any) -> None:
        """Figures of the part as a whole."""
        self._kept["notes"] |= fields
        self._write()

    def cut(self, what: str) -> None:
        """Something that the box, or the card, left no room for: one sentence."""
        self._kept["cut"].append(what)
        self._write()

    def absent(self, what: str, why: str) -> None:
        """Something that this machine does not have."""
        self._kept["absent"][what] = why
        self._write()

    def doing(self, what: str) -> None:
        """What is begun now, in case it never ends."""
        self._kept["doing"] = what
        self._write()

    def rows(self) -> list[dict[str, Any]]:
        """The rows so far."""
        return self._kept["rows"]

    def noted(self, name: str) -> Any:
        """What was noted under a name, or None."""
        return self._kept["notes"].get(name)

    def _write(self) -> None:
        write_json(self.path, self._kept)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Told:
    """What a part knows of the run it belongs to."""

    rehearse: bool  # toy size, on whatever device there is
    card: dict[str, Any]  # see ``card.describe``
    stages: dict[str, Any]  # what the stages before found


def write_json(path: pathlib.Path, value: Any) -> None:
    """The file with this value, or with what it held before, never with a part of it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(fresh, path)
