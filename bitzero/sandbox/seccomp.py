"""The system-call filter of a child: an allow-list in classic BPF, everything else kills the process.

What is left: memory without executable pages, writing to the one result descriptor, leaving.
Opening a file answers EACCES instead of killing, because CPython itself tries to open the source of a SyntaxError.
Tables for x86-64 and aarch64; on x86-64 the x32 numbers and on both the calls of a foreign architecture are killed.
"""

import ctypes
import errno
import os
import struct

KILL, ALLOW, ERRNO = 0x8000_0000, 0x7FFF_0000, 0x0005_0000
X86_64, AARCH64 = 0xC000_003E, 0xC000_00B7  # AUDIT_ARCH_*
X32_BIT = 0x4000_0000
PROT_EXEC, MAP_ANONYMOUS = 4, 0x20
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LD, _AND, _JEQ, _JGE, _JSET, _RET = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_FUTEX_COMMAND, _FUTEX_WAKE = 0x7F, 1
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data

ALLOWED = ("brk", "munmap", "mremap", "madvise", "rt_sigreturn", "exit", "exit_group")
DENIED = ("open", "openat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat", "readlink", "readlinkat")
TABLES: dict[int, dict[str, int]] = {
    X86_64: {
        "write": 1, "open": 2, "stat": 4, "lstat": 6, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
        "rt_sigreturn": 15, "access": 21, "mremap": 25, "madvise": 28, "exit": 60, "readlink": 89, "futex": 202,
        "exit_group": 231, "openat": 257, "newfstatat": 262, "readlinkat": 267,
        "faccessat": 269, "statx": 332,
    },
    AARCH64: {
        "faccessat": 48, "openat": 56, "write": 64, "readlinkat": 78, "newfstatat": 79, "exit": 93, "exit_group": 94,
        "futex": 98, "rt_sigreturn": 139, "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222,
        "mprotect": 226, "madvise": 233, "statx": 291,
    },
}  # fmt: skip
_MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def machine() -> int:
    """The audit number of this machine. Raises ``OSError(ENOSYS)`` where there is no table or 32-bit userland."""
    arch = _MACHINES.get(os.uname().machine)
    if arch is None or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, "no system-call table for this machine")
    return arch


def program(arch: int, result_fd: int) -> list[Instruction]:
    """The filter for ``arch`` that lets only ``result_fd`` be written."""
    table = TABLES[arch]
    code: list[Instruction] = [(_LD, 0, 0, _ARCH), (_JEQ, 1, 0, arch), (_RET, 0, 0, KILL), (_LD, 0, 0, _NR)]
    if arch == X86_64:
        code += [(_JGE, 0, 1, X32_BIT), (_RET, 0, 0, KILL)]
    for name in ALLOWED:
        code += _rule(table[name], [(_RET, 0, 0, ALLOW)])
    code += _rule(table["mmap"], _argument_unset(2, PROT_EXEC) + _argument_set(3, MAP_ANONYMOUS))
    code += _rule(table["mprotect"], [*_argument_unset(2, PROT_EXEC), (_RET, 0, 0, ALLOW)])
    write = [(_LD, 0, 0, _ARGS), (_JEQ, 1, 0, result_fd), (_RET, 0, 0, KILL), (_RET, 0, 0, ALLOW)]
    code += _rule(table["write"], write)
    # A process of one thread never has to wait for a lock; one that does would hang without using its time.
    command = [(_LD, 0, 0, _ARGS + 8), (_AND, 0, 0, _FUTEX_COMMAND)]
    wake = [(_JEQ, 1, 0, _FUTEX_WAKE), (_RET, 0, 0, KILL), (_RET, 0, 0, ALLOW)]
    code += _rule(table["futex"], [*command, *wake])
    for name in DENIED:
        if name in table:
            code += _rule(table[name], [(_RET, 0, 0, ERRNO | errno.EACCES)])
    return [*code, (_RET, 0, 0, KILL)]


def _rule(number: int, block: list[Instruction]) -> list[Instruction]:
    """``block``, which always returns, entered for system call ``number``; the accumulator holds the number."""
    return [(_JEQ, 0, len(block), number), *block]


def _argument_unset(index: int, bits: int) -> list[Instruction]:
    """Go on if none of ``bits`` is in the low word of argument ``index``, else kill."""
    return [(_LD, 0, 0, _ARGS + 8 * index), (_JSET, 0, 1, bits), (_RET, 0, 0, KILL)]


def _argument_set(index: int, bits: int) -> list[Instruction]:
    """Allow if one of ``bits`` is in the low word of argument ``index``, else kill."""
    return [(_LD, 0, 0, _ARGS + 8 * index), (_JSET, 1, 0, bits), (_RET, 0, 0, KILL), (_RET, 0, 0, ALLOW)]


class Filter:
    """A filter made once in the zygote and installed by every child with one call; needs no_new_privs (``layers``)."""

    def __init__(self, result_fd: int) -> None:
        code = program(machine(), result_fd)
        raw = b"".join(struct.pack("HBBI", *instruction) for instruction in code)
        self._code = ctypes.create_string_buffer(raw, len(raw))
        self._prog = struct.pack("H6xP", len(code), ctypes.addressof(self._code))
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl

    def install(self) -> None:
        """Confine the calling process for good. Raises ``OSError`` where the kernel refuses."""
        if self._prctl(_PR_SET_SECCOMP, _MODE_FILTER, self._prog, 0, 0):
            raise OSError(ctypes.get_errno(), "seccomp")
