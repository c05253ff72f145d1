"""The system-call filter, read the way the kernel reads it: by interpreting the classic BPF program."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitzero.sandbox.seccomp import AARCH64, ALLOW, ALLOWED, DENIED, ERRNO, KILL, TABLES, X86_64, program

ARCHES = (X86_64, AARCH64)
RESULT_FD = 1
ANONYMOUS, READ_WRITE, EXECUTE = 0x22, 3, 4
# From the kernel's own tables: what an escape would need, on each machine.
DOORS = {
    X86_64: {
        "read": 0, "close": 3, "ioctl": 16, "pipe": 22, "dup": 32, "nanosleep": 35, "setitimer": 38, "getpid": 39,
        "socket": 41, "connect": 42, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "wait4": 61, "kill": 62,
        "unlink": 87, "ptrace": 101, "getppid": 110, "prctl": 157, "mount": 165, "setrlimit": 160, "tgkill": 234,
        "unshare": 272, "prlimit64": 302, "getrandom": 318, "memfd_create": 319, "execveat": 322, "bpf": 321,
        "userfaultfd": 323, "io_uring_setup": 425, "clone3": 435, "openat2": 437, "rt_sigaction": 13,
        "process_vm_readv": 310, "shmget": 29, "mq_open": 240, "keyctl": 250, "open_by_handle_at": 304,
    },
    AARCH64: {
        "ioctl": 29, "dup": 23, "pipe2": 59, "read": 63, "close": 57, "unshare": 97, "nanosleep": 101, "setitimer": 103,
        "ptrace": 117, "kill": 129, "tgkill": 131, "rt_sigaction": 134, "prctl": 167, "getpid": 172, "getppid": 173,
        "socket": 198, "connect": 203, "clone": 220, "execve": 221, "wait4": 260, "prlimit64": 261, "getrandom": 278,
        "memfd_create": 279, "bpf": 280, "execveat": 281, "userfaultfd": 282, "io_uring_setup": 425, "clone3": 435,
        "openat2": 437, "mount": 40, "unlinkat": 35, "setrlimit": 164, "process_vm_readv": 270,
    },
}  # fmt: skip


def decide(arch: int, number: int, *args: int, machine: int | None = None) -> int:
    """What the kernel would answer to system call ``number`` under the filter for ``arch``."""
    words = {0: number, 4: arch if machine is None else machine, 8: 0, 12: 0}
    for index in range(6):
        argument = args[index] if index < len(args) else 0
        words[16 + 8 * index], words[20 + 8 * index] = argument & 0xFFFFFFFF, argument >> 32
    code = program(arch, RESULT_FD)
    assert len(code) < 4096
    accumulator = at = 0
    while True:
        operation, if_true, if_false, operand = code[at]
        assert 0 <= if_true < 256 and 0 <= if_false < 256
        at += 1
        if operation == 0x20:
            accumulator = words[operand]
        elif operation == 0x54:
            accumulator &= operand
        elif operation == 0x06:
            return operand
        else:
            tests = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}
            at += if_true if tests[operation] else if_false


@pytest.mark.parametrize("arch", ARCHES)
def test_the_child_keeps_what_it_needs(arch: int) -> None:
    table = TABLES[arch]
    for name in ALLOWED:
        assert decide(arch, table[name]) == ALLOW
    for wake in (1, 129):  # FUTEX_WAKE, shared and private
        assert decide(arch, table["futex"], 0, wake) == ALLOW
    assert decide(arch, table["write"], RESULT_FD) == ALLOW
    assert decide(arch, table["mmap"], 0, 4096, READ_WRITE, ANONYMOUS, 2**64 - 1) == ALLOW
    assert decide(arch, table["mprotect"], 4096, 4096, READ_WRITE) == ALLOW


@pytest.mark.parametrize("arch", ARCHES)
def test_opening_a_file_is_denied_not_deadly(arch: int) -> None:
    for name in DENIED:
        if name in TABLES[arch]:
            assert decide(arch, TABLES[arch][name]) == ERRNO | errno.EACCES


@pytest.mark.parametrize("arch", ARCHES)
def test_every_door_is_deadly(arch: int) -> None:
    for name, number in DOORS[arch].items():
        assert decide(arch, number) == KILL, name


@pytest.mark.parametrize("arch", ARCHES)
def test_arguments_are_looked_at(arch: int) -> None:
    table = TABLES[arch]
    for descriptor in (0, 2, 3, 2**31, 2**32 - 1):
        assert decide(arch, table["write"], descriptor) == KILL
    assert decide(arch, table["mmap"], 0, 4096, READ_WRITE | EXECUTE, ANONYMOUS) == KILL
    assert decide(arch, table["mmap"], 0, 4096, READ_WRITE, 2) == KILL  # a file mapping
    assert decide(arch, table["mprotect"], 4096, 4096, 1 | EXECUTE) == KILL
    for wait in (0, 128, 9, 137, 6, 11, 13):  # every way to wait, and requeueing
        assert decide(arch, table["futex"], 0, wait) == KILL


@given(st.sampled_from(ARCHES), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_nothing_else_is_allowed(arch: int, number: int, args: list[int]) -> None:
    if number not in TABLES[arch].values():
        assert decide(arch, number, *args) == KILL


@given(st.integers(0, 2**32 - 1), st.integers(0, 500))
def test_foreign_architectures_and_x32_are_deadly(machine: int, number: int) -> None:
    for arch in ARCHES:
        if machine != arch:
            assert decide(arch, number, RESULT_FD, machine=machine) == KILL
    assert decide(X86_64, number | 0x4000_0000, RESULT_FD) == KILL
