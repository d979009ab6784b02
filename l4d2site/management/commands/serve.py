"""`manage.py serve`: sets up the database and the first user, and runs web server and worker."""

import os
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as AnyDatabaseError
from django.db import connection

from hostops.command_ends import tell, tell_or_raise
from jobs.database import is_away, keep_private
from jobs.models import Worker
from l4d2site.accounts.first_admin import UnreadPasswordError, make_first_admin
from l4d2site.gate.host_names import find_allowed_name
from l4d2site.gate.password_hashing import hash_threads
from l4d2site.health.facts import read_facts
from l4d2site.outages import describe_outage
from l4d2site.supervisor import Place, StartError, port_from_environment, supervise
from servers.config import OtherKeysError, move_found_secrets


def name_database() -> str:
    """Return where the database is, for people; without a password."""
    database = settings.DATABASES["default"]
    if settings.IS_SQLITE:
        return f"the file {database['NAME']}"
    return f"{database['NAME']} on {database.get('HOST') or 'this machine'}"


class Command(BaseCommand):
    """Runs `script/server`. PORT, BIND and SAFEROOM_ADMIN_PASSWORD are its variables."""

    help = "Set everything up, and run the web server and a worker until Ctrl-C."

    # Checked once the folder is private: nobody has to be told of what is put right here.
    requires_system_checks = ()

    def handle(self, **_options: Any) -> None:
        """Set up and run."""
        settings.VAR_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        keep_private(settings.VAR_DIR)
        self.check()
        try:
            call_command("migrate", verbosity=0)
        except AnyDatabaseError as error:
            if not is_away(error):
                raise
            said = describe_outage(error).rstrip(".") or f"The database does not answer: {error}"
            raise CommandError(f"{said}. DATABASE_URL names {name_database()}.") from None
        try:
            move_found_secrets()
        except OtherKeysError as error:
            tell(str(error), self.stderr)
        call_command("collectstatic", verbosity=0, interactive=False)
        try:
            is_made = make_first_admin(
                "admin",
                lambda text: tell_or_raise(text, self.stdout),
                os.environ.get("SAFEROOM_ADMIN_PASSWORD", ""),
            )
        except ValidationError as error:
            raise CommandError(f"No admin was made: {error.messages[0]}") from None
        except UnreadPasswordError as error:
            raise CommandError(str(error)) from None
        if is_made:
            hash_threads.end()  # The supervisor's way of starting processes is safe only with one thread.
        try:
            supervise(
                base_dir=settings.BASE_DIR,
                place=Place(os.environ.get("BIND", "127.0.0.1"), port_from_environment()),
                health_host=find_allowed_name(settings.ALLOWED_HOSTS),
                passkey_host="localhost" if "localhost" in settings.ALLOWED_HOSTS else None,
                worker_grace_seconds=settings.JOB_WORKER_GRACE_SECONDS,
                has_registered=has_registered,
                find_faults=lambda: read_facts().faults,
                say=lambda text: tell(text, self.stdout),
            )
        except StartError as error:
            raise CommandError(str(error)) from None


def has_registered(pid: int) -> bool:
    """Return whether the process with a pid has registered as a worker of this machine's host."""
    try:
        return Worker.objects.alive().filter(host__name=settings.HOST_NAME, pid=pid).exists()
    except AnyDatabaseError as error:
        if not is_away(error):
            raise
        connection.close()  # The next call makes a new one.
        return False
