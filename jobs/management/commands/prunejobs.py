"""`manage.py prunejobs`: deletes old jobs and their logs. Nothing calls it automatically."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from hostops.command_ends import tell
from jobs.queue import prune_jobs

MOST_DAYS = 36_500
"""A century: no job is older, and a calendar begins somewhere."""


class Command(BaseCommand):
    """Parses the arguments and prunes."""

    help = "Delete the jobs, with their logs, that ended more than so many days ago."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--older-than-days", type=int, required=True, help=f"from 1 to {MOST_DAYS}"
        )

    def handle(self, **options: Any) -> None:
        """Prune."""
        days = options["older_than_days"]
        if not 1 <= days <= MOST_DAYS:
            raise CommandError(f"--older-than-days must be from 1 to {MOST_DAYS}.")
        count = prune_jobs(timezone.now() - timedelta(days=days))
        tell(f"Deleted {count} jobs that ended more than {days} days ago.", self.stdout)
