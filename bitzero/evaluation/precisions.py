"""The same weights at several precisions: what accuracy and nats are left as stored bits are taken away or given."""

import dataclasses
from typing import Any

import numpy as np

from bitzero.config import TERNARY_BITS, Config, Model, kernel_shapes
from bitzero.evaluation import heldout, questions
from bitzero.evaluation.questions import GoOn, Heldout
from bitzero.model import precision
from bitzero.sandbox import Sandbox
from bitzero.state import TrainState
from bitzero.tasks.kinds import DEDUCTION


def measure_precisions(
    state: TrainState, cfg: Config, heldout_programs: Heldout, sandbox: Sandbox, go_on: GoOn = questions.always
) -> dict[str, Any]:
    """Nats per answer token and greedy deduction accuracy on dev, as trained and at each of ``precisions_to_ask``.

    Also the bits in use, stored and as information, and the map: kernel → layers × blocks of tiers.
    """
    found = heldout.dev_programs(heldout_programs, cfg, cfg.eval.precision_items)
    held = heldout.answer_rows(found, cfg)
    rows: list[dict[str, Any]] = []
    for name, model, tiers in precisions_to_ask(state, cfg):
        asked = dataclasses.replace(cfg, model=model)
        nats, tokens = heldout.nats_per_token(state.params, tiers, held, asked)
        at = dataclasses.replace(state, precision=tiers)
        solver = questions.solver_of(at, asked, settled=True, go_on=go_on)
        tasks = [solver.kinds[DEDUCTION].task_of_program(program, cfg) for program in found]
        right = questions.correct_answers(sandbox, tasks, questions.ask(solver, tasks))[:, 0]
        bits = _stored_bits(tiers, model)
        rows.append({"name": name, "stored_bits": bits, "nats": nats, "accuracy": float(right.mean())})
    own = next(row for row in rows if row["name"] == trained_precision(cfg.model))
    shapes = kernel_shapes(cfg.model)
    return {
        "trained_as": own["name"],
        "stored_bits": own["stored_bits"],
        "entropy_bits": own["stored_bits"] - 2.0 + TERNARY_BITS if cfg.model.weights == "ternary" else None,
        "weights": cfg.model.num_layers * sum(n * k for n, k in shapes.values()),
        "nats": own["nats"],
        "tokens": tokens,
        "accuracy": own["accuracy"],
        "n": len(tasks),
        "levels": rows,
        "map": {name: np.asarray(state.precision["layers"][name]["tier"]).tolist() for name in shapes},
    }


def _stored_bits(tiers: dict[str, Any], model: Model) -> float:
    """Mean stored bits a weight; those of 4-bit rows have an f32 scale a row."""
    if model.weights == "full":
        return 32.0
    if model.weights == "int4":
        shapes = kernel_shapes(model).values()
        return 4.0 + 32 * sum(n for n, _ in shapes) / sum(n * k for n, k in shapes)
    return float(precision.mean_stored_bits(tiers, model))


def trained_precision(model: Model) -> str:
    """Name of the precision that a model of this kind is trained and used at."""
    return {"ternary": "budget", "int4": "int4", "full": "unquantised"}[model.weights]


def precisions_to_ask(state: TrainState, cfg: Config) -> list[tuple[str, Model, dict[str, Any]]]:
    """Name, model and ``precision`` collection of each precision: ternary · budget · 4-bit · 8-bit · unquantised.

    One model serves the first four, tiers being data. A control is not at a budget, and 4-bit rows have a model.
    """
    wide = dataclasses.replace(cfg.model, weights="ternary", max_tier=8)
    own = [("budget", wide, state.precision)] if cfg.model.weights == "ternary" else []
    found = [
        ("ternary", wide, precision.with_uniform_tier(state.precision, 0)),
        *own,
        ("4-bit", wide, precision.with_uniform_tier(state.precision, 4)),
        ("8-bit", wide, precision.with_uniform_tier(state.precision, 8)),
        ("unquantised", dataclasses.replace(cfg.model, weights="full"), state.precision),
    ]
    if cfg.model.weights == "int4":
        found.append(("int4", cfg.model, state.precision))
    return found
