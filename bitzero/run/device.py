"""The machine under a run: how JAX is set up on it, and its description for ``run.json``."""

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bitzero.config import BLOCK_ROWS, OPERANDS, ConfigError, Model, Operand
from bitzero.generator.workforce import usable_cores
from bitzero.model import quant
from bitzero.run import accelerator
from bitzero.run.workdir import keep_file


def configure_jax(say: Callable[[str], None] = print) -> None:
    """Sets JAX up once, before its first computation, on the first platform of its list that starts.

    Where the CPU is named too, ``say`` takes a line about a platform that does not start; otherwise that is a
    ``ConfigError``.

    Async dispatch is off because a host callback that waits for a pending input can stall a machine with few cores.
    The compile cache is kept by user and by processor: compiled CPU code is not portable between processors. It takes
    what needs a fifth of a second to compile: at JAX's whole second, the chat compiled its prefill anew at every start.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    _start_platform(say)
    cache = cache_directory()
    if cache:  # without one a run only compiles again
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _start_platform(say: Callable[[str], None]) -> None:
    """Starts the platforms that JAX was told to use, or the CPU where that is one of them; see ``configure_jax``."""
    named = os.environ.get("JAX_PLATFORMS", "").split(",")
    with _troubles_at_start() as troubles:
        try:
            jax.devices()
        except (RuntimeError, AssertionError) as error:  # the second, and empty, where no platform is left to try
            why = _why_not(str(error), troubles)
            if "cpu" not in named:
                said = f"JAX_PLATFORMS={','.join(named)}"
                raise ConfigError(f"{said} cannot be had: {why}; unset it, or set it to cpu") from None
            jax.config.update("jax_platforms", "cpu")
            say(f"device: CPU; {why}")
            return
    if named[0] in ("cuda", "gpu") and jax.default_backend() == "cpu":  # JAX passes over CUDA without a device node
        say(f"device: CPU; {_why_not('', troubles)}")


@contextlib.contextmanager
def _troubles_at_start() -> Iterator[list[str]]:
    """Keeps the tracebacks that JAX logs of plugins off the screen; gives the first line of each of their errors."""
    troubles: list[str] = []

    def hold(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1]:
            troubles.append(str(record.exc_info[1]).partition("\n")[0])
        return not record.exc_info

    logger = logging.getLogger("jax._src.xla_bridge")
    logger.addFilter(hold)
    try:
        yield troubles
    finally:
        logger.removeFilter(hold)


def _why_not(error: str, troubles: list[str]) -> str:
    """Why a platform did not start: JAX's own words, or what its CUDA plugin met where the words are but of that."""
    if not error or "'cuda'" in error:
        error = troubles[-1] if troubles else error or "no device of the NVIDIA driver is in /dev"
    return error.partition(" (set JAX_PLATFORMS")[0].partition("\n")[0].rstrip(".")


def on_first_device(tree: Any) -> Any:
    """``tree`` with every leaf committed to the first device, as a restored checkpoint's are.

    A leaf that is not, such as a new tier array, would make JAX compile the step a second time.
    """
    return jax.device_put(tree, jax.devices()[0])


def settled_operand(model: Model, device_kind: str) -> Operand | None:
    """The operand type where there is nothing to measure: as configured, or f32 on a card that is slow at 16 bits."""
    if model.compute != "auto":
        return model.compute
    return "f32" if accelerator.is_slow_at_16_bits(device_kind) else None


def operand_reason(model: Model) -> str:
    """Why the operands are what ``choose_operand`` makes them."""
    if model.compute != "auto":
        return "as configured"
    kind = jax.devices()[0].device_kind
    return f"{kind} is slower at 16 bits" if accelerator.is_slow_at_16_bits(kind) else "the fastest measured"


def choose_operand(model: Model) -> Operand:
    """Operand type of the products: as configured, or the fastest by a measurement made once on this machine.

    Kept beside the compile cache, so that two runs on one machine agree even where the measurement is a near tie.
    """
    if settled := settled_operand(model, jax.devices()[0].device_kind):
        return settled
    cache = cache_directory()
    file = cache / f"operand-{hashlib.sha256(repr(model).encode()).hexdigest()[:16]}" if cache else None
    if file and file.is_file() and (known := file.read_text().strip()) in OPERANDS:
        return cast(Operand, known)
    measured = measure_operand(model)
    if file:
        keep_file(file, measured.encode())
    return measured


def measure_operand(model: Model, tokens: int = 2_048) -> Operand:
    """The operand type with which one FFN product, forward and backward, is fastest on this device; takes seconds."""
    w = jnp.full((2 * model.ffn_width, model.width), 0.5)
    x = jnp.ones((16, tokens // 16, model.width))  # as in training: flattened, the backward would be another one
    blocks = w.shape[0] // BLOCK_ROWS
    tier, ramp = jnp.zeros((blocks,), jnp.int8), jnp.ones((blocks,))

    def seconds(operand: Operand) -> float:
        def loss(x: Array, w: Array) -> Array:
            return jnp.sum(quant.ternary_linear(x, w, tier, ramp, (w.shape[0],), operand, model.max_tier))

        step = jax.jit(jax.grad(loss, argnums=(0, 1)))
        jax.block_until_ready(step(x, w))
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(step(x, w))
            best = min(best, time.perf_counter() - start)
        return best

    return min(OPERANDS, key=seconds)


def cache_directory() -> pathlib.Path | None:
    """The user's cache directory for this JAX on this device, or None where it cannot be made.

    XLA compiles for the cores that the process may use and for its threads, both of which decide bits, and its own
    cache keys know neither: a run could pick up what another one compiled and not be the run it would be by itself.
    """
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    parallel = f"{usable_cores()}x{os.environ.get('PJRT_NPROC', 'all')}"
    cache = home / "bitzero" / f"{jax.__version__}-{jax.default_backend()}-{_processor_name()}-{parallel}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return cache if os.access(cache, os.W_OK) else None


def describe_machine() -> dict[str, Any]:
    """Processor, cores, threads, devices, versions and commit: what a figure depends on."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "processor": _processor_name(),
        "cores": usable_cores(),
        "threads": int(os.environ.get("PJRT_NPROC", 0)),  # of XLA's CPU pool; 0: as many as cores
        "devices": [device.device_kind for device in jax.devices()],
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "commit": source_commit(),
    }


def source_commit() -> str:
    """The commit of the checkout this program runs from, with ``+`` when it was edited; ``unknown`` outside one."""
    here = pathlib.Path(__file__).resolve().parent
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head.stdout.strip() or "unknown"


def _processor_name() -> str:
    """Model name of the processor as letters, digits and dashes."""
    name = platform.processor() or platform.machine()
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return "-".join("".join(c if c.isalnum() else " " for c in name).split())
