"""The PID namespace of a game server, and the small init in it: process 1, which starts the game, passes
signals on, reaps orphans and exits when the game does. Everything the game started ends with it.

The launcher calls, in this order (in a process of its own, with one thread, its console open at 0, 1, 2):

    tell_systemd = connect_to_systemd()       # does nothing if systemd did not start us
    enter_user_namespace()                    # hostops.linux.namespaces
    init = become_init(tell_systemd)          # the caller ends in here; the init returns
    # session, run.json: read_own_stat() has the number by which the host knows the init
    walls = [init.wall, leave_mounts()]       # hostops.box.root
    mount_overlay(lower, upper, work, merged) # with layers; not for a copied tree
    walls += enter_root(root)
    walls += [landlock.look(), seccomp.look()]
    drop_privileges()
    init.run(root, argv, environment, end=end)

and, if anything in between fails, `init.give_up(exit_code)` before it exits with that code.

The user namespace comes first because it allows the rest without root. Anything to be written outside
the box later (a report, run.json) is opened before `enter_root`: after that its path is gone, and so
are modules that Python has not imported yet.
"""

from __future__ import annotations

# Without pathlib, like everything the launcher imports:
# ruff: noqa: PTH123
import ctypes
import errno
import os

from hostops.box.game import become_program
from hostops.box.root import Root
from hostops.box.wall import OWN_PROCESSES, Wall
from hostops.linux.light import suppress
from hostops.linux.namespaces import EXIT_FAILED, LaunchError, call, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Collection, Mapping
    from typing import NoReturn
else:
    import _signal as signal  # `signal` makes enums of its numbers, which takes 2 ms

_CLONE_NEWPID = 0x20000000  # linux/sched.h
_CLONE_PARENT = 0x00008000
_CLONE = {"x86_64": 56, "aarch64": 220}  # clone(2); the C library's wrapper has another signature
_PR_SET_DUMPABLE = 4
_PASSED_ON = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    # Sent to the run's main process to make the game dump core. A fault of the init itself is no child's.
    signal.SIGABRT,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
)
_CURE = (
    "Allow them: RestrictNamespaces=user mnt pid ipc in the unit (start the worker again to have it "
    "rewritten), or the container's seccomp profile."
)


class Init:
    """Starts the game: process 1 of a PID namespace, or the caller where there can be none."""

    def __init__(self, wall: Wall, outside: int, on_started: Callable[[int], None]) -> None:
        self.wall = wall
        self._outside = outside
        self._on_started = on_started

    def run(
        self,
        root: Root,
        argv: list[str],
        environment: Mapping[str, str],
        *,
        keep: Collection[int] = (),
        end: int | None = None,
    ) -> NoReturn:
        """Start the game in the entered box, and exit with its status, or 128 + n after signal n.

        `keep` are descriptors that the run holds for its whole life, such as its lock. In a PID namespace the
        init holds them, so that the game cannot release them; otherwise they are passed to the game.
        `end` is a descriptor to which the init writes how the game ended, in the terms of systemd.exec(5):
        $SERVICE_RESULT, $EXIT_CODE and $EXIT_STATUS. systemd itself sees only the init's own.
        Without a PID namespace this process becomes the game. Raises LaunchError, in the process that
        was to become the game.
        """
        if not self.wall.stands:
            self._on_started(os.getpid())
            become_program(root, argv, environment, alone_with=os.getpid(), keep=keep)
        call("hiding the init", libc.prctl, _PR_SET_DUMPABLE, 0, 0, 0, 0)
        waited_for: set[int] = {signal.SIGCHLD, *_PASSED_ON}
        # Blocked, not handled: so signals before the first wait are kept, and reach process 1 at all.
        signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
        game = _start_game(root, argv, environment)
        os.write(self._outside, b"0")
        _keep_open({2, *keep, *(() if end is None else (end,))})
        # The game has its own group by now: it called setpgid before exec closed the pipe.
        status = _serve(game, waited_for)
        if end is not None:
            # On a full disk the cause is lost, but the end of the run is noticed all the same.
            with suppress(OSError):
                os.write(end, _describe_end(status).encode())
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)

    def give_up(self, exit_code: int) -> None:
        """Let the launcher outside exit with this code: the game will not be started."""
        if self.wall.stands:
            os.write(self._outside, str(exit_code).encode())


