"""The system call filter holds for 64-bit and for 32-bit calls, and refuses exactly what it lists."""

import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from hostops.box import seccomp
from tests.hostops.box.boxes import REPOSITORY

pytestmark = pytest.mark.box

# A 32-bit program without a C library: makes each call in its arguments, and prints the results.
CALLER = r"""
static int call(int number, int a, int b, int c) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(0), "D"(0)
                     : "memory");
    return result;
}
static int parse(const char *text) {
    unsigned value = 0;
    for (; *text; text++) value = value * 10 + (*text - '0');
    return (int)value;
}
static void print(int value) {
    char text[16];
    int at = 15, is_negative = value < 0;
    unsigned rest = is_negative ? -value : value;
    text[at] = '\n';
    do { text[--at] = '0' + rest % 10; rest /= 10; } while (rest);
    if (is_negative) text[--at] = '-';
    call(4, 1, (int)(text + at), 16 - at);
}
__attribute__((used)) static void begin(int *stack) {
    int count = stack[0];
    char **words = (char **)(stack + 1);
    for (int at = 1; at + 2 < count; at += 3)
        print(call(parse(words[at]), parse(words[at + 1]), parse(words[at + 2]), 0));
    call(1, 0, 0, 0);
}
__asm__(".globl _start\n_start: mov %esp, %eax\n push %eax\n call begin\n");
"""

FILTERED = """
import os, sys
sys.path.append(sys.argv[1])
from hostops.box.seccomp import refuse_calls
from hostops.linux.namespaces import drop_privileges
drop_privileges()
refuse_calls(os.getpid() if sys.argv[2] == "alone" else None)
if sys.argv[3] == "exec":
    os.execv(sys.argv[4], sys.argv[4:])
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for text in sys.argv[4:]:
    number, first, second = (int(word) for word in text.split(","))
    result = libc.syscall(number, ctypes.c_ulong(first), ctypes.c_ulong(second), 0, 0, 0)
    print(result if result >= 0 else -ctypes.get_errno(), flush=True)
"""


def run_filtered(*arguments: str, is_alone: bool = False) -> list[int]:
    """Run calls below the filter and return their results, negative errors included."""
    done = subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-c", FILTERED),
            *(str(REPOSITORY), "alone" if is_alone else "", *arguments),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(line) for line in done.stdout.split()]


def test_every_listed_call_is_refused() -> None:
    # With arguments that no call could use: behind the filter there would be a different error.
    numbers = [both[0] for both in seccomp._REFUSED.values() if both[0] is not None]
    results = run_filtered("call", *(f"{number},99999,0" for number in numbers))
    assert results == [-errno.EPERM] * len(numbers)
    # If somebody takes one off the list, it is missed here.
    assert set(seccomp._REFUSED) >= {
        *("mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "setns"),
        *("mount_setattr", "open_by_handle_at", "keyctl", "add_key", "request_key", "bpf"),
        *("userfaultfd", "io_uring_setup", "perf_event_open", "pidfd_getfd", "syslog", "reboot"),
        *("init_module", "kexec_load", "swapon", "settimeofday", "iopl", "modify_ldt"),
    }


def test_namespaces_are_refused_and_threads_are_not() -> None:
    flags = [0x80, *(1 << bit for bit in (17, 25, 26, 27, 28, 29, 30))]
    refused = run_filtered("call", *(f"272,{flag},0" for flag in flags))
    assert refused == [-errno.EPERM] * 8
    # CLONE_FS and CLONE_FILES, which unshare(2) accepts from anybody; and clone3, which does not exist here.
    assert run_filtered("call", "272,512,0", "272,1024,0", "435,0,0") == [0, 0, -errno.ENOSYS]


def test_there_is_no_third_way_into_the_kernel() -> None:
    """x32 calls have numbers of their own, which are not on the list; a kernel may have them or not."""
    for alone_with in (None, 1234):
        program = seccomp.build_program(alone_with)
        assert decide(program, seccomp._X86_64, 0x40000000 + 39) == 0x50000 | errno.ENOSYS
        assert decide(program, seccomp._X86_64, 39) == 0x7FFF0000
        assert decide(program, seccomp._I386, 20) == 0x7FFF0000
        # 64-bit ARM's calls, as from an emulator.
        assert decide(program, 0xC00000B7, 39) == 0x80000000


def decide(program: bytes, architecture: int, number: int) -> int:
    """Run the filter as the kernel does, for a call whose arguments are 0, and return its verdict."""
    data = struct.pack("=iI7Q", number, architecture, *[0] * 7)
    at = value = 0
    while True:
        code, if_true, if_false, operand = struct.unpack_from("=HBBI", program, at * 8)
        at += 1
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif code == 0x05:
            at += operand
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}
            at += if_true if holds[code] else if_false


def test_alone_with_others_it_signals_itself_only() -> None:
    parent = os.getpid()
    calls = [f"62,{parent},0", f"302,{parent},4", f"203,{parent},0", f"234,{parent},{parent}"]
    calls += [f"434,{parent},0", "141,2,0", "72,0,8", "72,0,10", "72,0,15", "16,0,35073"]
    assert run_filtered("call", *calls, is_alone=True) == [-errno.EPERM] * len(calls)
    # Itself, its group, other commands of fcntl; and in a PID namespace everything.
    assert run_filtered("call", "62,0,0", "72,0,1", is_alone=True)[0] == 0
    assert run_filtered("call", f"62,{parent},0") == [0]


@pytest.mark.compiler32
def test_32_bit_calls_are_refused_too(tmp_path: Path) -> None:
    program = compile_caller(tmp_path)
    numbers = [both[1] for both in seccomp._REFUSED.values() if both[1] is not None]
    words = [word for number in numbers for word in (str(number), "99999", "0")]
    assert run_filtered("exec", str(program), *words) == [-errno.EPERM] * len(numbers)
    # getpid works, unshare(CLONE_NEWUSER) does not, unshare(CLONE_FS) does, clone3 does not exist.
    words = ["20", "0", "0", "310", str(1 << 28), "0", "310", "512", "0", "435", "0", "0"]
    pid, *results = run_filtered("exec", str(program), *words)
    assert pid > 0
    assert results == [-errno.EPERM, 0, -errno.ENOSYS]


@pytest.mark.compiler32
def test_32_bit_calls_reach_no_other_process_either(tmp_path: Path) -> None:
    program = compile_caller(tmp_path)
    parent = str(os.getpid())
    words = ["37", parent, "0", "340", parent, "4", "241", parent, "0", "221", "0", "8"]
    words += ["55", "0", "8", "97", "2", "0", "54", "0", str(0x8902), "37", "0", "0"]
    *refused, itself = run_filtered("exec", str(program), *words, is_alone=True)
    assert refused == [-errno.EPERM] * 7
    assert itself == 0


def test_the_program_fits_the_machine_that_runs_it() -> None:
    """The kernel accepts 4,096 instructions; a conditional jump reaches 255."""
    for alone_with in (None, 1234):
        assert len(seccomp.build_program(alone_with)) // 8 < 500


def compile_caller(tmp_path: Path) -> Path:
    """Return the 32-bit program."""
    source = tmp_path / "caller.c"
    source.write_text(CALLER)
    program = tmp_path / "caller"
    options = "-m32 -static -nostdlib -fno-pie -no-pie -fno-stack-protector -O1"
    subprocess.run(["gcc", *options.split(), str(source), "-o", str(program)], check=True)
    return program
