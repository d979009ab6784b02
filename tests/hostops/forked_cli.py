"""The host's command line, in forks of a process that has it loaded already.

For tests that run a verb hundreds of times: a new interpreter takes longer than most verbs do.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.hostops.hosts import CLI, REPOSITORY, TIMEOUT

# Each line of its input is a verb to run; the answer is the exit code, negative after a signal, and the output.
# A fork that will be killed counts its changes to the disk, and kills itself right before the given one.
SERVER = """
import json, os, signal, sys, tempfile
from hostops.cli import main
CHANGES = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.chmod", "os.utime",
           "os.truncate", "subprocess.Popen", "fcntl.flock", "tempfile.mkstemp", "tempfile.mkdtemp"}

def kill_before(change):
    left = change
    def hook(event, arguments):
        nonlocal left
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if event in CHANGES or writes:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

def carry_out(arguments, environment, change, seconds, output, errors):
    signal.alarm(seconds)  # ends this process
    os.environ.update(environment)
    os.umask(0o077)  # as hostops/__main__.py does
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    if change is not None:
        kill_before(change)
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    # An end in order would take longer than most verbs: it touches every object that the fork shares.
    os._exit(code)

for line in sys.stdin:
    request = json.loads(line)
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        child = os.fork()
        if child == 0:
            carry_out(**request, output=output, errors=errors)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        errors.seek(0)
        print(json.dumps([code, output.read(), errors.read()]), flush=True)
"""
SIGKILLED = -9


class ForkServer:
    """The process that forks; it starts when it is first used.

    `command` is what starts a Python in the repository's folder: this one, unless it is another machine's.
    """

    def __init__(
        self, command: Sequence[str] = (sys.executable,), seconds: int = int(TIMEOUT)
    ) -> None:
        self._command = command
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, arguments: tuple[str, ...], environment: dict[str, str], change: int | None
    ) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end, or until its `change`-th change; return how it ended, and its output."""
        if self._process is None:
            self._process = subprocess.Popen(
                [*self._command, "-c", SERVER],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {
            "arguments": arguments,
            "environment": environment,
            "change": change,
            "seconds": self._seconds,
        }
        try:
            self._process.stdin.write(f"{json.dumps(request)}\n")
            self._process.stdin.flush()
            code, output, errors = json.loads(self._process.stdout.readline())
        except BaseException:
            # A test that ran into its time limit here leaves an unread answer, which the next test would
            # read.
            self._process.kill()
            self.close()
            raise
        assert code != -signal.SIGALRM, (
            f"{arguments} took longer than {self._seconds} s: {output}\n{errors}"
        )
        return subprocess.CompletedProcess(arguments, code, output, errors)

    def close(self) -> None:
        """End the process, once nothing runs in it."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


class ForkedCLI(CLI):
    """The command line of a host; each run is a process of its own, as with `CLI`."""

    def __init__(self, root: Path, server: ForkServer) -> None:
        super().__init__(root)
        self._server = server

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end."""
        return self._server.run(arguments, self.environment, None)

    def run_killed(self, change: int, *arguments: str) -> bool:
        """Run a verb and kill it right before its `change`-th change; return whether it got that far."""
        done = self._server.run(arguments, self.environment, change)
        assert done.returncode in (0, SIGKILLED), f"{done.stdout}\n{done.stderr}"
        return done.returncode == SIGKILLED
