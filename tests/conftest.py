"""What every test stands on: one CPU device with a fixed thread pool, no silent broadcasting, one compile cache."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]

# Before the first jax import: the pool size decides bits of a reduction and keeps host callbacks from starving.
os.environ.setdefault("PJRT_NPROC", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("PYTHONHASHSEED", "0")
os.environ.setdefault("CRC32C_SW_MODE", "auto")  # as tensorboardX sets it, in whichever test imports it first
# For the programs that tests start as well: what one process has compiled no other compiles again, and nothing of it
# goes into the user's own cache; and most of the time of a toy run is the compiler's.
CACHE = ROOT / "build" / "test-cache"
os.environ["XDG_CACHE_HOME"] = str(CACHE)
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import hypothesis
import jax
import pytest

from bitzero.run import device

QUICK = "--xla_cpu_use_fusion_emitters=false"  # half the time of compiling a step


def settle_launches() -> None:
    """Adds ``QUICK`` to what launched programs inherit, where this XLA knows it: one that does not ends the program.

    This process has read its flags by then, so its own tests compile with the emitters of a run.
    """
    known = CACHE / f"flags-{jax.__version__}"
    if not known.exists():
        code = "import jax; jax.devices()"
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"XLA_FLAGS": QUICK}, capture_output=True)
        known.write_text("" if done.returncode else QUICK)
    jax.devices()
    os.environ.setdefault("XLA_FLAGS", known.read_text())


jax.config.update("jax_numpy_rank_promotion", "raise")
device.configure_jax()  # the cache's place, by processor, cores and threads, as a run has it
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
settle_launches()

# A test's first call may compile, so time says nothing; a failing seed must come back the same the next time.
hypothesis.settings.register_profile("bitzero", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("bitzero")

# Rooms that start whole runs come first, so that two workers end at about the same time.
FIRST = ("run", "sweep", "selfplay")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Shares whole rooms between two workers, file by file; a file alone, a debugger or a GPU has one process.

    Compilers, sandboxes and launched runs keep a core busy and often wait, so two halve the time on two cores.
    """
    if hasattr(config, "workerinput"):  # a worker, which would start two of its own
        return
    option = config.option
    files = all(pathlib.Path(word.split("::")[0]).is_file() for word in config.args)
    if option.numprocesses is None and not files and not option.usepdb and os.environ["JAX_PLATFORMS"] == "cpu":
        option.numprocesses, option.dist, option.loadscopereorder = 2, "loadfile", False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the rooms of ``FIRST`` before the others; the order within a file stays."""
    rank = {room: at for at, room in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.path.parent.name, len(FIRST)))


@pytest.fixture(scope="module", autouse=True)
def _compiler(request):
    """Compiles as fast as it can, but as a run does it in a module marked ``bits``: there the code itself is asked."""
    fast = request.node.get_closest_marker("bits") is None
    if fast != jax.config.values["jax_disable_most_optimizations"]:
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", fast)


@pytest.fixture(autouse=True)
def _no_stray_environment():
    """A test leaves the variables and the directory as it found them; set up first, so looks after ``monkeypatch``."""
    before, place = surroundings()
    yield
    after, here = surroundings()
    changed = {name: (before.get(name), after.get(name)) for name in before.keys() | after.keys()}
    changed = {name: values for name, values in changed.items() if values[0] != values[1]}
    os.environ.update(before)
    for name in after.keys() - before.keys():
        del os.environ[name]
    os.chdir(place)
    assert not changed and here == place, f"left behind: {changed or here}"


def surroundings() -> tuple[dict[str, str], str]:
    """The variables, without pytest's own, and the working directory."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}, os.getcwd()
