"""The one command: ``python launch.py --config=experiments/azr_small.py``. Flags → config → one mode."""

import os
import pathlib
import platform
import re
import sys

# Read by JAX when it is first imported, and by every process started from here. The size of its thread pool decides the
# bits of a result, so `run.json` records it; more threads than cores would cost a third of the speed, and a single one
# would leave none for a host callback's arguments.
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
os.environ.setdefault("PJRT_NPROC", str(min(max(_CORES, 2), 8)))
os.environ.setdefault("PYTHONHASHSEED", "0")

from absl import app, flags

from bitzero.config import Config, ConfigError
from bitzero.run import accelerator
from bitzero.run.experiment import check_packed_overrides, read_config
from bitzero.run.terminal import settle_streams

SHIPPED = pathlib.Path(__file__).parent / "bitzero" / "assets" / "model.npz"
_SHIPPED_LINE = f"the model that comes with BitZero ({SHIPPED.name}, see MODEL.md beside it); --model=FILE asks another"
FLAGS = flags.FLAGS
flags.DEFINE_string("config", None, "experiment file, or file:variant; --config.group.key=value changes one setting")
flags.DEFINE_string("workdir", None, "where the run lives; default: runs/<experiment>")
flags.DEFINE_enum(
    "mode", "train", ["train", "eval", "export", "sweep", "chat", "adapt"],
    "train (goes on where it stopped), eval (held-out table only), export (<workdir>/packed.npz), sweep (many runs), "
    "chat (a conversation with a packed model) or adapt (a packed model learns from the tasks of that conversation)",
)  # fmt: skip
flags.DEFINE_string("sweep", None, "sweep: its file, such as experiments/sweeps/precision_budget.py")
flags.DEFINE_integer("seeds", 5, "sweep: every point is run for the seeds 0 to this number − 1")
flags.DEFINE_integer("jobs", 1, "sweep: runs at once, each on its share of the cores")
flags.DEFINE_string("bases", None, "sweep: where shared warm-ups live, for several sweeps; default: <workdir>/bases")
flags.DEFINE_bool("dry_run", False, "sweep: list and check the points, run nothing")
flags.DEFINE_string(
    "model", None,
    "chat, adapt, eval: the packed model; default: <workdir>/packed.npz (not in eval), or the shipped one",
)  # fmt: skip
flags.DEFINE_string("prompt", None, "chat: one question, answered and done")
flags.DEFINE_bool("json", False, "chat: one JSON object a question on standard output")
flags.DEFINE_string("profile_dir", None, "chat, adapt: what is known of the person; default: the user's data folder")


