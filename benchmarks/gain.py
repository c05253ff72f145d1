"""What one run gained over another on the same held-out items, by kind, with a paired bootstrap.

    python benchmarks/gain.py runs/azr_small runs/azr_small_warmup_only
    python benchmarks/gain.py A0 B0 A1 B1 A2 B2      pairs of other seeds, their items together

Both runs of a pair must have been evaluated with the same seed (``--mode=eval``, ``--config.eval.items=400`` for over a
thousand items a kind). Prints JSON: gain in points of the first over the second and, where it played, over its own
model before self-play.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from bitzero.evaluation.statistics import paired_gain
from bitzero.tasks.kinds import KINDS


def right_answers(items: dict, kind: str, which: str) -> np.ndarray:
    """Right answers of a kind over all levels, in the fixed order of the items."""
    rows = [row for name, row in sorted(items["rows"].items()) if name.endswith(kind)]
    return np.array([bit == "1" for row in rows for bit in row[which]])


def compare(before: np.ndarray, after: np.ndarray) -> dict:
    """Gain of ``after`` in points with its 95 % interval."""
    gain, low, high = (round(100 * value, 2) for value in paired_gain(before, after))
    return {"points": gain, "ci_low": low, "ci_high": high, "items": len(after)}


def joined(runs: list[dict], kinds: list[str], which: str) -> np.ndarray:
    """Right answers of these kinds, run after run."""
    return np.concatenate([right_answers(items, kind, which) for items in runs for kind in kinds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path, help="folders of evaluated runs, in pairs")
    paths = [run / "items.json" for run in parser.parse_args().runs]
    if missing := [str(path) for path in paths if not path.exists()]:
        sys.exit(f"no {missing[0]}: evaluate that run first (--mode=eval)")
    runs = [json.loads(path.read_text()) for path in paths]
    ours, theirs = runs[::2], runs[1::2]
    if len(ours) != len(theirs):
        sys.exit("give pairs of runs: A B, or A0 B0 A1 B1 …")
    if any(one["seed"] != other["seed"] for one, other in zip(ours, theirs, strict=True)):
        sys.exit("the runs have different seeds, so their items differ")
    has_selfplay = all("before_selfplay" in row for run in ours for row in run["rows"].values())
    result = {}
    for name, kinds in {**{kind: [kind] for kind in KINDS}, "abduction + induction": KINDS[1:]}.items():
        after, other = joined(ours, kinds, "right"), joined(theirs, kinds, "right")
        if len(after) != len(other):
            sys.exit(f"the runs asked {len(after)} and {len(other)} items of {name}; evaluate both alike")
        result[name] = {"over the other run": compare(other, after)}
        if has_selfplay:
            result[name]["over before self-play"] = compare(joined(ours, kinds, "before_selfplay"), after)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
