"""A workdir has one owner, one configuration, and JSON files that are whole or absent."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from bitzero.config import Config, ConfigError, Eval, Model, Run
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
    workdir.settle_config(tmp_path, Config())
    workdir.settle_config(tmp_path, Config(run=Run(minutes=5.0), eval=Eval(items=400)))
    assert json.loads((tmp_path / "config.json").read_text())["run"]["minutes"] == 5.0


def test_another_experiment_is_refused_by_the_name_of_its_first_difference(tmp_path):
    workdir.settle_config(tmp_path, Config())
    with pytest.raises(ConfigError, match=r"config\.model\.width=128, this command says 64"):
        workdir.settle_config(tmp_path, Config(model=Model(width=64)))


def test_a_run_from_before_a_setting_was_dropped_and_another_added_goes_on(tmp_path):
    workdir.settle_config(tmp_path, Config())
    older = json.loads((tmp_path / "config.json").read_text())
    older["tasks"]["fuel"] = 2000
    del older["model"]["smear"]
    (tmp_path / "config.json").write_text(json.dumps(older))
    workdir.settle_config(tmp_path, Config())
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
