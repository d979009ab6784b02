"""Runs a command with DATABASE_URL leading to a temporary PostgreSQL server.

python -m tests.with_postgres pytest tests/jobs
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fire.postgres import NoPostgresError, Postgres

IN_MEMORY = "/dev/shm"
ROOM_BYTES = 4 * 1024**3
"""Far more than the tests' databases take."""


def choose_place() -> str | None:
    """Return a folder in memory if there is room for a server; None for the usual place."""
    has_room = os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free > ROOM_BYTES
    return IN_MEMORY if has_room else None


def main(command: list[str]) -> int:
    """Run `command`; return its exit code, or report that there is no PostgreSQL: an error only in CI."""
    with tempfile.TemporaryDirectory(prefix="saferoom-postgres-", dir=choose_place()) as folder:
        Path(folder).chmod(0o755)  # The server runs as another user if this is root.
        try:
            # Nothing here has to survive a power cut.
            postgres = Postgres(Path(folder) / "server", fsync=False)
        except NoPostgresError as error:
            print(f"floor postgres: NOT run: {error}")
            return 1 if os.environ.get("CI") else 0
        postgres.start()
        try:
            environment = os.environ | {"DATABASE_URL": postgres.url()}
            print("floor postgres: the tests that touch a database, on PostgreSQL", flush=True)
            return subprocess.run(command, env=environment, check=False).returncode
        finally:
            postgres.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
