"""The machine under a run: how JAX is set up on it, and its description for ``run.json``."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax


def configure() -> None:
    """Sets JAX up once, before its first computation.

    Async dispatch is off because a host callback that waits for a pending input can stall a machine with few cores.
    The compile cache is kept by user and by processor: compiled CPU code is not portable between processors.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    cache = home / "bitzero" / "xla" / f"{jax.__version__}-{_processor()}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # without a cache a run only compiles again
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def describe() -> dict[str, Any]:
    """Processor, cores, devices, versions and commit: what a figure depends on."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "commit": commit(),
    }


def commit() -> str:
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


def _processor() -> str:
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
