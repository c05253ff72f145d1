"""The GPU kernels compile, to the instructions that matter, on a machine without a GPU.

Needs the wheels of ``tests/requirements-gpu-aot.txt`` in ``build/cuda`` (or in $BITZERO_CUDA_WHEELS); skipped, and
said, where they are absent.
"""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[2]
WHEELS = pathlib.Path(os.environ.get("BITZERO_CUDA_WHEELS", ROOT / "build" / "cuda"))

FITTING = (WHEELS / f"jax_cuda12_plugin-{jax.__version__}.dist-info").is_dir()

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not FITTING, reason=f"no CUDA wheels for JAX {jax.__version__} in {WHEELS}; see tests/requirements-gpu-aot.txt"
    ),
]


def ahead(dump, *what):
    ran = subprocess.run(
        [sys.executable, str(pathlib.Path(__file__).parent / "ahead.py"), str(WHEELS), str(dump), *what],
        capture_output=True, text=True, timeout=1450, check=False, env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


def test_products_compile_to_the_int8_instructions_and_spill_nothing(tmp_path):
    found = ahead(tmp_path, "kernels")
    for row in found:
        print(row)
        assert row["files"] > 0 and row["spills"] == 0, row
        if row["route"] == "turing" or (row["route"] == "triton" and row["m"] <= 8):
            assert row["instructions"] == ["dp4a.u32.s32"], row
        elif row["route"] in ("triton", "mosaic"):
            wanted = "wgmma.mma_async" if row["arch"] == "sm_90" else "mma.sync"
            assert any(name.startswith(wanted) and ".s8.s8" in name for name in row["instructions"]), row
        elif row["m"] == 1:
            assert row["temporary_bytes"] < 16_384, row  # one fused reduce over the 2.4 MB of packed bytes
    assert len(found) == 17


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "name", ["azr_small", *(pytest.param(name, marks=pytest.mark.slow) for name in ("azr_25m", "azr_100m"))]
)
def test_every_step_of_an_experiment_fits_the_card_with_6_gb(name, tmp_path, capsys):
    """In the pool of 4.5 GB that JAX takes of it, and about as the estimate has it."""
    rows = ahead(tmp_path, "memory", name)
    lines = [f"\n{'config':10} {'what':20} {'parts':>6} {'GB':>6} {'estimated':>9}"]
    lines += [
        f"{row['config']:10} {row['what']:20} {row['parts']:6} {row['bytes'] / 1e9:6.2f} "
        f"{row['estimated_bytes'] / 1e9:9.2f}"
        for row in rows
    ]
    with capsys.disabled():
        print("\n".join(lines))
    assert len(rows) == 7 and all(row["bytes"] <= 4.5e9 for row in rows)
    assert all(0.8 < row["estimated_bytes"] / row["bytes"] < 1.6 for row in rows)
