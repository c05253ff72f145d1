"""The rooms and the arrows between them: who may import whom, and where jax must never be seen."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# room → rooms it may import (itself always). Standard library is free; third parties are checked below for some.
ARROWS = {
    "launch": {"run", "sweep", "chat", "config"},
    "experiments": {"config"},
    "chat": {"run", "evaluation", "model", "tasks", "sandbox", "config"},
    "sweep": {"run", "evaluation", "config"},
    "run": {"evaluation", "selfplay", "model", "native", "generator", "tasks", "sandbox", "state", "config"},
    "evaluation": {"selfplay", "model", "generator", "tasks", "sandbox", "state", "config"},
    "selfplay": {"model", "native", "tasks", "state", "config"},
    "model": {"native", "pallas_kernels", "state", "config"},
    "native": set(),
    "generator": {"tasks", "sandbox", "config"},
    "tasks": {"sandbox", "config"},
    "sandbox": set(),
    "state": set(),
    "config": set(),
    "pallas_kernels": set(),
}
DOOR = "bitzero/selfplay/verify.py"  # the one file of self-play that may reach the executor
# Rooms that may know only some modules of another.
NARROW = {
    ("chat", "run"): {"deltas", "device", "experiment", "packed_file", "workdir"},  # reads; never trains
    ("evaluation", "generator"): {"programs"},  # which programs, never how they are ordered or made ahead
    ("evaluation", "selfplay"): {"buffer", "objective", "rollout", "schedule", "skeletons", "warmup"},
}
EFFECTS = {"fcntl", "io", "os", "pathlib", "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time"}
THIRD_PARTIES = {
    "sandbox": set(),
    "config": {"ml_collections"},
    "experiments": {"ml_collections"},
    "state": {"jax", "jaxtyping"},
    "tasks": set(),
    "generator": {"numpy"},
    "pallas_kernels": {"jax", "jaxlib", "numpy", "jaxtyping"},
}


def room_of(module: str) -> str | None:
    """The room a dotted module name belongs to, or None for a stranger."""
    parts = module.split(".")
    if parts[0] == "bitzero":
        return parts[1] if len(parts) > 1 else None
    return parts[0] if parts[0] in ARROWS else None


def sources() -> list[pathlib.Path]:
    found = [ROOT / "launch.py"]
    for top in ("bitzero", "experiments", "pallas_kernels"):
        found += sorted((ROOT / top).rglob("*.py"))
    return [file for file in found if file.name != "__init__.py" or file.stat().st_size]


def imports(file: pathlib.Path) -> list[str]:
    """Dotted names that ``file`` imports, anywhere in it, as absolute names of modules."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def room_of_file(file: pathlib.Path) -> str | None:
    dotted = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    return room_of(dotted.removesuffix(".__init__"))


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_follow_the_arrows(file):
    room = room_of_file(file)
    if room is None:  # bitzero/__init__.py
        assert not [name for name in imports(file) if room_of(name)]
        return
    allowed = ARROWS[room] | {room}
    if str(file.relative_to(ROOT)) == DOOR:
        allowed |= {"sandbox"}
    for name in imports(file):
        target = room_of(name)
        assert target is None or target in allowed, f"{room} must not import {name}"
        if (room, target) in NARROW:
            assert name.split(".")[2] in NARROW[room, target], f"{room} must not import {name}"
        top = name.split(".")[0]
        if target is None and room in THIRD_PARTIES and top != "bitzero" and top not in sys.stdlib_module_names:
            assert top in THIRD_PARTIES[room], f"{room} must not import {name}"


def test_an_import_against_the_arrows_is_seen(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("def late():\n    from bitzero.run import train\n")
    assert [room_of(name) for name in imports(file)] == ["run"]
    assert "run" not in ARROWS["model"]


def test_every_room_is_a_room_and_every_folder_is_named():
    """No arrow for a room that does not stand, no room without its arrows."""
    standing = {file.stem for file in (ROOT / "bitzero").glob("*.py")} - {"__init__"}
    standing |= {place.parent.name for place in (ROOT / "bitzero").glob("*/__init__.py")}
    assert standing | {"launch", "experiments", "pallas_kernels"} == set(ARROWS)


def test_rooms_do_not_import_in_circles():
    """The arrows alone allow none, so whatever follows them is free of circles between rooms."""
    order: list[str] = []
    while left := [room for room in ARROWS if room not in order]:
        free = [room for room in left if ARROWS[room] <= set(order)]
        assert free, f"a circle among {left}"
        order += free


@pytest.mark.parametrize("file", sorted((ROOT / "bitzero" / "evaluation").glob("*.py")), ids=lambda file: file.name)
def test_evaluation_knows_no_files_and_no_clock(file):
    assert not {name.split(".")[0] for name in imports(file)} & EFFECTS


@pytest.mark.parametrize("room", ["generator", "tasks", "sandbox", "config"])
def test_host_rooms_start_without_jax(room):
    """JAX inside a host callback can stall for ever, and worker processes must start fast."""
    place = ROOT / "bitzero" / room
    modules = [f"bitzero.{room}"]
    if place.is_dir():
        modules += [f"bitzero.{room}.{file.stem}" for file in place.glob("*.py") if file.name != "__init__.py"]
    code = "import importlib, sys\n" + "".join(f"importlib.import_module({name!r})\n" for name in sorted(modules))
    code += "assert 'jax' not in sys.modules, 'jax was imported'\n"
    if room == "sandbox":
        code += "assert 'numpy' not in sys.modules, 'numpy was imported'\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_both_requirement_lists_have_the_same_bounds():
    """The test list is the main list with the CPU build of JAX, so that what is tested is what runs."""

    def bounds(file):
        lines = (ROOT / file).read_text().splitlines()
        lines = [line.split(";")[0].strip().replace("[cuda12]", "") for line in lines if line and line[0] != "#"]
        return {line.split(">=")[0]: line for line in lines}

    main, tests = bounds("requirements.txt"), bounds("tests/requirements.txt")
    assert main.items() <= tests.items()


def test_every_required_package_is_used():
    modules = {
        "orbax-checkpoint": "orbax", "ml-collections": "ml_collections", "absl-py": "absl",
    }  # fmt: skip
    text = "\n".join(file.read_text() for file in sources())
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and line[0] != "#":
            name = line.split(">=")[0].replace("[cuda12]", "")
            module = modules.get(name, name)
            assert f"import {module}" in text or f"from {module}" in text, f"{name} is required but not imported"
