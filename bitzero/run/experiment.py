"""Reading experiment files: ``file[:variant]`` and settings of the command line → a checked ``Config``.

Imports no JAX: a mistyped setting should not cost the seconds of its import.
"""

import dataclasses
import difflib
import importlib.util
import os
import pathlib
import re
import sys
import types
from collections.abc import Iterable, Sequence
from typing import Any

import ml_collections
from absl import flags

from bitzero import config as configuration
from bitzero.config import Config, ConfigError

SHIPPED = pathlib.Path(__file__).parents[1] / "assets" / "model.npz"  # asked where no other model is named
Override = tuple[str, str]  # dotted key and text of a --config.key=text
_OF_THE_MACHINE = "sandbox.allow_unsafe"  # see `of_this_machine`


def read_config(spec: str | None, overrides: Iterable[Override] = ()) -> Config:
    """The frozen configuration of ``file[:variant]`` with ``overrides`` (dotted key, text); raises ``ConfigError``."""
    return with_overrides(editable_config(spec), overrides)


def with_overrides(config: Config | ml_collections.ConfigDict, overrides: Iterable[Override]) -> Config:
    """``config`` with what a command line says otherwise, checked; raises ``ConfigError``."""
    if isinstance(config, Config):
        config = ml_collections.ConfigDict(dataclasses.asdict(config)).lock()
    for key, text in overrides:
        override_setting(config, key, text)
    return configuration.freeze(config)


def of_this_machine(cfg: Config) -> Config:
    """``cfg``, from a file, without what no file may say: whether the sandbox may do without its walls."""
    return dataclasses.replace(cfg, sandbox=dataclasses.replace(cfg.sandbox, allow_unsafe=False))


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[Override]]:
    """Command line → what absl reads, and the ``--config.key=value`` (or ``--config.key value``) settings."""
    rest, overrides = [], []
    words = iter(argv)
    for word in words:
        match = re.fullmatch(r"--?config\.([\w.]+)(?:=(.*))?", word, re.DOTALL)
        if match:
            overrides.append((match[1], match[2] if match[2] is not None else next(words, "")))
        else:
            rest.append(word)
    return rest, overrides


