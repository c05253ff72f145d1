"""Settings of a run that is there already: which of them may differ now, and which of its names are no longer used.

An older run or packed model lacks keys that are new, and those mean their defaults; it may have keys of
``OLD_SETTINGS``, and those are left out with a line. Any other unknown key is an error. There is no other shim.
"""

import copy
import dataclasses
from typing import Any

from bitzero.config.defaults import Config, ConfigError

# Dotted key, or group, that an older program wrote → what became of it.
OLD_SETTINGS = {
    "tasks.fuel": "a generated program may use 128 ticks, as before",
}
# How much of the machine a run takes, and where it pauses: another value asks for no other result, but for rounding
# where an update or a batch is cut, or layers are in C++. `run.json` has those in force, sitting by sitting.
FREE = frozenset({
    "run.minutes", "run.until", "run.nice", "run.keep", "run.chunk", "tasks.nice", "tasks.workers", "sandbox.workers",
    "optimiser.microbatches", "selfplay.rollout_parts", "eval.parts", "model.layers",
})  # fmt: skip
# What one might change for memory and may not → why, and what does instead.
FIXED = {
    "selfplay.num_tasks": "it is how many tasks a step learns from; optimiser.microbatches and selfplay.rollout_parts "
    "need less memory for the same step",
    "selfplay.group_size": "a success rate is a mean over so many answers, and with it every reward; "
    "selfplay.rollout_parts needs less memory for the same step",
    "warmup.batch_size": "it is how many rows a step learns from; optimiser.microbatches needs less memory",
}
QUESTIONS = "eval"  # the group of settings that act on what a run is asked, not on the run


def acts_on_results(key: str) -> bool:
    """False for a ``key`` (dotted) of ``FREE``, which changes rounding at most."""
    return key not in FREE


def acts_on_training(key: str) -> bool:
    """Whether a resumed run must keep the setting ``key`` (dotted); a sitting may change any other."""
    return acts_on_results(key) and key.split(".")[0] != QUESTIONS


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key → value of every leaf of a nested dict, in its order."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return leaves


def flat_settings(cfg: Config) -> dict[str, Any]:
    """Dotted key → value of every setting."""
    return flat(dataclasses.asdict(cfg))


def without_old(tree: Any) -> tuple[Any, list[str]]:
    """A stored configuration without the ``OLD_SETTINGS`` that this program no longer has, and a line for each."""
    kept, lines, known = copy.deepcopy(tree), [], dataclasses.asdict(Config())
    for key, became in OLD_SETTINGS.items():
        path, _, name = key.rpartition(".")
        group, ours = _at(kept, path), _at(known, path)
        if isinstance(group, dict) and name in group and not (isinstance(ours, dict) and name in ours):
            del group[name]
            lines.append(f"config.{key} is left out, it is no longer a setting: {became}")
    return kept, lines


def stored_settings(tree: Any, place: str) -> tuple[dict[str, Any], list[str]]:
    """Dotted key → value of every setting of a stored configuration, and a line for each that was left out.

    Raises ``ConfigError`` for what is no configuration, or a key that neither this program nor ``OLD_SETTINGS`` knows;
    ``place`` says whose.
    """
    kept, lines = without_old(tree)
    if not isinstance(kept, dict):
        raise ConfigError(f"{place} holds no settings; remove it, or choose another --workdir")
    usual, before = flat_settings(Config()), flat(kept)
    for key in before:
        if key not in usual:
            raise ConfigError(
                f"{place} has the setting config.{key}, which this program does not know; "
                "use the program that made it, or another --workdir"
            )
    return usual | before, lines


def _at(tree: Any, path: str) -> Any:
    """The value at a dotted ``path`` of nested dicts, ``tree`` itself at ''; None where there is none."""
    for part in path.split(".") if path else ():
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
