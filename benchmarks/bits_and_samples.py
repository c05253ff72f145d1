"""Which pays more in a chat, bits or samples: hundreds of questions to a packed model, asked four ways.

    python benchmarks/bits_and_samples.py --programs=50

The questions are dev programs as the generator draws them, a call, a wanted value and examples of each, put as a person
would put them; each is answered in the four ways of ``/stats compare`` (``bitzero/chat/comparing.py``). Prints its
table and the paired differences by level and by kind; writes benchmarks/results/bits_and_samples.json.
"""

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from bitzero.chat import comparing, judging, model
from bitzero.chat.solving import Asked
from bitzero.evaluation.statistics import paired_gain
from bitzero.generator.programs import Program
from bitzero.generator.stream import Stream
from bitzero.run import device
from bitzero.run.experiment import SHIPPED
from bitzero.sandbox import Sandbox
from bitzero.tasks.kinds import KINDS

RESULT = ROOT / "benchmarks" / "results" / "bits_and_samples.json"
AGAINST = (("auto", "ternary"), ("all", "ternary"), ("auto", "all"))  # ways of as many samples, bits first
SECONDS = 10.0  # from one line of progress to the next


def main() -> None:
    """Asks, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=SHIPPED)
    parser.add_argument("--programs", type=int, default=50, help="of each level")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    given = parser.parse_args()
    device.configure_jax(print)
    began = time.perf_counter()
    asked_model = model.load(given.model, print)
    if not asked_model.has_tiers:
        parser.error(f"{given.model} is ternary alone: there are no other bits to compare samples with")
    with Sandbox(judging.LIMITS) as sandbox:
        asked = Asked(model=asked_model, sandbox=sandbox, known={})
        records = list(compared(questions(asked, given.programs), asked))
    print("\n".join(comparing.table(records)))
    found = {"all": paired(records)}
    found |= {f"level {level}": paired(rows) for level, rows in grouped(records, "level") if level is not None}
    found |= {str(kind): paired(rows) for kind, rows in grouped(records, "about")}
    for name, row in found.items():
        print(f"{name:<10}", "  ".join(told(pair, gain) for pair, gain in row["gains"].items()))
    result = {
        "machine": device.describe_machine(), "programs": given.programs, "model": comparing.model_digest(asked_model),
        "seconds": round(time.perf_counter() - began, 1), "found": found,
    }  # fmt: skip
    given.out.write_text(json.dumps(result, indent=1) + "\n")


def questions(asked: Asked, count: int) -> list[str]:
    """The first ``count`` dev programs of each open level, as three questions each."""
    cfg = asked.model.solver.cfg
    with Stream(cfg) as stream:
        levels = range(cfg.tasks.open_levels)
        programs = [program for level in levels for program in stream.heldout("dev", level, count)[:count]]
    return [text for program in programs for text in asked_about(program, cfg.tasks.shown)]


def asked_about(program: Program, shown: int) -> tuple[str, str, str]:
    """A call of it, a value to be reached, and pairs that it has."""
    call, wanted = f"f({program.inputs[0]})", f"f(?) == {program.outputs[0]}"
    pairs = list(zip(program.inputs, program.outputs, strict=True))[:shown]
    examples = "\n".join(f"{given} -> {value}" for given, value in pairs)
    return f"{program.code}\n{call}", f"{program.code}\n{wanted}", examples


def compared(texts: Sequence[str], asked: Asked) -> Iterator[dict[str, Any]]:
    """A record of each question that the model can read."""
    told_at = time.monotonic()
    history = [{"kind": KINDS[0], "question": text} for text in texts]  # any kind: it is told again from the text
    candidates = comparing.candidates(history, asked, len(texts))
    print(f"{len(candidates)} of {len(texts)} questions can be asked", flush=True)
    for at, candidate in enumerate(candidates):
        *_, record = comparing.compare(candidate, asked)
        assert isinstance(record, dict)
        yield record
        if time.monotonic() - told_at > SECONDS:
            told_at = time.monotonic()
            print(f"{at + 1} of {len(candidates)}", flush=True)


def grouped(records: Sequence[dict[str, Any]], key: str) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """The records by what they have under ``key``."""
    for value in sorted({record[key] for record in records}, key=lambda value: (value is None, value)):
        yield value, [record for record in records if record[key] == value]


def paired(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many each way verified, and the paired differences with their 95 % intervals, in shares of the questions."""
    column = {way: np.array([record["verified"][way] for record in records]) for way in comparing.WAYS}
    gains = {f"{one} - {other}": paired_gain(column[other], column[one]) for one, other in AGAINST}
    return {
        "questions": len(records), "verified": {way: int(column[way].sum()) for way in column},
        "gains": {pair: [round(float(number), 4) for number in gain] for pair, gain in gains.items()},
    }  # fmt: skip


def told(pair: str, gain: Sequence[float]) -> str:
    """A difference in points, for a line."""
    middle, low, high = (100 * number for number in gain)
    return f"{pair}: {middle:+.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()
