"""The system calls that a game is refused: ways into the kernel that no game server needs.

The list names what is refused, not what is allowed: the game, SourceMod's extensions and their C library
change, and a failing unknown call breaks a server in ways that nobody can trace. It applies to 64-bit
calls and to 32-bit calls, which a 64-bit program can make too.

The numbers are from arch/x86/entry/syscalls/syscall_64.tbl and syscall_32.tbl, the program's form from
include/uapi/linux/{seccomp,filter,audit}.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from hostops.box.wall import Wall
from hostops.linux.namespaces import call, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    _Calls = Mapping[str, tuple[int | None, int | None]]

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_X86_64 = 0xC000003E
_I386 = 0x40000003
_X32_BIT = 0x40000000

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_IF_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_NUMBER_OFFSET = 0  # in struct seccomp_data
_ARCHITECTURE_OFFSET = 4
_ARGUMENTS_OFFSET = 16

_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS
_UNSUPPORTED = 0x00050000 | errno.EOPNOTSUPP

# Every namespace: NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NEW_NAMESPACES = 0x7E020080
_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C
_FIOSETOWN = 0x8901
_SIOCSPGRP = 0x8902
_F_SETOWN = 8
_F_SETSIG = 10
_F_SETOWN_EX = 15

# Name: its 64-bit and its 32-bit number, None where there is none.
_REFUSED = {
    # Mounts and roots.
    "mount": (165, 21),
    "umount": (None, 22),
    "umount2": (166, 52),
    "pivot_root": (155, 217),
    "chroot": (161, 61),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_tree_attr": (467, 467),
    "setns": (308, 346),
    # Opening files without their paths.
    "name_to_handle_at": (303, 341),
    "open_by_handle_at": (304, 342),
    "fanotify_init": (300, 338),
    # Parts of the kernel with a history of vulnerabilities.
    "add_key": (248, 286),
    "request_key": (249, 287),
    "keyctl": (250, 288),
    "bpf": (321, 357),
    "userfaultfd": (323, 374),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "perf_event_open": (298, 336),
    "modify_ldt": (154, 123),
    "vm86": (None, 166),
    "vm86old": (None, 113),
    "uselib": (134, 86),
    "lookup_dcookie": (212, 253),
    "nfsservctl": (180, 169),
    "_sysctl": (156, 149),
    # The machine itself.
    "iopl": (172, 110),
    "ioperm": (173, 101),
    "kexec_load": (246, 283),
    "kexec_file_load": (320, None),
    "init_module": (175, 128),
    "finit_module": (313, 350),
    "delete_module": (176, 129),
    "swapon": (167, 87),
    "swapoff": (168, 115),
    "reboot": (169, 88),
    "acct": (163, 51),
    "quotactl": (179, 131),
    "quotactl_fd": (443, 443),
    "syslog": (103, 103),
    "settimeofday": (164, 79),
    "stime": (None, 25),
    "clock_settime": (227, 264),
    "clock_settime64": (None, 404),
    "clock_adjtime": (305, 343),
    "clock_adjtime64": (None, 405),
    "adjtimex": (159, 124),
    "sethostname": (170, 74),
    "setdomainname": (171, 121),
    "vhangup": (153, 111),
    # Takes descriptors from another process, through its pidfd.
    "pidfd_getfd": (438, 438),
}
# It can reserve disk space beyond any file size limit (FALLOC_FL_KEEP_SIZE). The filter answers that the file
# system does not support it, and posix_fallocate(3) falls back to writing.
_FALLOCATE = (285, 324)
# Calls that reach other processes of the account, refused if there is no PID namespace.
_REFUSED_BESIDE_OTHERS = {
    "ptrace": (101, 26),
    "process_vm_readv": (310, 347),
    "process_vm_writev": (311, 348),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 349),
    "tkill": (200, 238),
    "rt_tgsigqueueinfo": (297, 335),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "migrate_pages": (256, 294),
    "move_pages": (279, 317),
    # These accept "every process of this user", which does not compare to a single number.
    "setpriority": (141, 97),
    "ioprio_set": (251, 289),
}
# Calls whose first argument is a process: allowed for 0 or the game itself.
_ONLY_ITSELF = {
    "kill": (62, 37),
    "tgkill": (234, 270),
    "rt_sigqueueinfo": (129, 178),
    "prlimit64": (302, 340),
    "sched_setaffinity": (203, 241),
    "sched_setscheduler": (144, 156),
    "sched_setparam": (142, 154),
    "sched_setattr": (314, 351),
}
OF_NO_USE_TO_READERS = {
    "socket": (41, 359),
    "socketpair": (53, 360),
    "socketcall": (None, 102),
    "execve": (59, 11),
    "execveat": (322, 358),
    # No limit of processes holds for root.
    "clone": (56, 120),
    "fork": (57, 2),
    "vfork": (58, 190),
}
"""What a process that only reads and computes can do without: the network, other programs and processes."""

_CLONE = (56, 120)
_CLONE3 = (435, 435)
_UNSHARE = (272, 310)
_IOCTL = (16, 54)
_FCNTL = ((72, 55), (None, 221))  # fcntl, and fcntl64


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


class _Rule:
    """What to do about one system call. If `argument` is None, always refuse it.

    `refuses` means: if a value matches; otherwise, if none does.
    """

    def __init__(
        self,
        number: int,
        argument: int | None = None,
        test: int = _IF_EQUAL,
        values: tuple[int, ...] = (),
        *,
        refuses: bool = True,
        answer: int = _REFUSE,
    ) -> None:
        self.number = number
        self.argument = argument
        self.test = test
        self.values = values
        self.refuses = refuses
        self.answer = answer


def look() -> Wall:
    """Report whether the filter can be installed here, without installing it."""
    name = "System call filter"
    machine = os.uname().machine
    if machine != "x86_64":
        return Wall(
            name,
            False,
            f"There is one for x86-64 machines, where the game runs, and this is {machine}.",
        )
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, None, 0, 0) == 0 or (
        ctypes.get_errno() != errno.EFAULT
    ):
        return Wall(
            name,
            False,
            "This kernel has no seccomp filters.",
            "A kernel with CONFIG_SECCOMP_FILTER.",
        )
    return Wall(name, stands=True)


def refuse_calls(alone_with: int | None = None, more: _Calls | None = None) -> None:
    """Install the filter for this process and its children; needs no_new_privs. Irrevocable.

    `alone_with` is the process's own ID if it has no PID namespace. Calls that reach other processes of the
    account are then refused too, and it can no longer signal even its own children. `more` are additional
    calls to refuse: by name, their 64-bit and 32-bit numbers. Does nothing if `look` finds no filter. Raises
    LaunchError.
    """
    if not look().stands:
        return
    program = build_program(alone_with, more)
    code = ctypes.create_string_buffer(program, len(program))
    pointer = _Program(len(program) // 8, ctypes.addressof(code))
    call(
        "putting up the system call filter",
        libc.prctl,
        _PR_SET_SECCOMP,
        _MODE_FILTER,
        ctypes.byref(pointer),
        0,
        0,
    )


def build_program(alone_with: int | None, more: _Calls | None = None) -> bytes:
    """Return the filter as a program for the kernel's virtual machine."""
    native = [
        _instruction(_LOAD, _NUMBER_OFFSET),
        _instruction(_IF_AT_LEAST, _X32_BIT, 0, 1),
        _instruction(_RETURN, _UNKNOWN),
        *_section(0, alone_with, more or {}),
    ]
    other = [_instruction(_LOAD, _NUMBER_OFFSET), *_section(1, alone_with, more or {})]
    head = [
        _instruction(_LOAD, _ARCHITECTURE_OFFSET),
        # A conditional jump reaches at most 255 instructions; two steps get over the longer list.
        _instruction(_IF_EQUAL, _X86_64, 2, 0),
        _instruction(_IF_EQUAL, _I386, 0, 2),
        _jump(len(native) + 2),
        _jump(1),
        _instruction(_RETURN, _KILL_PROCESS),
    ]
    return b"".join((*head, *native, *other))


