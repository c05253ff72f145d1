"""Compiles many programs at once, as far as a share of the box allows; nothing is timed meanwhile.

Compiling takes most of the minutes on a GPU, so small programs are spread over the cores; on a small card two at a
time, as what the compiler tries out there needs memory of its own. Large ones go one by one: the compiler measures
fusions on the card, one program at a time, and what has run out of time goes on doing so beside what is timed.
"""

import concurrent.futures
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.gpu_stages.record import Box


class NotInTime(Exception):
    """The box left no time to compile this."""


def compile_in_time(job: Callable[[], Any], box: Box, share: float) -> Any | Exception:
    """``compile_all`` of one job."""
    return compile_all([job], box, share, None)[0]


def compile_all(
    jobs: Sequence[Callable[[], Any]], box: Box, share: float, pool_bytes: int | None
) -> list[Any | Exception]:
    """What each job returns, or its exception; ``NotInTime`` after ``share`` of what is left of the box."""
    ends = time.monotonic() + share * box.left()
    pool = concurrent.futures.ThreadPoolExecutor(max_workers(pool_bytes))
    futures = [pool.submit(job) for job in jobs]
    found: list[Any | Exception] = []
    for future in futures:
        try:
            found.append(future.result(timeout=max(ends - time.monotonic(), 0)))
        except concurrent.futures.TimeoutError:
            found.append(NotInTime("no time to compile it"))
        except Exception as error:  # a compiler refuses in many types
            found.append(error)
    pool.shutdown(wait=False, cancel_futures=True)
    return found


def max_workers(pool_bytes: int | None) -> int:
    """Compilers at once: as many as cores, up to 8; 2 on a card of less than 12 GB."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 2 if (pool_bytes or 0) < 12 << 30 else 8)


def first_line(error: BaseException) -> str:
    """An exception in one short line."""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:200]