def parsed_flags(argv: list[str]) -> list[str]:
    """The words of a command line that are no flags, once absl has read those that are.

    A flag that is none, or whose value is none, ends the program with a line and exit code 2.
    """
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(f"launch.py: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None


def path_of(text: str | None) -> pathlib.Path | None:
    """A path of the command line with its ``~`` filled in; raises ``ConfigError`` where that is nobody's home."""
    try:
        return pathlib.Path(text).expanduser() if text else None
    except RuntimeError:
        raise ConfigError(f"{text}: there is no such home folder; write the path out, or ./~… for that name") from None


def packed_model(model: str | None, spec: str | None, workdir: str | None) -> pathlib.Path | None:
    """The packed model that a command line names, or that of the run it names; None where it names none.

    Raises ``ConfigError`` where it names two, or a run without one.
    """
    if spec and model:
        raise ConfigError("--model has its own configuration; leave out --config, or --model for the run's packed.npz")
    if model or (spec is None and workdir is None):
        return path_of(model)
    file = (path_of(workdir) or pathlib.Path("runs") / read_config(spec).name) / "packed.npz"
    if not os.path.isfile(file):
        raise ConfigError(f"there is no {file}; --mode=export makes it, or --model=FILE names another model")
    return file


def check_packed_overrides(overrides: Iterable[Override], group: str = "eval") -> None:
    """Raises ``ConfigError`` unless all are of ``group`` or sandbox.allow_unsafe; the rest is as it was packed."""
    for key, _ in overrides:
        if not key.startswith(f"{group}.") and key != _OF_THE_MACHINE:
            also = f"config.{group}.* and " if group else ""
            raise ConfigError(f"config.{key} is as the packed model has it; {also}config.{_OF_THE_MACHINE} can be set")


def read_packed_config(cfg: Config, overrides: Iterable[Override], group: str = "eval") -> Config:
    """The configuration in a packed file with ``overrides`` of ``group`` (none: ""); raises ``ConfigError``."""
    overrides = list(overrides)
    check_packed_overrides(overrides, group)
    return with_overrides(cfg, overrides)


def editable_config(spec: str | None) -> ml_collections.ConfigDict:
    """What ``get_config`` of ``file[:variant]`` returns; raises ``ConfigError``."""
    if not spec:
        raise ConfigError("which experiment? give --config=experiments/azr_small.py")
    name, _, variant = spec.partition(":")
    path = pathlib.Path(name)
    module = load_module(path, "experiment")
    try:
        return module.get_config(variant) if variant else module.get_config()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except Exception as error:  # an unknown key (AttributeError), a wrong type (TypeError), no get_config, …
        raise ConfigError(f"{path}: {error_sentence(error)}") from None


def load_module(path: pathlib.Path, what: str) -> types.ModuleType:
    """The Python file ``path`` (a ``what``, such as an experiment) as a module; raises ``ConfigError``."""
    if not path.is_file():
        named = len(path.parts) > 1 and path.parent.is_dir()
        folder = path.parent if named else pathlib.Path("experiments/sweeps" if what == "sweep" else "experiments")
        there = ", ".join(sorted(str(file) for file in folder.glob("*.py")))
        raise ConfigError(f"no {what} file {path}" + (f"; there is: {there}" if there else ""))
    spec = importlib.util.spec_from_file_location(what, path)
    if not spec or not spec.loader:
        raise ConfigError(f"{path} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        place = f"{path}, line {error.lineno}" if error.lineno else path
        raise ConfigError(f"{place}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{path}: {error_sentence(error)}") from None
    return module


def error_sentence(error: BaseException) -> str:
    """One line of a file's error; a locked ``ConfigDict`` names the unknown key and the nearest one."""
    text = str(error)
    unknown = re.search(r'Key "(\w+)" does not exist', text)
    nearest = re.search(r'Did you mean "(\w+)"', text)
    if unknown:
        return f"unknown key {unknown[1]}" + (f"; did you mean {nearest[1]}?" if nearest else "")
    return f"{type(error).__name__}: {' '.join(text.split())}"


def override_setting(config: ml_collections.ConfigDict, key: str, text: str) -> None:
    """Sets ``config.<key>`` (dotted) to ``text`` read as the type of its default; raises ``ConfigError``."""
    *path, last = key.split(".")
    node = config
    for depth, part in enumerate([*path, last]):
        if not isinstance(node, ml_collections.ConfigDict) or part not in node:
            raise ConfigError(unknown_key_sentence(".".join([*path, last][: depth + 1]), config))
        if depth < len(path):
            node = node[part]
    if isinstance(node[last], ml_collections.ConfigDict):
        raise ConfigError(f"config.{key} is a group of settings; set one of: {', '.join(sorted(node[last]))}")
    node[last] = _parse_value(f"config.{key}", type(node[last]), text)


def unknown_key_sentence(key: str, config: ml_collections.ConfigDict) -> str:
    """One line that names ``key`` (dotted, without ``config.``) and the existing key nearest to it."""
    names = list(configuration.leaves(config.to_dict()))
    groups = {name.rsplit(".", 1)[0] for name in names if "." in name}
    by_last = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}
    near = difflib.get_close_matches(key, [*names, *groups], n=1, cutoff=0.6)
    last = difflib.get_close_matches(key.rsplit(".", 1)[-1], by_last, n=1, cutoff=0.6)
    nearest = near[0] if near else by_last[last[0]] if last else None
    return f"unknown key config.{key}" + (f"; did you mean config.{nearest}?" if nearest else "")


def _parse_value(where: str, wanted: type, text: str) -> Any:
    """``text`` from a command line as a value of that type; raises ``ConfigError``."""
    if wanted is bool:
        if text.lower() in ("true", "false", "1", "0"):
            return text.lower() in ("true", "1")
        raise ConfigError(f"{where} must be true or false, not {text!r}")
    try:
        return wanted(text)
    except ValueError:
        raise ConfigError(f"{where} must be {configuration.called(wanted)}, not {text!r}") from None
