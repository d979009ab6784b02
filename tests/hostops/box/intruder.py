"""A hostile game: tries what the box is meant to prevent, and records how each try went.

    python -I -S intruder.py TARGETS.json    (in the game's folder; the report is ./report.json)

Standard library only. A try that raises OSError was refused; the report has its errno.
"""

# ruff: noqa: PTH102, PTH103, PTH104, PTH108, PTH110, PTH111, PTH115, PTH123, PTH208, PTH211, S606

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)
DONE = "DONE"


def check(result: int) -> int:
    """Raise OSError for the failure of a call of the C library."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def call(number: int, *arguments: object) -> int:
    """Make a system call of x86-64 by its number."""
    return check(libc.syscall(number, *arguments))


def read(path: str) -> None:
    """Read a file."""
    with open(path, "rb") as file:
        file.read(1)


def write(path: str) -> None:
    """Write to a file, or make it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))


def change(path: str) -> None:
    """Write to an existing file."""
    os.close(os.open(path, os.O_WRONLY))


def listing(path: str) -> None:
    """List a folder that is not empty."""
    if not os.listdir(path):
        raise OSError(errno.ENOENT, "empty")


def descriptors(pid: int) -> None:
    """Open a file that another process has open; the same user may list only its descriptor numbers."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        os.readlink(f"/proc/{pid}/fd/{name}")


def connect(address: str) -> None:
    """Connect to a socket of this host."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(address)


def in_child(action: Callable[[], object]) -> None:
    """Run it in a child, so that its changes are gone afterwards; raise what it raised."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 0
        try:
            action()
        except OSError as error:
            code = error.errno or 255
        os.write(writer, bytes([code]))
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 1)
    os.close(reader)
    os.waitpid(child, 0)
    if not said:
        raise OSError(errno.EPERM, "killed")
    if said[0]:
        raise OSError(said[0], os.strerror(said[0]))


def unshare(flags: int) -> Callable[[], None]:
    """Return a try to make namespaces."""
    return lambda: in_child(lambda: call(272, flags))


def clone(flags: int) -> None:
    """Make a child in namespaces of its own."""
    child = call(56, flags | signal.SIGCHLD, None, None, None, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def clone3(flags: int) -> None:
    """Make a child in namespaces of its own, by the newer call."""
    arguments = ctypes.create_string_buffer(struct.pack("=8Q", flags, 0, 0, 0, 17, 0, 0, 0))
    child = call(435, arguments, 64)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def escape_from_chroot() -> None:
    """Climb out of a root that a further chroot has left behind."""
    here = os.open(".", os.O_RDONLY)
    os.mkdir("deeper")
    os.chroot("deeper")
    os.fchdir(here)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    read("/etc/shadow")


def open_by_handle() -> None:
    """Open the root of the file system by its inode, bypassing every path."""
    handle = ctypes.create_string_buffer(struct.pack("=IiII", 8, 1, 2, 0), 16)
    mount = os.open(".", os.O_RDONLY)
    os.close(call(304, mount, handle, os.O_RDONLY))


def send_terminal_input() -> None:
    """Type into the terminal."""
    fcntl.ioctl(0, 0x5412, b"x")


def read_process_memory(pid: int) -> None:
    """Read another process's memory by process_vm_readv; a bad address would mean that permission was given."""
    local = ctypes.create_string_buffer(8)
    mine = (ctypes.c_ulong * 2)(ctypes.addressof(local), 8)
    theirs = (ctypes.c_ulong * 2)(0, 8)
    try:
        call(310, pid, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, ctypes.c_ulong(0))
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise


def attach_message_queue(name: str) -> None:
    """Open a POSIX message queue of this account."""
    check(libc.mq_open(name.encode(), os.O_RDWR))


def attach_shared_memory(key: int) -> None:
    """Open a System V shared memory of this account."""
    call(29, key, 0, 0)


def signal_by_descriptor(pid: int) -> None:
    """Signal a process through a descriptor of it."""
    signal.pidfd_send_signal(os.pidfd_open(pid), 0)


def take_descriptor(pid: int) -> None:
    """Take a descriptor from another process."""
    call(438, os.pidfd_open(pid), 0, 0)


def write_by_link(target: str) -> None:
    """Write through a link in our own tree."""
    os.symlink(target, "link-out")
    try:
        os.close(os.open("link-out", os.O_WRONLY))
    finally:
        os.unlink("link-out")


def hard_link(target: str) -> None:
    """Hard-link a file from outside into our own tree."""
    os.link(target, "hard-link")
    os.unlink("hard-link")


