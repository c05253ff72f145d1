"""Zygotes by hash seed, and the one loop that sends them orders and hears their answers.

Every order gets its replies or, after one more try in a new zygote, ``infra``: whether a zygote dies, falls silent or
the machine cannot start another. The loop ends by a deadline that only a sign of life extends, so a caller never hangs.
"""

import os
import selectors
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bitzero.sandbox import verdicts
from bitzero.sandbox.jobs import Limits, SandboxUnavailable
from bitzero.sandbox.process import Order, Process, order_bytes
from bitzero.sandbox.verdicts import INFRA, RunVerdict

MAX_BATCH = 32  # orders of one message: their texts are read by one child
_PAUSES_S = (0.0, 0.2, 1.0)  # between tries to start a zygote on a machine that is short of something


class Request(NamedTuple):
    """An order for a zygote of one seed; ``slot`` is the caller's number for it."""

    seed: int
    slot: int
    order: Order
    again: bool = False  # the second try


class Pools:
    """All zygotes of one sandbox."""

    def __init__(self, limits: Limits, sizes: Mapping[int, int], allow_unsafe: bool) -> None:
        """``sizes``: zygotes per seed; seeds not named get one, started when they are first needed."""
        self.limits = limits
        self.sizes = sizes
        self.allow_unsafe = allow_unsafe
        self.processes: dict[int, list[Process]] = {}
        self.starting: dict[int, list[Process]] = {}
        self.respawns = 0
        self.owner = os.getpid()

    def launch(self, seeds: Iterable[int]) -> None:
        """Begin to start what is missing for ``seeds``, all at once; ``of`` waits for it."""
        for seed in seeds:
            early = self.starting.setdefault(seed, [])
            while len(early) + len(self.processes.get(seed, [])) < self.sizes.get(seed, 1):
                try:
                    early.append(Process(seed, self.limits))
                except OSError:
                    return  # ``of`` tries again, and raises

    def of(self, seed: int) -> list[Process]:
        """The zygotes of ``seed``, started if need be. Raises ``SandboxUnavailable``."""
        pool = self.processes.setdefault(seed, [])
        while len(pool) < self.sizes.get(seed, 1):
            try:
                pool.append(self._started(seed))
            except (SandboxUnavailable, OSError):
                if not pool:
                    raise
                break  # fewer than wanted still do the work
        return pool

    def _started(self, seed: int) -> Process:
        early = self.starting.get(seed)
        process = early.pop() if early else Process(seed, self.limits)
        process.wait_ready()
        if process.layers.get("seccomp") == "active" or self.allow_unsafe:
            return process
        process.close()
        raise SandboxUnavailable(
            "sandbox: this kernel offers no system-call filter (seccomp), so programs cannot be confined; "
            "sandbox.allow_unsafe=True runs them all the same"
        )

    def layers(self) -> dict[str, str]:
        """The weakest state of every layer over all zygotes."""
        merged: dict[str, str] = {}
        for process in (process for pool in self.processes.values() for process in pool):
            for name, state in process.layers.items():
                if merged.get(name, "active") == "active":
                    merged[name] = state
        return merged

    def close(self) -> None:
        """End all zygotes; in a process forked off, give up its ends of their pipes alone. Idempotent."""
        for pool in (*self.processes.values(), *self.starting.values()):
            for process in pool:
                if os.getpid() == self.owner:
                    process.close()
                else:
                    process.abandon()
        self.processes.clear()
        self.starting.clear()

    def drop_busy(self) -> None:
        """End zygotes that are still at work for an interrupted call: their answers must not meet the next one."""
        for pool in self.processes.values():
            for process in [process for process in pool if process.busy]:
                process.kill()
                pool.remove(process)
                self.respawns += 1


class Dispatch:
    """One batch of requests on its way through the zygotes."""

    def __init__(self, pools: Pools, requests: Sequence[Request]) -> None:
        self.pools = pools
        self.queues: dict[int, deque[Request]] = {}
        for request in requests:
            self.queues.setdefault(request.seed, deque()).append(request)
        self.working: dict[Process, list[Request]] = {}
        self.answers: dict[int, list[RunVerdict]] = {}
        self.selector = selectors.DefaultSelector()

    def results(self) -> dict[int, list[RunVerdict]]:
        """Verdicts of every request by its slot, one per input."""
        try:
            with self.selector:
                self.pools.launch(self.queues)
                for seed in self.queues:
                    self._begin(seed)
                while self.working:
                    self._step()
        finally:
            self.pools.drop_busy()
        return self.answers

    def _begin(self, seed: int) -> None:
        for attempt, pause_s in enumerate(_PAUSES_S):
            time.sleep(pause_s)
            try:
                pool = self.pools.of(seed)
                break
            except (SandboxUnavailable, OSError):
                if attempt == len(_PAUSES_S) - 1:
                    self._give_up(seed)
                    return
        for process in pool:
            self.selector.register(process.fileno(), selectors.EVENT_READ, process)
            self._feed(process)

    def _give_up(self, seed: int) -> None:
        for request in self.queues[seed]:
            self.answers[request.slot] = [INFRA] * len(request.order.inputs)
        self.queues[seed].clear()

    def _feed(self, process: Process) -> None:
        """Send as many orders as one message may hold, and leave the others of the pool their part."""
        queue = self.queues[process.seed]
        fair = -(-len(queue) // max(1, len(self.pools.processes[process.seed])))
        room = order_bytes(self.pools.limits) - 4
        batch: list[Request] = []
        while queue and len(batch) < min(fair, MAX_BATCH):
            room -= queue[0].order.size()
            if batch and room < 0:
                break
            batch.append(queue.popleft())
        if batch:
            self.working[process] = batch
            process.send([request.order for request in batch])

    def _step(self) -> None:
        """Wait for the next word of any zygote at work, or for the first deadline."""
        patience_s = min(process.deadline for process in self.working) - time.monotonic()
        for key, _ in self.selector.select(max(0.0, patience_s)):
            process: Process = key.data
            try:
                process.hear()
            except EOFError:
                self._replace(process)
                continue
            if not process.busy and process in self.working:
                self._finish(process, self.working.pop(process))
        for process in [process for process in self.working if time.monotonic() > process.deadline]:
            self._replace(process)

    def _finish(self, process: Process, batch: list[Request]) -> None:
        self._settle(process, batch)
        self._feed(process)

    def _settle(self, process: Process, batch: list[Request]) -> None:
        """Give every request of a batch its share of the replies; what is missing or no verdict is tried once more."""
        at = 0
        for request in batch:
            size = len(request.order.inputs)
            replies = process.replies[at : at + size]
            at += size
            found = [verdicts.of_reply(reply, request.order.mode, self.pools.limits) for reply in replies]
            found += [INFRA] * (size - len(found))
            if any(verdict is INFRA for verdict in found) and not request.again:
                alone = request.order._replace(joined=False)
                self.queues[request.seed].append(request._replace(order=alone, again=True))
            else:
                self.answers[request.slot] = found

    def _replace(self, process: Process) -> None:
        """A dead or silent zygote: what it owes is tried once more, in another one."""
        seed = process.seed
        self._settle(process, self.working.pop(process, []))
        self.selector.unregister(process.fileno())
        process.kill()
        self.pools.respawns += 1
        pool = self.pools.processes[seed]
        pool.remove(process)
        if not any(other in self.working for other in pool):
            for other in pool:
                self.selector.unregister(other.fileno())
            self._begin(seed)
