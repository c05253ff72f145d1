"""What the figures depend on: the card and its caches, the processor, versions."""

import ctypes
import importlib.metadata
import platform
from typing import Any

import jax

from benchmarks.gpu_stages.record import Box, Record, Told
from pallas_kernels import backends, bench

_PACKAGES = ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "torch")
_L2_CACHE_SIZE = 38  # CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE


def run(part: str, box: Box, record: Record, told: Told) -> None:
    """Notes the description."""
    record.note(**told.card)


def describe() -> dict[str, Any]:
    """The default device and the machine around it."""
    device = jax.devices()[0]
    memory = device.memory_stats() or {}
    return {
        "name": device.device_kind,
        "platform": device.platform,
        "capability": str(getattr(device, "compute_capability", "")),
        "multiprocessors": getattr(device, "core_count", None),
        "pool_bytes": memory.get("bytes_limit"),  # what JAX may take of its memory
        "l2_bytes": _l2_bytes() if device.platform == "gpu" else None,
        "backends": backends(),
        "machine": bench.machine(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }  # fmt: skip


def l2_bytes(card: dict[str, Any]) -> int:
    """Bytes of the card's L2, or what the benchmark takes for it where the driver does not say."""
    return card.get("l2_bytes") or bench.CACHE_BYTES.get(card["platform"], bench.CACHE_BYTES["cpu"])


def fits(card: dict[str, Any], size: float) -> bool:
    """Whether so many bytes fit the pool, with a tenth left over; a pool of unknown size holds 4 GB."""
    return size <= 0.9 * (card.get("pool_bytes") or 4 << 30)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _l2_bytes() -> int | None:
    """As the driver tells it, None where it does not."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, size = ctypes.c_int(), ctypes.c_int()
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceGetAttribute(ctypes.byref(size), _L2_CACHE_SIZE, device)
    )
    return None if failed or not size.value else size.value
