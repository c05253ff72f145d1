"""Stage 6: a self-play step (``loop.run_chunk``) with its sandbox, and how much of it waits for the host.

An untrained model writes nothing that can be run, so its step shows what the card needs. What the host needs for texts
that do run is measured beside it: the gates on as many generated programs as a step proposes, and the judge on as many
answers, half of them right. The second row puts the two together.
"""

import functools
import itertools
import math
import time

import jax
import jax.numpy as jnp

from benchmarks.gpu_stages import models
from benchmarks.gpu_stages.record import Box, Record, Told
from bitzero.config import Config
from bitzero.generator.stream import Stream
from bitzero.run.sitting import open_sandbox, sandbox_workers
from bitzero.sandbox import Sandbox
from bitzero.selfplay import loop, verify
from bitzero.tasks import gates
from bitzero.tasks.judge import judge
from bitzero.tasks.kinds import TASK_KINDS, Task

STEPS = 3  # timed
OPEN_LEVELS = 3


def run(part: str, box: Box, record: Record, told: Told) -> None:
    """Measures both, the host's part first: it needs no compiler."""
    cfg = models.config_of(part)
    cfg = models.variant(cfg, models.fast_operand(told))
    with open_sandbox(cfg) as sandbox, Stream(cfg) as stream:
        record.doing("generator tasks")
        seeds = stream.tasks(max(cfg.selfplay.seed_tasks, cfg.selfplay.num_tasks), 0, open_levels=OPEN_LEVELS)
        tasks = [task for task, _ in seeds]
        record.doing("the host's part on generated programs")
        host = host_seconds(sandbox, tasks, cfg)
        record.note(host_seconds=host, workers=sandbox_workers(cfg))
        record.doing("compiling a self-play step")
        step, waited, at = step_seconds(sandbox, tasks, cfg, box, told)
    busy = step - waited
    needed = sum(host.values())
    for texts, host_s in (("of random weights", waited), ("of the generator", needed)):
        record.row(
            config=part, texts=texts, step_s=busy + host_s, host_s=host_s, host_share=host_s / (busy + host_s), at=at,
            tasks=cfg.selfplay.num_tasks, answers=cfg.selfplay.num_tasks * cfg.selfplay.group_size,
        )  # fmt: skip


def host_seconds(sandbox: Sandbox, tasks: list[Task], cfg: Config) -> dict[str, float]:
    """Seconds of gates and judge on a step's worth of texts that run."""
    chosen = list(itertools.islice(itertools.cycle(tasks), cfg.selfplay.num_tasks))
    proposals = [gates.Proposal(kind=task.kind, code=task.code, inputs=task.inputs) for task in chosen]
    right = [TASK_KINDS[task.kind].gold(task) for task in chosen]
    others = [next((TASK_KINDS[o.kind].gold(o) for o in tasks if o.kind == t.kind and o != t), "0") for t in chosen]
    half = cfg.selfplay.group_size // 2
    answers: list[list[str | None]] = [
        [r] * half + [o] * (cfg.selfplay.group_size - half) for r, o in zip(right, others, strict=True)
    ]
    timed = {}
    for name, work in (
        ("propose", lambda: gates.validate(sandbox, proposals, cfg, TASK_KINDS, frozenset())),
        ("solve", lambda: judge(sandbox, chosen, answers, TASK_KINDS)),
    ):
        start = time.perf_counter()
        work()
        timed[name] = time.perf_counter() - start
    return timed


def step_seconds(
    sandbox: Sandbox, tasks: list[Task], cfg: Config, box: Box, told: Told
) -> tuple[float, float, tuple[float, float]]:
    """Mean seconds of a step, of them on the host, and when it was measured."""
    play = cfg.selfplay
    rows = play.supervised_batch + play.num_tasks * (1 + play.group_size)
    parts = models.parts_that_fit(cfg, rows, told.card["pool_bytes"])
    cfg = models.with_parts(cfg, min(parts, math.gcd(play.supervised_batch, play.num_tasks)))
    door = verify.Door(sandbox, cfg)
    state = models.random_state(cfg)
    state = loop.start_selfplay(state, verify.ring_rows(tasks, True, cfg), cfg)
    batch = models.random_batch(cfg, 1, cfg.selfplay.supervised_batch)
    call = functools.partial(loop.run_chunk, cfg=cfg, door=door)
    state, metrics = call(state, batch)
    jax.block_until_ready(metrics)
    before, began, ran = sum(door.seconds.values()), time.time(), 0
    start = time.perf_counter()
    while ran < STEPS and (ran == 0 or box.has(2 * (time.perf_counter() - start) / ran)):
        state, metrics = call(state, batch)
        jax.block_until_ready(metrics)
        ran += 1
    taken = time.perf_counter() - start
    if door.error or not bool(jnp.all(metrics["selfplay/ran"] == 1)):
        raise RuntimeError(door.error or "the step did not run")
    return taken / ran, (sum(door.seconds.values()) - before) / ran, (began, time.time())
