"""Compiles for GPUs that are not there; run by ``test_ahead.py`` in a process of its own.

    python tests/pallas_kernels/ahead.py WHEELS DUMP kernels|memory     → one JSON object on stdout

WHEELS is the folder that ``tests/requirements-gpu-aot.txt`` was installed into; DUMP takes the PTX.
"""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys

WHEELS, DUMP, WHAT = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(WHEELS), str(ROOT)]
os.environ |= {
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "JAX_PLATFORMS": "cpu",
    "MOSAIC_GPU_DUMP_TO": str(DUMP),
    "XLA_FLAGS": f"--xla_dump_to={DUMP} --xla_gpu_cuda_data_dir={WHEELS / 'nvidia' / 'cuda_nvcc'}",
    "PATH": os.pathsep.join([str(WHEELS / "nvidia" / "cuda_nvcc" / "bin"), os.environ["PATH"], "/usr/local/cuda/bin"]),
}

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pallas_kernels import mosaic_gpu, triton_gpu, turing, xla

TARGET = """gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: {shared} threads_per_core_limit: {threads} core_count: {cores} fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth} l2_cache_size: {l2} clock_rate_ghz: 1.7 device_memory_size: {memory}
  shared_memory_per_block_optin: {optin} cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 }}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }} runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{name}"
"""
FIELDS = ("name", "major", "minor", "shared", "threads", "cores", "fpus", "bandwidth", "l2", "memory", "optin")
A100, GTX = "NVIDIA A100-SXM4-80GB", "NVIDIA GeForce GTX 1660 SUPER"
DEVICES = {
    "sm_90": ("NVIDIA H200", 9, 0, 233472, 2048, 132, 128, 4_800_000_000_000, 52428800, 150_000_000_000, 232448),
    "sm_80": (A100, 8, 0, 167936, 2048, 108, 64, 2_039_000_000_000, 41943040, 85_000_000_000, 166912),
    "sm_75": (GTX, 7, 5, 65536, 1024, 22, 64, 336_000_000_000, 1572864, 6_000_000_000, 65536),
}  # fmt: skip
N, K = 3_840, 2_560  # a merged QKV of a 2.5B model


def mesh_of(arch: str) -> Mesh:
    """A mesh of one GPU of that architecture."""
    text = TARGET.format(**dict(zip(FIELDS, DEVICES[arch], strict=True)))
    topology = topologies.get_topology_desc(topology_name="x", platform="cuda", topology="1x1x1", target_config=text)
    return Mesh(np.array(topology.devices), ("x",))


def compiled(arch: str, function, *shapes, donate: tuple[int, ...] = ()):
    """``function`` compiled for ``arch``; arguments are pytrees of arrays or of their shapes."""
    mesh = mesh_of(arch)
    place = NamedSharding(mesh, PartitionSpec())
    on_gpu = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes)
    with jax.set_mesh(mesh):
        return jax.jit(function, donate_argnums=donate).trace(*on_gpu).lower(lowering_platforms=("cuda",)).compile()


def spills(ptx: pathlib.Path) -> int:
    """Bytes that ptxas spills when it assembles a file for its target; raises ``CalledProcessError`` if it cannot."""
    target = re.search(r"^\.target (\w+)", ptx.read_text(), re.MULTILINE)[1]
    command = ["ptxas", f"-arch={target}", "-v", "-o", ptx.with_suffix(".cubin"), ptx]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    counts = re.findall(r"(\d+) bytes spill (?:stores|loads)", told)
    assert counts, f"ptxas reports no function in {ptx.name}"
    return sum(map(int, counts))


