"""Which device a run uses, and the line that says why: decided from what a driver tells, before JAX is imported."""

import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from bitzero.config import ConfigError, Model
from bitzero.run import accelerator, device
from bitzero.run.accelerator import Card, Driver

ROOT = pathlib.Path(__file__).parents[2]
GTX = Card("NVIDIA GeForce GTX 1660 SUPER", (7, 5), 6_000_000_000)
RTX = Card("NVIDIA GeForce RTX 2070", (7, 5), 8_000_000_000)
OLD = Card("NVIDIA GeForce GT 710", (3, 5), 2_000_000_000)
READY = Driver(cards=(GTX,), version=12_080)
FAKE = """
#include <string.h>
int cuInit(unsigned flags) { return ERROR; }
int cuDriverGetVersion(int *v) { *v = 12080; return 0; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *d, int i) { *d = i + 40; return 0; }
int cuDeviceGetName(char *t, int n, int d) { strcpy(t, d == 40 ? "first" : "second"); return 0; }
int cuDeviceTotalMem_v2(unsigned long *b, int d) { *b = 5000000000UL + d; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 7 : d - 35; return 0; }
int cuGetErrorString(int code, const char **t) { *t = "no CUDA-capable device is detected"; return 0; }
"""


@pytest.fixture
def library(tmp_path):
    """Builds a driver that is not one; the argument is what its start returns."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler")

    def build(error: int) -> str:
        source, made = tmp_path / f"fake{error}.c", tmp_path / f"fake{error}.so"
        source.write_text(FAKE.replace("ERROR", str(error)))
        subprocess.run(["cc", "-shared", "-fPIC", "-o", made, source], check=True)
        return str(made)

    return build


def test_the_driver_is_asked_for_its_cards(library):
    cards = (Card("first", (7, 5), 5_000_000_040), Card("second", (7, 6), 5_000_000_041))
    assert accelerator.ask_driver(library(0)) == Driver(cards=cards, version=12_080)


def test_a_driver_in_trouble_is_quoted(library):
    assert accelerator.ask_driver(library(100)) == Driver(
        trouble="the NVIDIA driver says: no CUDA-capable device is detected"
    )


def test_no_driver_costs_no_time(tmp_path):
    began = time.monotonic()
    assert accelerator.ask_driver("libnone.so.9").trouble == "no NVIDIA driver (libnone.so.9) here"
    assert time.monotonic() - began < 0.3
    (tmp_path / "text.so").write_text("nothing")
    assert accelerator.ask_driver(str(tmp_path / "text.so")).trouble


@pytest.mark.parametrize(
    ("driver", "plugin", "why"),
    [
        (Driver(trouble="no NVIDIA driver (libcuda.so.1) here"), 12, "no NVIDIA driver (libcuda.so.1) here"),
        (READY, 0, f"{GTX.name} is there, but the installed JAX has no CUDA: install requirements.txt"),
        (
            Driver(cards=(GTX,), version=11_040), 12,
            "the NVIDIA driver serves CUDA 11.4, the installed JAX needs 12: install a newer driver",
        ),
        (
            READY, 13,
            "the NVIDIA driver serves CUDA 12.8, the installed JAX needs 13: install a newer driver",
        ),
        (Driver(cards=(OLD,), version=12_080), 12, f"{OLD.name} has compute capability 3.5, CUDA 12 needs 5.2"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_of_a_gpu_is_said_and_the_cpu_used(driver, plugin, why):
    choice = accelerator.choose({}, driver, plugin)
    assert choice == accelerator.Choice(settings={"JAX_PLATFORMS": "cpu"}, line=f"device: CPU; no GPU: {why}")
    alone = accelerator.choose({"JAX_PLATFORMS": "cuda"}, driver, plugin)
    assert alone.refusal == f"JAX_PLATFORMS=cuda cannot be had: {why}; unset it, or set JAX_PLATFORMS=cpu"
    either = accelerator.choose({"JAX_PLATFORMS": "cuda,cpu"}, driver, plugin)
    assert either.settings == {"JAX_PLATFORMS": "cpu"} and why in either.line and not either.refusal


def test_the_first_card_that_will_do_is_used_and_the_others_are_left_alone():
    driver = Driver(cards=(OLD, GTX, GTX), version=12_080)
    choice = accelerator.choose({}, driver, 12)
    assert choice.settings == {
        "JAX_PLATFORMS": "cuda,cpu",
        "JAX_CUDA_VISIBLE_DEVICES": "1",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.75",
    }
    assert choice.line.startswith(f"device: {GTX.name}, 6.0 GB, CUDA 12") and "2 other cards" in choice.line


@pytest.mark.parametrize("fraction", ["XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"])
def test_what_the_user_set_stays(fraction):
    """Ours beside JAX's new name of the fraction would cost the run its GPU: JAX raises where it finds both."""
    own = {"JAX_CUDA_VISIBLE_DEVICES": "0", fraction: "0.5"}
    assert accelerator.choose(own, READY, 12).settings == {"JAX_PLATFORMS": "cuda,cpu"}
    assert accelerator.choose({"JAX_PLATFORMS": "cpu"}, READY, 12).settings == {}
    assert accelerator.choose({"JAX_PLATFORMS": "cuda"} | own, READY, 12).settings == {}
    assert accelerator.choose({"JAX_PLATFORMS": "cuda"}, READY, 12).settings["JAX_CUDA_VISIBLE_DEVICES"] == "0"


