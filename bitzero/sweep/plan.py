"""A sweep file read and checked: its points, the warm-ups they share, and every run in the order it starts.

A sweep file is plain Python: ``BASE`` (dotted settings of every point), ``BRANCH`` (the step at which the points of one
seed leave their shared warm-up; 0: none), ``AFTER_BRANCH`` (keys or groups that act only after that step) and
``points()``, which yields ``(name, series, x, settings)``. It may name the point that others are compared with
(``REFERENCE``; "ternary" by itself). Every point runs for the seeds 0, 1, …: what two points do
with one seed is paired, for they see the same data in the same order.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import types
from collections.abc import Iterable, Iterator
from typing import Any

import ml_collections

from bitzero import config as configuration
from bitzero.config import Config, ConfigError
from bitzero.run import experiment, workdir

Settings = dict[str, str]  # dotted key → its value as a command line says it

_OWN = ("seed", "run.until")  # settings that the sweep itself makes
_ALWAYS = {"run.keep": "1"}  # a sweep leaves many runs, and each would keep three states
_EARLY = ("precision.decay",)  # acts in the warm-up, whatever the file says: signals are averaged in every phase
_RAMP = ("warmup.ramp_start", "warmup.ramp_end", "precision", "model.weights")  # what acts from the ramp on


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepOrder:
    """What the command line asks for."""

    spec: str | None  # experiment file, or file:variant
    overrides: tuple[tuple[str, str], ...] = ()  # settings of the command line, (dotted key, text)
    file: pathlib.Path | None
    home: pathlib.Path | None = None  # None: runs/<experiment>-<sweep>
    bases: pathlib.Path | None = None  # where the shared warm-ups live; None: <home>/bases
    seeds: int = 5
    jobs: int = 1  # runs at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One setting to be measured."""

    name: str
    series: str  # the line of the chart it belongs to
    x: float  # nominal stored bits
    settings: Settings  # its own, without those of every point
    seeds: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepFile:
    """What a sweep file says, with the command line's settings in it."""

    path: pathlib.Path
    everywhere: Settings  # of every point
    branch: int  # step at which the points of a seed leave their shared warm-up; 0: they share none
    after: tuple[str, ...]  # keys or groups that act only after the branch
    points: list[Point]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepJob:
    """One run: a point with one seed, or the warm-up that several points share (``point`` None)."""

    title: str
    home: pathlib.Path
    settings: Settings  # all of them
    cfg: Config
    seed: int
    point: Point | None = None
    base: "SweepJob | None" = None

    @property
    def result(self) -> pathlib.Path:
        """The file of its figures; where it is, the run is finished."""
        return self.home / "result.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a sweep is going to do."""

    order: SweepOrder
    title: str  # of the sweep: its file's name
    about: str  # the sweep file's docstring
    home: pathlib.Path
    branch: int
    reference: str  # the point that others are compared with; there may be none of that name
    points: list[Point]
    jobs: list[SweepJob]  # warm-ups directly before the first point that needs them; all points of a seed together
    notes: list[str]  # what was left out of settings of runs already there

    def runs(self) -> list[SweepJob]:
        """The jobs that are points."""
        return [job for job in self.jobs if job.point]


def read_plan(order: SweepOrder) -> Plan:
    """The plan of ``order``; raises ``ConfigError`` with one line that names the file and the point."""
    path = _sweep_path(order)
    if order.seeds < 1 or order.jobs < 1:
        raise ConfigError(f"--seeds={order.seeds} and --jobs={order.jobs} must both be at least 1")
    module = experiment.load_module(path, "sweep")
    editable = experiment.editable_config(order.spec)
    for key, text in order.overrides:
        _refuse_sweeps_own(key, "the command line")
        experiment.override_setting(editable, key, text)
    file = _read_sweep_file(order, path, module, editable)
    home = order.home or pathlib.Path("runs") / f"{editable.name}-{path.stem}"
    jobs = list(_plan_jobs(order, file, home))
    left_out = dict.fromkeys(line for job in jobs if job.point for line in check_stored_settings(job))
    return Plan(
        order=order, title=path.stem, about=(module.__doc__ or "").strip(), home=home, branch=file.branch,
        reference=_read_reference(module, path, file.points), points=file.points, jobs=jobs, notes=list(left_out),
    )  # fmt: skip


