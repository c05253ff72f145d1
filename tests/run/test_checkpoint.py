"""Checkpoints come back bit for bit, damaged ones are passed over, and nothing a kill does loses the last one."""

import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bitzero.run import checkpoint
from bitzero.run.workdir import RunError

ROOT = pathlib.Path(__file__).parents[2]


def make(seed: int, width: int = 8):
    """A state with the kinds of leaves a run has: floats, counters, small integers, a typed key."""
    key = jax.random.key(seed)
    return {
        "params": {"w": jax.random.normal(key, (4, width))},
        "step": jnp.int32(seed),
        "ring": jnp.arange(12, dtype=jnp.uint16).reshape(3, 4),
        "key": jax.random.fold_in(key, 1),
    }


def like(width: int = 8):
    """What tells a store the structure and shapes of ``make``."""
    return lambda step, meta: make(0, width)


@pytest.fixture
def store(tmp_path):
    with checkpoint.Checkpoints(tmp_path / "checkpoints", keep=2, exempt=[10]) as store:
        yield store


def damage(place: pathlib.Path) -> None:
    """Flips bits in the largest file of a checkpoint's state."""
    file = max((f for f in (place / "state").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2 :] = bytes(byte ^ 0x5A for byte in data[len(data) // 2 :])
    file.write_bytes(data)


def test_a_state_comes_back_bit_for_bit_with_its_meta(store):
    store.save(20, make(7), {"operand": "bf16", "seconds": 1.5})
    state, meta = store.latest(like())
    assert checkpoint.digest(state) == checkpoint.digest(make(7))
    assert meta == {"operand": "bf16", "seconds": 1.5}
    assert jax.random.key_data(state["key"]).tolist() == jax.random.key_data(make(7)["key"]).tolist()


def test_no_checkpoint_is_none(store):
    assert store.latest(like()) is None


def test_the_newest_stay_and_the_exempt_one_for_ever(store):
    for step in (10, 20, 30, 40):
        store.save(step, make(step), {})
    assert store.steps() == [10, 30, 40]


def test_saving_a_step_again_replaces_it(store):
    store.save(20, make(1), {})
    store.save(20, make(2), {})
    state, _ = store.latest(like())
    assert int(state["step"]) == 2


@pytest.mark.parametrize("end", [OSError("no space left"), KeyboardInterrupt()])
def test_a_step_that_is_saved_anew_is_never_without_a_good_copy(tmp_path, monkeypatch, end):
    """The disk refuses, or the process ends, in the middle of saving the only checkpoint again."""
    with checkpoint.Checkpoints(tmp_path, keep=1) as store:
        place = store.save(20, make(1), {"save": 1})

        def interrupted(*_, **__):
            assert [path for path in tmp_path.rglob("_CHECKPOINT_METADATA") if "20" in path.parts[-2]]
            raise end

        with monkeypatch.context() as patched:
            patched.setattr(store._manager, "save", interrupted)
            with pytest.raises((RunError, KeyboardInterrupt)):
                store.save(20, make(2), {"save": 2})
        assert place.is_dir()
        assert store.latest(like())[1] == {"save": 1}
        store.save(20, make(3), {"save": 3})  # and saving goes on
        assert store.latest(like())[1] == {"save": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["20"]


@pytest.mark.parametrize("committed", [False, True])
def test_a_copy_that_a_kill_left_aside_is_put_right_when_the_run_goes_on(tmp_path, committed):
    with checkpoint.Checkpoints(tmp_path, keep=2) as store:
        place = store.save(20, make(1), {"save": 1})
        place.rename(tmp_path / "20.replaced")
    if committed:  # killed after the new one was there
        with checkpoint.Checkpoints(tmp_path / "other", keep=2) as store:
            shutil.copytree(store.save(20, make(2), {"save": 2}), place)
        shutil.rmtree(tmp_path / "other")
    with checkpoint.Checkpoints(tmp_path, keep=2, say=pytest.fail) as store:
        assert store.latest(like())[1] == {"save": 2 if committed else 1}
    assert [path.name for path in tmp_path.iterdir()] == ["20"]


@pytest.mark.parametrize("name", ["lr[3]", "[a-z]*", "a\\b", "why?", "a b", "{x}"])
def test_a_place_whose_name_is_a_pattern_is_read_again(tmp_path, name):
    home = tmp_path / name / "checkpoints"
    with checkpoint.Checkpoints(home, keep=2) as store:
        assert store.save(20, make(20), {"a": 1}) == home / "20"
    with checkpoint.Checkpoints(home, keep=2, say=pytest.fail) as store:
        state, meta = store.latest(like())
    assert checkpoint.digest(state) == checkpoint.digest(make(20)) and meta == {"a": 1}


@pytest.mark.parametrize("how", ["bits", "state gone", "meta gone"])
def test_a_damaged_newest_checkpoint_falls_back_with_a_sentence(tmp_path, how):
    said = []
    with checkpoint.Checkpoints(tmp_path, keep=3, say=said.append) as store:
        store.save(20, make(20), {})
        place = store.save(30, make(30), {})
        if how == "bits":
            damage(place)
        else:
            for file in (place / how.split()[0]).rglob("*"):
                if file.is_file():
                    file.unlink()
        state, _ = store.latest(like())
    assert int(state["step"]) == 20
    assert len(said) == 1 and "30 is damaged" in said[0] and said[0].endswith("falling back to the one before it")


def test_when_none_can_be_read_the_run_does_not_start_over(store):
    damage(store.save(20, make(20), {}))
    with pytest.raises(RunError, match=r"no checkpoint in .* can be read"):
        store.latest(like())


def test_another_shape_is_refused_by_the_name_of_the_array(store):
    store.save(20, make(20), {})
    with pytest.raises(
        checkpoint.ShapeError, match=r"\['params'\]\['w'\] is float32\[4,8\] there and float32\[4,16\] here"
    ):
        store.latest(like(width=16))


def test_a_state_that_is_not_accepted_is_passed_over(store):
    for step in (20, 30):
        store.save(step, make(step), {})
    state, _ = store.latest(like(), accept=lambda state: int(state["step"]) < 30)
    assert int(state["step"]) == 20
    store.drop_after(20)
    assert store.steps() == [20]


def test_digest_sees_one_bit_a_name_and_a_type():
    state = make(3)
    nudged = {**state, "params": {"w": state["params"]["w"].at[0, 0].set(np.nextafter(state["params"]["w"][0, 0], 9))}}
    renamed = {**state, "params": {"v": state["params"]["w"]}}
    retyped = {**state, "ring": state["ring"].astype(jnp.int32)}
    hashes = {checkpoint.digest(tree) for tree in (state, nudged, renamed, retyped)}
    assert len(hashes) == 4 and checkpoint.digest(make(3)) in hashes


_SAVES_FOR_EVER = """
import sys, pathlib, jax, jax.numpy as jnp
from bitzero.run.checkpoint import Checkpoints
store = Checkpoints(pathlib.Path(sys.argv[1]), keep=2)
for step in range(1, 1000):
    store.save(step, {"w": jnp.full((1500, 1500), float(step)), "step": jnp.int32(step)}, {"step": step})
    print(step, flush=True)
"""


def test_a_kill_during_a_save_leaves_the_last_one_whole(tmp_path):
    """Kills a process that does nothing but save, at three moments; each time the newest checkpoint reads back."""
    model = {"w": jnp.zeros((1500, 1500)), "step": jnp.int32(0)}
    for moment in (0.0, 0.03, 0.11):
        child = subprocess.Popen(
            [sys.executable, "-c", _SAVES_FOR_EVER, str(tmp_path / str(moment))],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            seen = [int(child.stdout.readline()) for _ in range(3)][-1]
            time.sleep(moment)
        finally:
            child.send_signal(signal.SIGKILL)
            child.communicate()
        with checkpoint.Checkpoints(tmp_path / str(moment), keep=2, say=pytest.fail) as store:
            state, meta = store.latest(lambda step, meta: model)
            assert meta["step"] >= seen
            assert float(state["w"][-1, -1]) == meta["step"] == int(state["step"])
            store.save(meta["step"] + 1, state, meta)  # and saving goes on
        assert all(path.name.isdigit() for path in (tmp_path / str(moment)).iterdir())  # no debris stays


_FULL_DISK = """
import sys, pathlib, resource, jax, jax.numpy as jnp
from bitzero.run.checkpoint import Checkpoints
from bitzero.run.workdir import RunError
store = Checkpoints(pathlib.Path(sys.argv[1]), keep=2)
state = {"w": jax.random.normal(jax.random.key(0), (400, 400))}
store.save(1, state, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    store.save(2, state, {})
except RunError as error:
    print(error)
    sys.exit(3)
"""


def test_a_disk_that_refuses_is_one_sentence_and_the_one_before_stays(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 3, done.stderr
    assert "cannot save step 2" in done.stdout and len(done.stdout.splitlines()) == 1
    with checkpoint.Checkpoints(tmp_path, keep=2) as store:
        state, _ = store.latest(lambda step, meta: {"w": jnp.zeros((400, 400))})
    np.testing.assert_array_equal(state["w"], jax.random.normal(jax.random.key(0), (400, 400)))