def test_both_names_of_the_fraction_are_a_sentence():
    both = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5", "XLA_CLIENT_MEM_FRACTION": "0.5"}
    found = [accelerator.choose(both | more, READY, 12) for more in ({}, {"JAX_PLATFORMS": "cuda"})]
    assert {choice.refusal for choice in found} == {
        "XLA_CLIENT_MEM_FRACTION and XLA_PYTHON_CLIENT_MEM_FRACTION are both set, and JAX takes one of them: "
        "unset the second, or set JAX_PLATFORMS=cpu"
    }
    assert not accelerator.choose(both | {"JAX_PLATFORMS": "cpu"}, READY, 12).refusal


def test_the_card_that_the_user_named_is_the_one_that_is_judged_and_said():
    driver = Driver(cards=(GTX, OLD, RTX), version=12_080)
    line = lambda text, **more: accelerator.choose({"JAX_CUDA_VISIBLE_DEVICES": text} | more, driver, 12).line
    assert line("2").startswith(f"device: {RTX.name}, 8.0 GB, CUDA 12; ") and "2 other cards" in line("2")
    assert line("2,0").startswith(f"device: {GTX.name}, ") and "1 other card is" in line("2,0")  # JAX's first
    assert "left alone" not in line("all")
    assert line("1") == f"device: CPU; no GPU: {OLD.name} has compute capability 3.5, CUDA 12 needs 5.2"
    obeyed = f"device: {RTX.name}, 8.0 GB, CUDA 12; as JAX_PLATFORMS=cuda says; 2 other cards are left alone"
    assert line("2", JAX_PLATFORMS="cuda") == obeyed
    assert line("2", JAX_PLATFORMS="cpu,cuda") == "device: as JAX_PLATFORMS=cpu,cuda says"


@pytest.mark.parametrize("text", ["3", "0,3", "-1", "first", ","])
def test_a_card_that_is_not_there_is_a_sentence(text):
    driver, own = Driver(cards=(GTX, GTX, RTX), version=12_080), {"JAX_CUDA_VISIBLE_DEVICES": text}
    why = f"JAX_CUDA_VISIBLE_DEVICES={text} names no card, the driver shows the cards 0 to 2: unset it"
    for more in ({}, {"JAX_PLATFORMS": "cuda"}):
        assert accelerator.choose(own | more, driver, 12).refusal == f"{why}, or set JAX_PLATFORMS=cpu"
    either = accelerator.choose(own | {"JAX_PLATFORMS": "cuda,cpu"}, driver, 12)
    assert either == accelerator.Choice(
        settings={"JAX_PLATFORMS": "cpu"}, line=f"device: cpu (JAX_PLATFORMS=cuda,cpu: {why})"
    )
    without_cuda = accelerator.choose(own, driver, 0)  # where JAX has no CUDA nothing reads it
    assert without_cuda.settings == {"JAX_PLATFORMS": "cpu"} and "has no CUDA" in without_cuda.line


