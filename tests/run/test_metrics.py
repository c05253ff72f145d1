"""TensorBoard as a person meets it: a real server is asked over HTTP for its plugins and tags."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from bitzero.config import Config
from bitzero.run.metrics import GROUPS, Metrics


def get(port: int, path: str):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/{path}", timeout=10) as answer:
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A run's event files of two sittings, and the port of a TensorBoard that shows them."""
    path = tmp_path_factory.mktemp("run") / "tb"
    with Metrics(path, 0) as metrics:
        metrics.chunk(0, {"loss/total": np.array([4.0, 2.0, 9.0])}, ran=2, each=True)
        metrics.scalars(6, {"loss/total": 77.0})  # killed after this; the next sitting starts at step 4
    time.sleep(1.1)  # event files are named by the second
    with Metrics(path, 4) as metrics:
        metrics.scalars(5, {f"{group}/x": 1.0 for group in GROUPS})
        metrics.text(5, "selfplay/samples", "```\ndef f(a):\n    return a\n```")
        metrics.hparams(Config(name="test"), {"eval/test_L0_deduction": 0.5})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(path),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
    ]
    server = subprocess.Popen([*command, "--load_fast=false"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if len(get(port, "plugin/scalars/tags").get(".", {})) > len(GROUPS):
                    break
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.3)
        yield port
    finally:
        server.kill()
        server.wait()


def test_every_group_is_served(board):
    tags = get(board, "plugin/scalars/tags")["."]
    assert {tag.split("/")[0] for tag in tags} >= set(GROUPS)


def test_the_plugins_a_run_uses_are_active(board):
    plugins = get(board, "plugins_listing")
    for name in ("scalars", "custom_scalars", "text", "hparams"):
        assert plugins[name]["enabled"], name


def test_the_layout_names_its_charts(board):
    layout = get(board, "plugin/custom_scalars/layout")
    charts = {category["title"]: [chart["title"] for chart in category["chart"]] for category in layout["category"]}
    assert charts["learning"] == [
        "loss", "held-out accuracy by level", "examples exactly right by level", "share of the examples by level",
        "token accuracy by form",
    ]  # fmt: skip
    assert set(charts) == {"learning", "self-play", "weights", "precision", "speed"}


def test_steps_that_run_again_replace_their_events(board):
    points = get(board, "plugin/scalars/scalars?tag=loss/total&run=.")
    assert [(step, value) for _, step, value in points if step < 5] == [(1, 4.0), (2, 2.0)]
    assert 77.0 not in [value for _, _, value in points]


def test_samples_are_text_and_settings_are_hparams(board):
    assert get(board, "plugin/text/tags")["."] == ["selfplay/samples/text_summary"]
    assert "hp" in get(board, "plugin/scalars/tags")


def test_a_chunk_is_one_mean_and_absent_values_do_not_count(tmp_path):
    with Metrics(tmp_path, 0) as metrics:
        values = {
            "loss/total": np.array([1.0, 3.0, 50.0]),
            "loss/token_accuracy_propose": np.array([-1.0, 0.5, 0.9]),
            "loss/token_accuracy_L5": np.array([-1.0, -1.0, -1.0]),
            "selfplay/reward": np.array([-1.0, -1.0, 0.0]),
        }
        means = metrics.chunk(0, values, ran=2, each=False)
    assert means == {"loss/total": 2.0, "loss/token_accuracy_propose": 0.5, "selfplay/reward": -1.0}


def test_layout_has_only_known_groups():
    from bitzero.run.metrics import _LAYOUT

    tags = [tag for charts in _LAYOUT.values() for _, tags in charts.values() for tag in tags]
    assert {tag.split("/")[0] for tag in tags} <= set(GROUPS)