def perf() -> None:
    """Count with the processor's counters."""
    attributes = ctypes.create_string_buffer(struct.pack("=IIQ", 1, 112, 0), 112)
    os.close(call(298, attributes, 0, -1, -1, 0))


def bpf() -> None:
    """Make a map of the kernel's virtual machine."""
    attributes = ctypes.create_string_buffer(struct.pack("=IIII", 2, 4, 8, 1), 120)
    os.close(call(321, 0, attributes, 120))


def io_uring() -> None:
    """Set up an io_uring."""
    os.close(call(425, 1, ctypes.create_string_buffer(120)))


def claim_room() -> None:
    """Reserve disk space behind the end of the console's file, where no size limit counts it."""
    number = [ctypes.c_int64(value) for value in (9 << 30, 4096)]
    check(libc.fallocate(1, 1, *number))  # FALLOC_FL_KEEP_SIZE


def tries(targets: dict[str, object]) -> dict[str, Callable[[], object]]:
    """Return everything that is tried, by name."""
    victim = int(str(targets["victim"]))
    found: dict[str, Callable[[], object]] = {}
    for verb, action in (
        ("read", read),
        ("write", write),
        ("change", change),
        ("list", listing),
        ("connect", connect),
        ("link to write", write_by_link),
        ("hard link", hard_link),
    ):
        for name, path in dict(targets.get(verb, {})).items():  # type: ignore[call-overload]
            found[f"{verb} {name}"] = lambda action=action, path=path: action(path)  # type: ignore[misc]
    found |= {
        "shared memory": lambda: attach_shared_memory(int(str(targets["shm_key"]))),
        "message queue": lambda: attach_message_queue(str(targets["queue"])),
        "see a command line": lambda: read(f"/proc/{victim}/cmdline"),
        "read environ": lambda: read(f"/proc/{victim}/environ"),
        "read mem": lambda: read(f"/proc/{victim}/maps"),
        "read fd": lambda: descriptors(victim),
        "read root": lambda: listing(f"/proc/{victim}/root/"),
        "read cwd": lambda: listing(f"/proc/{victim}/cwd/"),
        "kill": lambda: os.kill(victim, 0),
        "kill its group": lambda: os.killpg(victim, 0),
        "kill all": lambda: os.kill(-1, 0),
        "pidfd": lambda: signal_by_descriptor(victim),
        "pidfd_getfd": lambda: take_descriptor(victim),
        "sigqueue": lambda: call(129, victim, 0, struct.pack("=iii", 0, 0, -1).ljust(128, b"\0")),
        "ptrace": lambda: call(101, 0x4206, victim, None, None),  # PTRACE_SEIZE
        "process_vm_readv": lambda: read_process_memory(victim),
        "prlimit": lambda: resource.prlimit(victim, resource.RLIMIT_CORE, (0, 0)),
        "setpriority": lambda: os.setpriority(os.PRIO_PROCESS, victim, 5),
        "setaffinity": lambda: os.sched_setaffinity(victim, os.sched_getaffinity(0)),
        "init: ptrace": lambda: call(101, 0x4206, int(str(targets["init"] or 1)), None, None),
        "init: environ": lambda: read(f"/proc/{targets['init'] or 1}/environ"),
        "init: mem": lambda: read(f"/proc/{targets['init'] or 1}/maps"),
        "init: root": lambda: listing(f"/proc/{targets['init'] or 1}/root/"),
        "init: fd": lambda: descriptors(int(str(targets["init"] or 1))),
        "mount": lambda: check(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
        "umount": lambda: check(libc.umount2(b"/tmp", 2)),
        "remount": lambda: check(libc.mount(None, b"/", None, 0x1000 | 0x20, None)),
        "open_tree": lambda: call(428, -100, b"/", 1),
        "fsopen": lambda: call(430, b"tmpfs", 0),
        "unshare user": unshare(0x10000000),
        "unshare mount": unshare(0x00020000),
        "unshare net": unshare(0x40000000),
        "unshare all": unshare(0x7E020000),
        "clone user": lambda: clone(0x10000000),
        "clone3 user": lambda: clone3(0x10000000),
        "chroot": lambda: in_child(escape_from_chroot),
        "setns": lambda: check(libc.setns(os.open("/proc/self/ns/mnt", os.O_RDONLY), 0)),
        "setns of another": lambda: check(
            libc.setns(os.open(f"/proc/{victim}/ns/mnt", os.O_RDONLY), 0)
        ),
        "open_by_handle_at": open_by_handle,
        "keyctl": lambda: call(250, 0, -3, 1),
        "add_key": lambda: call(248, b"user", b"intruder", b"x", 1, -3),
        "bpf": bpf,
        "userfaultfd": lambda: os.close(call(323, 1)),
        "io_uring": io_uring,
        "perf_event_open": perf,
        "TIOCSTI": send_terminal_input,
        "kernel log": lambda: call(103, 3, ctypes.create_string_buffer(16), 16),
        "own mem": lambda: os.close(os.open("/proc/self/mem", os.O_RDWR)),
        "claim room past the limit": claim_room,
        "console reopened": lambda: os.close(os.open("/proc/self/fd/1", os.O_RDWR)),
        "device": lambda: os.mknod("device", 0o20666, os.makedev(1, 1)),
    }
    return found


def works() -> dict[str, Callable[[], object]]:
    """Return what a game must be able to do, by name."""

    def jit() -> None:
        mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()

    def thread() -> None:
        worker = threading.Thread(target=int)
        worker.start()
        worker.join()

    def move() -> None:
        os.makedirs("left4dead2/from", exist_ok=True)
        os.makedirs("left4dead2/to", exist_ok=True)
        write("left4dead2/from/file")
        os.rename("left4dead2/from/file", "left4dead2/to/file")
        os.link("left4dead2/to/file", "left4dead2/linked")
        os.mkfifo("left4dead2/fifo")
        os.symlink("to/file", "left4dead2/symlink")

    def change_the_release() -> None:
        with open("left4dead2/of-the-release", "a") as file:
            file.write("changed")

    def serve() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), 5).close()

    def discard() -> None:
        with open("/dev/null", "w") as file:
            file.write("x")

    return {
        "own tree": move,
        "copy-up": change_the_release,
        "home": lambda: write(os.path.expanduser("~/own")),
        "steamclient": lambda: read(os.path.expanduser("~/.steam/sdk32/steamclient.so")),
        "tmp": lambda: write("/tmp/own"),
        "shm": lambda: write("/dev/shm/own"),
        "null": discard,
        "random": lambda: read("/dev/urandom"),
        "shell": lambda: subprocess.run(["/bin/sh", "-c", "true"], check=True),
        "thread": thread,
        "jit": jit,
        "sockets": serve,
        "names": lambda: socket.getaddrinfo("localhost", 80),
        "passwd": lambda: __import__("pwd").getpwuid(os.getuid()),
        "cpuinfo": lambda: read("/proc/cpuinfo"),
        "self": lambda: read("/proc/self/maps"),
    }


