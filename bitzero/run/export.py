"""``--mode=export``: the newest checkpoint as one small file of packed matrices, ``<workdir>/packed.npz``.

python launch.py --config=experiments/azr_small.py --mode=export
"""

import pathlib

import jax

from bitzero.config import Config
from bitzero.evaluation.questions import checkpoint_structure
from bitzero.model import packing
from bitzero.run import device, packed_file, workdir
from bitzero.run.checkpoint import Checkpoints
from bitzero.run.workdir import RunError
from bitzero.selfplay import schedule

FILE_NAME = "packed.npz"


def main(cfg: Config, home: pathlib.Path) -> int:
    """Packs the newest checkpoint of ``home`` into ``home/packed.npz``; the value is the exit code.

    Raises ``RunError`` where there is no checkpoint, or one from before the weights are ternary, and ``ConfigError``
    where the run was trained with other settings: the file would be of a model that nobody trained.
    """
    if not (home / "checkpoints").is_dir():
        raise RunError(f"nothing to export: no checkpoints in {home}; train first")
    with workdir.owned(home):
        workdir.check_config(home, cfg, print)
        device.configure_jax()
        with Checkpoints(home / "checkpoints", keep=cfg.run.keep, exempt=[cfg.warmup.steps]) as store:
            found = store.latest(checkpoint_structure(cfg))
    if not found:
        raise RunError(f"nothing to export: no checkpoint in {home}; train first")
    state, meta = found
    if not schedule.is_ternary(step := int(state.step), cfg):
        raise RunError(f"step {step:,} is not ternary yet (phase {schedule.phase(step, cfg)}); train on, then export")
    if cfg.model.weights != "ternary":
        raise RunError(f"nothing to pack: model.weights={cfg.model.weights} is a control without ternary weights")
    tree = packing.pack(state.params, state.precision, cfg.model)
    path = home / FILE_NAME
    packed_file.save(
        path, tree, cfg, step=int(state.step), operand=meta["operand"], trace=bool(state.trace_mode),
        open_levels=int(state.open_levels),
    )  # fmt: skip
    matrices, rest = packing.weight_bytes(tree)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    print(
        f"{path}: {parameters / 1e6:.1f}M parameters in {path.stat().st_size / 1e6:.2f} MB "
        f"({matrices / 1e6:.2f} MB of packed matrices, {rest / 1e6:.2f} MB of embedding and gains)"
    )
    return 0
