"""The PID namespace of a game server, and the small init in it: process 1, which starts the game, hands
signals on, reaps what is orphaned and ends as the game does. With it ends whatever the game started.

The launcher calls, in this order (a process of its own, with one thread, its console open at 0, 1, 2):

    tell_systemd = connect_to_systemd()       # tells nobody where systemd did not start us
    enter_user_namespace()                    # hostops.linux.namespaces
    init = become_init(tell_systemd)          # the caller ends in here; the init comes back
    # session, run.json: read_own_stat() has the number by which the host knows the init
    walls = [init.wall, leave_mounts()]       # hostops.box.root
    mount_overlay(lower, upper, work, merged) # with layers; not for a copied tree
    walls += enter_root(root)
    walls += [landlock.look(), seccomp.look()]
    drop_privileges()
    init.run(root, argv, environment, end=end)

and, if anything in between fails, `init.give_up(exit_code)` before it exits with that code.

The user namespace comes first, because that is what allows the rest without root. What is to be
written outside of the box later (a report, run.json) is opened before `enter_root`: the paths are gone
then, and so is what Python would still have to import.
"""

# Without pathlib, as everything that the launcher imports:
# ruff: noqa: PTH123

import contextlib
import ctypes
import errno
import os
import signal
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

from hostops.box.game import become_program
from hostops.box.root import Root
from hostops.box.wall import OWN_PROCESSES, Wall
from hostops.linux.namespaces import EXIT_FAILED, LaunchError, call, libc

_CLONE_NEWPID = 0x20000000  # linux/sched.h
_CLONE_PARENT = 0x00008000
_CLONE = {"x86_64": 56, "aarch64": 220}  # clone(2), for which the C library has another form
_PR_SET_DUMPABLE = 4
_PASSED_ON = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    # Sent to the run's main process by whoever wants the game to dump: one of the init's own is no child's.
    signal.SIGABRT,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
)
_CURE = (
    "Allow them: RestrictNamespaces=user mnt pid ipc in the unit (start the worker again to have it "
    "written anew), or the container's seccomp profile."
)


class Init:
    """What starts the game: process 1 of a PID namespace, or, where none is to be had, the caller."""

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
        """Start the game in the box that was entered, and exit with its status, 128 + n after signal n.

        `keep` are descriptors that the run holds for as long as it lives, as its lock: the init's in a
        PID namespace, so that the game cannot let go of them; otherwise they are handed to the game.
        `end` is a descriptor to which the init writes how the game ended, in the words of systemd.exec(5):
        $SERVICE_RESULT, $EXIT_CODE and $EXIT_STATUS, of which systemd sees only the init's own.
        Without a PID namespace this process becomes the game. Raises LaunchError, in the process that
        was to become the game.
        """
        if not self.wall.stands:
            self._on_started(os.getpid())
            become_program(root, argv, environment, alone_with=os.getpid(), keep=keep)
        call("hiding the init", libc.prctl, _PR_SET_DUMPABLE, 0, 0, 0, 0)
        waited_for = {signal.SIGCHLD, *_PASSED_ON}
        # Blocked, not handled: what comes before the first wait is kept, and process 1 gets it at all.
        signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
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
            # It tells why itself, and would be killed by the end of this process.
            os.waitpid(game, 0)
            os._exit(int(failure))
        os.write(self._outside, b"0")
        _keep_open({2, *keep, *(() if end is None else (end,))})
        # The group is the game's before its program runs, by the pipe.
        status = _serve(game, waited_for)
        if end is not None:
            # On a full disk it is not known, and that the run is over shows all the same.
            with contextlib.suppress(OSError):
                os.write(end, _describe_end(status).encode())
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)

    def give_up(self, exit_code: int) -> None:
        """Let the launcher outside end with this code: the game is not going to be started."""
        if self.wall.stands:
            os.write(self._outside, str(exit_code).encode())


def become_init(on_started: Callable[[int], None], *, refusal: str = "") -> Init:
    """Return in the first process of a new PID namespace, whose parent is the caller's parent.

    The caller itself stays outside, and ends here: with exit code 0 after `on_started(pid)`, once the
    game runs, else with the code that `give_up` had. `pid` is the init's number outside. Where PID
    namespaces are refused the caller returns as what it was; `wall` says so, and the game is held by
    the system call filter alone: what it starts can outlive it then.

    `refusal` says why no PID namespace may be made, where the caller knows that.

    The caller has one thread and the capabilities of a user namespace. Its parent has to reap the
    init: systemd does, and a launcher does whose child this is, by ending.
    """
    if refusal:
        return Init(_refused(refusal), -1, on_started)
    clone = _CLONE.get(os.uname().machine)
    if clone is None:
        return Init(_refused(f"not known on {os.uname().machine}"), -1, on_started)
    if libc.unshare(_CLONE_NEWPID) != 0:
        return Init(_refused(errno.errorcode[ctypes.get_errno()]), -1, on_started)
    inside, outside = os.pipe()
    # Not os.fork(): systemd, or the launcher that waits, has to be the parent, and learns of the end.
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
        os._exit(int(said))  # The init has told why.
    raise LaunchError("The game's init ended before the game was started: was it killed?")


def connect_to_systemd() -> Callable[[int], None]:
    """Return what tells systemd that a process is the unit's main one and is ready; for Type=notify.

    It is connected now, since the socket is not in the box; without a NOTIFY_SOCKET it tells nobody.
    The process that tells may end right afterwards. Both raise OSError.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return lambda _: None
    import socket  # not for who only starts a game: 3 ms

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


def _serve(game: int, waited_for: set[signal.Signals]) -> int:
    """Hand signals on and reap, until the game has ended; return its status as wait(2) gives it."""
    while True:
        received = signal.sigwaitinfo(waited_for)
        if received.si_signo != signal.SIGCHLD:
            with contextlib.suppress(
                ProcessLookupError
            ):  # It has just ended, and its group with it.
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
    """Return what systemd would say of a status of wait(2): `signal killed SEGV`, `exit-code exited 7`."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"{'exit-code' if code else 'success'} exited {code}"
    try:
        name = signal.Signals(-code).name.removeprefix("SIG")
    except ValueError:  # A real-time signal has none.
        name = str(-code)
    return f"core-dump dumped {name}" if os.WCOREDUMP(status) else f"signal killed {name}"


def _keep_open(kept: Collection[int]) -> None:
    """Close every descriptor but these: the console is the game's, the launcher's reports have been made."""
    first = 0
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