def _start_game(root: Root, argv: list[str], environment: Mapping[str, str]) -> int:
    """Start the game in a group of its own; return its process ID once its program is executed.

    If that fails, this process exits with the code of the failure, and the game's process raises it.
    """
    executed, executes = os.pipe()
    game = os.fork()
    if game == 0:
        os.setpgid(0, 0)
        try:
            become_program(root, argv, environment, alone_with=None)
        except BaseException as error:
            os.write(executes, str(getattr(error, "exit_code", EXIT_FAILED)).encode())
            raise
    os.close(executes)
    with open(executed, "rb") as pipe:
        failure = pipe.read()
    if failure:
        # The game process reports the reason itself, and would be killed if this process ended first.
        os.waitpid(game, 0)
        os._exit(int(failure))
    return game


def become_init(on_started: Callable[[int], None], *, refusal: str = "") -> Init:
    """Return in the first process of a new PID namespace, whose parent is the caller's parent.

    The caller itself stays outside and ends here: with exit code 0 after `on_started(pid)` once the game
    runs, or else with the code given to `give_up`. `pid` is the init's process ID outside. If PID namespaces
    are refused, the caller returns as it was and `wall` says so. Then only the system call filter restrains
    the game, and processes it starts can outlive it.

    `refusal` says why no PID namespace may be made, if the caller knows that.

    The caller has one thread and the capabilities of a user namespace. Its parent must reap the init: systemd
    does; a launcher that is the parent does so by exiting.
    """
    if refusal:
        return Init(_refused(refusal), -1, on_started)
    clone = _CLONE.get(os.uname().machine)
    if clone is None:
        return Init(_refused(f"not known on {os.uname().machine}"), -1, on_started)
    if libc.unshare(_CLONE_NEWPID) != 0:
        return Init(_refused(errno.errorcode[ctypes.get_errno()]), -1, on_started)
    inside, outside = os.pipe()
    # Not os.fork(): the parent must be systemd, or the waiting launcher, to learn of the end.
    init = call(
        "starting the init",
        libc.syscall,
        clone,
        _CLONE_PARENT | signal.SIGCHLD,
        None,
        None,
        None,
        0,
    )
    if init == 0:
        os.close(inside)
        return Init(Wall(OWN_PROCESSES, stands=True), outside, on_started)
    os.close(outside)
    with open(inside, "rb") as pipe:
        said = pipe.read()
    if said == b"0":
        on_started(init)
        os._exit(0)
    if said:
        os._exit(int(said))  # The init has reported the reason.
    raise LaunchError("The game's init ended before the game was started: was it killed?")


def connect_to_systemd() -> Callable[[int], None]:
    """Return a function that tells systemd that a process is the unit's ready main one; for Type=notify.

    It connects now, because the socket does not exist in the box. Without a NOTIFY_SOCKET the function does
    nothing. The notifying process may exit right afterwards. Both raise OSError.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return lambda _: None
    import socket  # not at the top: 3 ms that a plain start of a game does not need

    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    # "@" stands for the zero byte of an abstract address (sd_notify(3)).
    notify.connect(f"\0{address[1:]}" if address.startswith("@") else address)
    return lambda pid: notify.sendall(f"MAINPID={pid}\nREADY=1".encode())


def _refused(reason: str) -> Wall:
    return Wall(
        OWN_PROCESSES,
        False,
        f"PID namespaces are refused here ({reason}): what the game starts can outlive it, and only "
        "the system call filter keeps it from signalling this account's programs.",
        _CURE,
    )


def _serve(game: int, waited_for: set[int]) -> int:
    """Pass signals on and reap until the game has ended; return its status as wait(2) gives it."""
    while True:
        received = signal.sigwaitinfo(waited_for)
        if received.si_signo != signal.SIGCHLD:
            with suppress(ProcessLookupError):  # The game has just ended, and its group with it.
                os.killpg(game, received.si_signo)
            continue
        # One SIGCHLD may stand for several children.
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if child == game:
                return status
            if child == 0:
                break


def _describe_end(status: int) -> str:
    """Return a wait(2) status as systemd would put it: `signal killed SEGV`, `exit-code exited 7`."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"{'exit-code' if code else 'success'} exited {code}"
    names = sorted(name for name in vars(signal) if name[:3] == "SIG" and name[3:4] != "_")
    # The first of several names is the usual one (ABRT, not IOT). Most real-time signals have none.
    name = next((name[3:] for name in names if getattr(signal, name) == -code), str(-code))
    return f"core-dump dumped {name}" if os.WCOREDUMP(status) else f"signal killed {name}"


def _keep_open(kept: Collection[int]) -> None:
    """Close every descriptor but these: the console is the game's now, and the launcher has reported."""
    first = 0
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
