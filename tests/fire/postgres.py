"""A PostgreSQL server in a folder, which tests may crash: for chaos and for benchmarks."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.ports import find_free_port

PROGRAM_FOLDERS = "/usr/lib/postgresql"
USER = "saferoom"


class NoPostgresError(Exception):
    """PostgreSQL's server programs are not installed; the text says what to do."""


def find_programs() -> Path:
    """Return the folder of the newest PostgreSQL server's programs. Raises `NoPostgresError`."""
    if found := shutil.which("postgres"):
        return Path(found).resolve().parent
    folders = Path(PROGRAM_FOLDERS).glob("*/bin/postgres")
    newest = max(folders, key=lambda path: int(path.parent.parent.name), default=None)
    if newest is None:
        raise NoPostgresError("PostgreSQL is not installed (Debian: apt install postgresql).")
    return newest.parent


class Postgres:
    """One server below `root`, reached through a socket there; made at the first start.

    PostgreSQL refuses to run as root, so root starts it as `nobody`. `fsync=False` trades safety in a power
    cut for speed: a crash of the server alone loses nothing either way. It also listens on `addresses`, and
    trusts their networks.
    """

    def __init__(
        self,
        root: Path,
        *,
        fsync: bool = True,
        addresses: Sequence[str] = (),
        options: str = "",
    ) -> None:
        self._addresses = addresses
        # Each server has its own socket, but an address is shared with every other server on the machine.
        self._port = find_free_port() if addresses else 5432
        self._programs = find_programs()
        self.root = self._root = root
        self._data = root / "data"
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._options = (
            f"-k {root} -p {self._port} -c listen_addresses='{','.join(addresses)}'"
            f" -c fsync={'on' if fsync else 'off'} {options}"
        )

    def url(self, database: str = "postgres", address: str | None = None) -> str:
        """Return the URL of a database, in the form of DATABASE_URL: by the socket, or by an address."""
        if address:
            return f"postgres://{USER}@{address}:{self._port}/{database}"
        return f"postgres://{USER}@/{database}?host={self._root}&port={self._port}"

    def start(self) -> None:
        """Start the server, and return when it answers."""
        if not self._data.exists():
            self._make_root()
            self._run("initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "--no-sync")
            with (self._data / "pg_hba.conf").open("a") as file:
                file.writelines(f"host all all {address}/24 trust\n" for address in self._addresses)
        self._control("start", "-w", "-o", self._options, "-l", str(self._root / "server.log"))

    def stop(self, mode: str = "fast") -> None:
        """Stop the server, breaking every connection; `immediate` skips even an orderly shutdown."""
        self._control("stop", "-w", "-m", mode)

    def restart(self) -> None:
        """Stop the server in an orderly way, and start it again."""
        self.stop()
        self.start()

    def crash(self) -> None:
        """Kill the server as a power cut would; `start` recovers from its write-ahead log."""
        os.kill(self.pid, signal.SIGQUIT)
        with contextlib.suppress(subprocess.CalledProcessError):
            self._control("stop", "-w", "-m", "immediate")

    def follow(self, primary: "Postgres") -> None:
        """Copy the running `primary` over whatever was here, and start as its standby."""
        self._make_root()
        shutil.rmtree(self._data, ignore_errors=True)
        where = ("-h", str(primary.root), "-p", str(primary._port), "-U", USER)
        self._run("pg_basebackup", *where, "-D", str(self._data), "-R", "-c", "fast", "--no-sync")
        self.start()

    def promote(self) -> None:
        """Let a standby take over, and return when it accepts writes."""
        self._control("promote", "-w")

    def freeze(self) -> None:
        """Freeze all processes of the server: it accepts connections, and answers nothing."""
        signal_all(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue a frozen server."""
        signal_all(self.pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        """The server's first process."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def make_database(self, name: str, template: str = "template1") -> str:
        """Make a database with what the database `template` has, and return its URL."""
        where = ("-h", str(self._root), "-p", str(self._port), "-U", USER)
        self._run("createdb", *where, "-T", template, name)
        return self.url(name)

    def _make_root(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        if self._account:
            os.chown(self._root, self._account.pw_uid, self._account.pw_gid)

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-s", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        as_account = (
            {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
            if self._account
            else {}
        )
        # pg_ctl leaves the server running, so it must not inherit a pipe of ours.
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=sys.stderr,
            cwd="/",
            **as_account,  # type: ignore[call-overload]
        )


def process_tree(pid: int) -> Iterator[int]:
    """Yield a process and its children, the parent first."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)


def signal_all(pid: int, number: signal.Signals) -> None:
    """Signal a server and all its processes that are there."""
    for process in process_tree(pid):
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue  # A session that has ended meanwhile.
