"""Installing, upgrading and going back, step by step."""

import contextlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from textwrap import indent

from deploy.installer import (
    checks,
    databases,
    env_files,
    floods,
    places,
    proxy,
    releases,
    settings_files,
    units,
)
from deploy.installer.answers import Answers, as_json
from deploy.installer.errors import CommandError, InstallError
from deploy.installer.machine import Machine
from deploy.installer.steps import Step
from hostops.command_ends import tell_or_raise

_TRIED = {("debian", "12")}
_WRITTEN_FOR = {("debian", "13"), ("ubuntu", "24.04")}
_I386 = ("libc6:i386", "lib32gcc-s1", "lib32stdc++6")


class Installation:
    """One run of `deploy/install`, with the code in `source`."""

    def __init__(
        self,
        machine: Machine,
        answers: Answers,
        last: Answers,
        source: Path,
        say: Callable[[str], None],
        *,
        say_or_raise: Callable[[str], None] = tell_or_raise,
        archive: Path | None = None,
        passphrase_file: Path | None = None,
    ) -> None:
        self._machine = machine
        self._answers = answers
        self._last = last
        self._source = source
        self._say = say
        self._say_or_raise = say_or_raise
        self._archive = archive
        self._passphrase_file = passphrase_file
        self._keys_before = ""
        self._release = releases.find(source)
        self._first_password = ""
        self._notes: list[str] = []

    # --- What there is to do ------------------------------------------------------------------------

    def install_steps(self) -> list[Step]:
        """Return the steps of an installation. Raises `InstallError` if another release is installed."""
        found = releases.current()
        if found and found != self._release and self._last.name:
            raise InstallError(
                f"Saferoom {found.name} is installed here, and this is {self._release.name}.",
                "Add --upgrade to switch to it. /opt/saferoom/current/deploy/install repairs what is there.",
            )
        return [
            Step("Look at the machine", self._look_at_machine),
            Step("Install the system's packages", self._install_packages),
            Step(f"Make release {self._release.name}", self._make_release),
            Step("Make accounts and folders", self._make_accounts),
            Step("Write the settings", self._write_settings),
            *([Step("Put the backup back", self._restore)] if self._archive else []),
            Step("Bring the database up to date", self._migrate),
            Step("Collect the static files", self._collect_static),
            Step("Make the first admin", self._make_admin),
            Step("Make the release current", self._switch),
            Step("Install the units", self._install_units),
            Step("Start the panel and the worker", self._start),
            *self._flood_steps(),
            *(
                [Step("Put nginx before it", self._install_proxy)]
                if self._answers.has_nginx
                else []
            ),
            Step("Look whether everything works", self._check),
            Step("Keep the answers", self._keep_answers),
        ]

    def upgrade_steps(self) -> list[Step]:
        """Return the steps from one release to another. Until the switch, the old one keeps serving."""
        self._require_installed()
        return [
            Step("Look at the machine", self._look_at_machine),
            Step("Install the system's packages", self._install_packages),
            Step(f"Make release {self._release.name}", self._make_release),
            Step("Make accounts and folders", self._make_accounts),
            Step("Write what is new in the settings", self._write_settings),
            Step("Drain the worker, migrate, switch", self._upgrade),
            *self._flood_steps(),
            *(
                [Step("Put nginx before it", self._install_proxy)]
                if self._answers.has_nginx
                else []
            ),
            Step("Look whether everything works", self._check),
            Step("Remove releases of long ago", lambda: releases.remove_old(self._machine)),
            Step("Keep the answers", self._keep_answers),
        ]

    def back_steps(self) -> list[Step]:
        """Return the steps back to the previous release. The database stays: additions do no harm."""
        self._require_installed()
        before = releases.previous()
        if before is None:
            raise InstallError(
                "There is no release to go back to.",
                "`ls /opt/saferoom/releases` shows which are there.",
            )
        self._release = before
        self._source = before.dir
        switch = f"Drain the worker, switch to {before.name}"
        return [
            Step(switch, lambda: self._switch_running(None), self._advise_after_switch),
            Step("Look whether everything works", self._check, self._advise_after_switch),
        ]

    def _advise_after_switch(self) -> str:
        """Return what to do instead of giving `--back` again: after the switch that would lead forward."""
        if releases.current() != self._release:
            return ""
        return (
            f"{self._release.name} is the current release already, and --back again would leave it. "
            f"Once the cause is gone: systemctl restart {places.WEB_UNIT}"
        )

    @staticmethod
    def _require_installed() -> None:
        if releases.current() is None:
            raise InstallError(
                "Saferoom is not installed here yet.", "Run deploy/install without --upgrade."
            )

    # --- Steps --------------------------------------------------------------------------------------

    def _look_at_machine(self) -> None:
        if not Path("/run/systemd/system").is_dir():
            raise InstallError(
                "systemd does not run this machine, so there is nothing that could run Saferoom's units.",
                "In a container, run script/server instead (README.md).",
            )
        system = env_files.read(Path("/etc/os-release"))
        found = (system.get("ID", ""), system.get("VERSION_ID", ""))
        if found not in _TRIED:
            tried = (
                "It should work here, but nobody has tried."
                if found in _WRITTEN_FOR
                else "It may not work here."
            )
            self._say(
                f"   This was made for Debian 12, and this is {system.get('PRETTY_NAME', 'unknown')}. {tried}"
            )
        if self._answers.game == "steam" and platform.machine() != "x86_64":
            raise InstallError(
                f"This machine is {platform.machine()}, and the game's server runs on x86-64 alone.",
                "To try the panel here, give --game simulator.",
            )
        if self._last.name and self._last.driver != self._answers.driver and releases.current():
            raise InstallError(
                f"The game servers are units by the driver {self._last.driver}, and cannot change their "
                "manager while they run.",
                "docs/deploy.md, “Changing the driver”, says how.",
            )
        self._require_restorable()
        databases.require_same(
            self._answers.database,
            self._last.database,
            settings_files.known_value("DATABASE_URL"),
        )

    def _require_restorable(self) -> None:
        """Raise `InstallError` if a backup is to be put back and cannot be: before its keys replace others."""
        if self._archive is None or self._machine.is_dry_run:
            return
        if not self._archive.is_file():
            raise InstallError(
                f"There is no backup {self._archive}.", "Name the file with --restore."
            )
        if releases.current() and self._machine.succeeds(
            *units.worker_systemctl(self._answers), "is-active", "--quiet", places.WORKER_UNIT
        ):
            raise InstallError(
                "A panel runs here, whose database and keys the backup would replace.",
                "If this command has put it back already, and a later step failed, run it again without "
                "--restore. To replace the panel, stop worker and web process first: docs/deploy.md, “Backup”, "
                "says how.",
            )

    def _install_packages(self) -> None:
        if not self._answers.has_packages:
            return
        wanted = self._packages()
        if missing := [name for name in wanted if not self._has_package(name)]:
            environment = {"DEBIAN_FRONTEND": "noninteractive"}
            if any(name.endswith(":i386") for name in missing):
                self._machine.run("dpkg", "--add-architecture", "i386")
            self._machine.run("apt-get", "update", "-qq", env=environment)
            self._machine.run(
                "apt-get",
                "install",
                "-qq",
                "--yes",
                "--no-install-recommends",
                *missing,
                env=environment,
            )

    def _packages(self) -> list[str]:
        answers = self._answers
        return [
            *("python3", "python3-venv", "ca-certificates", "openssl", "libarchive13"),
            # The account's own manager, or what permits requests to the system manager.
            *(("dbus-user-session", "libpam-systemd") if answers.is_users else ("polkitd",)),
            *(("nginx",) if answers.has_nginx else ()),
            *(("nftables",) if answers.has_nftables else ()),
            *(("certbot",) if answers.certificate == "certbot" else ()),
            *(("postgresql",) if answers.database == "create" else ()),
            *(("postgresql-client",) if answers.is_postgres else ()),
            *(_I386 if answers.game == "steam" else ()),
        ]

    def _has_package(self, name: str) -> bool:
        try:
            return (
                self._machine.ask("dpkg-query", "--show", "--showformat=${db:Status-Status}", name)
                == "installed"
            )
        except CommandError:
            return False

    def _make_release(self) -> None:
        releases.make(
            self._machine, self._source, self._release, self._answers.python, self._answers.wheels
        )

    def _make_accounts(self) -> None:
        units.install_accounts(self._machine, self._source)

    def _write_settings(self) -> None:
        self._keys_before = settings_files.known_value("SECRETS_KEYS")
        given = settings_files.Given(
            self._find_database(), self._keys_before or settings_files.make_fernet_key()
        )
        page = settings_files.read_page(self._source)
        settings_files.write(self._machine, self._answers, self._last, page, given)
        settings_files.write_passphrase(self._machine, self._passphrase_file)

    def _find_database(self) -> str:
        if known := settings_files.known_value("DATABASE_URL"):
            return known
        if self._answers.database == "sqlite":
            return databases.SQLITE
        if self._answers.database == "create":
            return databases.make_on_this_machine(self._machine)
        return self._answers.database

    def _restore(self) -> None:
        """Restore a backup and its keys, from a copy that the worker may read."""
        archive = self._archive
        if archive is None:
            return
        copy = places.BACKUPS_DIR / archive.name
        if copy != archive:
            self._machine.run(
                *("install", "-o", places.WORKER_ACCOUNT, "-g", places.WORKER_ACCOUNT, "-m", "600"),
                *(archive, copy),
            )
        line = self._manage("restore", "--print-keys", copy)
        if keys := env_files.parse(line).get("SECRETS_KEYS"):
            settings_files.replace_keys(self._machine, keys, self._keys_before)
        self._say(self._manage("restore", copy).rstrip())

    def _migrate(self) -> None:
        self._manage("migrate", "--verbosity=0")

    def _collect_static(self) -> None:
        """Add the release's files to the existing ones: pages of another release may still be open."""
        self._machine.make_folder(places.PUBLIC_DIR)
        self._machine.make_folder(places.STATIC_DIR)
        environment = {**env_files.read(settings_files.WEB), "PYTHONPATH": str(self._release.dir)}
        self._machine.run(
            *(self._release.python, "-P", self._release.dir / "manage.py"),
            *("collectstatic", "--no-input", "--verbosity=0"),
            env=environment,
        )

    def _make_admin(self) -> None:
        name = self._answers.admin
        # It is stored nowhere, so nobody is made while nothing can be read.
        self._show("If an admin is made now, its password follows.", "")
        said = self._manage("makefirstadmin", "--name", name)
        _before, beginning, rest = said.partition("Sign in as ")
        if beginning:
            # Shown at once, and again at the end.
            self._first_password = f"{beginning}{rest.rstrip()}\n"
            self._show(
                self._first_password, f"Give {name} another one: saferoom changepassword {name}"
            )

    def _show(self, text: str, cure: str) -> None:
        try:
            self._say_or_raise(indent(text, "   "))
        except OSError as error:
            raise InstallError(
                f"The admin's password could not be shown: {error.strerror}.", cure
            ) from error

    def _switch(self) -> None:
        releases.switch(self._machine, self._release)

    def _install_units(self) -> None:
        units.install(self._machine, self._release_code, self._answers)

    def _start(self) -> None:
        system = (places.WEB_SOCKET_UNIT, places.WEB_UNIT, places.BACKUP_TIMER)
        self._machine.run("systemctl", "enable", "--now", *system)
        units.control_worker_manager(
            self._machine, self._answers, "enable", "--now", places.WORKER_UNIT
        )

    def _install_proxy(self) -> None:
        proxy.install(self._machine, self._source, self._answers)

    def _flood_steps(self) -> list[Step]:
        """Return the step for the games' ports: needed also to remove the limits of an earlier run."""
        if not self._answers.has_nftables and not self._last.has_nftables:
            return []
        name = "Limit what one address may send to the games"
        if not self._answers.has_nftables:
            name = "Let every address send to the games what it likes"
        return [
            Step(name, lambda: floods.install(self._machine, self._release_code, self._answers))
        ]

    def _upgrade(self) -> None:
        self._switch_running(self._back_up_and_migrate)

    def _back_up_and_migrate(self) -> None:
        self._say("   A backup of the database is made.")
        self._manage("backup", "--database-only")
        self._migrate()

    def _switch_running(self, before_switch: Callable[[], None] | None) -> None:
        """Switch while the worker is drained. Whatever fails, a worker runs afterwards."""
        worker = units.worker_systemctl(self._answers)
        self._say("   The worker finishes what it does; new jobs wait.")
        try:
            # Ctrl-C ends only systemctl: the worker stops all the same.
            self._machine.run(*worker, "stop", places.WORKER_UNIT)
            if before_switch is not None:
                before_switch()
            self._collect_static()
            self._switch()
            self._install_units()
            # Its socket stays open: requests that come now wait, and the new process answers them.
            self._machine.run("systemctl", "restart", places.WEB_UNIT)
        except KeyboardInterrupt:
            with contextlib.suppress(OSError):  # The terminal may be gone.
                self._say("   The worker starts again once it has finished what it does.")
            raise
        finally:
            self._machine.run(*worker, "start", places.WORKER_UNIT)

    def _check(self) -> None:
        if self._machine.is_dry_run:
            return
        checks.wait_until_healthy(settings_files.known_value("HEALTH_TOKEN"))
        if self._answers.has_nginx:
            checks.require_proxy(self._answers)
        self._notes = checks.run_doctor(self._machine)

    def _keep_answers(self) -> None:
        self._machine.write(places.ANSWERS, as_json(self._answers), mode=0o600)

    # --- Beside them --------------------------------------------------------------------------------

    @property
    def _release_code(self) -> Path:
        """Where to read the release's code: in a dry run it is not copied yet."""
        return self._release.dir if self._release.is_whole else self._source

    def _manage(self, *arguments: str | Path) -> str:
        """Run a command of manage.py as the worker, with its settings, in the release that is being made."""
        return self._machine.run(
            *(self._release.python, "-P", "-m", "deploy.run_as", "worker"),
            *(self._release.dir / "manage.py", *arguments),
            env={"PYTHONPATH": str(self._release.dir)},
        )

    def summary(self) -> str:
        """Return what the person who ran this needs to know now."""
        answers = self._answers
        host = f"[{answers.name}]" if ":" in answers.name else answers.name
        address = (
            f"https://{host}/"
            if answers.has_nginx
            else f"the proxy that you set up before {places.SOCKET}"
        )
        lines = [f"\nSaferoom {self._release.name} runs: {address}"]
        admin = self._first_password or f"The admin {answers.admin} is there already."
        lines.append(indent(admin, "  "))
        if answers.has_nginx and answers.certificate == "self-signed":
            lines.append(
                "  Browsers warn of its certificate, which it made itself: docs/deploy.md, “TLS”."
            )
        lines += [
            "  Logs: journalctl -u saferoom-web; the worker and the games: journalctl _UID=$(id -u saferoom)",
            "  Settings: /etc/saferoom/web.env and worker.env. Commands: saferoom, l4d2ctl.",
            f"  Backups: each night, in {places.BACKUPS_DIR}. Nobody can open them without the passphrase in",
            f"  {places.PASSPHRASE}: keep a copy of it on another machine.",
        ]
        if self._notes:
            lines += ["  The host's doctor says:", *self._notes]
        return "\n".join(lines)


def require_root(*, is_dry_run: bool) -> None:
    """Raise `InstallError` unless root runs this; anybody may do a dry run where nothing is installed."""
    if os.geteuid() != 0 and not is_dry_run:
        raise InstallError(
            "Only root can install.", "Put `sudo` before it. --dry-run shows what would be done."
        )