def _section(column: int, alone_with: int | None, more: _Calls) -> list[bytes]:
    """Return the instructions for one architecture. They expect the call's number to be loaded."""
    code: list[bytes] = []
    for rule in _rules(column, alone_with, more):
        if rule.argument is None:
            body = [_instruction(_RETURN, rule.answer)]
        else:
            # Each argument is 64 bits, little-endian; the kernel uses the lower 32 of all of these.
            body = [_instruction(_LOAD, _ARGUMENTS_OFFSET + 8 * rule.argument)]
            fits, fits_not = (rule.answer, _ALLOW) if rule.refuses else (_ALLOW, rule.answer)
            for position, value in enumerate(rule.values):
                body.append(_instruction(rule.test, value, len(rule.values) - position, 0))
            body += [_instruction(_RETURN, fits_not), _instruction(_RETURN, fits)]
        code += [_instruction(_IF_EQUAL, rule.number, 0, len(body)), *body]
    return [*code, _instruction(_RETURN, _ALLOW)]


def _rules(column: int, alone_with: int | None, more: _Calls) -> list[_Rule]:
    refused = (*_REFUSED.values(), *more.values())
    rules = [_Rule(number) for numbers in refused if (number := numbers[column])]
    # The filter says there is no clone3, so the C library uses clone, whose flags a filter can check.
    rules.append(_Rule(_CLONE3[column], answer=_UNKNOWN))
    rules.append(_Rule(_FALLOCATE[column], answer=_UNSUPPORTED))
    rules += [
        _Rule(numbers[column], 0, _IF_ANY_BIT, (_NEW_NAMESPACES,)) for numbers in (_CLONE, _UNSHARE)
    ]
    ioctls: tuple[int, ...] = (_TIOCSTI, _TIOCLINUX)
    if alone_with is not None:
        ioctls += (_FIOSETOWN, _SIOCSPGRP)
        rules += [
            _Rule(number)
            for numbers in _REFUSED_BESIDE_OTHERS.values()
            if (number := numbers[column])
        ]
        rules += [
            _Rule(numbers[column], 0, values=(0, alone_with), refuses=False)
            for numbers in _ONLY_ITSELF.values()
        ]
        for fcntl in _FCNTL:
            if number := fcntl[column]:
                rules.append(_Rule(number, 1, values=(_F_SETOWN, _F_SETSIG, _F_SETOWN_EX)))
    rules.append(_Rule(_IOCTL[column], 1, values=ioctls))
    return rules


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter. The jumps count the instructions to skip."""
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _jump(distance: int) -> bytes:
    return _instruction(0x05, distance)  # BPF_JMP | BPF_JA
