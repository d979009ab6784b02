"""A PostgreSQL server with a standby that takes over, at a single address: for the chaos run."""

from pathlib import Path

import psycopg

from tests.fire.postgres import Postgres
from tests.waiting import wait_until

STANDBY_OPTIONS = "-c wal_retrieve_retry_interval=100ms"


class ReplicatedPostgres:
    """Two servers, one the synchronous standby of the other, reached through one folder.

    The folder is a symbolic link to that of the active server, so the URL of a database survives a failover.
    So does everything that was committed: a commit is confirmed only once the standby has it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._current = root / "current"
        self._primary = Postgres(root / "a", fsync=False, options=STANDBY_OPTIONS)
        self._standby = Postgres(root / "b", fsync=False, options=STANDBY_OPTIONS)

    @property
    def primary(self) -> Postgres:
        """The active server; before its `promote` it is read-only."""
        return self._primary

    def start(self) -> None:
        """Start both, and return when the standby follows."""
        self._root.mkdir(parents=True, exist_ok=True)
        # PostgreSQL's own account has to pass through it, whatever the umask is.
        self._root.chmod(0o711)
        self._primary.start()
        self._lead_to(self._primary)
        self._attach_standby()

    def stop(self) -> None:
        """Stop both."""
        self._primary.thaw()
        self._set("synchronous_standby_names", None)
        self._standby.stop("immediate")
        self._primary.stop("immediate")

    def make_database(self, name: str) -> str:
        """Make a database, and return its URL, which stays the same across a failover."""
        self._primary.make_database(name)
        return f"postgres://saferoom@/{name}?host={self._current}&port=5432"

    def lose_primary(self) -> None:
        """Crash the active server. Its address then leads to the standby, which is still read-only."""
        self._primary.crash()
        self._primary, self._standby = self._standby, self._primary
        self._lead_to(self._primary)

    def promote(self) -> None:
        """Let the standby take over, and turn what is left of the other server into a new standby."""
        self._primary.promote()
        self._attach_standby()

    def set_read_only(self, is_read_only: bool) -> None:
        """Keep all transactions of all sessions from writing, or allow it again."""
        self._set("default_transaction_read_only", "on" if is_read_only else None)

    def _attach_standby(self) -> None:
        self._standby.follow(self._primary)

        def is_streaming() -> bool:
            with psycopg.connect(self._primary.url(), autocommit=True) as connection:
                query = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"
                return connection.execute(query).fetchone() is not None

        wait_until(is_streaming, 60, "the standby does not follow")
        # Not earlier: what the standby copies would make it wait for a standby of its own.
        self._set("synchronous_standby_names", "*")

    def _lead_to(self, server: Postgres) -> None:
        """Make the address lead to `server`, without a moment in which it leads nowhere."""
        link = self._current.with_name("next")
        link.symlink_to(server.root)
        link.replace(self._current)

    def _set(self, name: str, value: str | None) -> None:
        with psycopg.connect(self._primary.url(), autocommit=True) as connection:
            to = f"SET {name} = '{value}'" if value else f"RESET {name}"
            connection.execute(f"ALTER SYSTEM {to}")
            connection.execute("SELECT pg_reload_conf()")