def test_the_driver_of_this_machine_is_asked_unless_the_cpu_is(monkeypatch):
    monkeypatch.setattr(accelerator, "cuda_plugin", lambda: 12)
    monkeypatch.setattr(accelerator, "ask_driver", lambda: READY)
    assert accelerator.choice_here({}).card == GTX.name
    assert accelerator.choice_here({"JAX_PLATFORMS": "CUDA,cpu"}).card == GTX.name
    monkeypatch.setattr(accelerator, "ask_driver", lambda: pytest.fail("asked"))
    assert accelerator.choice_here({"JAX_PLATFORMS": " cpu"}).card == ""


def test_runs_at_once_share_the_memory():
    assert [accelerator.memory_share({}, runs) for runs in (1, 2, 4)] == ["0.75", "0.375", "0.187"]
    for name in ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"):
        assert accelerator.memory_share({name: ".9"}, 3) == "0.3" and accelerator.memory_variable({name: ".9"}) == name
        with pytest.raises(ConfigError, match=f"{name}=half must be a number"):
            accelerator.memory_share({name: "half"}, 2)


def test_other_systems_and_wide_types_are_a_sentence():
    assert "WSL2" in accelerator.system_refusal("Windows", {})
    assert accelerator.system_refusal("Darwin", {}).startswith("BitZero needs Linux")
    assert accelerator.system_refusal("Linux", {"JAX_ENABLE_X64": "true"}).startswith("JAX_ENABLE_X64 ")
    assert not accelerator.system_refusal("Linux", {"JAX_ENABLE_X64": "0"})


@pytest.mark.parametrize("left_out", [True, False])
def test_a_run_on_a_cpu_does_not_load_the_libraries_of_cuda(tmp_path, left_out):
    plugin = tmp_path / "jax_plugins" / "xla_cuda12"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text("def initialize():\n    print('libraries of CUDA')\n")
    code = "import os\nfrom bitzero.run.accelerator import settle_device\nsettle_device(os.environ)\n" * left_out
    code += "import jax\nprint(jax.devices()[0].platform)\n"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert ran.stdout.split("\n")[:-1] == ["libraries of CUDA"] * (not left_out) + ["cpu"], ran.stderr


def test_a_gtx_16_multiplies_in_f32_without_a_measurement():
    model = Model(num_layers=1, width=32, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=32)
    assert device.settled_operand(model, GTX.name) == "f32"
    assert device.settled_operand(model, "NVIDIA GeForce RTX 2060") is None


def test_the_command_names_what_it_needs_before_anything_that_linux_alone_has():
    """Stands for native Windows: modules of Linux cannot be imported, and the sentence comes all the same."""
    code = (
        "import platform, runpy, sys; sys.modules.update(fcntl=None, resource=None); sys.argv = ['launch.py']\n"
        "platform.system = lambda: 'Windows'; runpy.run_path('launch.py', run_name='__main__')"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 2 and ran.stderr.startswith("launch.py: BitZero needs Linux") and "WSL2" in ran.stderr


@pytest.mark.parametrize(
    ("switch", "start"),
    [
        ({"JAX_ENABLE_X64": "1"}, "JAX_ENABLE_X64 doubles every type"),
        ({"JAX_PLATFORMS": "nonsense"}, "JAX_PLATFORMS=nonsense cannot be had: "),
        ({"JAX_PLATFORMS": "cuda"}, "JAX_PLATFORMS=cuda cannot be had: "),
    ],
)
def test_an_impossible_switch_of_jax_is_one_sentence(tmp_path, switch, start):
    if switch.get("JAX_PLATFORMS") == "cuda" and not accelerator.usable_card(*_here())[1]:
        pytest.skip("there is a GPU")
    ran = subprocess.run(
        [sys.executable, "launch.py", "--config=experiments/smoke.py", f"--workdir={tmp_path / 'run'}"], cwd=ROOT,
        capture_output=True, text=True, timeout=120, env=os.environ | switch,
    )  # fmt: skip
    assert ran.returncode == 2 and "Traceback" not in ran.stderr, ran.stderr
    assert [line.removeprefix("launch.py: ") for line in ran.stderr.splitlines()][-1].startswith(start)


def _here():
    return accelerator.ask_driver(), accelerator.cuda_plugin()
