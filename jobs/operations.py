"""What each operation does on a host. Besides `jobs.watch`, the only place that drives the host layer."""

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from hostops.host import Host as HostLayer
from hostops.specs import (
    CancelToken,
    ConfigPart,
    InstalledRelease,
    InstanceSpec,
    InstanceStatus,
    SteamAccount,
)
from jobs.database import Channel, announce, write_turn
from jobs.logs import faults, find_secrets, make_line_safe, mask_known, secrets_of_server
from jobs.models import Job, Operation
from servers.models import ActualState, Host, Release, Server

logger = logging.getLogger(__name__)

MAX_CONFIG_PARTS = 128
MAX_CONFIG_CHARS = 20_000
MAX_CONFIG_WARNINGS = 100
"""What a row has of a config chain at most: the host layer writes less."""

OPERATIONS = frozenset(Operation)  # Asking the enumeration itself builds a list each time.


class MalformedJobError(Exception):
    """A job that says nothing that can be done; the text says why."""


def get_host(name: str) -> HostLayer:
    """Return the host layer of the host `name`: the one place that makes it, and where a test puts a fake.

    A worker drives the machine it runs on, so the settings say how.
    """
    logger.debug("driving host %s below %s", name, settings.HOST_ROOT)
    return HostLayer(
        settings.HOST_ROOT,
        driver=settings.HOST_DRIVER,
        game_source=settings.GAME_SOURCE,
        query_address=settings.HOST_ADDRESS,
        allow_unboxed=settings.HOST_UNBOXED,
        min_free_bytes=settings.HOST_MIN_FREE_BYTES,
        steam_account=SteamAccount(
            settings.STEAM_ACCOUNT, settings.STEAM_PASSWORD, settings.STEAM_PASSWORD_FILE
        )
        if settings.STEAM_ACCOUNT
        else None,
    )


FinishConsole = Callable[[HostLayer, str, CancelToken], object]
"""Stores what a server has printed before its files are removed."""


def prepare(job: Job, finish_console: FinishConsole) -> Callable[..., object]:
    """Read what the job needs from the database, and return what carries it out without it.

    `finish_console` is called before a deletion removes anything. The result takes `on_line`, `on_stage` and
    `cancel`, and raises what the host layer raises. Raises `MalformedJobError`, or ValueError for a server that
    the host layer would refuse.
    """
    operation, host = job.operation, get_host(job.host_name)
    if operation not in OPERATIONS:
        raise MalformedJobError(f"“{operation}” is not an operation Saferoom knows.")
    if operation == Operation.INSTALL:
        return host.install_runtime
    if operation == Operation.ROLLBACK:
        return partial(host.rollback, job.build_id or None)
    if operation == Operation.CHECK:
        return host.check_update
    server = job.server
    if server is None:
        raise MalformedJobError(f"{job.operation_label} needs a server, and this job has none.")
    if operation == Operation.DELETE:
        return partial(delete, host, server.name, finish_console)
    if operation in BY_NAME:
        return partial(BY_NAME[operation], host, server.name)
    return partial(BY_SPEC[operation], host, server.to_spec())


def initialize(host: HostLayer, spec: InstanceSpec, **callbacks: Any) -> None:
    """Make the instance, or bring it up to date."""
    host.initialize(spec, **callbacks)


def start(host: HostLayer, spec: InstanceSpec, **callbacks: Any) -> None:
    """Bring the instance up to date, so that edits of its blueprint apply, and start it."""
    host.initialize(spec, **callbacks)
    host.start(spec.name, **callbacks)


def stop(host: HostLayer, name: str, **callbacks: Any) -> None:
    """Stop the instance."""
    host.stop(name, **callbacks)


def restart(host: HostLayer, spec: InstanceSpec, **callbacks: Any) -> None:
    """Stop the instance, bring it up to date, and start it."""
    host.stop(spec.name, **callbacks)
    start(host, spec, **callbacks)


def reset(host: HostLayer, name: str, **callbacks: Any) -> None:
    """Stop the instance and remove what it wrote."""
    host.reset(name, **callbacks)


def delete(
    host: HostLayer,
    name: str,
    finish_console: FinishConsole,
    *,
    cancel: CancelToken,
    **callbacks: Any,
) -> None:
    """Remove the instance and its runtime files from the host; the server's row and its console stay."""
    finish = partial(finish_console, host, name, cancel)
    host.delete(name, before_removal=finish, cancel=cancel, **callbacks)


BY_SPEC: dict[str, Callable[..., None]] = {
    Operation.INITIALIZE: initialize,
    Operation.START: start,
    Operation.RESTART: restart,
}
"""What brings an instance up to date, and so needs to know what the server is made of."""

BY_NAME: dict[str, Callable[..., None]] = {
    Operation.STOP: stop,
    Operation.RESET: reset,
}
"""What has to work also for a server whose blueprint is broken; so has a deletion."""


def read_status(server: Server) -> InstanceStatus | None:
    """Ask the server's host what its instance is doing; None if it cannot tell."""
    try:
        return get_host(server.host.name).status(server.name)
    except Exception as error:  # noqa: BLE001 - told in the log
        faults.tell(logger, f"server {server.name}: its state cannot be read", error)
        return None


