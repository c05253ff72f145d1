"""How a run is cut so that it fits its device, settled and said before its first step.

What is left open (0) of ``optimiser.microbatches``, ``selfplay.rollout_parts`` and ``eval.parts`` becomes the least
number of equal parts with which every program fits. On a GPU the compiler counts what may come near its limit; for the
rest, and on a CPU, whose memory is seldom the limit and whose compiler is slow, an estimate does. Cutting changes
rounding alone, so a run may be cut otherwise later.
"""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import rich.table

from bitzero import config as configuration
from bitzero.config import Config, ConfigError
from bitzero.run import accelerator, device, guarded, memory
from bitzero.run.memory import Cut, Program
from bitzero.run.progress import Progress
from bitzero.run.sitting import Ledger
from bitzero.run.workdir import keep_file

Count = Callable[[Program], int]
SETTINGS: dict[Cut, str] = {
    "updates": "optimiser.microbatches", "rollouts": "selfplay.rollout_parts", "asking": "eval.parts",
}  # fmt: skip
INSTEAD: dict[Cut, str] = {
    "updates": "a smaller model or tasks.context", "rollouts": "a smaller model, tasks.prompt or tasks.completion",
    "asking": "a smaller model, tasks.prompt or tasks.answer",
}  # fmt: skip
COUNTED = ("config", "model", "selfplay", "evaluation", "state.py", "run/memory.py")  # whose code decides a count
USABLE = 0.92  # of a pool: the rest is lost between its blocks
SLACK = 1.3  # what the estimate may be too high by where the compiler has the last word
ROOM = 2.0  # what the estimate is taken to be too low by where nothing is compiled; it was by 1.3 at most


class Pool(NamedTuple):
    """The memory that a run may use."""

    size: int  # bytes
    what: str  # for people
    counted: bool  # whether programs that may not fit it are compiled to be counted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
    """What one program needs."""

    what: str
    size: int  # bytes
    cut: Cut
    parts: int


def device_pool() -> Pool:
    """The pool of the first device: what JAX took of a GPU, or the memory that is free on this machine for a CPU.

    A GPU whose allocator has no limit of its own is given the share of its card that JAX would take. Raises
    ``ConfigError`` where the driver does not know that either: this machine's own memory says nothing about it.
    """
    first = jax.devices()[0]
    if first.platform == "cpu":
        return Pool(free_memory(), "free memory", False)
    size = (first.memory_stats() or {}).get("bytes_limit", 0)
    if not size:
        size = accelerator.share_of_card(os.environ, accelerator.ask_driver())
    if not size:
        raise ConfigError(
            f"{first.device_kind} does not tell how much memory a run may use; unset XLA_PYTHON_CLIENT_ALLOCATOR, "
            "or set JAX_PLATFORMS=cpu"
        )
    return Pool(size, "the pool", True)


