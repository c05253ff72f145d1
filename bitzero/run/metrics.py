"""TensorBoard: scalars by group, task samples as text, a custom-scalars layout, and one hparams row a run.

Groups: ``selfplay/ eval/ quant/ precision/ gates/ executor/ perf/ loss/ mix/``.
"""

import pathlib
import shutil
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
import tensorboardX
from jaxtyping import UInt8

from bitzero.config import Config, Model, kernel_shapes
from bitzero.run.workdir import RunError
from bitzero.tasks.kinds import KINDS

GROUPS = ("selfplay", "eval", "quant", "precision", "gates", "executor", "perf", "loss", "mix")
_NONE = -1.0  # what a step reports where a mean has nothing to be the mean of
_MAY_BE_ABSENT = ("loss/token_accuracy",)  # tags for which −1 means that
_KINDS = "|".join(KINDS)
_MIN_FREE = 4 << 20  # bytes; below, the writer's thread could stall the run

_LAYOUT = {
    "learning": {
        "loss": ["Multiline", ["loss/total", "loss/supervised", "loss/solve", "loss/propose"]],
        "held-out accuracy by level": ["Multiline", [r"eval/dev_L\d"]],
        "examples exactly right by level": ["Multiline", [r"mix/right_L\d"]],
        "share of the examples by level": ["Multiline", [r"mix/share_L\d"]],
        "token accuracy by form": ["Multiline", [f"loss/token_accuracy_({_KINDS}|propose)"]],
    },
    "self-play": {
        "reward": ["Multiline", [r"selfplay/reward.*"]],
        "proposals": ["Multiline", [r"selfplay/(valid|learnable|unique|novel).*"]],
        "rejections by gate": ["Multiline", [r"gates/.*"]],
        "entropy": ["Multiline", [r"selfplay/entropy.*"]],
        "norm of each role's gradient": ["Multiline", [r"loss/grad_norm_.*"]],
        "level as asked": ["Multiline", ["selfplay/level_as_asked"]],
        "held-out accuracy by kind": ["Multiline", [f"eval/dev_({_KINDS}|mean)"]],
        "tasks by how many of their answers are right": ["Multiline", [r"selfplay/right_\d+"]],
    },
    "weights": {
        "ternary codes changed a step": ["Multiline", ["quant/flip_rate"]],
        "from full precision to ternary": ["Multiline", ["quant/lambda"]],
        "zero, clipped and nearly changing codes": ["Multiline", ["quant/(zero_codes|clipped|near_threshold)"]],
        "sampler against training forward": ["Multiline", ["quant/(kl_rollout_train|max_ratio|capped_ratio)"]],
    },
    "precision": {
        "bits a weight": ["Multiline", ["precision/(budget|stored_bits|information_bits)"]],
        "bits by kind": ["Multiline", [f"precision/bits_({'|'.join(kernel_shapes(Model()))})"]],
        "bits by layer": ["Multiline", [r"precision/bits_layer_\d+"]],
        "blocks in each tier": ["Multiline", ["precision/share_tier_.*"]],
        "KL of a refresh": ["Multiline", [r"precision/kl_.*"]],
        "accuracy of the same weights at several precisions": ["Multiline", ["eval/accuracy_.*"]],
        "nats of the same weights at several precisions": ["Multiline", ["eval/nats_.*"]],
    },
    "speed": {
        "tokens a second": ["Multiline", [r"perf/tokens.*"]],
        "executor": ["Multiline", [r"executor/.*"]],
    },
}


class Metrics:
    """The event files of one run; context manager."""

    def __init__(self, path: pathlib.Path, step: int) -> None:
        """Opens ``path``; events of an earlier sitting at ``step`` or later, which runs again, are purged."""
        self._path = path
        self._first = not (path.is_dir() and any(path.iterdir()))
        try:
            self._writer = tensorboardX.SummaryWriter(str(path), purge_step=step, flush_secs=15)
        except OSError as error:
            raise RunError(f"cannot write to {path}: {error.strerror}; choose another --workdir") from None
        if self._first:
            self._writer.add_custom_scalars(_LAYOUT)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, error_type: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes ``group/name`` → value at ``step``; raises ``RunError`` when the disk is full."""
        if shutil.disk_usage(self._path).free < _MIN_FREE:
            raise RunError(f"the disk of {self._path} is full; free space and run the same command again")
        for tag, value in values.items():
            self._writer.add_scalar(tag, float(value), step)

    def chunk(self, first: int, values: Mapping[str, Any], *, ran: int, each: bool) -> dict[str, float]:
        """Writes the metrics of the ``ran`` steps from ``first``; returns their means.

        ``values``: tag → f32[k]. ``each``: one point a step, else one point (the mean) a chunk.
        """
        rows = {tag: np.asarray(column, np.float64)[:ran] for tag, column in values.items()}
        means = {}
        for tag, column in rows.items():
            counted = column[column != _NONE] if tag.startswith(_MAY_BE_ABSENT) else column
            if counted.size:
                means[tag] = float(counted.mean())
        if each:
            for i in range(ran):
                self.scalars(first + i + 1, {tag: rows[tag][i] for tag in means})
        else:
            self.scalars(first + ran, means)
        return means

    def text(self, step: int, tag: str, markdown: str) -> None:
        """Writes Markdown under ``tag``, such as task samples with their verdicts."""
        self._writer.add_text(tag, markdown, step)

    def image(self, step: int, tag: str, grey: UInt8[np.ndarray, "1 height width"]) -> None:
        """Writes a grey image under ``tag``."""
        self._writer.add_image(tag, grey, step)

    def hparams(self, cfg: Config, results: Mapping[str, float]) -> None:
        """One row in the hparams table: the settings worth comparing and the final ``results``."""
        settings = {
            "name": cfg.name,
            "seed": cfg.seed,
            "layers": cfg.model.num_layers,
            "width": cfg.model.width,
            "lr": cfg.optimiser.lr,
            "precision budget": cfg.precision.budget if cfg.model.max_tier else 2.0,
            "precision signal": cfg.precision.signal,
            "precision policy": cfg.precision.policy,
            "warmup steps": cfg.warmup.steps,
            "self-play steps": cfg.selfplay.steps,
            "self-play lr": cfg.selfplay.lr,
            "reward": cfg.selfplay.reward,
            "advantage": cfg.selfplay.advantage,
        }
        # A fixed name: the default is a timestamp, and "." would write over this run's own event file.
        self._writer.add_hparams(settings, dict(results), name="hp")
