"""The stages of ``benchmarks/on_gpu.py``: what there is, in order of worth, and how the minutes are shared.

A stage is one question. Its parts are processes of their own, so that a crash, a hang or a lack of memory ends that
part alone. A part is a module with ``run(part, box, record, told)`` and can be started by itself:

    python -m benchmarks.gpu_stages products triton --seconds=60 --out=rows.json
"""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One question to the card."""

    name: str
    share: float  # of the minutes; what a stage leaves is shared by those after it
    module: str  # in this package
    parts: tuple[str, ...]  # processes; one that is named like a kernel backend needs it
    rehearsed: tuple[str, ...]  # the parts at toy size on a CPU
    at_once: bool = False  # the parts run beside each other: nothing is timed
    power: bool = False  # watts are sampled meanwhile
    title: str = ""


STAGES = (
    Stage(
        name="exactness", share=0.08, module="exactness", at_once=True,
        parts=("library", "triton", "mosaic", "turing"), rehearsed=("library",),
        title="every backend against the oracle, bit for bit",
    ),
    Stage(
        name="products", share=0.20, module="products",
        parts=("library", "triton", "mosaic", "turing"), rehearsed=("library",),
        title="products against cuBLAS bf16 and the bandwidth of a copy",
    ),
    Stage(
        name="tiles", share=0.08, module="tile_search", parts=("search",), rehearsed=("search",),
        title="tiles of the tensor-core product",
    ),
    Stage(
        name="training", share=0.24, module="training_step", power=True,
        parts=("azr_25m", "azr_100m", "torch"), rehearsed=("smoke", "torch"),
        title="a training step, against the same model unquantised and PyTorch",
    ),
    Stage(
        name="rollouts", share=0.11, module="rollouts", power=True, parts=("azr_25m", "azr_100m"), rehearsed=("smoke",),
        title="rollouts",
    ),
    Stage(
        name="selfplay", share=0.14, module="selfplay_step", parts=("azr_25m",), rehearsed=("smoke",),
        title="a self-play step and its wait for the host",
    ),
    Stage(
        name="run", share=0.15, module="training_run", parts=("azr_25m",), rehearsed=("smoke",),
        title="training for what is left, with its held-out table",
    ),
)  # fmt: skip
