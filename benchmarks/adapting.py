"""A scripted person who keeps asking one kind of function that the shipped model gets wrong, and what it learns.

    python benchmarks/adapting.py --minutes=3

The person asks for arguments in another order: ``def f(a, b): return (b, a)`` and the like. The real program is used
throughout: questions through a pipe, ``--mode=adapt`` on the profile they left, and the same functions asked again with
other numbers. Writes benchmarks/results/adapting.json, whether the delta was kept or not.
"""

import argparse
import itertools
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
RESULT = ROOT / "benchmarks" / "results" / "adapting.json"


def main() -> None:
    """Asks, adapts, asks again, and writes what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="of training")
    parser.add_argument("--functions", type=int, default=30)
    parser.add_argument("--dev_items", type=int, default=99, help="held-out questions a kind")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    given = parser.parse_args()
    from bitzero.run import device

    machine = device.describe_machine()  # before: its commit is that of the program that runs now
    with tempfile.TemporaryDirectory() as folder:
        profile = pathlib.Path(folder) / "profile"
        functions = another_order(given.functions, random.Random("adapting"))
        before = asked(functions, profile, random.Random(1))
        print(f"the model as it is: {sum(before)} of {len(before)} right", flush=True)
        began = time.perf_counter()
        code, line = adapted(profile, given)
        seconds = time.perf_counter() - began
        [last] = profile.glob("deltas/*/last.json") if code == 0 else [None]
        report = json.loads(last.read_text()) if last else None
        size = sum(file.stat().st_size for file in profile.glob("deltas/*/*.npz"))
        after = asked(functions, profile, random.Random(2))
        print(f"after it: {sum(after)} of {len(after)} right, trained on or not", flush=True)
    result = {
        "machine": machine, "settings": vars(given) | {"out": None}, "exit_code": code, "said": line,
        "adapt_seconds": round(seconds, 1), "delta_bytes": size, "report": report,
        "chat": {"n": len(before), "right_before": sum(before), "right_after": sum(after)},
    }  # fmt: skip
    given.out.write_text(json.dumps(result, indent=1) + "\n")


def another_order(count: int, rng: random.Random) -> list[tuple[str, int]]:
    """Different functions that give their arguments in another order, some twice, and how many arguments each has."""
    found = []
    for names, size in itertools.product(("ab", "abc"), (2, 3)):
        for picked in itertools.product(names, repeat=size):
            if len(set(picked)) > 1 and list(picked) != sorted(picked):
                for left, right in ("()", "[]"):
                    inside = ", ".join(picked)
                    found.append((f"def f({', '.join(names)}): return {left}{inside}{right}", len(names)))
    return rng.sample(found, count)


def asked(functions: list[tuple[str, int]], profile: pathlib.Path, rng: random.Random) -> list[bool]:
    """Asks the chat for one call of each; which answers were right."""
    calls = [f"{text}; f({', '.join(str(rng.randrange(30)) for _ in range(n))})" for text, n in functions]
    lines = program("chat", profile, "--json", given="\n\n".join(calls) + "\n").stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert len(answers) == len(calls), lines
    return [answer["right"] is True for answer in answers]


def adapted(profile: pathlib.Path, given: argparse.Namespace) -> tuple[int, str]:
    """Learns from that profile, its output shown; the exit code and the last line."""
    settings = [f"--config.run.minutes={given.minutes}", f"--config.selfplay.dev_items={given.dev_items}"]
    done = program("adapt", profile, *settings)
    print(done.stdout + done.stderr, flush=True)
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1]


def program(mode: str, profile: pathlib.Path, *more: str, given: str = "") -> Any:
    """The finished program."""
    command = [sys.executable, "launch.py", f"--mode={mode}", f"--profile_dir={profile}", *more]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, env=environment)


if __name__ == "__main__":
    main()
