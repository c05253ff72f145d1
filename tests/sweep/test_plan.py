"""Reading a sweep file: the runs it makes, the warm-ups they share, and one clear line for each thing wrong with it."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

from bitzero.config import ConfigError, stored
from bitzero.sweep.plan import SweepOrder, describe_plan, read_plan, run_command

ROOT = pathlib.Path(__file__).parents[2]
SMOKE = str(ROOT / "experiments" / "smoke.py")
SWEEPS = sorted((ROOT / "experiments" / "sweeps").glob("*.py"))
HEAD = '"""What it asks."""\nBASE = {"warmup.steps": 40, "warmup.ramp_start": 0.5}\nBRANCH = 20\n'
AFTER = 'AFTER_BRANCH = ("precision", "warmup.ramp_end", "eval")\n'
POINTS = """
def points():
    yield "ternary", "ternary", 2.0, {}
    yield "fisher-2.5", "fisher", 2.5, {"precision.budget": 2.5}
    yield "wide", "wider", 2.5, {"model.ffn_width": 96, "seeds": 1}
"""


def order(tmp_path, text=HEAD + AFTER + POINTS, **more):
    file = tmp_path / "mine.py"
    file.write_text(text)
    return SweepOrder(spec=SMOKE, file=file, **{"home": tmp_path / "home", "seeds": 2} | more)


def problem(tmp_path, text, **more):
    """The line with which the sweep file ``text`` is refused."""
    with pytest.raises(ConfigError) as caught:
        read_plan(order(tmp_path, text, **more))
    line = str(caught.value)
    assert "\n" not in line
    return line.removeprefix(f"{tmp_path}/mine.py: ").removeprefix(f"{tmp_path}/mine.py, ")


def test_points_of_a_seed_stand_together_after_their_warm_ups(tmp_path):
    plan = read_plan(order(tmp_path))
    titles = [job.title if job.point else "warm-up" for job in plan.jobs]
    assert titles == [
        "warm-up", "ternary seed 0", "fisher-2.5 seed 0", "warm-up", "wide seed 0",
        "warm-up", "ternary seed 1", "fisher-2.5 seed 1",
    ]  # fmt: skip
    assert plan.about == "What it asks." and plan.title == "mine" and plan.reference == "ternary"


def test_points_share_a_warm_up_unless_they_differ_before_the_branch(tmp_path):
    jobs = {job.title: job for job in read_plan(order(tmp_path)).runs()}
    assert jobs["ternary seed 0"].base is jobs["fisher-2.5 seed 0"].base
    assert jobs["ternary seed 0"].base is not jobs["wide seed 0"].base
    first, second = jobs["ternary seed 0"].base, jobs["ternary seed 1"].base
    assert first.home.name.split("-")[0] == second.home.name.split("-")[0] and first.home != second.home
    assert first.settings["run.until"] == "20" and "precision.budget" not in first.settings
    assert jobs["wide seed 0"].base.settings["model.ffn_width"] == "96"


def test_a_run_is_one_command(tmp_path):
    plan = read_plan(order(tmp_path))
    job = next(job for job in plan.runs() if job.title == "fisher-2.5 seed 1")
    assert run_command(plan.order, job) == [
        f"--config={SMOKE}", f"--workdir={tmp_path}/home/points/fisher-2.5/seed1", "--config.run.keep=1",
        "--config.warmup.steps=40", "--config.warmup.ramp_start=0.5", "--config.precision.budget=2.5",
        "--config.seed=1", "--config.run.until=0",
    ]  # fmt: skip
    assert job.cfg.seed == 1 and job.cfg.precision.budget == 2.5 and job.cfg.warmup.steps == 40


def test_the_command_line_wins_over_the_file_and_points_win_over_both(tmp_path):
    more = (("warmup.steps", "80"), ("precision.budget", "2.25"), ("run.nice", "5"))
    jobs = read_plan(order(tmp_path, overrides=more)).runs()
    budgets = {job.point.name: job.cfg.precision.budget for job in jobs}
    assert budgets == {"ternary": 2.25, "fisher-2.5": 2.5, "wide": 2.25}
    assert {job.cfg.warmup.steps for job in jobs} == {80}
    assert {job.settings["run.nice"] for job in jobs} == {"5"}


def test_warm_ups_are_named_by_what_acts_on_them(tmp_path):
    def name(**more):
        return read_plan(order(tmp_path, **more)).jobs[0].home.name

    assert name() == name(overrides=(("precision.signal", "random"), ("run.nice", "3"), ("eval.items", "9")))
    assert name() != name(overrides=(("optimiser.lr", "0.1"),))
    assert name() == name(bases=tmp_path / "elsewhere")
    assert read_plan(order(tmp_path, bases=tmp_path / "else")).jobs[0].home.parent == tmp_path / "else"


def test_a_setting_of_the_averages_is_one_of_the_warm_up(tmp_path):
    """Signals are averaged before the branch, so another decay there is another warm-up."""
    points = POINTS + '    yield "slow", "fisher", 2.5, {"precision.budget": 2.5, "precision.decay": 0.5}\n'
    jobs = {job.title: job for job in read_plan(order(tmp_path, HEAD + AFTER + points)).runs()}
    assert jobs["slow seed 0"].base is not jobs["fisher-2.5 seed 0"].base
    assert jobs["slow seed 0"].base.settings["precision.decay"] == "0.5"


def test_without_a_branch_nothing_is_shared(tmp_path):
    plan = read_plan(order(tmp_path, "BASE = {}\nBRANCH = 0\n" + POINTS))
    assert [job.title for job in plan.jobs] == [job.title for job in plan.runs()]
    assert all(job.base is None and "run.until" not in job.settings for job in plan.jobs)


def test_the_plan_in_lines(tmp_path):
    lines = describe_plan(read_plan(order(tmp_path)))
    assert lines[0] == f"3 points of mine in {tmp_path}/home"
    assert "fisher-2.5 · series fisher · 2.5 bits · 2 seeds · from bases/" in lines[2]
    assert lines[2].endswith(" · precision.budget=2.5")
    assert " · 1 seed · " in lines[3]
    assert lines[-1] == "5 runs after 3 shared warm-ups to step 20; finished already: 0"


def test_changed_settings_of_a_point_that_was_begun(tmp_path):
    job = next(job for job in read_plan(order(tmp_path)).runs() if job.point.name == "fisher-2.5")
    job.home.mkdir(parents=True)
    tree = dataclasses.asdict(job.cfg)
    tree["run"]["nice"] = 7  # free to change
    del tree["precision"]["decay"]  # as a program wrote it that did not know the key
    (job.home / "config.json").write_text(json.dumps(tree))
    read_plan(order(tmp_path))
    assert problem(tmp_path, (HEAD + AFTER + POINTS).replace('budget": 2.5', 'budget": 3.0')) == (
        f"{job.home} was made with config.precision.budget=2.5, the sweep now says 3.0; "
        "give the point another name, or choose another --workdir"
    )
    assert "config.precision.decay=0.95, the sweep now says 0.5" in problem(
        tmp_path, HEAD + AFTER + POINTS, overrides=(("precision.decay", "0.5"),)
    )


def test_settings_of_an_older_program_are_left_out_with_one_line(tmp_path, monkeypatch):
    job = next(job for job in read_plan(order(tmp_path)).runs() if job.point.name == "fisher-2.5")
    job.home.mkdir(parents=True)
    tree = dataclasses.asdict(job.cfg)
    tree["tasks"]["shuffle"] = 7
    (job.home / "config.json").write_text(json.dumps(tree))
    assert "has the setting config.tasks.shuffle, which this program does not know" in problem(
        tmp_path, HEAD + AFTER + POINTS
    )
    monkeypatch.setitem(stored.OLD_SETTINGS, "tasks.shuffle", "programs are always shuffled")
    assert read_plan(order(tmp_path)).notes == [
        "config.tasks.shuffle is left out, it is no longer a setting: programs are always shuffled"
    ]


def test_no_sweep_file(tmp_path):
    for file, said in ((None, "which sweep? give --sweep=<file>"), (tmp_path / "no.py", f"no sweep file {tmp_path}")):
        with pytest.raises(ConfigError) as caught:
            read_plan(SweepOrder(spec=SMOKE, file=file))
        assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("def points(:\n", "line 1: invalid syntax"),
        ("import nowhere\n", "ModuleNotFoundError: No module named 'nowhere'"),
        ("BASE = {}\nBRANCH = 0\n", "no points(); define it to yield (name, series, x, settings)"),
        ("BRANCH = 0\n" + POINTS, "BASE must be a dict of settings, not None"),
        ("BASE = {}\n" + POINTS, "BRANCH must be a step (0: no shared warm-up), not None"),
        (HEAD + POINTS, "AFTER_BRANCH must be a tuple of keys, not None"),
        (HEAD + 'AFTER_BRANCH = ("precison",)\n' + POINTS,
         "unknown key config.precison; did you mean config.precision?"),
        (HEAD + 'AFTER_BRANCH = ("precision", 1)\n' + POINTS,
         "AFTER_BRANCH must be a tuple of keys or groups, not ('precision', 1)"),
        (HEAD + 'AFTER_BRANCH = (("precision",),)\n' + POINTS,
         "AFTER_BRANCH must be a tuple of keys or groups, not (('precision',),)"),
        (HEAD + AFTER + "def points():\n    exit(3)\n", "points(): SystemExit: 3"),
        ("raise SystemExit(4)\n", "SystemExit: 4"),
        ("x = '\0'\n", "source code string cannot contain null bytes"),
        (HEAD + AFTER + "def points():\n    return []\n", "points() yields nothing"),
        (HEAD + AFTER + "def points():\n    1 / 0\n", "points(): ZeroDivisionError: division by zero"),
    ],
)  # fmt: skip
def test_broken_files(tmp_path, text, line):
    assert problem(tmp_path, text) == line


@pytest.mark.parametrize(
    ("yielded", "line"),
    [
        ('"a", "s", 2.0', "points() must yield (name, series, x, settings), not ('a', 's', 2.0)"),
        ('"a/b", "s", 2.0, {}',
         "a point's name must be at most 100 letters, digits and . _ + - (a directory), not 'a/b'"),
        (f'"{"a" * 101}", "s", 2.0, {{}}',
         f"a point's name must be at most 100 letters, digits and . _ + - (a directory), not '{'a' * 101}'"),
        ('"a", "s", "2", {}', "point 'a': its x must be a number of bits, not '2'"),
        ('"a", "", 2.0, {}', "point 'a': its series must be a text, not ''"),
        ('"a", "s", 2.0, []', "point 'a': its settings must be a dict, not []"),
        ('"a", "s", 2.0, {"seeds": 0}', "point 'a': seeds must be at least 1, not 0"),
        ('"a", "s", 2.0, {"seed": 1}', "point 'a': config.seed is set by the sweep itself; take it out"),
        ('"a", "s", 2.0, {"lr": [1]}', "point 'a': 'lr': [1] is no setting; write 'group.key': number or text"),
        ('"a", "s", 2.0, {"precision.bugdet": 3.0}',
         "point 'a': unknown key config.precision.bugdet; did you mean config.precision.budget?"),
        ('"a", "s", 2.0, {"precision.signal": "fischer"}',
         "point 'a': config.precision.signal must be one of fisher, activation, attention, magnitude, static, random; "
         "it is 'fischer'"),
        ('"a", "s", 2.0, {"warmup.steps": 40.5}', "point 'a': config.warmup.steps must be a whole number, not '40.5'"),
    ],
)  # fmt: skip
def test_broken_points(tmp_path, yielded, line):
    assert problem(tmp_path, HEAD + AFTER + f"def points():\n    yield {yielded}\n") == line


def test_a_budget_that_cannot_be_spent_names_the_point(tmp_path):
    line = problem(tmp_path, (HEAD + AFTER + POINTS).replace("2.5}", "99.0}"))
    assert line.startswith("point 'fisher-2.5': config.precision.budget=99.0 must be at most ")


def test_a_point_that_would_not_be_measured(tmp_path):
    line = problem(tmp_path, HEAD + AFTER + POINTS, overrides=(("eval.precision_items", "0"),))
    assert line == "point 'ternary': config.eval.precision_items=0 leaves nothing to compare; it must be at least 1"


def test_two_points_of_one_name(tmp_path):
    assert problem(tmp_path, HEAD + AFTER + POINTS.replace("wide", "ternary", 1)) == (
        "two points are named 'ternary'; every name is a directory of its own"
    )


def test_a_reference_that_is_no_point(tmp_path):
    line = problem(tmp_path, HEAD + AFTER + 'REFERENCE = "paper"\n' + POINTS)
    assert line == "REFERENCE='paper' is the name of no point"


@pytest.mark.parametrize(
    ("branch", "line"),
    [
        (30, "config.run.chunk=4 must divide BRANCH=30: a warm-up ends with a chunk"),
        (400, "BRANCH=400 must be between 0 and the 48 steps of the run"),
    ],
)
def test_a_branch_that_cannot_be(tmp_path, branch, line):
    text = HEAD.replace("BRANCH = 20", f"BRANCH = {branch}") + AFTER + POINTS
    assert problem(tmp_path, text) == f"point 'ternary': {line}"


def test_a_branch_after_the_ramp_began_is_refused_where_points_differ_from_the_ramp_on(tmp_path):
    text = HEAD.replace("BRANCH = 20", "BRANCH = 28") + AFTER + POINTS
    assert problem(tmp_path, text).startswith("point 'fisher-2.5': its ramp begins at step 20, before BRANCH=28")


def test_seeds_and_jobs_are_counts(tmp_path):
    assert problem(tmp_path, HEAD, seeds=0) == "--seeds=0 and --jobs=1 must both be at least 1"


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_the_sweeps_of_this_project_are_plans(file, tmp_path):
    spec = str(ROOT / "experiments" / "azr_small.py")
    plan = read_plan(SweepOrder(spec=spec, file=file, home=tmp_path))
    assert plan.runs() and plan.reference in [point.name for point in plan.points]
    assert "minutes on 2 cores" in plan.about and f"--sweep=experiments/sweeps/{file.name}" in plan.about
    assert {job.seed for job in plan.runs()} == set(range(5))


def test_the_controls_of_self_play_are_the_whole_sweeps_and_share_one_warm_up_a_seed(tmp_path):
    def planned(name):
        spec, file = (str(ROOT / "experiments" / "azr_small.py"), ROOT / "experiments" / "sweeps" / f"{name}.py")
        return read_plan(SweepOrder(spec=spec, file=file, home=tmp_path / name, seeds=3))

    controls, whole = planned("selfplay_controls"), planned("selfplay")
    assert [point.name for point in controls.points] == ["full", "supervised", "generator", "shuffled"]
    assert list(controls.points) == [point for point in whole.points if point.series != "precision"]
    assert len([job for job in controls.jobs if job.point is None]) == 3 and len(controls.runs()) == 12
    assert {(job.cfg.selfplay.steps, job.cfg.model.max_tier) for job in controls.runs()} == {(100, 0)}


def test_wider_models_of_the_budget_sweep_are_of_equal_size(tmp_path):
    from bitzero.config import kernel_shapes

    spec, file = (str(ROOT / "experiments" / "azr_small.py"), ROOT / "experiments" / "sweeps" / "precision_budget.py")
    jobs = {job.point.name: job for job in read_plan(SweepOrder(spec=spec, file=file, home=tmp_path, seeds=1)).runs()}

    def weights(name):
        return sum(rows * columns for rows, columns in kernel_shapes(jobs[name].cfg.model).values())

    for budget in (2.5, 4.0):
        assert 2.0 * weights(f"wider-{budget:g}") == budget * weights("ternary")


def test_a_plan_needs_no_jax_and_nothing_of_a_report():
    code = "import sys; from bitzero.sweep import runner; assert not {'jax', 'matplotlib', 'scipy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
