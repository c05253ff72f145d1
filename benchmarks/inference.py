"""Answering from a packed file on a CPU: bytes, memory, seconds to the first answer and to one when warm.

    python benchmarks/inference.py [--config=experiments/azr_100m.py] [--rows=1,64] [--prompt=100] [--new=32]
                                   [--forms=packed,whole,materialised,bf16] [--out=FILE.json]

Makes a model of the experiment's shape with random weights (speed and size do not depend on their values), packs it
to a file, and asks it as the program does (``questions.complete_prompts`` pads prompts to the experiment's
longest), so many rows at a time and each form in a process of its own: on the packed matrices (whole: as one
compiled program and not in the two halves of ``evaluation.questions``), on integers materialised from them, and as
an unquantised model in bf16. Prints a table, a line as each is measured, and writes
benchmarks/results/inference.json or FILE. Beside the whole answer it measures decoding alone: tokens/s from the
difference to an answer of one token.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import launch  # noqa: E402, F401 sets the threads of JAX as a run does

FORMS = ("packed", "whole", "materialised", "bf16")


def main() -> None:
    """Measures, prints and writes; with ``--ask`` answers in this process and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="experiments/azr_100m.py")
    parser.add_argument("--rows", default="1,64")
    parser.add_argument("--prompt", type=int, default=100)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "benchmarks" / "results" / "inference.json")
    parser.add_argument("--ask", nargs=2, metavar=("FORM", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask:
        print(json.dumps(ask(*given.ask, given)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "packed.npz"
        size = make(ROOT / given.config, path)
        print(heading(given, size), flush=True)
        rows = []
        for count in given.rows.split(","):
            for form in given.forms.split(","):
                rows.append(in_a_process(form, path, count, given))
                print(line(rows[-1]), flush=True)
    from bitzero.run import device

    result = {"config": given.config, "prompt_tokens": given.prompt, "new_tokens": given.new}
    result |= {"size": size, "rows": rows, "machine": device.describe_machine()}
    given.out.write_text(json.dumps(result, indent=1) + "\n")


def make(experiment: pathlib.Path, path: pathlib.Path) -> dict[str, int]:
    """Writes a model of random weights; its sizes."""
    import jax

    from bitzero.model import packing, transformer
    from bitzero.run import packed_file
    from bitzero.run.experiment import read_config

    cfg = read_config(str(experiment))
    params, precision = transformer.init(jax.random.key(0), cfg.model)
    tree = packing.pack(params, precision, cfg.model)
    packed_file.save(path, tree, cfg, step=cfg.warmup.steps, operand="bf16", trace=True)
    matrices, rest = packing.weight_bytes(tree)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "packed_matrices_bytes": matrices,
        "embedding_and_gains_bytes": rest,
        "file_bytes": path.stat().st_size,
    }


def in_a_process(form: str, path: pathlib.Path, rows: str, given: argparse.Namespace) -> dict[str, Any]:
    """``ask`` in a fresh process, so that memory and first answer are those of a user's."""
    settings = [f"--rows={rows}", f"--prompt={given.prompt}", f"--new={given.new}", f"--repeats={given.repeats}"]
    command = [sys.executable, __file__, *settings, "--ask", form, str(path)]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(ran.stdout.splitlines()[-1])


def ask(form: str, path: str, given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of greedy answers to ``rows`` prompts, first and warm, and the peak memory of this process."""
    started = time.perf_counter()
    import dataclasses
    import functools

    import jax
    import numpy as np

    from bitzero.evaluation import questions
    from bitzero.run import packed_file
    from bitzero.selfplay import rollout

    model = packed_file.load(pathlib.Path(path), batch_size=int(given.rows))
    model = dataclasses.replace(model, weights=weights_in(form, model))
    prompts = np.random.default_rng(0).integers(100, 500, (model.batch_size, given.prompt)).tolist()
    if form == "whole":
        one = jax.jit(rollout.sample, static_argnames=("model", "max_new"))
        questions.sample_completions = lambda key, weights, prompts, temperature, model, max_new, parts: (
            one(key, weights, prompts, model, max_new=max_new, temperature=temperature).tokens
        )
    answer = lambda max_new: np.array(
        list(questions.complete_prompts(model, prompts, max_new=max_new, temperature=0.0, seed=0))
    )
    drawn = answer(given.new)
    first, peak = time.perf_counter() - started, peak_memory()
    warm, prefill = (seconds(functools.partial(answer, new), given.repeats) for new in (given.new, 1))
    tokens, decoded = int((drawn != 0).sum()), int((drawn[:, 1:] != 0).sum())
    return {
        "form": form, "rows": len(prompts), "first_s": first, "warm_s": min(warm),
        "warm_median_s": statistics.median(warm), "tokens": tokens, "tokens_per_s": tokens / min(warm),
        "decode_tokens_per_s": decoded / max(min(warm) - min(prefill), 1e-9), "peak_rss_bytes": peak,
    }  # fmt: skip


def seconds(answer: Callable[[], Any], repeats: int) -> list[float]:
    """Wall seconds of so many answers, after one that may compile."""
    import numpy as np

    np.asarray(answer())
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        np.asarray(answer())
        found.append(time.perf_counter() - began)
    return found


def weights_in(form: str, model: Any) -> dict[str, Any]:
    """The model's tree in one of ``FORMS``."""
    import jax
    import jax.numpy as jnp

    from bitzero.model import packing, quant

    if form in ("packed", "whole"):
        return model.weights
    dense = packing.to_dense(model.weights, model.cfg.model.compute)
    if form == "materialised":
        return dense
    full = lambda leaf: quant.Full(weight=(leaf.codes * leaf.scale[..., None]).astype(jnp.bfloat16))
    is_dense = lambda leaf: isinstance(leaf, quant.Dense)
    return jax.tree.map(lambda leaf: full(leaf) if is_dense(leaf) else leaf, dense, is_leaf=is_dense)


def peak_memory() -> int:
    """Largest resident memory of this program so far, bytes (``ru_maxrss`` would count the parent before exec)."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def heading(given: argparse.Namespace, size: dict[str, int]) -> str:
    """What is measured, and the head of the table."""
    return (
        f"{given.config}: {size['parameters'] / 1e6:.1f}M parameters, file {size['file_bytes'] / 1e6:.1f} MB "
        f"({size['packed_matrices_bytes'] / 1e6:.1f} MB of packed matrices)\n"
        f"{given.prompt} tokens of prompt, {given.new} new, greedy\n"
        f"{'rows':>4} {'form':13} {'first s':>8} {'warm s':>7} {'tokens/s':>8} {'decoding':>8} {'peak MB':>8}"
    )


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    return (
        f"{row['rows']:4} {row['form']:13} {row['first_s']:8.2f} {row['warm_s']:7.3f} {row['tokens_per_s']:8.1f} "
        f"{row['decode_tokens_per_s']:8.1f} {row['peak_rss_bytes'] / 1e6:8.0f}"
    )


if __name__ == "__main__":
    main()