def free_memory(proc: str = "/proc/meminfo", group: str = "/sys/fs/cgroup") -> int:
    """Bytes that a new process may still use: what the kernel calls available, within the limit of its group."""
    lines = pathlib.Path(proc).read_text().splitlines()
    free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    try:
        limit, used = ((pathlib.Path(group) / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else max(min(free, int(limit) - int(used)), 0)
    except (OSError, ValueError):
        return free


def fit_run(cfg: Config, ledger: Ledger, progress: Progress, cuts: tuple[Cut, ...] = (*SETTINGS,)) -> Config:
    """``cfg`` cut to fit the device at hand, which is said; what the ledger knows is kept while it fits.

    Raises ``ConfigError`` where nothing fits.
    """
    pool = device_pool()
    count: Count = memory.estimated_bytes
    if pool.counted:
        count = in_doubt(counter(device.cache_directory()), pool, progress.say)
    before: dict[Cut, int] = {cut: ledger.parts.get(cut, 0) for cut in SETTINGS}
    cfg, needs, warnings = settle_parts(cfg, pool, count, before=before, cuts=cuts)
    if is_roomy(needs, pool):
        largest = max(needs, key=lambda need: need.size)
        progress.say(
            f"memory: at most {largest.size / 1e9:.2f} GB ({largest.what}) of {pool.size / 1e9:.2f} GB, {pool.what}"
        )
    else:
        progress.console.print(table(needs, pool))
    for warning in warnings:
        progress.say(warning)
    ledger.parts |= {cut: _parts_of(cfg, cut) for cut in cuts}
    return cfg


def note_fitting(cfg: Config, ledger: Ledger, step: int) -> None:
    """Notes in the ledger what of the run follows the machine from ``step`` on, if it is not as it was before."""
    keys = (*SETTINGS.values(), "run.chunk", "tasks.workers", "sandbox.workers")
    now = {key: value for key, value in configuration.flat_settings(cfg).items() if key in keys}
    if not ledger.fitted or {**ledger.fitted[-1], "step": 0} != {"step": 0, **now}:
        ledger.fitted.append({"step": step, **now})


def settle_parts(
    cfg: Config, pool: Pool, count: Count, *, before: dict[Cut, int] | None = None, cuts: tuple[Cut, ...] = (*SETTINGS,)
) -> tuple[Config, list[Need], list[str]]:
    """``cfg`` with its parts settled, what each program needs, and a line for what is asked for and does not fit.

    A number that was settled ``before`` is kept while it fits. Raises ``ConfigError`` where no number does.
    """
    needs: list[Need] = []
    warnings: list[str] = []
    for cut in cuts:
        asked = _parts_of(cfg, cut)
        choices = [asked] if asked else allowed_parts(cfg, cut)
        kept = (before or {}).get(cut, 0)
        start = choices.index(kept) if kept in choices else _first_guess(cfg, cut, choices, pool)
        cfg, found = _least_that_fits(cfg, cut, choices[start:], pool, count)
        largest = max(found, key=lambda need: need.size, default=None)
        if largest and largest.size > USABLE * pool.size:
            has = f"config.{SETTINGS[cut]}={_parts_of(cfg, cut)}: {largest.what} needs {largest.size / 1e9:.2f} GB"
            if not asked:
                raise ConfigError(f"{has}, and {pool.what} has {pool.size / 1e9:.2f}; it takes {INSTEAD[cut]}")
            warnings.append(f"{has}, and {pool.what} has {pool.size / 1e9:.2f}; 0 chooses what fits")
        needs += found
    return cfg, needs, warnings


def allowed_parts(cfg: Config, cut: Cut) -> list[int]:
    """The numbers of equal parts that there are, in rising order."""
    play = cfg.selfplay
    match cut:
        case "updates":
            rows = [cfg.warmup.batch_size, *((play.supervised_batch, play.num_tasks) if play.steps else ())]
        case "rollouts":
            rows = [play.num_tasks * play.group_size]
        case "asking":
            rows = [cfg.eval.batch_size]
    whole = math.gcd(*rows)
    return [parts for parts in range(1, whole + 1) if whole % parts == 0]


def in_doubt(by_compiler: Count, pool: Pool, say: Callable[[str], None]) -> Count:
    """Estimates a program's memory; only where that is near the pool's limit the compiler counts it, which is said.

    Compiling takes minutes on a GPU, and a self-play step's stand-ins are compiled for that alone.
    """

    def count(program: Program) -> int:
        estimate = memory.estimated_bytes(program)
        if ROOM * estimate <= USABLE * pool.size:
            return estimate
        say(f"counting the memory of {program.what}")
        return by_compiler(program)

    return count


def counter(place: pathlib.Path | None) -> Count:
    """The compiler's count of a program; kept in ``place``, where there is one, until the code of the step changes."""

    def count(program: Program) -> int:
        asked = dataclasses.replace(program.cfg, name="", seed=0)
        key = f"{jax.devices()[0].device_kind}/{program.what}/{asked!r}/{guarded.code_of(COUNTED)}"
        file = place / f"memory-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json" if place else None
        if file and (known := _read_count(file)):
            return known
        size = memory.needed_bytes(program)
        if file:
            keep_file(file, json.dumps(size).encode())
        return size

    return count


def _read_count(file: pathlib.Path) -> int:
    """The number in a file; 0 where there is none."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return 0
    return found if type(found) is int else 0


def table(needs: list[Need], pool: Pool) -> rich.table.Table:
    """What · GB · of the pool, for people."""
    title = f"memory of each kind of step, estimated{', by the compiler where it may be short' if pool.counted else ''}"
    out = rich.table.Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    out.add_column("", no_wrap=True)
    for name in ("parts", "GB", f"of {pool.size / 1e9:.2f} GB, {pool.what}"):
        out.add_column(name, justify="right", no_wrap=True)
    for need in needs:
        out.add_row(need.what, str(need.parts), f"{need.size / 1e9:.2f}", f"{100 * need.size / pool.size:.0f} %")
    return out


def is_roomy(needs: list[Need], pool: Pool) -> bool:
    """Whether one line will do: nothing is cut, and half of the memory is left."""
    return all(need.parts == 1 and 2 * need.size < pool.size for need in needs)


def _least_that_fits(cfg: Config, cut: Cut, choices: list[int], pool: Pool, count: Count) -> tuple[Config, list[Need]]:
    """``cfg`` with the first of ``choices`` with which every program fits, and what they need.

    Or with the last of them, and what is needed up to the first program that does not fit.
    """
    found: list[Need] = []
    for parts in choices:
        tried = _with_parts(cfg, cut, parts)
        found = []
        for program in memory.step_programs(tried, (cut,)):
            found.append(Need(what=program.what, size=count(program), cut=cut, parts=parts))
            if found[-1].size > USABLE * pool.size:  # what follows need not be compiled
                break
        else:
            break
    return tried, found


def _first_guess(cfg: Config, cut: Cut, choices: list[int], pool: Pool) -> int:
    """Index of the first of ``choices`` that may fit by the estimate, so that little is compiled in vain."""
    limit = USABLE * pool.size * (SLACK if pool.counted else 1)
    for at, parts in enumerate(choices):
        programs = memory.step_programs(_with_parts(cfg, cut, parts), (cut,))
        if all(memory.estimated_bytes(program) <= limit for program in programs):
            return at
    return len(choices) - 1


def _parts_of(cfg: Config, cut: Cut) -> int:
    group, _, name = SETTINGS[cut].partition(".")
    return getattr(getattr(cfg, group), name)


def _with_parts(cfg: Config, cut: Cut, parts: int) -> Config:
    now: dict[Cut, int] = {name: _parts_of(cfg, name) for name in SETTINGS} | {cut: parts}
    return configuration.with_parts(cfg, **now)
