"""Builds ``layer.cpp`` where there is a C++ compiler, once a machine, and tells JAX what is in it."""

import ctypes
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import jax

_SOURCE = pathlib.Path(__file__).parent / "layer.cpp"
_READ = (_SOURCE, *sorted(_SOURCE.parent.glob("*.h")))  # of the compiler
# No flag that lets sums be reordered: the rounding in the source counts on their order.
_FLAGS = ("-std=c++20", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-w")
_TARGETS = (
    "normed_forward", "normed_backward", "attend_forward", "attend_backward", "answers_forward", "answers_backward",
    "convolve_forward", "convolve_backward", "newton_schulz", "decode_layers", "draw_tokens",
)  # fmt: skip
_SECONDS = 120  # a compiler may take


class Unavailable(Exception):
    """The library cannot be had here; the message says why."""


_loaded: list[ctypes.CDLL] = []  # the one of this process: JAX takes a name once


def load(folder: pathlib.Path | None) -> None:
    """Builds the library, unless ``folder`` has it from before, and registers it; raises ``Unavailable``."""
    if _loaded:
        return
    with tempfile.TemporaryDirectory() as scratch:
        library = built(folder or pathlib.Path(scratch))
        try:
            found = ctypes.CDLL(str(library))
        except OSError as error:
            raise Unavailable(f"the library does not load: {error}") from None
    for target in _TARGETS:
        handler = jax.ffi.pycapsule(getattr(found, f"bitzero_{target}"))
        jax.ffi.register_ffi_target(f"bitzero_{target}", handler, platform="cpu")
    _loaded.append(found)


def has_halves() -> bool:
    """Whether the loaded library has bf16 products; the processor decides."""
    return bool(_loaded[0].bitzero_halves())


def built(folder: pathlib.Path) -> pathlib.Path:
    """The library in ``folder``, compiled if it is not there; raises ``Unavailable``."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if not compiler:
        raise Unavailable("no C++ compiler (g++ or clang++; CXX names another)")
    library = folder / f"layer-{_fingerprint(compiler)}.so"
    if not library.exists():
        beside = library.with_suffix(f".{os.getpid()}")
        _compile(compiler, beside)
        os.replace(beside, library)  # whole or not at all, for another process
    return library


def _fingerprint(compiler: str) -> str:
    """Of what decides the library; the folder is of one processor already."""
    parts = (
        [file.read_bytes() for file in _READ],
        _run([compiler, "--version"]).stdout,
        jax.__version__,
        " ".join(_FLAGS),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """The command, ended; raises ``Unavailable`` where it does not start or takes too long."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{command[0]} does not run: {error}") from None


def _compile(compiler: str, out: pathlib.Path) -> None:
    """Raises ``Unavailable`` with the compiler's first complaint."""
    done = _run([compiler, *_FLAGS, f"-I{jax.ffi.include_dir()}", str(_SOURCE), "-o", str(out)])
    if done.returncode or not out.exists():
        out.unlink(missing_ok=True)
        complaint = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
        raise Unavailable(f"{compiler} cannot compile it: {complaint}")
