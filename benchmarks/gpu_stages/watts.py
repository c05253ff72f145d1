"""Watts of the card while a part runs, where the driver tells: NVML, or ``nvidia-smi``."""

import ctypes
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

PERIOD_S = 0.25

Reader = Callable[[], float | None]


class PowerMeter:
    """Samples from ``with`` to its end; ``absent`` says why there are none."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []  # time.time(), watts
        self.absent: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PowerMeter":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        read = nvml_reader(card_index()) or smi_reader(card_index())
        if read is None:
            self.absent = "neither NVML nor nvidia-smi tells the card's power"
            return
        while not self._over.wait(PERIOD_S):
            watts = read()
            if watts is not None:
                self.samples.append((time.time(), watts))


def annotate(rows: list[dict[str, Any]], samples: list[tuple[float, float]]) -> None:
    """Gives each row that says when it was measured (``at``: two times) its mean watts and tokens a joule."""
    for row in rows:
        start, stop = row.get("at", (0.0, 0.0))
        seen = [watts for when, watts in samples if start <= when <= stop]
        if seen:
            row["watts"] = round(sum(seen) / len(seen), 1)
            if row.get("tokens_per_s"):
                row["tokens_per_joule"] = round(row["tokens_per_s"] / row["watts"], 2)


def card_index() -> int:
    """The driver's number of the card that JAX takes: the first of CUDA_VISIBLE_DEVICES, where that is a number."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    return int(first) if first.isdigit() else 0


def nvml_reader(index: int) -> Reader | None:
    """Reads by the driver's own library; None where it is not there or refuses."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        handle, milliwatts = ctypes.c_void_p(), ctypes.c_uint()
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            return None
    except (OSError, AttributeError):
        return None

    def read() -> float | None:
        failed = library.nvmlDeviceGetPowerUsage(handle, ctypes.byref(milliwatts))
        return None if failed else milliwatts.value / 1e3

    return read if read() is not None else None


def smi_reader(index: int) -> Reader | None:
    """Reads by the driver's program; None where it is not there or does not know."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--id={index}", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]

    def read() -> float | None:
        try:
            return float(subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.split()[0])
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):  # "[N/A]" on some cards
            return None

    return read if read() is not None else None