def _read_sweep_file(
    order: SweepOrder, path: pathlib.Path, module: types.ModuleType, editable: ml_collections.ConfigDict
) -> SweepFile:
    """The constants and points of a sweep file, each checked against the settings there are."""
    branch = _read_constant(module, path, "BRANCH", int)
    after = tuple(_read_constant(module, path, "AFTER_BRANCH", tuple)) if branch else ()
    base = _settings_as_texts(_read_constant(module, path, "BASE", dict), f"{path}: BASE")
    everywhere = _ALWAYS | base | dict(order.overrides)
    for key in (*everywhere, *after):
        if not isinstance(key, str):
            raise ConfigError(f"{path}: AFTER_BRANCH must be a tuple of keys or groups, not {after!r}")
        if not _is_setting(editable.to_dict(), key):
            raise ConfigError(f"{path}: {experiment.unknown_key_sentence(key, editable)}")
    points = _read_points(module, path, order.seeds)
    return SweepFile(path=path, everywhere=everywhere, branch=branch, after=after, points=points)


def check_stored_settings(job: SweepJob) -> list[str]:
    """Raises ``ConfigError`` where the directory of ``job`` holds a run of other settings.

    Returns a line for every setting of an older program that is left out.
    """
    file = job.home / "config.json"
    if not file.exists():
        return []
    before, lines = configuration.stored_settings(workdir.read_json(file), str(file))
    for key, value in configuration.flat_settings(job.cfg).items():
        if configuration.acts_on_results(key) and before[key] != value:
            raise ConfigError(
                f"{job.home} was made with config.{key}={before[key]!r}, the sweep now says {value!r}; "
                "give the point another name, or choose another --workdir"
            )
    return lines


def run_command(order: SweepOrder, job: SweepJob) -> list[str]:
    """The words after ``python launch.py`` that start ``job``."""
    settings = [f"--config.{key}={text}" for key, text in job.settings.items()]
    return [f"--config={order.spec}", f"--workdir={job.home}", *settings]


def sweep_command(order: SweepOrder) -> list[str]:
    """The words after ``python launch.py`` that start the sweep, or go on with it."""
    places = {"workdir": order.home, "bases": order.bases}
    words = [f"--config={order.spec}", "--mode=sweep", f"--sweep={order.file}"]
    words += [f"--seeds={order.seeds}", f"--jobs={order.jobs}"]
    words += [f"--{name}={place}" for name, place in places.items() if place]
    return words + [f"--config.{key}={text}" for key, text in order.overrides]


def describe_plan(plan: Plan) -> list[str]:
    """The plan in lines for a person."""
    lines = [f"{len(plan.points)} points of {plan.title} in {plan.home}"]
    first = {job.point.name: job for job in reversed(plan.runs()) if job.point}
    for point in plan.points:
        base = first[point.name].base
        own = " ".join(f"{key}={text}" for key, text in point.settings.items()) or "the settings of every point"
        shared = f" · from {base.home.parent.name}/{base.home.name.rsplit('-', 1)[0]}" if base else ""
        seeds = f"{point.seeds} seed" + ("s" if point.seeds > 1 else "")
        lines.append(f"  {point.name} · series {point.series} · {point.x:g} bits · {seeds}{shared} · {own}")
    runs = plan.runs()
    bases = len(plan.jobs) - len(runs)
    shared = f" after {bases} shared warm-up{'s' * (bases > 1)} to step {plan.branch:,}" if bases else ""
    lines.append(f"{len(runs)} runs{shared}; finished already: {sum(job.result.exists() for job in plan.jobs)}")
    return lines


