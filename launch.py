"""The one command: ``python launch.py --config=experiments/azr_small.py``. Flags → config → one mode."""

import os
import pathlib
import platform
import sys
from typing import TextIO

# Read by JAX when it is first imported, and by every process started from here. The size of its thread pool decides a
# result's bits (`run.json` has it); more threads than cores cost a third of the speed, one leaves none for the host.
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
os.environ.setdefault("PJRT_NPROC", str(min(max(_CORES, 2), 8)))
os.environ.setdefault("PYTHONHASHSEED", "0")

from absl import app, flags

from bitzero.config import ConfigError
from bitzero.run import accelerator, experiment
from bitzero.run.terminal import settle_streams

_SHIPPED_LINE = (
    f"the model that comes with BitZero ({experiment.SHIPPED.name}, see MODEL.md beside it); --model=FILE asks another"
)
_INTERRUPTED = {"chat": "", "adapt": "nothing is kept, unless a line above says so"}
FLAGS = flags.FLAGS
flags.DEFINE_string("config", None, "experiment file, or file:variant; --config.group.key=value changes one setting")
flags.DEFINE_string("workdir", None, "where the run lives, default: runs/<experiment>; alone: that run again")
flags.DEFINE_enum(
    "mode", "train", ["train", "eval", "export", "sweep", "chat", "adapt"],
    "train (goes on where it stopped), eval (held-out table), export (<workdir>/packed.npz), sweep (many runs), chat "
    "(with a packed model), adapt (a packed model learns from the tasks of a conversation)",
)  # fmt: skip
flags.DEFINE_string("sweep", None, "sweep: its file, such as experiments/sweeps/precision_budget.py")
flags.DEFINE_integer("seeds", 5, "sweep: every point is run for the seeds 0 to this number − 1")
flags.DEFINE_integer("jobs", 1, "sweep: runs at once, each on its share of the cores")
flags.DEFINE_string("bases", None, "sweep: where shared warm-ups live, for several sweeps; default: <workdir>/bases")
flags.DEFINE_bool("dry_run", False, "sweep: list and check the points, run nothing")
flags.DEFINE_string(
    "model", None, "chat, adapt, eval: packed model; default: <workdir>/packed.npz (not in eval), or ours"
)
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
        if FLAGS.sweep and FLAGS.mode != "sweep":
            raise ConfigError("--sweep is for --mode=sweep")
        return _in_mode()
    except ConfigError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if after := _INTERRUPTED.get(FLAGS.mode, "the same command goes on from what was saved last"):
            print(f"launch.py: stopped at once; {after}", file=sys.stderr)
        return 130


def _in_mode() -> int:
    """What the mode returns; 1 where what went wrong is a sentence."""
    from bitzero.run.workdir import RunError  # not above: Windows lacks what it imports

    modes = {"sweep": _sweep, "chat": _chat, "adapt": _adapt}
    of_a_file = FLAGS.mode == "eval" and (FLAGS.model or not (FLAGS.config or FLAGS.workdir))
    try:
        return modes.get(FLAGS.mode, _evaluate_packed if of_a_file else _run)()
    except RunError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 1


def _run() -> int:
    from bitzero.run.workdir import config_of  # not above, as in `_in_mode`

    named = experiment.path_of(FLAGS.workdir)
    if named and not FLAGS.config:
        cfg = config_of(named, _OVERRIDES)
    else:
        cfg = experiment.read_config(FLAGS.config, _OVERRIDES)
    workdir = named or pathlib.Path("runs") / cfg.name
    print(f"BitZero · {cfg.name} · {FLAGS.mode} · {workdir}", flush=True)
    print(accelerator.settle_device(os.environ), flush=True)
    from bitzero.run import evaluate, export, train  # not above: JAX takes seconds, a mistyped flag should not

    return {"train": train.main, "eval": evaluate.main, "export": export.main}[FLAGS.mode](cfg, workdir)


def _evaluate_packed() -> int:
    if FLAGS.config:
        raise ConfigError("--model has its own configuration; leave out --config, or --model for the run's checkpoint")
    file = experiment.path_of(FLAGS.model) or experiment.SHIPPED
    experiment.check_packed_overrides(_OVERRIDES)
    print(_SHIPPED_LINE if file == experiment.SHIPPED else f"BitZero · eval · {file}", flush=True)
    print(accelerator.settle_device(os.environ), flush=True)
    from bitzero.run import evaluate_packed

    return evaluate_packed.main(file, _OVERRIDES, experiment.path_of(FLAGS.workdir))


def _chat() -> int:
    experiment.check_packed_overrides(_OVERRIDES, group="")
    accelerator.settle_device(os.environ)
    from bitzero.chat import main as chat

    order = chat.ChatOrder(
        model=_packed_model(sys.stderr if FLAGS.json else sys.stdout), prompt=FLAGS.prompt, json=FLAGS.json,
        profile_dir=experiment.path_of(FLAGS.profile_dir), settings=tuple(_OVERRIDES),
    )  # fmt: skip
    return chat.main(order)


def _adapt() -> int:
    print(accelerator.settle_device(os.environ), flush=True)
    from bitzero.chat import lessons
    from bitzero.chat.profile import Profile, default_folder
    from bitzero.run import adapt

    profile = Profile(experiment.path_of(FLAGS.profile_dir) or default_folder())
    order = adapt.AdaptOrder(
        base=_packed_model(sys.stdout), home=profile.folder / "deltas", settings=tuple(_OVERRIDES),
        lessons=lambda sandbox: lessons.lessons_of(profile.records()[0], sandbox),
    )  # fmt: skip
    return adapt.main(order)


def _sweep() -> int:
    from bitzero.sweep import runner

    file = experiment.path_of(FLAGS.sweep)
    order = runner.SweepOrder(
        spec=FLAGS.config, overrides=tuple(_OVERRIDES), file=file, home=experiment.path_of(FLAGS.workdir),
        bases=experiment.path_of(FLAGS.bases), seeds=FLAGS.seeds, jobs=FLAGS.jobs,
    )  # fmt: skip
    print(f"BitZero · sweep · {file}", flush=True)
    return runner.main(order, dry_run=FLAGS.dry_run)


def _packed_model(say_to: TextIO) -> pathlib.Path:
    file = experiment.packed_model(FLAGS.model, FLAGS.config, FLAGS.workdir) or experiment.SHIPPED
    if file == experiment.SHIPPED:
        print(_SHIPPED_LINE, file=say_to, flush=True)
    return file


if __name__ == "__main__":
    settle_streams()
    _ARGV, _OVERRIDES = experiment.split_overrides(sys.argv)
    app.run(main, argv=_ARGV, flags_parser=experiment.parsed_flags)
