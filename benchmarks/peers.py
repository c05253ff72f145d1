"""Other people's training step and sampler, each in a process of its own that does a round when it is asked to.

    python -m benchmarks.peers '{"peer": "step", "shape": [4, 128, 2, 1, 64, 256, 128], "rows": 16, …}'

The process answers in lines of JSON: first ``{"parameters": …, "version": …}`` once it has compiled and done a round
that counts for nothing, then ``{"seconds": …}`` for every line that it reads. ``{"absent": why}`` is its last word,
where the package is not installed or there is no compiler. It ends with its input, and never imports JAX.
"""

import contextlib
import dataclasses
import importlib
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.gpu_stages import processes, torch_peer
from benchmarks.gpu_stages.ahead import first_line

ROOT = pathlib.Path(__file__).parents[1]


class Gone(Exception):
    """A peer that cannot be measured any more; the message says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """A started peer."""

    process: subprocess.Popen[str]
    log: pathlib.Path
    hello: dict[str, Any]  # parameters and version, or why it is absent

    def round(self) -> float:
        """Seconds of a call, over one round; raises ``Gone``."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # of one that has ended; past the buffer, which would keep the line
            os.write(self.process.stdin.fileno(), b"\n")
        said = _answer(self.process, self.log)
        if "absent" in said:
            raise Gone(said["absent"])
        return said["seconds"]


@contextlib.contextmanager
def started(told: dict[str, Any]) -> Iterator[Peer]:
    """A peer that is ready for its rounds, or absent.

    ``told``: "peer" (a key of ``PEERS``), its "shape" (``torch_peer.Shape``), "rows", "operand" (f32 or bf16),
    "device", "threads", "calls" a round; of a step "compiled", of the sampler "prompt" and "new" tokens.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    more = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(told["threads"]), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "benchmarks.peers", json.dumps(told)]
    with tempfile.TemporaryDirectory() as folder, open(log := pathlib.Path(folder) / "log", "wb") as output:
        with subprocess.Popen(
            command, cwd=ROOT, env=os.environ | more, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=output, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                yield Peer(process=process, log=log, hello=_answer(process, log))
            finally:
                processes.end(process)


def _answer(process: subprocess.Popen[str], log: pathlib.Path) -> dict[str, Any]:
    """The next line of a peer; of one that has ended, why."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if line:
        return json.loads(line)
    code = process.wait()
    return {"absent": f"its process ended with code {code}: {processes.last_line(log)}"}


def main() -> None:
    """A peer's process."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    say = lambda **found: print(json.dumps(found), file=answers, flush=True)
    told = json.loads(sys.argv[1])
    try:
        call, hello = PEERS[told["peer"]](told)
        seconds_of_a_call(call, told["calls"])
        say(**hello)
        for _ in sys.stdin:
            say(seconds=seconds_of_a_call(call, told["calls"]))
    except ModuleNotFoundError as error:
        say(absent=f"{error.name} is not installed")
    except Exception as error:  # a compiler that is missing, too little memory, in many types
        say(absent=first_line(error))


def seconds_of_a_call(call: Callable[[], Any], calls: int) -> float:
    """Mean wall seconds over one round."""
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls


def training_step(told: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """``torch_peer``'s step, eager or compiled."""
    torch = _torch(told)
    step, parameters = torch_peer.training_step(
        torch, tuple(told["shape"]), told["rows"], told["device"], half=told["operand"] == "bf16",
        compiled=told["compiled"],
    )  # fmt: skip
    if not math.isfinite(step()):
        raise ArithmeticError("the loss is not finite")
    return step, {"parameters": parameters, "version": f"torch {torch.__version__}"}


def generate(told: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """``generate`` of a Llama of the shape with random weights: drawn from the whole distribution, with no stop."""
    torch, transformers = _torch(told), importlib.import_module("transformers")
    transformers.logging.set_verbosity_error()
    layers, width, heads, kv_heads, head, ffn, _ = told["shape"]
    config = transformers.LlamaConfig(
        vocab_size=torch_peer.VOCABULARY, hidden_size=width, intermediate_size=ffn, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head, hidden_act="relu2",
        tie_word_embeddings=True, max_position_embeddings=told["prompt"] + told["new"], bos_token_id=None,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    dtype = torch.bfloat16 if told["operand"] == "bf16" else torch.float32
    model = transformers.LlamaForCausalLM(config).eval().to(told["device"], dtype)
    prompts = torch.randint(64, 500, (told["rows"], told["prompt"]), device=told["device"])
    mask = torch.ones_like(prompts)

    def call() -> None:
        drawn = model.generate(prompts, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=told["new"])
        if drawn.shape[1] != told["prompt"] + told["new"]:
            raise ArithmeticError(f"generate gave {drawn.shape[1] - told['prompt']} tokens, not {told['new']}")

    parameters = sum(leaf.numel() for leaf in model.parameters())
    return call, {"parameters": parameters, "version": f"transformers {transformers.__version__}"}


def _torch(told: dict[str, Any]) -> Any:
    """PyTorch with so many threads."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(told["threads"])
    return torch


PEERS = {"step": training_step, "generate": generate}

if __name__ == "__main__":
    main()
