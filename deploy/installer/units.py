"""The systemd part: installs the units, and controls the two managers that run them."""

import pwd
from pathlib import Path

from deploy.installer import places
from deploy.installer.answers import Answers
from deploy.installer.machine import Machine

_SYSTEM = (places.WEB_UNIT, places.WEB_SOCKET_UNIT, places.BACKUP_UNIT, places.BACKUP_TIMER)


def install_accounts(machine: Machine, code: Path) -> None:
    """Make the accounts and the folders, as the files in deploy/ do at every boot."""
    folder = code / "deploy/systemd"
    machine.write(places.SYSUSERS, (folder / "saferoom.sysusers.conf").read_text())
    machine.write(places.TMPFILES, (folder / "saferoom.tmpfiles.conf").read_text())
    machine.run("systemd-sysusers", places.SYSUSERS)
    machine.run("systemd-tmpfiles", "--create", places.TMPFILES)


def install(machine: Machine, code: Path, answers: Answers) -> None:
    """Install units and commands, and make the managers read them."""
    folder = code / "deploy/systemd"
    for unit in _SYSTEM:
        machine.write(places.SYSTEM_UNITS / unit, (folder / unit).read_text())
    for command in ("l4d2ctl", "saferoom"):
        machine.write(
            places.COMMANDS_DIR / command, (code / "deploy" / command).read_text(), mode=0o755
        )
    slices = places.USER_UNITS if answers.is_users else places.SYSTEM_UNITS
    machine.write(slices / places.GAMES_SLICE, (folder / places.GAMES_SLICE).read_text())
    if answers.is_users:
        machine.write(places.DELEGATION, (folder / "delegate.conf").read_text())
        machine.write(
            places.USER_UNITS / places.WORKER_UNIT,
            (folder / "user" / places.WORKER_UNIT).read_text(),
        )
        machine.run("loginctl", "enable-linger", places.WORKER_ACCOUNT)
        if not machine.is_dry_run:
            machine.run("systemctl", "start", f"user@{worker_uid()}.service")
    else:
        machine.write(
            places.SYSTEM_UNITS / places.WORKER_UNIT,
            (folder / "system" / places.WORKER_UNIT).read_text(),
        )
        machine.write(
            places.POLKIT_RULES, (folder / "system" / places.POLKIT_RULES.name).read_text()
        )
        install_game_unit(machine)
    machine.run("systemctl", "daemon-reload")
    if answers.is_users:
        control_worker_manager(machine, answers, "daemon-reload")


def install_game_unit(machine: Machine) -> None:
    """Write the game's unit as the current code prints it for this systemd, again at each upgrade."""
    if machine.is_dry_run:
        machine.run("l4d2ctl", "unit", "--user", places.WORKER_ACCOUNT)
        return
    text = machine.ask(places.COMMANDS_DIR / "l4d2ctl", "unit", "--user", places.WORKER_ACCOUNT)
    machine.write(places.SYSTEM_UNITS / places.GAME_UNIT, text)


def control_worker_manager(machine: Machine, answers: Answers, *arguments: str) -> None:
    """Run systemctl on the manager of worker and games."""
    machine.run(*worker_systemctl(answers), *arguments)


def worker_systemctl(answers: Answers) -> list[str]:
    """Return the beginning of a systemctl command for that manager."""
    if not answers.is_users:
        return ["systemctl"]
    account = places.WORKER_ACCOUNT
    switch = ["setpriv", f"--reuid={account}", f"--regid={account}", "--init-groups", "env"]
    return [*switch, f"XDG_RUNTIME_DIR=/run/user/{worker_uid()}", "systemctl", "--user"]


def worker_uid() -> str:
    """Return the worker's uid; a placeholder if the account does not exist yet, in a dry run."""
    try:
        return str(pwd.getpwnam(places.WORKER_ACCOUNT).pw_uid)
    except KeyError:
        return "UID"
