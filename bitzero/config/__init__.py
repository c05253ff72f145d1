"""Settings: defaults in frozen dataclasses, a locked ConfigDict outside, checked where the two meet.

An experiment file edits the locked ``ConfigDict`` of ``default()``; ``freeze`` checks it and returns the hashable
``Config`` that the code reads. A wrong key, type or size raises ``ConfigError`` with one line a person can act on.
"""

import dataclasses
import difflib
import math
import typing
from typing import Any

import ml_collections

from bitzero.config.checks import leaves, problems
from bitzero.config.defaults import (
    Config,
    ConfigError,
    Eval,
    Executor,
    Model,
    Operand,
    Optimiser,
    Precision,
    Run,
    SelfPlay,
    Signal,
    Tasks,
    TierBits,
    Warmup,
    called,
    chosen,
)  # fmt: skip
from bitzero.config.derived import (
    BLOCK_ROWS,
    INDEX_BITS,
    MEASURED_SIGNALS,
    NUM_LEVELS,
    NUM_PRODUCTIONS,
    OPERANDS,
    PAD,
    TERNARY_BITS,
    VOCAB_SIZE,
    budget_limit,
    kernel_parts,
    kernel_shapes,
    largest_budget,
    last_fall,
    promotable,
    ramp_steps,
    refresh_period,
    rollout_parts,
    spends,
    steps_in_all,
    update_parts,
    with_operand,
    with_parts,
)  # fmt: skip
from bitzero.config.stored import (
    FIXED,
    OLD_SETTINGS,
    acts_on_results,
    acts_on_training,
    flat_settings,
    stored_settings,
    without_old,
)

__all__ = [
    "BLOCK_ROWS",
    "FIXED",
    "INDEX_BITS",
    "MEASURED_SIGNALS",
    "NUM_LEVELS",
    "NUM_PRODUCTIONS",
    "OLD_SETTINGS",
    "OPERANDS",
    "PAD",
    "TERNARY_BITS",
    "VOCAB_SIZE",
    "Config",
    "ConfigError",
    "Eval",
    "Executor",
    "Model",
    "Operand",
    "Optimiser",
    "Precision",
    "Run",
    "SelfPlay",
    "Signal",
    "Tasks",
    "TierBits",
    "Warmup",
    "acts_on_results",
    "acts_on_training",
    "budget_limit",
    "called",
    "default",
    "flat_settings",
    "freeze",
    "kernel_parts",
    "kernel_shapes",
    "largest_budget",
    "last_fall",
    "leaves",
    "promotable",
    "ramp_steps",
    "refresh_period",
    "rollout_parts",
    "spends",
    "steps_in_all",
    "stored_settings",
    "update_parts",
    "with_operand",
    "with_parts",
    "without_old",
]  # fmt: skip


def default() -> ml_collections.ConfigDict:
    """The defaults as a locked ``ConfigDict``, for an experiment file to edit."""
    return ml_collections.ConfigDict(dataclasses.asdict(Config())).lock()


def freeze(config: ml_collections.ConfigDict | dict[str, Any]) -> Config:
    """The checked, hashable ``Config`` of an experiment; raises ``ConfigError`` with one line."""
    cfg = _build(Config, config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config, "config")
    for problem in problems(cfg):
        raise ConfigError(problem)
    return cfg


def _build(type_: type, tree: dict[str, Any], where: str) -> Any:
    """Dataclass ``type_`` from the nested dict ``tree``; every leaf must have the type its field is annotated with."""
    fields = {field.name: field.type for field in dataclasses.fields(type_)}
    for name in tree:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            raise ConfigError(f"unknown key {where}.{name}" + (f"; did you mean {where}.{near[0]}?" if near else ""))
    values = {}
    for name, value in tree.items():
        want: Any = fields[name]
        here = f"{where}.{name}"
        if dataclasses.is_dataclass(want):
            if not isinstance(value, dict):
                raise ConfigError(f"{here} is a group of settings, not {value!r}")
            values[name] = _build(typing.cast(type, want), value, here)
        elif typing.get_origin(want) is typing.Literal:
            values[name] = chosen(value, typing.get_args(want), here)
        elif want is float and type(value) is int:
            values[name] = float(value)
        elif type(value) is not want:
            raise ConfigError(f"{here} must be {called(want)}, not {value!r}")
        elif want is float and not math.isfinite(value):
            raise ConfigError(f"{here} must be finite, not {value!r}")
        else:
            values[name] = value
    return type_(**values)
