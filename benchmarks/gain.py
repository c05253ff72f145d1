"""What one run gained over another on the same held-out items, by kind, with a paired bootstrap.

    python benchmarks/gain.py runs/azr_small runs/azr_small_warmup_only

Both runs must have been evaluated with the same seed (``--mode=eval``, ``--config.eval.items=400`` for over a thousand
items a kind). Prints JSON: gain in points of the first over the second and over its own model before self-play.
"""

import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from bitzero.evaluation.statistics import paired_gain
from bitzero.tasks.kinds import KINDS


def right(items: dict, kind: str, which: str) -> np.ndarray:
    """Right answers of a kind over all levels, in the fixed order of the items."""
    rows = [row for name, row in sorted(items["rows"].items()) if name.endswith(kind)]
    return np.array([bit == "1" for row in rows for bit in row[which]])


def compare(before: np.ndarray, after: np.ndarray) -> dict:
    """Gain of ``after`` in points with its 95 % interval."""
    gain, low, high = (round(100 * value, 2) for value in paired_gain(before, after))
    return {"points": gain, "ci_low": low, "ci_high": high, "items": len(after)}


def main() -> None:
    ours, theirs = (json.loads((pathlib.Path(path) / "items.json").read_text()) for path in sys.argv[1:3])
    if ours["seed"] != theirs["seed"]:
        sys.exit("the runs have different seeds, so their items differ")
    result = {}
    for name, kinds in {**{kind: [kind] for kind in KINDS}, "abduction + induction": KINDS[1:]}.items():
        after = np.concatenate([right(ours, kind, "right") for kind in kinds])
        other = np.concatenate([right(theirs, kind, "right") for kind in kinds])
        if len(after) != len(other):
            sys.exit(f"the runs asked {len(after)} and {len(other)} items of {name}; evaluate both alike")
        start = np.concatenate([right(ours, kind, "before_selfplay") for kind in kinds])
        result[name] = {"over the other run": compare(other, after), "over before self-play": compare(start, after)}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