def kernel(arch: str, product, m: int) -> dict[str, object]:
    """What the compiled product of M activations with an N × K matrix is made of."""
    for old in DUMP.iterdir():
        old.unlink()
    shapes = jax.ShapeDtypeStruct((m, K), jnp.int8), jax.ShapeDtypeStruct((N, K // 4), jnp.uint8)
    done = compiled(arch, product, *shapes)
    if product is turing.code_product:  # XLA carries it unread
        (DUMP / "own.ptx").write_text(turing.ptx(m, N, K))
    files = [path for path in DUMP.glob("*.ptx") if ".entry" in path.read_text()]
    ptx = "\n".join(path.read_text() for path in files)
    jax.clear_caches()
    return {
        "arch": arch,
        "m": m,
        "files": len(files),
        "instructions": sorted(set(re.findall(r"(?:wgmma\.mma_async|mma\.sync)[\w.]*s8[\w.]*|dp4a[\w.]*", ptx))),
        "library": sorted(set(re.findall(r'custom_call_target="([^"]+)"', done.as_text()))),
        "spills": sum(spills(path) for path in files),
        "temporary_bytes": done.memory_analysis().temp_size_in_bytes,
    }


def kernels() -> list[dict[str, object]]:
    """The Triton and Mosaic routes where they exist, and the XLA route of the card without tensor cores."""
    routes = {
        "triton": (triton_gpu.code_product, ("sm_90", "sm_80"), (1, 8, 16, 64, 512)),
        "mosaic": (mosaic_gpu.code_product, ("sm_90",), (1, 64, 512)),
        "turing": (turing.code_product, ("sm_75",), (1, 8)),
        "xla": (xla.code_product, ("sm_75",), (1, 64)),
    }
    return [
        kernel(arch, product, m) | {"route": route}
        for route, (product, archs, sizes) in routes.items()
        for arch in archs
        for m in sizes
    ]


def memory() -> list[dict[str, object]]:
    """Device memory of whole updates on the 6 GB card, in f32, all shipped rows in parts of 8 warm-up sequences."""
    import importlib.util

    from bitzero import config as configuration

    rows = []
    for name in ("azr_small", "azr_25m", "azr_100m"):
        spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        settings = module.get_config()
        settings.optimiser.microbatches = settings.warmup.batch_size // 8
        cfg = configuration.with_operand(configuration.freeze(settings), "f32")
        rows += [{"config": name, "phase": phase} | update_size(cfg, phase) for phase in ("warm-up", "self-play")]
    return rows


def update_size(cfg, phase: str) -> dict[str, int]:
    """Bytes of one update of ``cfg`` on the 6 GB card: the state, and all beside it."""
    from bitzero.selfplay import warmup

    state = jax.eval_shape(lambda: warmup.init_state(cfg))
    step = supervised_step if phase == "warm-up" else learning_step
    function, arguments = step(cfg)
    size = compiled("sm_75", function, state, *arguments, donate=(0,)).memory_analysis()
    jax.clear_caches()
    sp, tasks = cfg.selfplay, cfg.tasks
    rows = cfg.warmup.batch_size if phase == "warm-up" else sp.supervised_batch
    played = 0 if phase == "warm-up" else sp.num_tasks * (1 + sp.group_size)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "tokens": rows * tasks.context + played * (tasks.prompt + tasks.completion),
        "parts": cfg.optimiser.microbatches,
        "state_bytes": size.argument_size_in_bytes,
        "bytes": size.argument_size_in_bytes
        + size.output_size_in_bytes
        + size.temp_size_in_bytes
        - size.alias_size_in_bytes,
    }


def supervised_step(cfg):
    """One step of warm-up, and its rows."""
    from bitzero.selfplay import warmup

    rows = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape), a.dtype), generated(cfg, cfg.warmup.batch_size))
    return functools.partial(warmup.run_chunk, cfg=cfg, phase="integer"), (rows,)


def learning_step(cfg):
    """The update of a self-play step (what follows the last call to the host), and what it learns from."""
    from bitzero.selfplay import loop
    from bitzero.state import Credit, Judged, Proposals, Rollout, Slots

    sp, tasks = cfg.selfplay, cfg.tasks
    array = jax.ShapeDtypeStruct
    n, g, f32, i32, flag = sp.num_tasks, sp.group_size, jnp.float32, jnp.int32, jnp.bool_
    played = lambda rows: Rollout(
        tokens=array((rows, tasks.completion), i32), logprobs=array((rows, tasks.completion), f32),
        mask=array((rows, tasks.completion), flag),
    )  # fmt: skip
    each = array((n,), i32)
    proposals = Proposals(prompt=array((n, tasks.prompt), i32), kind=each, level=each, rollout=played(n))
    slots = Slots(
        prompt=array((n, tasks.prompt), jnp.uint16), record=array((n, tasks.record), jnp.uint16), kind=each, gate=each,
        level=each, own=array((n,), flag), novel=array((n,), flag), first=array((n,), flag),
        confidence=array((n,), f32),
    )  # fmt: skip
    judged = Judged(reward=array((n, g), f32), counted=array((n, g), flag), trivial=array((n,), flag))
    paid = array((n,), f32)
    credit = Credit(rate=paid, propose_reward=paid, propose_advantage=paid, solve_advantage=array((n, g), f32))
    update = functools.partial(loop.learn, cfg=cfg)
    return update, (proposals, slots, played(n * g), judged, credit, generated(cfg, sp.supervised_batch))


def generated(cfg, rows: int):
    """The shapes of so many rows of the generator."""
    from bitzero.generator.orders import examples_at_most
    from bitzero.state import Supervised

    context = cfg.tasks.context
    labels = jax.ShapeDtypeStruct((rows, examples_at_most(context)), jnp.int8)
    tokens, mask = (jax.ShapeDtypeStruct((rows, context), dtype) for dtype in (jnp.uint16, jnp.bool_))
    return Supervised(tokens=tokens, mask=mask, kind=labels, level=labels)


if __name__ == "__main__":
    print(json.dumps({"kernels": kernels, "memory": memory}[WHAT]()))
