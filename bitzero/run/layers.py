"""Whose layers a run trains with: XLA's, or on a CPU those in C++, which are the same up to the order of sums.

On processors with bf16 products the C++ layers may use them; products of integers stay exact.
"""

import dataclasses
import hashlib
import time
from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bitzero.config import VOCAB_SIZE, Config, ConfigError, Model, Operand, kernel_shapes, with_operand
from bitzero.config.defaults import Layers
from bitzero.model import quant, transformer
from bitzero.native import build, functions
from bitzero.run import device
from bitzero.run.sitting import Ledger
from bitzero.run.workdir import RunError, keep_file
from bitzero.selfplay import objective
from bitzero.tasks.tokens import SOLVE, TEXT

_ROWS, _LENGTH, _EXAMPLE = 16, 128, 43  # of the batch that is measured: rows of three examples
_ASKED = 28  # position of an example from which on its tokens are targets
_REPEATS = 5
NAMED: dict[Layers, str] = {
    "xla": "",
    "native": " · layers in C++",
    "native_bf16": " · layers in C++, their products in bf16",
}


def choose(cfg: Config) -> tuple[Operand, Layers]:
    """Operand type of the products and whose layers a new run trains with: as configured, or the fastest measured.

    With C++ layers all else is f32, so that is the operand type. Raises ``ConfigError`` where they are asked for and
    cannot be had.
    """
    model, operand = cfg.model, device.choose_operand(cfg.model)
    if model.native and (why := why_not(model, model.layers)):
        raise ConfigError(f"config.model.layers={model.layers}: {why}; layers={_instead(model)} needs nothing")
    whose = _faster(cfg, operand) if model.layers == "auto" else model.layers
    return (operand if whose == "xla" else "f32"), whose


def _instead(model: Model) -> Layers:
    """What can be had here."""
    return "xla" if why_not(model, "native") else "native"


def with_layers(cfg: Config, ledger: Ledger) -> Config:
    """``cfg`` with operand type and layers settled as the run has them, or as a resumed one is told to have them.

    Raises ``RunError`` where its layers are C++ and cannot be had here.
    """
    if cfg.model.layers != "auto":
        ledger.layers = cfg.model.layers
    if ledger.layers != "xla" and (why := why_not(cfg.model, ledger.layers)):
        raise RunError(
            f"this run's layers are in C++ ({ledger.layers}) and there are none here: {why}; "
            f"--config.model.layers={_instead(cfg.model)} goes on with others, whose sums have another order"
        )
    cfg = with_operand(cfg, ledger.operand)
    return dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, layers=ledger.layers))


def asking(cfg: Config) -> Config:
    """``cfg`` of a model that answers and does not train: with layers in C++ wherever it can have them.

    There is nothing to measure, as sampling by XLA took a CPU several times as long.
    """
    model = cfg.model
    by_xla = model.layers == "xla" or quant.operand_of(model) != "f32" or why_not(model, "native")
    return dataclasses.replace(cfg, model=dataclasses.replace(model, layers="xla" if by_xla else "native"))


def why_not(model: Model, layers: Layers) -> str | None:
    """Why these layers in C++ cannot be had for ``model`` on this machine; None where they can, and are loaded."""
    if jax.default_backend() != "cpu":
        return f"they run on a CPU, and the device is a {jax.devices()[0].device_kind}"
    if model.compute not in ("auto", "f32"):
        return f"their operands are f32, and config.model.compute={model.compute}"
    for name in ("width", "ffn_width", "head_dim"):
        if getattr(model, name) % functions.MULTIPLE:
            return f"config.model.{name}={getattr(model, name)} is no multiple of {functions.MULTIPLE}"
    deepest = max(k for _, k in kernel_shapes(model).values())
    if 127 * quant.max_code(quant.largest_tier(model)) * deepest >= quant.EXACT:
        return f"sums of {deepest} products with codes of config.model.max_tier={model.max_tier} are not exact in f32"
    try:
        build.load(device.cache_directory())
    except build.Unavailable as error:
        return str(error)
    if layers == "native_bf16" and not build.has_halves():
        return "this processor has no products of bf16 (AVX512_BF16)"
    return None


def _faster(cfg: Config, operand: Operand) -> Layers:
    """XLA's layers or those in C++, whichever take less time for a training step of one layer; measured once a machine.

    Those in C++ have bf16 products where the processor has: between the two a near tie would decide bits by chance.
    """
    in_cpp: Layers = "native" if why_not(cfg.model, "native_bf16") else "native_bf16"
    if why_not(cfg.model, in_cpp):
        return "xla"
    choices: tuple[Layers, ...] = ("xla", in_cpp)
    cache = device.cache_directory()
    name = hashlib.sha256(repr((cfg.model, operand, choices)).encode()).hexdigest()[:16]
    file = cache / f"layers-{name}" if cache else None
    if file and file.is_file() and (known := file.read_text().strip()) in get_args(Layers):
        return cast(Layers, known)
    measured = min(choices, key=lambda layers: step_seconds(cfg, layers, operand if layers == "xla" else "f32"))
    if file:
        keep_file(file, measured.encode())
    return measured


def step_seconds(cfg: Config, layers: Layers, operand: Operand) -> float:
    """Least seconds of a training step at λ = 1, without its optimiser, of one layer of the shape."""
    model = dataclasses.replace(cfg.model, num_layers=1, layers=layers, compute=operand)
    cfg = dataclasses.replace(cfg, model=model)
    params, tiers = transformer.init(jax.random.key(0), dataclasses.replace(model, layers="xla"))
    at = jnp.arange(_LENGTH) % _EXAMPLE
    text = TEXT + jnp.arange(_ROWS * _LENGTH).reshape(_ROWS, _LENGTH) % (VOCAB_SIZE - TEXT)
    tokens = jnp.where(at[None] == 0, SOLVE, text)
    mask = jnp.broadcast_to(at >= _ASKED, tokens.shape)

    def loss(params: Any) -> Array:
        weights = quant.unquantised(params, model) if model.weights == "full" else params
        return objective.supervised_loss(weights, tiers, tokens, mask, cfg, None)[0]

    step = jax.jit(jax.grad(loss))
    jax.block_until_ready(step(params))
    best = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(step(params))
        best = min(best, time.perf_counter() - began)
    return best
