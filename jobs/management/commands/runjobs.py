"""`manage.py runjobs`: the worker process."""

import os
import re
from argparse import ArgumentTypeError
from functools import partial
from typing import Any

from django.conf import settings
from django.core.checks import Tags
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as AnyDatabaseError
from django.db import connection

from hostops.command_ends import tell
from hostops.specs import NAME_PATTERN
from jobs.database import BEHIND, is_away, is_schema_behind, keep_private, write_watch
from jobs.worker import EXIT_STUCK, SystemdNotifier, end_process, worker_loop
from servers.config import OtherKeysError, move_found_secrets
from servers.models import Host


def host_name(text: str) -> str:
    """Return `text` if it is a valid name for a host."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise ArgumentTypeError(f"{text!r} is not a host's name")
    return text


def job_count(text: str) -> int:
    """Return `text` as a number of jobs at a time."""
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to 64")
    return int(text)


class Command(BaseCommand):
    """Parses the arguments and starts the worker."""

    help = (
        "Carry out the queued jobs of a host, until SIGTERM or SIGINT: the first one lets running jobs "
        "finish, the second one cancels them."
    )
    # The others would load every page: a quarter of a worker's start, and a tenth of its memory.
    requires_system_checks = (Tags.security,)

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--host",
            type=host_name,
            default=settings.HOST_NAME,
            help="name of the host this machine is (default: HOST_NAME)",
        )
        parser.add_argument(
            "--concurrency",
            type=job_count,
            default=settings.JOB_WORKER_CONCURRENCY,
            help="jobs at a time (default: JOB_WORKER_CONCURRENCY)",
        )
        parser.add_argument(
            "--until-empty", action="store_true", help="exit once no job of the host waits or runs"
        )

    def handle(self, **options: Any) -> None:
        """Run the worker."""
        if options["until_empty"] and not settings.JOB_WORKER_ENABLED:
            raise CommandError("JOB_WORKER_ENABLED is false: this worker would wait for ever.")
        keep_private(settings.VAR_DIR)
        try:
            if not connection.introspection.table_names():
                raise CommandError(
                    "There is no panel in this database yet: run script/server first, or set DATABASE_URL to "
                    "that of the panel.",
                    returncode=os.EX_UNAVAILABLE,
                )
            if is_schema_behind():
                raise CommandError(
                    f"{BEHIND} This worker starts once that is done.", returncode=os.EX_UNAVAILABLE
                )
            host, _ = Host.objects.get_or_create(name=options["host"])
            move_found_secrets()
        except OtherKeysError as error:
            # Other jobs still work; starting a server whose password this worker cannot read reports it again.
            tell(str(error), self.stderr)
        except AnyDatabaseError as error:
            if not is_away(error):
                raise
            raise CommandError(
                f"The database does not answer, so this worker does not start: {error}",
                returncode=os.EX_UNAVAILABLE,
            ) from error
        write_watch.end_by(partial(end_process, EXIT_STUCK))
        systemd = SystemdNotifier()

        def on_ready() -> None:
            tell(f"Worker of host {host.name} is ready.", self.stdout)
            systemd.ready()

        worker_loop(
            host=host,
            concurrency=options["concurrency"],
            until_empty=options["until_empty"],
            on_ready=on_ready,
            on_turn=systemd.turn,
            longest_turn_seconds=systemd.longest_turn_seconds,
        )
