"""Resource limits of a process: address space, processor time, files, processes.

The kernel itself supervises processor time: an interval timer whose signal ends the child, armed before the system-call
filter forbids touching timers. No thread or poll of ours has to be scheduled in time for it to work.
"""

import resource
import signal

MIB = 1 << 20


def restrict_zygote(memory_mb: int) -> None:
    """Limits the zygote bears itself and every child inherits."""
    hard = {
        resource.RLIMIT_AS: memory_mb * MIB,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_STACK: 8 * MIB,
    }
    for limit, value in hard.items():
        _, ceiling = resource.getrlimit(limit)
        if ceiling != resource.RLIM_INFINITY:
            value = min(value, ceiling)
        resource.setrlimit(limit, (value, value))


def restrict_child(cpu_us: int) -> None:
    """Limits of one child: ``cpu_us`` microseconds of processor time by SIGPROF, the whole-second limit behind it."""
    seconds = cpu_us // 1_000_000 + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    signal.setitimer(signal.ITIMER_PROF, cpu_us / 1e6)
