"""The peer of a training step: the same shape in PyTorch, f32 weights (bf16 in the products), trained by fused AdamW.

RMSNorm, grouped-query attention with RoPE (its own fused one, causal), ReLU² gated FFN, sub-norms, tied embedding.
It is the usual way to train such a model, not the same step: no Muon, no segments, no metrics, no ternary weights.
"""

import importlib
import math
import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu_stages.ahead import first_line
from benchmarks.gpu_stages.record import Box, Record, Told

Shape = tuple[int, int, int, int, int, int, int]
SHAPES: dict[str, Shape] = {  # layers, width, heads, key-value heads, head, FFN, context: those of the experiments
    "azr_25m": (8, 512, 8, 4, 64, 1_536, 512),
    "azr_100m": (15, 768, 12, 4, 64, 2_304, 512),
    "smoke": (1, 32, 2, 1, 16, 64, 160),
}
VOCABULARY = 512
ROWS = 32  # as in the first try of ``training_step``
COMPILING_S = 45.0  # that torch.compile may take


def run(part: str, box: Box, record: Record, told: Told) -> None:
    """Measures both models, eager and then compiled; says so where PyTorch is not installed."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return record.absent("torch", "not installed")
    if told.card["platform"] == "gpu" and not torch.cuda.is_available():
        return record.absent("torch", "this PyTorch sees no GPU")
    torch.set_float32_matmul_precision("high")
    names = ["smoke"] if told.rehearse else ["azr_25m", "azr_100m"]
    for compiled in (False, True):
        for name in names if not (compiled and told.rehearse) else []:
            what = f"{name} in {'compiled ' * compiled}torch"
            if not box.has(COMPILING_S if compiled else 3.0):
                record.cut(f"{what}: {box.left():.0f} s left")
                continue
            record.doing(what)
            try:
                row = timed_peer(torch, name, compiled, box, told)
            except Exception as error:  # too little memory, a compiler that is missing, in many types
                record.cut(f"{what}: {first_line(error)}")
                continue
            record.row(config=name, variant="torch compiled" if compiled else "torch", **row)


def timed_peer(torch: Any, name: str, compiled: bool, box: Box, told: Told) -> dict[str, Any]:
    """The row of one model; in f32 where the card has no bf16 units."""
    device, rows = "cuda" if torch.cuda.is_available() else "cpu", 8 if told.rehearse else ROWS
    half = device == "cpu" or float(told.card["capability"]) >= 8
    context = SHAPES[name][-1]
    step, _ = training_step(torch, SHAPES[name], rows, device, half=half, compiled=compiled)
    if not math.isfinite(step()):
        raise ArithmeticError("the loss is not finite")
    step()
    began, least = time.time(), float("inf")
    for _ in range(10):
        start = time.perf_counter()
        step()
        least = min(least, time.perf_counter() - start)
        if time.time() - began > 4.0 or not box.has(2 * least):
            break
    return {
        "rows": rows, "parts": 1, "tokens": rows * context, "step_s": least, "tokens_per_s": rows * context / least,
        "at": (began, time.time()),
    }  # fmt: skip


def training_step(
    torch: Any, shape: Shape, rows: int, device: str, *, half: bool, compiled: bool
) -> tuple[Callable[[], float], int]:
    """A step on random tokens [rows, context], which returns its loss, and how many parameters it trains.

    ``half`` is autocast to bf16. Compiled is all but the optimiser, which is fused: forward, loss and backward.
    """
    model = decoder(torch, shape).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(64, 500, (rows, shape[-1]), device=device)

    def loss_of(tokens: Any) -> Any:
        flat = model(tokens)[:, :-1].reshape(-1, VOCABULARY)
        return torch.nn.functional.cross_entropy(flat.float(), tokens[:, 1:].reshape(-1))

    forward = torch.compile(loss_of) if compiled else loss_of

    def step() -> float:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
            loss = forward(tokens)
        loss.backward()
        optimiser.step()
        return float(loss)  # waits for the device

    return step, sum(leaf.numel() for leaf in model.parameters())


def layer_class(torch: Any, width: int, heads: int, kv_heads: int, head: int, ffn: int) -> Any:
    """The module of one layer; x [B, T, D], cosine and sine of the rotation → x of the next."""
    nn, f = torch.nn, torch.nn.functional
    linear = lambda n, k: nn.Linear(k, n, bias=False)

    def rotated(x: Any, cos: Any, sin: Any) -> Any:  # [B, T, H, K]
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList([nn.RMSNorm(n) for n in (width, heads * head, width, ffn)])
            self.qkv, self.o = linear((heads + 2 * kv_heads) * head, width), linear(width, heads * head)
            self.gate_up, self.down = linear(2 * ffn, width), linear(width, ffn)

        def forward(self, x: Any, cos: Any, sin: Any) -> Any:
            b, t, _ = x.shape
            split = self.qkv(self.norms[0](x)).reshape(b, t, heads + 2 * kv_heads, head)
            q, k, v = split.split([heads, kv_heads, kv_heads], dim=2)
            q, k = rotated(q, cos, sin).to(v.dtype), rotated(k, cos, sin).to(v.dtype)
            k, v = (a.repeat_interleave(heads // kv_heads, dim=2) for a in (k, v))
            mixed = f.scaled_dot_product_attention(*(a.transpose(1, 2) for a in (q, k, v)), is_causal=True)
            x = x + self.o(self.norms[1](mixed.transpose(1, 2).reshape(b, t, -1)))
            gate, up = self.gate_up(self.norms[2](x)).chunk(2, dim=-1)
            return x + self.down(self.norms[3](f.relu(gate).square() * up))

    return Layer


def decoder(torch: Any, shape: Shape) -> Any:
    """The module; token ids [B, T] → logits [B, T, V]."""
    nn, f = torch.nn, torch.nn.functional
    layers, width, heads, kv_heads, head, ffn, context = shape
    layer_of = layer_class(torch, width, heads, kv_heads, head, ffn)
    angles = torch.arange(context)[:, None] * 10_000.0 ** (-torch.arange(head // 2) / (head // 2))

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, width)
            nn.init.normal_(self.embedding.weight, std=width**-0.5)
            self.layers = nn.ModuleList([layer_of() for _ in range(layers)])
            self.norm = nn.RMSNorm(width)
            self.register_buffer("cos", angles.cos()[:, None])
            self.register_buffer("sin", angles.sin()[:, None])

        def forward(self, tokens: Any) -> Any:
            x = self.embedding(tokens) * width**0.5
            for layer in self.layers:
                x = layer(x, self.cos, self.sin)
            return f.linear(self.norm(x), self.embedding.weight)

    return Decoder()
