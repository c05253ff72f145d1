"""A workdir has one owner, one configuration, and JSON files that are whole or absent."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest

from bitzero import config as configuration
from bitzero.config import Config, ConfigError, Eval, Model, Optimiser, Precision, Run, SelfPlay, Tasks, stored
from bitzero.run import workdir


def test_a_second_owner_is_refused_with_a_sentence(tmp_path):
    with workdir.owned(tmp_path / "run") as path:
        with pytest.raises(workdir.RunError, match=rf"another run is using .*process {os.getpid()}"):
            with workdir.owned(path):
                pass
    with workdir.owned(tmp_path / "run"):  # free again
        pass


def test_the_lock_goes_with_a_killed_process(tmp_path):
    code = (
        "import os, pathlib, signal\nfrom bitzero.run import workdir\n"
        f"with workdir.owned(pathlib.Path({str(tmp_path)!r})):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=pathlib.Path(__file__).parents[2])
    assert done.returncode == -9
    with workdir.owned(tmp_path):
        pass


@pytest.mark.parametrize("place", ["file/run", "/proc/run"], ids=["below a file", "read-only"])
def test_an_unwritable_place_is_one_sentence(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(workdir.RunError, match=r"cannot write to .*choose another --workdir"):
        with workdir.owned(tmp_path / place):
            pass


def test_the_same_experiment_may_go_on_with_another_sitting_length_and_evaluation(tmp_path):
    workdir.settle_config(tmp_path, Config(), pytest.fail)
    workdir.settle_config(tmp_path, Config(run=Run(minutes=5.0), eval=Eval(items=400)), pytest.fail)
    assert json.loads((tmp_path / "config.json").read_text())["run"]["minutes"] == 5.0


def test_what_fits_a_run_to_its_machine_may_change_and_what_it_learns_from_may_not(tmp_path):
    workdir.settle_config(tmp_path, Config(), pytest.fail)
    fitted = Config(
        optimiser=Optimiser(microbatches=4),
        selfplay=SelfPlay(rollout_parts=8),
        run=Run(chunk=10),
        tasks=Tasks(workers=3),
    )
    workdir.settle_config(tmp_path, fitted, pytest.fail)
    for setting, instead in (("num_tasks", "microbatches"), ("group_size", "rollout_parts")):
        with pytest.raises(
            ConfigError, match=rf"config\.selfplay\.{setting}=.*this command says 4 \(.*{instead} .*need"
        ):
            workdir.settle_config(tmp_path, Config(selfplay=SelfPlay(**{setting: 4})), pytest.fail)


def test_a_run_says_its_own_settings_and_a_command_line_may_say_otherwise(tmp_path):
    before = Config(name="mine", model=Model(width=64), eval=Eval(items=7))
    workdir.settle_config(tmp_path, before, pytest.fail)
    assert workdir.config_of(tmp_path, ()) == before
    now = workdir.config_of(tmp_path, [("eval.items", "9"), ("model.width", "32")])
    assert (now.eval.items, now.model.width, now.name) == (9, 32, "mine")
    with pytest.raises(ConfigError, match=r"config\.model\.width=64, this command says 32"):
        workdir.check_config(tmp_path, now, pytest.fail)


def test_a_runs_own_settings_are_not_believed_about_this_machine_nor_without_a_check(tmp_path):
    """A folder may come from somebody else: whether the sandbox may do without its walls is said here or not at all."""
    older(tmp_path, sandbox={"allow_unsafe": True}, precision={"decay": None}, tasks={"fuel": 2000})
    assert not workdir.config_of(tmp_path, ()).sandbox.allow_unsafe
    assert workdir.config_of(tmp_path, [("sandbox.allow_unsafe", "true")]).sandbox.allow_unsafe
    assert workdir.config_of(tmp_path, ()).precision == Precision()
    older(tmp_path, model={"width": 30})
    with pytest.raises(ConfigError, match=r"config\.json: .*width"):
        workdir.config_of(tmp_path, ())
    older(tmp_path, model={"shuffle": 1})
    with pytest.raises(ConfigError, match=r"config\.json: unknown key config\.model\.shuffle"):
        workdir.config_of(tmp_path, ())


def test_another_experiment_is_refused_by_the_name_of_its_first_difference(tmp_path):
    workdir.settle_config(tmp_path, Config(), pytest.fail)
    with pytest.raises(ConfigError, match=r"config\.model\.width=128, this command says 64"):
        workdir.settle_config(tmp_path, Config(model=Model(width=64)), pytest.fail)


def older(home: pathlib.Path, **changes) -> None:
    """A run directory as another program left it: the defaults with ``changes`` (group → keys) in ``config.json``."""
    tree = dataclasses.asdict(Config())
    for group, keys in changes.items():
        tree[group] = {key: value for key, value in (tree[group] | keys).items() if value is not None}
    (home / "config.json").write_text(json.dumps(tree))


def test_a_key_that_is_no_longer_a_setting_is_left_out_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(stored.OLD_SETTINGS, "tasks.shuffle", "programs are always shuffled")
    older(tmp_path, tasks={"shuffle": 7})
    said = []
    workdir.settle_config(tmp_path, Config(), said.append)
    assert said == [
        f"{tmp_path}/config.json: config.tasks.shuffle is left out, it is no longer a setting: "
        "programs are always shuffled"
    ]
    assert "shuffle" not in json.loads((tmp_path / "config.json").read_text())["tasks"]
    workdir.settle_config(tmp_path, Config(), pytest.fail)  # said once


def test_an_old_name_that_is_a_setting_still_is_one(tmp_path, monkeypatch):
    monkeypatch.setitem(stored.OLD_SETTINGS, "tasks.pairs", "of another branch")
    older(tmp_path, tasks={"pairs": 5})
    with pytest.raises(ConfigError, match=r"config\.tasks\.pairs=5, this command says 6"):
        workdir.settle_config(tmp_path, Config(), pytest.fail)


def test_a_key_that_nobody_knows_is_refused(tmp_path):
    older(tmp_path, tasks={"shuffle": 7})
    with pytest.raises(ConfigError, match=r"config\.json has the setting config\.tasks\.shuffle, which this program"):
        workdir.settle_config(tmp_path, Config(), pytest.fail)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="holds no settings"):
        workdir.settle_config(tmp_path, Config(), pytest.fail)


def test_a_key_that_an_older_program_did_not_know_means_its_default(tmp_path):
    older(tmp_path, precision={"decay": None})
    workdir.settle_config(tmp_path, Config(), pytest.fail)
    older(tmp_path, precision={"decay": None})
    with pytest.raises(ConfigError, match=r"config\.precision\.decay=0\.95, this command says 0\.5"):
        workdir.settle_config(tmp_path, Config(precision=Precision(decay=0.5)), pytest.fail)


def test_the_generators_fuel_is_an_old_setting():
    """Whether or not this program still has it: a run that was begun with it goes on."""
    known = configuration.flat_settings(Config())
    settings, lines = configuration.stored_settings({"tasks": {"fuel": 2_000}}, "config.json")
    assert ("tasks.fuel" in settings) == ("tasks.fuel" in known) != bool(lines)


def test_a_run_from_before_a_setting_was_dropped_and_another_added_goes_on(tmp_path):
    said = []
    workdir.settle_config(tmp_path, Config(), pytest.fail)
    older = json.loads((tmp_path / "config.json").read_text())
    older["tasks"]["fuel"] = 2000
    del older["model"]["smear"]
    (tmp_path / "config.json").write_text(json.dumps(older))
    workdir.settle_config(tmp_path, Config(), said.append)
    assert len(said) == 1 and "config.tasks.fuel is left out" in said[0]
    assert "fuel" not in json.loads((tmp_path / "config.json").read_text())["tasks"]


def test_json_is_replaced_in_one_step(tmp_path):
    file = tmp_path / "run.json"
    workdir.write_json(file, {"step": 1})
    workdir.write_json(file, {"step": 2})
    assert workdir.read_json(file) == {"step": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]  # no draft is left behind


def test_unreadable_json_is_one_sentence(tmp_path):
    with pytest.raises(workdir.RunError, match="cannot read"):
        workdir.read_json(tmp_path / "absent.json")
    (tmp_path / "half.json").write_text('{"step": ')
    with pytest.raises(workdir.RunError, match="is not JSON"):
        workdir.read_json(tmp_path / "half.json")
