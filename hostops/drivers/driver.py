"""The protocol behind which each way to run game servers has its driver."""

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

    With every driver it is the launcher that starts a server, records its run and holds its lock.
    """

    @property
    def boxes_by_itself(self) -> bool:
        """Whether it shields the panel and other servers from a game even without `hostops.box`."""

    def require_ready(self, instance: InstanceLayout) -> None:
        """Raise HostError if any launch is certain to fail. Changes nothing."""

    def launch(
        self,
        instance: InstanceLayout,
        limits: Limits,
        environment: Mapping[str, str],
        callbacks: Callbacks,
    ) -> None:
        """Start what `launch.json` says; return once the game's program is executed.

        Cannot be cancelled. Raises HostError, with the launcher's own words, if it failed.
        """

    def end(self, instance: InstanceLayout, timeout_seconds: float, callbacks: Callbacks) -> None:
        """End the instance's run, asking first; return once no process is left, or raise HostError."""

    def settle(self, instance: InstanceLayout) -> None:
        """Make sure that an instance without processes stays stopped: cancel any pending restart."""

    def forget(self, instance: InstanceLayout) -> None:
        """Remove what was created outside the instance's folder. The instance must not be running."""

    def complete(
        self,
        statuses: Mapping[str, InstanceStatus],
        *,
        with_usage: bool = True,
    ) -> dict[str, InstanceStatus]:
        """Add what only the driver knows; memory and CPU usage only on request."""

    def limits_without_effect(self) -> tuple[str, ...]:
        """Return those of LIMIT_NAMES that this driver cannot enforce."""

    def examine(self) -> Iterator[Finding]:
        """Check whether the driver can do its work here."""


def make_driver(name: str, layout: HostLayout, *, is_simulated: bool = False) -> Driver:
    """Return the driver called `name`; ValueError if it is not one of DRIVERS."""
    if name not in DRIVERS:
        raise ValueError(f"{name!r} is no driver: use {' or '.join(DRIVERS)}.")
    if name == "process":
        return ProcessDriver(layout)
    manager = Manager.USER if name == "systemd" else Manager.SYSTEM
    return UnitDriver(layout, Systemctl(manager), is_simulated=is_simulated)