def read_running_secrets(host_name: str, name: str) -> frozenset[str]:
    """Return the passwords that an instance was told, of which its row may know only the later ones."""
    try:
        return find_secrets(*get_host(host_name).instance_settings(name))
    except Exception as error:  # noqa: BLE001 - told in the log
        faults.tell(logger, f"server {name}: the settings that it runs with cannot be read", error)
        return frozenset()


def measure_own_bytes(server: Server) -> int | None:
    """Return how much of its host's disk a server's own files take; None if it cannot be told."""
    try:
        return get_host(server.host.name).own_bytes(server.name)
    except Exception as error:  # noqa: BLE001 - told in the log
        faults.tell(logger, f"server {server.name}: its own files cannot be measured", error)
        return None


def describe_state(server: Server, status: InstanceStatus | None) -> dict[str, Any]:
    """Return what a server's row is to say of its state. What it quotes of the console has no passwords."""
    if status is None:
        return {"actual_state": ActualState.UNKNOWN, "state_note": "", "state_detail": ""}
    detail = status.detail
    if detail:
        secrets = secrets_of_server(server) | read_running_secrets(server.host.name, server.name)
        detail = make_line_safe(mask_known(detail, secrets))
    return {
        "actual_state": status.state.value,
        "state_note": status.note,
        "state_detail": detail,
        "running_build_id": status.release or "",
        "restarts": status.restarts or 0,
    }


def read_config_chain(server: Server) -> dict[str, Any]:
    """Return what the server's row is to say of its config chain: by column, as SQL takes it, if it is news.

    Whatever keeps it from being read is in the log, and the row stays as it is. It has no passwords, nor what
    the database does not take: where games are not boxed, they could have written what the host layer reads.
    """
    try:
        parts = get_host(server.host.name).config_chain(server.name)
        secrets = secrets_of_server(server)
        chain = [describe_part(part, secrets) for part in parts[:MAX_CONFIG_PARTS]]
        if not chain or chain == server.config_chain:
            return {}
    except Exception as error:  # noqa: BLE001 - told in the log
        faults.tell(logger, f"server {server.name}: its config chain cannot be read", error)
        return {}
    return {"config_chain": json.dumps(chain), "config_chain_at": timezone.now()}


def describe_part(part: ConfigPart, secrets: frozenset[str]) -> dict[str, Any]:
    """Return one part of a config chain as a server's row has it."""

    def to_safe(text: str) -> str:
        lines = text[:MAX_CONFIG_CHARS].split("\n")
        return "\n".join(make_line_safe(mask_known(line, secrets)) for line in lines)

    return {
        "path": to_safe(part.path),
        "source": to_safe(part.source),
        "text": to_safe(part.text),
        "warnings": [to_safe(warning) for warning in part.warnings[:MAX_CONFIG_WARNINGS]],
    }


def report_host(host: Host) -> None:
    """Store what the host layer says about this machine in the row of `host`."""
    layer = get_host(host.name)
    facts, installed = layer.facts(), layer.releases()
    Host.objects.filter(pk=host.pk).update(
        driver=facts.driver,
        game_source=facts.game_source,
        layering=facts.layering,
        layering_detail=facts.layering_detail,
        limits_without_effect=", ".join(facts.limits_without_effect),
        build_id=facts.build_id,
        walls=[asdict(wall) for wall in facts.walls],
        latest_build_id=facts.latest.build_id if facts.latest else "",
        latest_build_at=datetime.fromtimestamp(facts.latest.checked_at, UTC)
        if facts.latest
        else None,
        disk_free_bytes=facts.disk_free_bytes,
        load_average=os.getloadavg()[0] / (os.cpu_count() or 1),
        reported_at=timezone.now(),
    )
    store_taken_ports(host, facts.taken_ports)
    # Until an admin says how players reach it, the address at which its own servers answer is the best guess.
    Host.objects.filter(pk=host.pk, address="").update(address=settings.HOST_ADDRESS)
    store_releases(host, installed)


def report_taken_ports(host: Host) -> None:
    """Store which ports of this machine other programs hold, as the host layer sees it now."""
    store_taken_ports(host, get_host(host.name).facts().taken_ports)


def store_taken_ports(host: Host, ports: Sequence[int]) -> None:
    """Store which ports other programs hold on a host, and tell pages of it if that is news."""
    with write_turn(), transaction.atomic():
        others = Host.objects.filter(pk=host.pk).exclude(taken_ports=list(ports))
        if others.update(taken_ports=list(ports)):
            announce(Channel.PAGES)


def store_releases(host: Host, installed: Sequence[InstalledRelease]) -> None:
    """Make the rows of a host's releases what the host layer says; the same ones are not written again."""
    wanted = {
        release.build_id: (release.is_current, datetime.fromtimestamp(release.installed_at, UTC))
        for release in installed
    }
    with transaction.atomic():
        # Two workers of one host report in turns.
        Host.objects.select_for_update(no_key=True).get(pk=host.pk)
        stored = {row.build_id: (row.is_current, row.installed_at) for row in host.releases.all()}
        if stored == wanted:
            return
        host.releases.all().delete()
        Release.objects.bulk_create(
            Release(host=host, build_id=build_id, is_current=is_current, installed_at=installed_at)
            for build_id, (is_current, installed_at) in wanted.items()
        )
        announce(Channel.PAGES)
