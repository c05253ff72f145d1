"""Every Pallas kernel lowers for CUDA to one call, without a GPU and without the CUDA wheels."""

import contextlib

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh

from pallas_kernels import mosaic_gpu, triton_gpu


def named_gpu():
    """JAX 0.11 lowers for a GPU with a name only; 0.10 takes a Hopper card where none is there."""
    try:
        from jax.sharding import AbstractDevice
    except ImportError:
        return contextlib.nullcontext()
    h200 = AbstractDevice(device_kind="NVIDIA H200", platform="gpu", num_cores=132)
    return jax.sharding.use_abstract_mesh(AbstractMesh((1,), ("x",), abstract_device=h200))


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")  # said by JAX 0.11
@pytest.mark.parametrize(
    ("product", "call", "m"),
    [
        (triton_gpu.code_product, "xla.gpu.triton", 1),
        (triton_gpu.code_product, "xla.gpu.triton", 8),
        (triton_gpu.code_product, "xla.gpu.triton", 64),
        (mosaic_gpu.code_product, "mosaic_gpu", 1),
        (mosaic_gpu.code_product, "mosaic_gpu", 64),
    ],
)
def test_it_lowers_to_one_call(product, call, m):
    shapes = jax.ShapeDtypeStruct((m, 768), jnp.int8), jax.ShapeDtypeStruct((128, 192), jnp.uint8)
    with named_gpu():
        text = jax.jit(product).trace(*shapes).lower(lowering_platforms=("cuda",)).as_text()
    assert sum(call in line for line in text.splitlines() if "custom_call" in line) == 1
