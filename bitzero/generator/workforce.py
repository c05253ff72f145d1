"""How many workers a stream has: as many as leave the trainer no wait, within the cores."""

import math
import os

WAIT_SHARE = 0.1  # of the time between two batches that the trainer may wait before there are more workers


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_without_wait(workers: int, waited: float, since: float) -> int:
    """How many workers would have made the same without the wait, in ``since`` − ``waited`` seconds.

    As many as there are if the wait was short, at most four times as many: the little time left is no measure.
    """
    if waited < WAIT_SHARE * since:
        return workers
    return math.ceil(workers * min(since / max(since - waited, 1e-9), 4.0))