def _sweep_path(order: SweepOrder) -> pathlib.Path:
    if order.file is None:
        there = ", ".join(sorted(str(file) for file in pathlib.Path("experiments/sweeps").glob("*.py")))
        raise ConfigError("which sweep? give --sweep=<file>" + (f"; there is: {there}" if there else ""))
    return order.file


def _read_constant(module: types.ModuleType, file: pathlib.Path, name: str, wanted: type) -> Any:
    value = getattr(module, name, None)
    if not isinstance(value, wanted):
        what = {int: "a step (0: no shared warm-up)", dict: "a dict of settings", tuple: "a tuple of keys"}[wanted]
        raise ConfigError(f"{file}: {name} must be {what}, not {value!r}")
    return value


def _read_reference(module: types.ModuleType, file: pathlib.Path, points: Iterable[Point]) -> str:
    """The point that others are compared with: the file's ``REFERENCE``, or "ternary"."""
    name = getattr(module, "REFERENCE", None)
    if name is not None and name not in [point.name for point in points]:
        raise ConfigError(f"{file}: REFERENCE={name!r} is the name of no point")
    return name or "ternary"


def _is_setting(tree: dict[str, Any], key: str) -> bool:
    """Whether ``key`` (dotted) is a setting or a group of settings."""
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def _settings_as_texts(settings: dict[str, Any], where: str) -> Settings:
    """Settings as texts, which ``config`` reads and checks as it does the command line's."""
    texts = {}
    for key, value in settings.items():
        if not isinstance(key, str) or not isinstance(value, (bool, int, float, str)):
            raise ConfigError(f"{where}: {key!r}: {value!r} is no setting; write 'group.key': number or text")
        _refuse_sweeps_own(key, where)
        texts[key] = str(value)
    return texts


def _refuse_sweeps_own(key: str, where: str) -> None:
    if key in _OWN:
        raise ConfigError(f"{where}: config.{key} is set by the sweep itself; take it out")


def _read_points(module: types.ModuleType, file: pathlib.Path, seeds: int) -> list[Point]:
    """What ``points()`` yields, each checked."""
    if not callable(getattr(module, "points", None)):
        raise ConfigError(f"{file}: no points(); define it to yield (name, series, x, settings)")
    try:
        yielded = list(module.points())
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{file}: points(): {experiment.error_sentence(error)}") from None
    found: dict[str, Point] = {}
    for one in yielded:
        point = _read_point(one, file, seeds)
        if point.name in found:
            raise ConfigError(f"{file}: two points are named {point.name!r}; every name is a directory of its own")
        found[point.name] = point
    if not found:
        raise ConfigError(f"{file}: points() yields nothing")
    return list(found.values())


def _read_point(one: Any, file: pathlib.Path, seeds: int) -> Point:
    if not isinstance(one, tuple) or len(one) != 4:
        raise ConfigError(f"{file}: points() must yield (name, series, x, settings), not {one!r}")
    name, series, x, settings = one
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,99}", name, re.ASCII):
        raise ConfigError(
            f"{file}: a point's name must be at most 100 letters, digits and . _ + - (a directory), not {name!r:.120}"
        )
    where = f"{file}: point {name!r}"
    if not isinstance(series, str) or not series:
        raise ConfigError(f"{where}: its series must be a text, not {series!r}")
    if isinstance(x, bool) or not isinstance(x, (int, float)) or not 0 <= x < 1e9:
        raise ConfigError(f"{where}: its x must be a number of bits, not {x!r}")
    if not isinstance(settings, dict):
        raise ConfigError(f"{where}: its settings must be a dict, not {settings!r}")
    own = settings.get("seeds", seeds)
    if type(own) is not int or own < 1:
        raise ConfigError(f"{where}: seeds must be at least 1, not {own!r}")
    rest = {key: value for key, value in settings.items() if key != "seeds"}
    return Point(name=name, series=series, x=float(x), settings=_settings_as_texts(rest, where), seeds=min(own, seeds))


