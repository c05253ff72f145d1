"""Personas: small data files that say how answers are put; three built in, a person's own in the profile folder."""

import os
import pathlib
import string
import tomllib
from dataclasses import dataclass
from typing import Literal, get_args

from bitzero.tasks.kinds import KINDS

Verbosity = Literal["short", "normal", "long"]
VERBOSITIES: tuple[Verbosity, ...] = get_args(Verbosity)
_BUILT_IN = pathlib.Path(__file__).parent / "personas"
DEFAULT = "tutor"


class PersonaError(ValueError):
    """A persona that cannot be used; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class Persona:
    """How answers are put."""

    name: str
    greeting: str
    verbosity: Verbosity
    puzzles: tuple[str, ...]  # kinds of puzzle, the favourite first
    phrases: dict[str, str]  # by what came of a question; `$answer` and the like are filled in

    def phrase(self, name: str, **values: object) -> str:
        """A phrase with its values; an unknown `$word` stays as it is."""
        return string.Template(self.phrases[name]).safe_substitute({key: str(value) for key, value in values.items()})


def names(profile: pathlib.Path) -> list[str]:
    """All personas there are; a person's own may stand in for a built-in one of the same name."""
    files = [name for folder in _folders(profile) for name in _listed(folder) if name.endswith(".toml")]
    return sorted({name.removesuffix(".toml") for name in files})


def read(name: str, profile: pathlib.Path) -> Persona:
    """The persona of that name. Raises ``PersonaError`` with one line."""
    for folder in _folders(profile):
        file = folder / f"{name}.toml"
        if file.parent == folder and os.path.isfile(file):
            return _checked(file)
    own = profile / "personas"
    raise PersonaError(f"no persona {name[:40]!r}; there are {', '.join(names(profile))}, and your own go into {own}")


def usual() -> Persona:
    """The default one as it is built in."""
    return _checked(_BUILT_IN / f"{DEFAULT}.toml")


def _listed(folder: pathlib.Path) -> list[str]:
    """The names in a folder; none where there is no such folder, or it cannot be entered."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _folders(profile: pathlib.Path) -> tuple[pathlib.Path, ...]:
    return (profile / "personas", _BUILT_IN)


def _checked(file: pathlib.Path) -> Persona:
    """A persona file, looked at before anything of it is believed. What it leaves out is as in the default one."""
    try:
        found = tomllib.loads(file.read_text())
        usual = tomllib.loads((_BUILT_IN / f"{DEFAULT}.toml").read_text())
    except OSError as error:
        raise PersonaError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise PersonaError(f"{file} is not TOML: {error}") from None
    phrases = found.get("phrases", {})
    if not isinstance(phrases, dict) or (strange := sorted({*found} - {*usual})):
        what = "phrases are no table" if not isinstance(phrases, dict) else f"{strange[0]} is no setting of a persona"
        raise PersonaError(f"{file}: {what}; it has {', '.join(usual)}")
    for key in ("name", "greeting", "verbosity"):
        if not isinstance(found.get(key, ""), str):
            raise PersonaError(f"{file}: {key} must be a text")
    for key, text in phrases.items():
        if key not in usual["phrases"] or not isinstance(text, str):
            raise PersonaError(f"{file}: {key} is no phrase; there are {', '.join(usual['phrases'])}")
    merged = usual | {"name": file.stem} | found
    if merged["verbosity"] not in VERBOSITIES:
        raise PersonaError(f"{file}: verbosity must be one of {', '.join(VERBOSITIES)}")
    puzzles = merged["puzzles"]
    if not isinstance(puzzles, list) or not puzzles or not all(kind in KINDS for kind in puzzles):
        raise PersonaError(f"{file}: puzzles must be a list of {', '.join(KINDS)}")
    return Persona(
        name=merged["name"], greeting=merged["greeting"], verbosity=merged["verbosity"], puzzles=tuple(puzzles),
        phrases=usual["phrases"] | phrases,
    )  # fmt: skip
