"""`deploy/uninstall`: removes Saferoom from this machine. Its data stays, unless that is to be removed too."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.installer import answers, databases, floods, places, proxy, steps, units
from deploy.installer.answers import Answers
from deploy.installer.errors import CommandError, InstallError
from deploy.installer.installation import require_root
from deploy.installer.machine import Machine
from deploy.installer.steps import Step
from hostops.command_ends import run_command
from hostops.command_ends import tell as say


class Removal:
    """One run of `deploy/uninstall`."""

    def __init__(self, machine: Machine, was_told: Answers, say: Callable[[str], None]) -> None:
        self._machine = machine
        self._answers = was_told
        self._say = say

    def steps(self, *, with_data: bool) -> list[Step]:
        """Return the steps; those that cannot be undone come last."""
        return [
            Step("Stop worker, games and panel", self._stop),
            Step("Take the site from nginx", lambda: proxy.remove(self._machine)),
            Step("Take the limits from the games' ports", lambda: floods.remove(self._machine)),
            Step("Remove units, commands and code", self._remove_program),
            *(
                [Step("Remove data, settings, backups and accounts", self._remove_data)]
                if with_data
                else []
            ),
        ]

    def _stop(self) -> None:
        manager = units.worker_systemctl(self._answers)
        games = places.GAME_UNIT.replace("@", "@*")
        self._try(*manager, "disable", "--now", places.WORKER_UNIT)
        self._try(*manager, "stop", games)
        self._try(
            "systemctl",
            "disable",
            "--now",
            places.BACKUP_TIMER,
            places.WEB_SOCKET_UNIT,
            places.WEB_UNIT,
        )

    def _remove_program(self) -> None:
        if self._answers.is_users:
            self._try("loginctl", "disable-linger", places.WORKER_ACCOUNT)
            self._try("systemctl", "stop", f"user@{units.worker_uid()}.service")
        for unit in (
            *(places.WEB_UNIT, places.WEB_SOCKET_UNIT, places.BACKUP_UNIT, places.BACKUP_TIMER),
            *(places.WORKER_UNIT, places.GAME_UNIT, places.GAMES_SLICE),
        ):
            self._machine.remove(places.SYSTEM_UNITS / unit)
        for path in (
            *(places.USER_UNITS / places.WORKER_UNIT, places.USER_UNITS / places.GAMES_SLICE),
            *(places.DELEGATION, places.POLKIT_RULES),
            *(places.COMMANDS_DIR / "saferoom", places.COMMANDS_DIR / "l4d2ctl"),
            *(places.SYSUSERS, places.TMPFILES, places.PUBLIC_DIR),
            *(places.CURRENT, places.PREVIOUS, places.RELEASES_DIR, places.ENVIRONMENTS_DIR),
        ):
            self._machine.remove(path)
        self._machine.run("systemctl", "daemon-reload")

    def _remove_data(self) -> None:
        if self._answers.database == "create":
            databases.drop_from_this_machine(self._machine)
        for path in (places.STATE_DIR, places.SETTINGS_DIR, places.CODE_DIR):
            self._machine.remove(path)
        for account in (places.WEB_ACCOUNT, places.WORKER_ACCOUNT):
            self._try("userdel", account)
        self._try("groupdel", "saferoom-panel")

    def _try(self, *argv: str | Path) -> None:
        """Run a command that may fail, because it may have been done before; its output is shown."""
        try:
            self._machine.run(*argv)
        except CommandError as error:
            self._say(f"   {argv[0]}: {error.output.strip()}")


def main(arguments: list[str]) -> int:
    """Uninstall; return 0, or 1 if a step failed."""
    parser = argparse.ArgumentParser(
        prog="deploy/uninstall",
        description="Remove Saferoom from this machine. Servers, database, settings, backups, accounts stay.",
    )
    parser.add_argument("--data", action="store_true", help="remove those too, for good")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and do nothing"
    )
    options = parser.parse_args(arguments)
    os.umask(0o022)

    machine = Machine(is_dry_run=options.dry_run, say=lambda text: say(f"   {text}"))
    try:
        require_root(is_dry_run=options.dry_run)
        removal = Removal(machine, answers.read_last(), say)
        if not steps.carry_out(removal.steps(with_data=options.data), say, "deploy/uninstall"):
            return 1
    except InstallError as error:
        say(f"{error}\n→ {error.cure}")
        return 1
    if not options.data:
        say(
            f"What people made is still in {places.STATE_DIR} and {places.SETTINGS_DIR}, and in the database."
        )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
