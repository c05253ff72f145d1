"""A person's folder: history a line each, preferences, personas and saved sessions; apart from the model.

Nothing of it leaves the machine, and files are readable by their owner alone. A line is written by one call under a
lock and synced, so that a kill loses at most the line in hand; a torn or foreign line is skipped and reported, and
stays in the file. Two chats may use one folder.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from bitzero.run import workdir
from bitzero.run.workdir import RunError

MODE = 0o600
FORMAT = 1


class ProfileError(RuntimeError):
    """Something could not be kept; the message is one line."""


def default_folder() -> pathlib.Path:
    """The platform's folder for a user's data of this program. Raises ``RunError`` where nobody's home is known."""
    try:
        home = pathlib.Path.home()
    except RuntimeError:
        raise RunError("no home folder is known; name a folder with --profile_dir") from None
    if sys.platform == "win32":
        base = pathlib.Path(os.environ.get("APPDATA", home))
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = pathlib.Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "bitzero"


class Profile:
    """The folder, read and written. Writes raise ``ProfileError`` where the disk refuses, and lose nothing then."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.history = folder / "history.jsonl"
        self.preferences = folder / "preferences.json"

    # ---- reading ----

    def records(self) -> tuple[list[dict[str, Any]], int]:
        """Every record of the history in its order, and the number of lines that are none."""
        found, broken = [], 0
        for line in self._bytes(self.history).split(b"\n"):
            record = _record_of(line)
            if record is not None:
                found.append(record)
            broken += record is None and bool(line.strip(b" \0"))
        return found, broken

    def settings(self) -> dict[str, Any]:
        """The preferences; none where there is no file or it is none."""
        return self._preferences() or {}

    def trouble(self) -> str | None:
        """A line where something is kept that cannot be read, or preferences that are none; None where all is well."""
        for file in (self.history, self.preferences):
            try:
                open(file, "rb").close()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                return f"cannot read {file}: {error.strerror}; this chat goes on without what is kept there"
        if self._preferences() is None:
            return f"{self.preferences} is damaged and was left out; the next setting that is changed replaces it"
        return None

    def _preferences(self) -> dict[str, Any] | None:
        """None where the file is damaged."""
        try:
            found = json.loads(self._bytes(self.preferences) or b"{}")
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def _bytes(self, file: pathlib.Path) -> bytes:
        try:
            return file.read_bytes()
        except OSError:
            return b""

    # ---- writing ----

    def append(self, record: dict[str, Any]) -> None:
        """One more line of history."""
        line = json.dumps({"v": FORMAT} | record, ensure_ascii=True).encode() + b"\n"
        with self._locked(self.history) as descriptor:
            before = os.lseek(descriptor, 0, os.SEEK_END)
            if before and os.pread(descriptor, 1, before - 1) != b"\n":
                line = b"\n" + line  # a line that a kill tore stays by itself
            try:
                written = os.write(descriptor, line)
                if written != len(line):
                    raise OSError(28, "no space left")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)
                raise

    def remove(self, unwanted: Callable[[dict[str, Any]], bool]) -> int:
        """Takes records out of the history for good; lines that are none stay. The number of records taken."""
        if not os.path.exists(self.history):
            return 0
        with self._locked(self.folder / "lock"), self._locked(self.history):
            lines = self._bytes(self.history).split(b"\n")
            kept = [line for line in lines if (record := _record_of(line)) is None or not unwanted(record)]
            if len(kept) < len(lines):
                self._replace(self.history, b"\n".join(kept))
        return len(lines) - len(kept)

    def clear(self) -> int:
        """Empties the history, lines of other chats and damaged ones too. The number of lines."""
        if not os.path.exists(self.history):
            return 0
        with self._locked(self.folder / "lock"), self._locked(self.history):
            lines = [line for line in self._bytes(self.history).split(b"\n") if line.strip()]
            self._replace(self.history, b"")
        return len(lines)

    def keep_settings(self, changes: dict[str, Any]) -> None:
        """Changes these preferences in one step, None takes one out; the others stay as another chat has left them."""
        with self._locked(self.folder / "lock"):
            if self.preferences.exists():
                open(self.preferences, "rb").close()  # what cannot be read is not replaced
            kept = {name: value for name, value in (self.settings() | changes).items() if value is not None}
            self._replace(self.preferences, json.dumps(kept, indent=1).encode() + b"\n")

    def save_session(self, name: str, content: dict[str, Any]) -> pathlib.Path:
        """Writes a session under a name."""
        file = self._session_file(name)
        with self._locked(self.folder / "lock"):
            file.parent.mkdir(mode=0o700, exist_ok=True)
            self._replace(file, json.dumps({"v": FORMAT} | content, indent=1).encode() + b"\n")
        return file

    def load_session(self, name: str) -> dict[str, Any]:
        """A saved session. Raises ``ProfileError`` where there is none of that name, or it is none."""
        file = self._session_file(name)
        try:
            found = json.loads(file.read_bytes())
        except OSError:
            raise ProfileError(
                f"no session {name!r} is saved; there are: {', '.join(self.sessions()) or 'none'}"
            ) from None
        except (ValueError, RecursionError):
            raise ProfileError(f"{file} is not a session; remove it") from None
        if not isinstance(found, dict):
            raise ProfileError(f"{file} is not a session; remove it")
        return found

    def sessions(self) -> list[str]:
        """Names of the saved sessions."""
        try:
            found = os.listdir(self.folder / "sessions")
        except OSError:
            return []
        return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))

    def export(self, target: pathlib.Path) -> int:
        """Writes all records to a file of the person's choice, as JSON lines. Their number."""
        found, _ = self.records()
        text = "".join(json.dumps(record) + "\n" for record in found)
        try:
            with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "w") as handle:
                handle.write(text)
        except OSError as error:
            raise ProfileError(f"cannot write to {target}: {error.strerror}; choose another file") from None
        return len(found)

    def _session_file(self, name: str) -> pathlib.Path:
        if not name or not all(char.isalnum() or char in "-_" for char in name) or len(name) > 60:
            raise ProfileError(f"{name[:60]!r} is no name of a session; use letters, digits, - and _")
        return self.folder / "sessions" / f"{name}.json"

    def _replace(self, file: pathlib.Path, content: bytes) -> None:
        try:
            workdir.replace_file(file, content, MODE)
        except RunError as error:
            raise ProfileError(f"not kept: {error}; --profile_dir names another") from None

    @contextlib.contextmanager
    def _locked(self, file: pathlib.Path) -> Iterator[int]:
        """The file, opened to append under an exclusive lock; it is another one's turn after. Says what failed."""
        try:
            workdir.make_private(self.folder)
            while True:
                descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if _is_still(file, descriptor):
                    break
                os.close(descriptor)  # it was replaced while this waited
            try:
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ProfileError(
                f"not kept, {self.folder} cannot be written: {error.strerror}; --profile_dir names another"
            ) from None


def _is_still(file: pathlib.Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except OSError:
        return False


def _record_of(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line) if line.strip() else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("kind"), str) else None
