"""Compiles for GPUs that are not there; run by ``test_ahead.py`` in a process of its own.

    python tests/pallas_kernels/ahead.py WHEELS DUMP kernels              → one JSON object on stdout
    python tests/pallas_kernels/ahead.py WHEELS DUMP memory [EXPERIMENT …]

WHEELS is the folder that ``tests/requirements-gpu-aot.txt`` was installed into; DUMP takes the PTX.
"""

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
POOL = 4_500_000_000  # bytes that JAX takes of the card with 6 GB
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


def memory(*names: str) -> list[dict[str, object]]:
    """Device memory of every kind of step of the shipped experiments (or of ``names``) on the 6 GB card, in f32.

    They are cut as a run cuts itself into the pool that JAX takes there, by the same function and these counts.
    """
    from bitzero import config as configuration
    from bitzero.run import fit
    from bitzero.run import memory as counts
    from bitzero.run.experiment import read_config

    mesh = mesh_of("sm_75")
    place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, PartitionSpec()))

    def count(program) -> int:
        with jax.set_mesh(mesh):
            size = counts.needed_bytes(program, place, lowering_platforms=("cuda",))
        jax.clear_caches()
        return size

    rows = []
    for name in names or ("azr_small", "azr_25m", "azr_100m"):
        cfg = configuration.with_operand(read_config(str(ROOT / "experiments" / f"{name}.py")), "f32")
        cfg, needs, _ = fit.settle_parts(cfg, fit.Pool(POOL, "the pool", True), count)
        estimates = {program.what: counts.estimated_bytes(program) for program in counts.step_programs(cfg)}
        rows += [
            {
                "config": name, "what": need.what, "parts": need.parts, "bytes": need.size,
                "estimated_bytes": estimates[need.what],
            }
            for need in needs
        ]  # fmt: skip
    return rows


if __name__ == "__main__":
    print(json.dumps({"kernels": kernels, "memory": memory}[WHAT](*sys.argv[4:])))
