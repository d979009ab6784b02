"""nftables rules for the games' ports, with `--nftables`: they limit what one address may send."""

from pathlib import Path

from deploy.installer import places
from deploy.installer.answers import Answers
from deploy.installer.errors import CommandError, InstallError
from deploy.installer.machine import Machine


def install(machine: Machine, code: Path, answers: Answers) -> None:
    """Load the rules, now and at each boot; or remove them, if they are no longer wanted."""
    if not answers.has_nftables:
        remove(machine)
        return
    folder = code / "deploy/nftables"
    is_new = machine.write(places.NFTABLES_RULES, (folder / "saferoom.nft").read_text())
    unit = (folder / places.NFTABLES_UNIT).read_text()
    is_new = machine.write(places.SYSTEM_UNITS / places.NFTABLES_UNIT, unit) or is_new
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "enable", "--now", places.NFTABLES_UNIT)
        if is_new:
            machine.run("systemctl", "reload", places.NFTABLES_UNIT)
    except CommandError as error:
        raise InstallError(
            f"The rules in {places.NFTABLES_RULES} could not be loaded: {error.output.strip()}",
            "A kernel without nftables cannot have them: go on with --no-nftables.",
        ) from error


def remove(machine: Machine) -> None:
    """Remove the rules, if there are any."""
    unit = places.SYSTEM_UNITS / places.NFTABLES_UNIT
    if not unit.exists():
        return
    machine.run("systemctl", "disable", "--now", places.NFTABLES_UNIT)
    machine.remove(unit)
    machine.remove(places.NFTABLES_RULES)