def main(argv: list[str]) -> int:
    """Runs the chosen mode; the value is the exit code, and whatever a person can mend is one line on stderr."""
    try:
        if refusal := accelerator.system_refusal(platform.system(), os.environ):
            raise ConfigError(refusal)
        if len(argv) > 1:
            raise ConfigError(f"unknown argument {argv[1]!r}; settings are given as --config.group.key=value")
        if FLAGS.mode == "sweep":
            return _sweep()
        if FLAGS.mode in ("chat", "adapt"):
            return _chat() if FLAGS.mode == "chat" else _adapt()
        if FLAGS.sweep:
            raise ConfigError("--sweep is for --mode=sweep")
        if FLAGS.mode == "eval" and (FLAGS.model or not (FLAGS.config or FLAGS.workdir)):
            return _evaluate_packed()
        cfg = read_config(FLAGS.config, _OVERRIDES)
        workdir = pathlib.Path(FLAGS.workdir or pathlib.Path("runs") / cfg.name)
        print(f"BitZero · {cfg.name} · {FLAGS.mode} · {workdir}", flush=True)
        return _run(FLAGS.mode, cfg, workdir)
    except ConfigError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("launch.py: stopped at once; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _run(mode: str, cfg: Config, workdir: pathlib.Path) -> int:
    _settle_device()
    from bitzero.run import evaluate, export, train  # not above: JAX takes seconds, a mistyped flag should not
    from bitzero.run.checkpoint import ShapeError
    from bitzero.run.workdir import RunError

    try:
        return {"train": train.main, "eval": evaluate.main, "export": export.main}[mode](cfg, workdir)
    except (RunError, ShapeError) as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 1


def _evaluate_packed() -> int:
    if FLAGS.config:
        raise ConfigError("--model has its own configuration; leave out --config, or --model for the run's checkpoint")
    file = pathlib.Path(FLAGS.model).expanduser() if FLAGS.model else SHIPPED
    check_packed_overrides(_OVERRIDES)
    print(_SHIPPED_LINE if file == SHIPPED else f"BitZero · eval · {file}", flush=True)
    _settle_device()
    from bitzero.run import evaluate_packed
    from bitzero.run.workdir import RunError

    try:
        return evaluate_packed.main(file, _OVERRIDES, pathlib.Path(FLAGS.workdir) if FLAGS.workdir else None)
    except RunError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("launch.py: stopped; nothing was written", file=sys.stderr)
        return 130


def _chat() -> int:
    check_packed_overrides(_OVERRIDES, group="")
    _settle_device(quiet=True)
    from bitzero.chat import main as chat
    from bitzero.run.workdir import RunError

    file = _packed_model()
    if file == SHIPPED:
        print(_SHIPPED_LINE, file=sys.stderr if FLAGS.json else sys.stdout, flush=True)
    order = chat.ChatOrder(
        model=file, profile_dir=_path(FLAGS.profile_dir), prompt=FLAGS.prompt, json=FLAGS.json,
        settings=tuple(_OVERRIDES),
    )  # fmt: skip
    try:
        return chat.main(order)
    except (RunError, chat.SandboxUnavailable) as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _adapt() -> int:
    _settle_device()
    from bitzero.chat import lessons
    from bitzero.chat.profile import Profile, default_folder
    from bitzero.run import adapt
    from bitzero.run.workdir import RunError

    profile = Profile(_path(FLAGS.profile_dir) or default_folder())
    order = adapt.AdaptOrder(
        base=_packed_model(), home=profile.folder / "deltas", settings=tuple(_OVERRIDES),
        lessons=lambda sandbox: lessons.lessons_of(profile.records()[0], sandbox),
    )  # fmt: skip
    try:
        return adapt.main(order)
    except RunError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 1


def _packed_model() -> pathlib.Path:
    return _path(FLAGS.model) or (pathlib.Path(FLAGS.workdir) / "packed.npz" if FLAGS.workdir else SHIPPED)


def _path(flag: str | None) -> pathlib.Path | None:
    return pathlib.Path(flag).expanduser() if flag else None


def _settle_device(*, quiet: bool = False) -> None:
    """Sets what JAX reads when it is imported, and says which device that will be; raises ``ConfigError``."""
    asked = os.environ.get("JAX_PLATFORMS", "").strip().lower()
    choice = accelerator.choice_here(os.environ)
    if choice.refusal:
        raise ConfigError(choice.refusal)
    os.environ.update(choice.settings)
    if choice.settings.get("JAX_PLATFORMS", asked) == "cpu":
        accelerator.leave_cuda_out()
    if not quiet:
        print(choice.line, flush=True)


def _sweep() -> int:
    from bitzero.run.workdir import RunError
    from bitzero.sweep import runner

    sweep_file, home, bases = (
        pathlib.Path(flag) if flag else None for flag in (FLAGS.sweep, FLAGS.workdir, FLAGS.bases)
    )
    order = runner.SweepOrder(
        spec=FLAGS.config, overrides=tuple(_OVERRIDES), file=sweep_file, home=home, bases=bases,
        seeds=FLAGS.seeds, jobs=FLAGS.jobs,
    )  # fmt: skip
    print(f"BitZero · sweep · {sweep_file}", flush=True)
    try:
        return runner.main(order, dry_run=FLAGS.dry_run)
    except RunError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 1


def _split(argv: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Command line → what absl reads, and the ``--config.key=value`` (or ``--config.key value``) settings."""
    rest, overrides = [], []
    words = iter(argv)
    for word in words:
        match = re.fullmatch(r"--?config\.([\w.]+)(?:=(.*))?", word, re.DOTALL)
        if match:
            overrides.append((match[1], match[2] if match[2] is not None else next(words, "")))
        else:
            rest.append(word)
    return rest, overrides


if __name__ == "__main__":
    settle_streams()
    _ARGV, _OVERRIDES = _split(sys.argv)
    app.run(main, argv=_ARGV)
