"""Real workers on real hosts with the simulated game, while everything around them fails: `script/chaos`.

Workers are killed, or frozen for longer than their lease; their database is restarted, crashed, cut off,
filled up, frozen, made read-only, or fails over to its standby; jobs are cancelled at random. Afterwards no
job may be lost, run twice, stuck or half logged. Prints a table; the exit code is 0 if every count that has
to be 0 is.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import django

from tests.fire.failover import ReplicatedPostgres
from tests.fire.faults import LEASE_SECONDS, FullDisk
from tests.fire.journal import JOURNAL_VARIABLE


@dataclass(frozen=True)
class Options:
    """The options of a run."""

    jobs: int
    engine: str
    workers: int
    hosts: int
    faults_per_minute: float
    patience_seconds: float
    scratch: Path


@dataclass(frozen=True)
class Stage:
    """Where a run takes place: the environment of each host's workers, and what can be broken."""

    environments: dict[str, dict[str, str]]
    postgres: ReplicatedPostgres | None = None
    disk: FullDisk | None = None

    @property
    def database_url(self) -> str:
        """The database that all hosts share."""
        return next(iter(self.environments.values()))["DATABASE_URL"]


def build_stage(options: Options, stack: ExitStack) -> Stage:
    """Make the database, until `stack` ends, and the hosts' folders."""
    postgres: ReplicatedPostgres | None = None
    disk: FullDisk | None = None
    if options.engine == "postgresql":
        postgres = ReplicatedPostgres(options.scratch / "postgres")
        postgres.start()
        stack.callback(postgres.stop)
        url = postgres.make_database("chaos")
    else:
        disk = FullDisk(options.scratch / "database")
        if problem := disk.mount(stack):
            print(f"No full disks: a small file system cannot be mounted here ({problem}).")
            disk = None
        url = f"sqlite:///{options.scratch / 'database/chaos.sqlite3'}"
    environments = {}
    for number in range(options.hosts):
        name = f"host{number}"
        root = options.scratch / name
        root.mkdir()
        (root / "simulator.json").write_text(
            '{"steamcmd": {"seconds": 0}, "srcds": {"start_seconds": 0}}'
        )
        environments[name] = os.environ | {
            "DJANGO_SETTINGS_MODULE": "l4d2site.settings",
            "SECRET_KEY": "a-key-that-only-the-chaos-run-has",
            "GAME_SOURCE": "simulator",
            "DATABASE_URL": url,
            # Not the folder around it: a worker closes that to all other accounts, and PostgreSQL has its
            # own.
            "VAR_DIR": str(options.scratch / "var"),
            "HOST_NAME": name,
            "HOST_ROOT": str(root),
            "JOB_WORKER_LEASE_SECONDS": str(LEASE_SECONDS),
            JOURNAL_VARIABLE: str(options.scratch / "journal"),
        }
    return Stage(environments, postgres, disk)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--workers", type=int, default=3, help="worker processes, of all hosts")
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--faults-per-minute", type=float, default=30.0)
    parser.add_argument("--patience-seconds", type=float, default=120.0, help="for the end")
    parser.add_argument("--seed", type=int, help="of what happens, not of when")
    parser.add_argument("--keep", action="store_true", help="keep what it left on the disk")
    return parser.parse_args()


def main() -> int:
    """Run it, and return the exit code."""
    arguments = vars(parse_arguments())
    # A shell starts what runs in its background with this signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed(arguments.pop("seed"))
    is_kept = arguments.pop("keep")
    scratch = Path(tempfile.mkdtemp(prefix="saferoom-chaos-"))
    scratch.chmod(0o755)  # PostgreSQL may run as another user.
    is_clean = False
    try:
        with ExitStack() as stack:
            options = Options(scratch=scratch, **arguments)
            stage = build_stage(options, stack)
            os.environ.update(next(iter(stage.environments.values())))
            django.setup()
            from tests.fire.siege import lay_siege  # Models cannot be imported earlier.

            is_clean = lay_siege(options, stage)
    finally:
        if is_kept or not is_clean:
            print(f"The journal, the log and the hosts' files are in {scratch}.")
        else:
            remove(scratch)
    return 0 if is_clean else 1


def remove(folder: Path) -> None:
    """Remove a folder; overlayfs leaves folders in it that not even their owner may read."""
    for path, folders, _ in os.walk(folder):
        for name in folders:
            (Path(path) / name).chmod(0o700)
    shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
