"""How often agreeing runs hide that a value follows from the order of a set.

    python benchmarks/hidden_orders.py [-n 4000] [--out=FILE.json]

Draws expressions on sets of 2 to 20 words, most of them skewed: comparisons that few orders make true, as one would be
that wants to pass for a function. Each is evaluated under 128 hash seeds. Of those with more than one value it counts
how many have only one under the first 2 and the first 8 seeds, which are the sandbox's: the chances that
``sandbox/verdicts.py`` has as ``MISS_TWO`` and ``MISS_EIGHT``. Writes benchmarks/results/hidden_orders.json or FILE.
"""

import argparse
import json
import os
import pathlib
import random
import string
import subprocess
import sys

SEEDS = 128
HERE = pathlib.Path(__file__).parent


def draw_expression(rng: random.Random) -> str:
    """One value of a set's order, written by this file."""
    size = rng.choice((2, 3, 5, 8, 12, 20))
    drawn = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 6))) for _ in range(size)]
    words = list(dict.fromkeys(drawn))
    order, one, two = f"list({set_of(words)})", rng.choice(words), rng.choice(words)
    return rng.choice((
        f"{order}[0] == {one!r}",
        f"{order}[-1] == {one!r}",
        f"{order}.index({one!r}) < {order}.index({two!r})",
        f"{order}.index({one!r}) == {rng.randrange(len(words))}",
        f"{order}[0] == {one!r} and {order}[-1] == {two!r}",
        f"{order}[0]",
        f"''.join({order})",
    ))  # fmt: skip


def set_of(words: list[str]) -> str:
    """The words as a set that is made at run time, in their order."""
    return f"set({words!r})"


def values_under(seed: int, expressions: list[str]) -> list[str]:
    """The value of each expression in a fresh interpreter with this hash seed."""
    code = "import json, sys\nprint(json.dumps([repr(eval(text)) for text in json.load(sys.stdin)]))"
    ran = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(expressions), capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
    )  # fmt: skip
    return json.loads(ran.stdout)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("-n", type=int, default=4000)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results" / "hidden_orders.json")
    given = parser.parse_args()
    rng = random.Random(0)
    expressions = [draw_expression(rng) for _ in range(given.n)]
    runs = list(zip(*(values_under(seed, expressions) for seed in range(1, SEEDS + 1)), strict=True))
    several = [values for values in runs if len(set(values)) > 1]
    missed = {k: sum(len(set(values[:k])) == 1 for values in several) / len(several) for k in (2, 8)}
    result = {"expressions": given.n, "with_several_values": len(several), "seeds": SEEDS}
    result |= {f"miss_{k}": round(share, 4) for k, share in missed.items()} | {"python": sys.version.split()[0]}
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