def _plan_jobs(order: SweepOrder, file: SweepFile, home: pathlib.Path) -> Iterator[SweepJob]:
    """Every run, seed by seed, so that what is finished early is whole in pairs."""
    configs = [(point, *_point_configs(order, file, point)) for point in file.points]
    place, branch = order.bases or home / "bases", file.branch
    for seed in range(order.seeds):
        bases: dict[str, SweepJob] = {}
        for point, cfg, before, shared in configs:
            if seed >= point.seeds:
                continue
            base = None
            if branch:
                name = _short_hash(shared, file)
                settings = before | {"seed": str(seed), "run.until": str(branch)}
                base = bases.get(name) or SweepJob(
                    title=f"warm-up {name} seed {seed}", home=place / f"{name}-seed{seed}", settings=settings,
                    cfg=dataclasses.replace(shared, seed=seed), seed=seed,
                )  # fmt: skip
                if name not in bases:
                    bases[name] = base
                    yield base
            own = file.everywhere | point.settings | {"seed": str(seed)} | ({"run.until": "0"} if branch else {})
            yield SweepJob(
                title=f"{point.name} seed {seed}", home=home / "points" / point.name / f"seed{seed}", settings=own,
                cfg=dataclasses.replace(cfg, seed=seed), seed=seed, point=point, base=base,
            )  # fmt: skip


def _point_configs(order: SweepOrder, file: SweepFile, point: Point) -> tuple[Config, Settings, Config]:
    """The configuration of ``point``, and settings and configuration of the warm-up before its branch."""
    after, everywhere = file.after, file.everywhere
    before = everywhere | {key: text for key, text in point.settings.items() if not _acts_after_branch(key, after)}
    try:
        cfg = experiment.read_config(order.spec, (everywhere | point.settings).items())
        shared = experiment.read_config(order.spec, before.items())
        if not cfg.eval.precision_items:
            raise ConfigError("config.eval.precision_items=0 leaves nothing to compare; it must be at least 1")
        if file.branch:
            late = any(_is_under(key, _RAMP) and _acts_after_branch(key, after) for key in point.settings)
            _check_branch(cfg, file.branch, touches_ramp=late)
    except ConfigError as error:
        raise ConfigError(f"{file.path}: point {point.name!r}: {error}") from None
    return cfg, before, shared


def _check_branch(cfg: Config, branch: int, *, touches_ramp: bool) -> None:
    """Raises ``ConfigError`` where a warm-up of ``branch`` steps cannot stand for the first steps of ``cfg``."""
    total, ramp = configuration.steps_in_all(cfg), round(cfg.warmup.ramp_start * cfg.warmup.steps)
    if not 0 < branch < total:
        raise ConfigError(f"BRANCH={branch} must be between 0 and the {total} steps of the run")
    if branch % cfg.run.chunk:
        raise ConfigError(f"config.run.chunk={cfg.run.chunk} must divide BRANCH={branch}: a warm-up ends with a chunk")
    if touches_ramp and ramp < branch:
        raise ConfigError(
            f"its ramp begins at step {ramp}, before BRANCH={branch}: what it changes would have acted in the warm-up"
        )


def _short_hash(shared: Config, file: SweepFile) -> str:
    """Names a warm-up by all that acts on it but its seed."""
    acting = {
        key: value
        for key, value in configuration.flat_settings(shared).items()
        if not _acts_after_branch(key, file.after) and key != "seed" and configuration.acts_on_results(key)
    }
    text = json.dumps([file.branch, acting], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _acts_after_branch(key: str, after: Iterable[str]) -> bool:
    """Whether the setting ``key`` acts only after the branch, by the file's ``AFTER_BRANCH``."""
    return _is_under(key, after) and key not in _EARLY


def _is_under(key: str, prefixes: Iterable[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
