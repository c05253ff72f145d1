"""The one command: ``python launch.py --config=experiments/azr_small.py``. Flags → config → one mode."""

import importlib.util
import os
import pathlib
import re
import sys

# Read by JAX when it is first imported, and by every process started from here. The size of its thread pool decides the
# bits of a result, so `run.json` records it; more threads than cores would cost a third of the speed, and a single one
# would leave none for a host callback's arguments.
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
os.environ.setdefault("PJRT_NPROC", str(min(max(_CORES, 2), 8)))
os.environ.setdefault("PYTHONHASHSEED", "0")
_GPU_NODES = ("/dev/nvidiactl", "/dev/dxg")  # Linux, and Linux inside Windows
os.environ.setdefault("JAX_PLATFORMS", "cuda,cpu" if any(map(os.path.exists, _GPU_NODES)) else "cpu")

import ml_collections
from absl import app, flags

from bitzero import config as configuration
from bitzero.config import Config, ConfigError

FLAGS = flags.FLAGS
flags.DEFINE_string("config", None, "experiment file, or file:variant; --config.group.key=value changes one setting")
flags.DEFINE_string("workdir", None, "where the run lives; default: runs/<experiment>")
flags.DEFINE_enum(
    "mode", "train", ["train", "eval", "export"],
    "train (goes on where it stopped), eval (held-out table only) or export (<workdir>/packed.npz)",
)  # fmt: skip


def main(argv: list[str]) -> int:
    """Runs the chosen mode; the value is the exit code, and whatever a person can mend is one line on stderr."""
    try:
        if len(argv) > 1:
            raise ConfigError(f"unknown argument {argv[1]!r}; settings are given as --config.group.key=value")
        cfg = _config(FLAGS.config, _OVERRIDES)
        workdir = pathlib.Path(FLAGS.workdir or pathlib.Path("runs") / cfg.name)
        print(f"BitZero · {cfg.name} · {FLAGS.mode} · {workdir}", flush=True)
        return _run(FLAGS.mode, cfg, workdir)
    except ConfigError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("launch.py: stopped at once; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _run(mode: str, cfg: Config, workdir: pathlib.Path) -> int:
    from bitzero.run import evaluate, export, train  # not above: JAX takes seconds, a mistyped flag should not
    from bitzero.run.checkpoint import ShapeError
    from bitzero.run.workdir import RunError

    try:
        return {"train": train.train, "eval": evaluate.main, "export": export.main}[mode](cfg, workdir)
    except (RunError, ShapeError) as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 1


def _config(spec: str | None, overrides: list[tuple[str, str]]) -> Config:
    """The frozen configuration of ``file[:variant]`` with ``overrides``; raises ``ConfigError``."""
    if not spec:
        raise ConfigError("which experiment? give --config=experiments/azr_small.py")
    path, _, variant = spec.partition(":")
    config = _experiment(pathlib.Path(path), variant)
    for key, text in overrides:
        configuration.override(config, key, text)
    return configuration.freeze(config)


def _experiment(path: pathlib.Path, variant: str) -> ml_collections.ConfigDict:
    """What ``get_config`` of the experiment file returns."""
    if not path.is_file():
        there = sorted(
            p.name for p in (path.parent if path.parent.is_dir() else pathlib.Path("experiments")).glob("*.py")
        )
        raise ConfigError(f"no experiment file {path}" + (f"; there is: {', '.join(there)}" if there else ""))
    spec = importlib.util.spec_from_file_location("experiment", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_config(variant) if variant else module.get_config()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except SyntaxError as error:
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}") from None
    except Exception as error:  # an unknown key (AttributeError), a wrong type (TypeError), no get_config, …
        raise ConfigError(f"{path}: {_sentence(error)}") from None


def _sentence(error: Exception) -> str:
    """One line of an experiment file's error; a locked ``ConfigDict`` names the unknown key and the nearest one."""
    text = str(error)
    unknown = re.search(r'Key "(\w+)" does not exist', text)
    nearest = re.search(r'Did you mean "(\w+)"', text)
    if unknown:
        return f"unknown key {unknown[1]}" + (f"; did you mean {nearest[1]}?" if nearest else "")
    return f"{type(error).__name__}: {' '.join(text.split())}"


def _split(argv: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
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


if __name__ == "__main__":
    _ARGV, _OVERRIDES = _split(sys.argv)
    app.run(main, argv=_ARGV)
