"""What the sandbox refuses of programs that should pass, by gate: ``python benchmarks/rejections.py -n 20000``.

Programs of the generator, all levels in turn, are validated with their inputs; so are the two hundred ordinary
functions of the tests. Prints a table of outcomes by kind, and every program with an outcome that no such program may
have: forbidden, timeout, memory, nondeterministic, oversize, infra, a syntax error, or a value other than the label.
The status is the number of such programs, at most 1.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from bitzero.config import NUM_LEVELS  # noqa: E402
from bitzero.generator.programs import generate  # noqa: E402
from bitzero.sandbox import Job, Outcome, Sandbox  # noqa: E402
from tests.sandbox.ordinary import programs  # noqa: E402
from tests.sandbox.test_ordinary import plainly  # noqa: E402

BATCH = 500
GATES = (
    "ok",
    "exception",
    "syntax",
    "forbidden",
    "timeout",
    "memory",
    "nondeterministic",
    "oversize",
    "infra",
    "value",
)
Labelled = tuple[Job, list[str]]  # a job and, of each input, its value or the name of its exception


def generated(seed: int, start: int, count: int) -> Iterator[Labelled]:
    for index in range(start, start + count):
        made = generate(seed, 0, index, index % NUM_LEVELS)
        yield Job(id=f"generator {index}", code=made.code, inputs=made.inputs), list(made.outputs)


def ordinary() -> Iterator[Labelled]:
    suite = programs()
    labels = plainly([(program.code, program.inputs) for program in suite])
    for program, values in zip(suite, labels, strict=True):
        yield Job(id=f"ordinary, {program.theme}", code=program.code, inputs=program.inputs), values


def gate(outcome: Outcome, label: str) -> str:
    """The gate at which an outcome stops, ``ok`` or ``exception`` where it is as the label says."""
    if outcome.kind == "exception":
        return "exception" if outcome.exc == label else "syntax" if outcome.exc == "SyntaxError" else "value"
    return "value" if outcome.kind == "ok" and outcome.value != label else outcome.kind


def judged(box: Sandbox, labelled: list[Labelled], rejected: list[str]) -> Counter[str]:
    """Outcomes by gate; texts of rejected programs are added to ``rejected``."""
    counts: Counter[str] = Counter()
    results = box.validate([job for job, _ in labelled])
    for (job, labels), outcomes in zip(labelled, results, strict=True):
        gates = [gate(outcome, label) for outcome, label in zip(outcomes, labels, strict=True)]
        counts.update(gates)
        for found, outcome, text in zip(gates, outcomes, job.inputs, strict=True):
            if found not in ("ok", "exception"):
                rejected.append(f"{job.id}: {found} ({outcome.detail}) on {text}\n{job.code}\n")
                break
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("-n", type=int, default=20_000, help="programs of the generator")
    parser.add_argument("--seed", type=int, default=3)
    arguments = parser.parse_args()
    rejected: list[str] = []
    start_s = time.monotonic()
    with Sandbox(cache=0) as box:
        rows = {"ordinary": judged(box, list(ordinary()), rejected)}
        rows["generator"] = Counter()
        for start in range(0, arguments.n, BATCH):
            batch = list(generated(arguments.seed, start, min(BATCH, arguments.n - start)))
            rows["generator"] += judged(box, batch, rejected)
            if sys.stderr.isatty():
                print(f"\r{start + len(batch)} programs", end="", file=sys.stderr)
    print(f"{'inputs':>12} " + " ".join(f"{name:>{max(7, len(name))}}" for name in GATES))
    for title, counts in rows.items():
        print(f"{title:>12} " + " ".join(f"{counts[name]:>{max(7, len(name))}}" for name in GATES))
    print(f"{arguments.n} generated and {len(programs())} ordinary programs, {len(rejected)} rejected, "
          f"{time.monotonic() - start_s:.0f} s")  # fmt: skip
    print("\n".join(rejected))
    sys.exit(bool(rejected))


if __name__ == "__main__":
    main()
