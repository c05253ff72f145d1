"""How many workers a stream has: as many as leave the trainer no wait, within the cores."""

import math
import os

WAIT_SHARE = 0.1  # of the time between two batches that the trainer may wait before there are more workers


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_without_wait(workers: int, waited: float, since: float) -> int:
    """Workers that make in the rest of ``since`` seconds what ``workers`` made in all; as many where few were lost.

    At most four times as many at once: what little is left of a time spent waiting is no measure.
    """
    if waited < WAIT_SHARE * since:
        return workers
    return math.ceil(workers * min(since / max(since - waited, 1e-9), 4.0))
