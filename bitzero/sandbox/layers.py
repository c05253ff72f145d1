"""Kernel layers around the whole zygote: unprivileged user, namespaces with an empty root, Landlock. Linux only.

Each layer is probed by doing: it counts as active only when the thing it forbids was tried and failed, and a kernel
that refuses is recorded with its errno. None is required here; the system-call filter of each child is (``seccomp``).
"""

import _socket
import ctypes
import errno
import os
import struct

from bitzero.sandbox import wire

NOBODY = 65534
_NAMESPACES = {"mount": 0x0002_0000, "ipc": 0x0800_0000, "uts": 0x0400_0000, "net": 0x4000_0000, "pid": 0x2000_0000}
_NEWUSER = 0x1000_0000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITIES_3 = 0x2008_0522
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446

Report = dict[str, str]


class SystemCalls:
    """The few system calls that Python's ``os`` does not offer on every supported version."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)

    def call(self, name: str, *args: object) -> int:
        result = int(getattr(self.libc, name)(*args))
        if result < 0:
            raise OSError(ctypes.get_errno(), name)
        return result

    def syscall(self, number: int, *args: object) -> int:
        return self.call("syscall", ctypes.c_long(number), *args)


def attempt(report: Report, layer: str, action: object, *args: object) -> bool:
    """Run ``action``; record ``active`` or ``unavailable (ERRNO)`` under ``layer``."""
    assert callable(action)
    try:
        action(*args)
    except OSError as error:
        report[layer] = f"unavailable ({errno.errorcode.get(error.errno or 0, str(error))})"
        return False
    report[layer] = "active"
    return True


def enter(kernel: SystemCalls, report: Report) -> None:
    """Close every layer that this machine offers, outermost first. Forks where a process namespace was made: the
    caller goes on in its first process, the outer one only waits for it.
    """
    volunteer()
    attempt(report, "unprivileged", drop_user, kernel)
    if attempt(report, "user namespace", enter_user_namespace, kernel):
        for name, flag in _NAMESPACES.items():
            attempt(report, f"{name} namespace", kernel.call, "unshare", flag)
        if report["pid namespace"] == "active":
            attempt(report, "pid namespace", become_first_process, kernel)
        if report["mount namespace"] == "active":
            attempt(report, "empty root", empty_root, kernel)
        check_network(report)
    kernel.call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    kernel.call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # Landlock and seccomp ask for it where nobody is root
    attempt(report, "landlock", landlock, kernel)
    attempt(report, "no capabilities", drop_capabilities, kernel)


def volunteer() -> None:
    """Be the first to go when the machine runs out of memory, so that the host process is not."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
    except OSError:
        pass


def drop_user(kernel: SystemCalls) -> None:
    """Become nobody where we are root; where we are not, there is nothing to drop."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        kernel.call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self/uid_map belongs to root
    if os.geteuid() == 0:
        raise OSError(errno.EPERM, "setresuid")


def enter_user_namespace(kernel: SystemCalls) -> None:
    user, group = os.geteuid(), os.getegid()
    kernel.call("unshare", _NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def become_first_process(kernel: SystemCalls) -> None:
    """Fork into the new process namespace; the outer process waits and passes on how the inner one ended.

    The inner one goes on when the outer one has said its number: the host takes what comes after "ready" for a reply.
    """
    told, telling = os.pipe()
    inner = os.fork()
    if inner:
        os.write(1, wire.pack([f"pid={inner}".encode()]))  # the host ends the inner process, so that we reap it
        os.close(telling)
        os.close(told)
        os.close(0)
        os.close(1)
        _, status = os.waitpid(inner, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    os.close(telling)
    os.read(told, 1)  # the end of the pipe, once the outer process has closed it
    os.close(told)
    die_with_parent(kernel)
    if os.getpid() != 1:
        raise OSError(errno.ESRCH, "not the first process of the namespace")


def die_with_parent(kernel: SystemCalls) -> None:
    kernel.call("prctl", _PR_SET_PDEATHSIG, 9, 0, 0, 0)


def empty_root(kernel: SystemCalls) -> None:
    """Replace the file system by an empty read-only one and see that it is empty."""
    here = next(path for path in (b"/tmp", b"/dev/shm", b"/mnt", b"/") if os.path.isdir(path))
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    kernel.call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    kernel.call("mount", b"none", here, b"tmpfs", flags, b"size=4k,mode=555")
    os.chdir(here)
    kernel.syscall(_PIVOT_ROOT[os.uname().machine], b".", b".")
    kernel.call("umount2", b".", _MNT_DETACH)
    os.chdir("/")
    kernel.call("mount", None, b"/", None, flags | _MS_REMOUNT | _MS_BIND | _MS_RDONLY, None)
    if os.listdir("/"):
        raise OSError(errno.ENOTEMPTY, "root")


def drop_capabilities(kernel: SystemCalls) -> None:
    """Give up what a new user namespace grants inside itself, and see that nothing is left."""
    header = struct.pack("Ii", _CAPABILITIES_3, 0)
    kernel.call("capset", header, bytes(24))
    left = ctypes.create_string_buffer(24)
    kernel.call("capget", header, left)
    if any(left.raw):
        raise OSError(errno.EPERM, "capset")


def check_network(report: Report) -> None:
    """A network namespace of our own shows only its loopback device."""
    if report["net namespace"] == "active" and [name for _, name in _socket.if_nameindex()] not in ([], ["lo"]):
        report["net namespace"] = "unavailable (EEXIST)"


def landlock(kernel: SystemCalls) -> None:
    """Allow no file, no TCP, no signal to the outside, as far as the kernel's version of Landlock knows them."""
    version = kernel.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    files = (1 << (13 + (version >= 2) + (version >= 3) + (version >= 5))) - 1
    net = 3 if version >= 4 else 0
    scoped = 3 if version >= 6 else 0
    rules = (ctypes.c_uint64 * 3)(files, net, scoped)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = kernel.syscall(_LANDLOCK_CREATE, rules, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        kernel.syscall(_LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    try:
        os.close(os.open("/", os.O_RDONLY))
    except PermissionError:
        return
    raise OSError(errno.EIO, "landlock did not hold")
