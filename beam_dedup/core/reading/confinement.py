"""Takes rights from this process that decoding does not need, before it reads files written by strangers.

A decoder with a hole may be made to run a stranger's code. Linux then refuses that code

    new privileges     programs with setuid or capabilities give none (`no_new_privs`)
    the network        no socket can be made
    other programs     none can be started, and no process can be made, traced or signalled
    changes of files   none can be created, opened for writing, renamed, removed or changed in its attributes
    the system         mounts, namespaces, kernel modules, keys, BPF

by a seccomp filter, on x86-64 and 64-bit ARM. Where the system lacks one of the two, the other still holds.
Reading files stays possible, and so does everything with files that are already open: the pipes of this
process. The filter is a list of what is refused, since a list of what is allowed would differ with every
version of every library.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _ALL_THREADS = 1, 1  # of seccomp(2)

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # what a filter returns
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of BPF
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in `struct seccomp_data`
_INSTRUCTION = struct.Struct("=HBBI")  # code, jumps if true and if false, operand
_X32 = 0x40000000  # numbers of another interface of x86-64 to the same calls

_CLONE_THREAD = 0x10000
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class _Architecture(NamedTuple):
    audit: int  # its number in `struct seccomp_data`
    column: int  # its column in `_REFUSED` and the like
    seccomp: int  # number of seccomp(2)


_ARCHITECTURES = {"x86_64": _Architecture(0xC000003E, 0, 317), "aarch64": _Architecture(0xC00000B7, 1, 277)}

# Numbers of system calls on x86-64 and on 64-bit ARM; -1 where the call is missing.
_REFUSED = {
    "socket": (41, 198),
    "io_uring_setup": (425, 425),
    "fork": (57, -1),
    "vfork": (58, -1),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "creat": (85, -1),
    "open_by_handle_at": (304, 265),
    "rename": (82, -1),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "unlink": (87, -1),
    "unlinkat": (263, 35),
    "rmdir": (84, -1),
    "mkdir": (83, -1),
    "mkdirat": (258, 34),
    "link": (86, -1),
    "linkat": (265, 37),
    "symlink": (88, -1),
    "symlinkat": (266, 36),
    "mknod": (133, -1),
    "mknodat": (259, 33),
    "truncate": (76, 45),
    "chmod": (90, -1),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, -1),
    "lchown": (94, -1),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, -1),
    "utimes": (235, -1),
    "futimesat": (261, -1),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "mount": (165, 40),
    "umount2": (166, 39),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
}
# Their flags are in memory, which a filter can't read. Callers then use the older call.
_MISSING = {"clone3": (435, 435), "openat2": (437, 437)}
_OPEN, _OPENAT = (2, -1), (257, 56)
_CLONE = (56, 220)
_KILL, _TGKILL = (62, 129), (234, 131)
_PRLIMIT = (302, 261)


def confine() -> None:
    """Takes the rights from all threads of this process, for good. Does what the system can, and no more."""
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None or sys.maxsize < 1 << 32:
        return
    instructions = b"".join(_filter(architecture, os.getpid()))
    program = ctypes.create_string_buffer(instructions, len(instructions))
    described = _Program(len(instructions) // _INSTRUCTION.size, ctypes.addressof(program))
    library.syscall(
        ctypes.c_long(architecture.seccomp),
        ctypes.c_long(_SET_MODE_FILTER),
        ctypes.c_long(_ALL_THREADS),
        ctypes.byref(described),
    )


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _filter(architecture: _Architecture, process: int) -> Iterator[bytes]:
    """Yields the instructions of the filter.

    Args:
      architecture: whose numbers are used; calls by the numbers of another are refused.
      process: number of this process, to which it may send signals.
    """
    yield _load(_ARCHITECTURE)
    yield _jump(_EQUAL, architecture.audit, if_true=1)
    yield _refuse(errno.ENOSYS)
    yield _load(_NUMBER)
    yield _jump(_AT_LEAST, _X32, if_false=1)
    yield _refuse(errno.ENOSYS)
    for calls, error in ((_REFUSED, errno.EPERM), (_MISSING, errno.ENOSYS)):
        for numbers in calls.values():
            if (number := numbers[architecture.column]) >= 0:
                yield _jump(_EQUAL, number, if_false=1)
                yield _refuse(error)
    # Number, argument, and the condition on it under which the call is allowed.
    for numbers, argument, *condition in (
        (_OPEN, 1, _ANY_BIT, _WRITES, False),
        (_OPENAT, 2, _ANY_BIT, _WRITES, False),
        (_CLONE, 0, _ANY_BIT, _CLONE_THREAD, True),
        (_KILL, 0, _EQUAL, process, True),
        (_TGKILL, 0, _EQUAL, process, True),
        (_PRLIMIT, 0, _EQUAL, 0, True),
    ):
        if (number := numbers[architecture.column]) >= 0:
            test, operand, allowed = condition
            yield _jump(_EQUAL, number, if_false=4)
            yield _load(_ARGUMENTS + 8 * argument)  # its lower half
            yield _jump(test, operand, if_true=int(allowed), if_false=int(not allowed))
            yield _refuse(errno.EPERM)
            yield _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW)


def _load(offset: int) -> bytes:
    return _INSTRUCTION.pack(_LOAD, 0, 0, offset)


def _jump(test: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Skips that many instructions."""
    return _INSTRUCTION.pack(test, if_true, if_false, operand)


def _refuse(error: int) -> bytes:
    return _INSTRUCTION.pack(_RETURN, 0, 0, _ERRNO | error)