def attempt(action: Callable[[], object]) -> str:
    """Return DONE, or the name of the error."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))
    except (LookupError, subprocess.SubprocessError) as error:
        return repr(error)
    return DONE


def leave_child(name: str) -> None:
    """Leave a process behind that has nothing of ours."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 1024)
            os.execv("/bin/sh", ["/bin/sh", "-c", f": {name}; while :; do sleep 1; done"])
        os._exit(0)


def write_past_limit() -> None:
    """Write beyond 8 GiB of a sparse file."""
    with open("big", "wb") as file:
        file.seek(9 << 30)
        file.write(b"x")


def status() -> dict[str, str]:
    """Return the kernel's status of this process."""
    with open("/proc/self/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def main() -> int:
    """Try everything, write the report, and wait for a line on stdin."""
    with open(sys.argv[1]) as file:
        targets = json.load(file)
    # Before the tries: some of them leave traces.
    report: dict[str, object] = {
        "fds": {
            name: os.readlink(f"/proc/self/fd/{name}")
            for name in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{name}")
        },
        "root": sorted(os.listdir("/")),
        "etc": sorted(os.listdir("/etc")),
        "etc/ssl": sorted(os.listdir("/etc/ssl")),
        "dev": sorted(os.listdir("/dev")),
        "pid": os.getpid(),
        "status": status(),
        "group": os.getpgid(0),
        "cores": resource.getrlimit(resource.RLIMIT_CORE),
        "files": resource.getrlimit(resource.RLIMIT_FSIZE),
        "tasks": resource.getrlimit(resource.RLIMIT_NPROC),
        "works": {name: attempt(action) for name, action in works().items()},
        "tries": {name: attempt(action) for name, action in tries(targets).items()},
        "past the limit": attempt(write_past_limit),
    }
    leave_child(targets["child"])
    # Allowed or not, process 1 must survive it; outside a box that is the machine's.
    if targets["is_boxed"]:
        report["kill init"] = attempt(lambda: os.kill(1, signal.SIGKILL))
    with open("report.new", "w") as out:
        json.dump(report, out)
    os.rename("report.new", "report.json")
    print("up", flush=True)
    for line in sys.stdin:
        words = line.split()
        print(f"read: {line.strip()}", flush=True)
        if words[:1] == ["exit"]:
            return int(words[1])
        if words[:1] == ["die"]:
            os.kill(os.getpid(), int(words[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
