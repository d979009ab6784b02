"""What runs game servers: a driver for each way, behind one protocol."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from hostops.callbacks import Callbacks
from hostops.drivers.process_driver import ProcessDriver
from hostops.drivers.systemctl import Manager, Systemctl
from hostops.drivers.systemd_driver import UnitDriver
from hostops.layout import HostLayout, InstanceLayout
from hostops.specs import DRIVERS, Finding, InstanceStatus, Limits


class Driver(Protocol):
    """Starts and ends the servers of one host. The caller holds the instance's lock.

    Whatever the driver, the launcher starts a server, writes down its run, and holds its lock.
    """

    @property
    def boxes_by_itself(self) -> bool:
        """Whether it keeps a game from the panel and from other servers also without `hostops.box`."""

    def require_ready(self, instance: InstanceLayout) -> None:
        """Raise HostError if it is certain that a launch would fail, whatever is launched; changes nothing."""

    def launch(
        self,
        instance: InstanceLayout,
        limits: Limits,
        environment: Mapping[str, str],
        callbacks: Callbacks,
    ) -> None:
        """Start what `launch.json` says; returns once the game's program is executed.

        It cannot be cancelled. Raises HostError, with the launcher's own words, if it failed.
        """

    def end(self, instance: InstanceLayout, timeout_seconds: float, callbacks: Callbacks) -> None:
        """End the instance's run, asking first; return when nothing of it is left, or raise HostError."""

    def settle(self, instance: InstanceLayout) -> None:
        """See to it that an instance of which nothing runs stays so: no restart is under way."""

    def forget(self, instance: InstanceLayout) -> None:
        """Remove what was made outside of the instance's folder; nothing of it runs."""

    def complete(
        self,
        statuses: Mapping[str, InstanceStatus],
        *,
        with_usage: bool = True,
    ) -> dict[str, InstanceStatus]:
        """Add what only the driver knows to what the files say; what servers use only if that is wanted."""

    def limits_without_effect(self) -> tuple[str, ...]:
        """Return those of LIMIT_NAMES that it cannot hold servers to."""

    def examine(self) -> Iterator[Finding]:
        """Look whether the driver can do its work here."""


def make_driver(name: str, layout: HostLayout, *, is_simulated: bool = False) -> Driver:
    """Return the driver called `name`; ValueError if it is not one of DRIVERS."""
    if name not in DRIVERS:
        raise ValueError(f"{name!r} is no driver: use {' or '.join(DRIVERS)}.")
    if name == "process":
        return ProcessDriver(layout)
    manager = Manager.USER if name == "systemd" else Manager.SYSTEM
    return UnitDriver(layout, Systemctl(manager), is_simulated=is_simulated)
