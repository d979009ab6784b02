"""What each operation does on a host. Besides `jobs.watch`, the only place that drives the host layer."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from time import monotonic
from typing import Any, NamedTuple, Unpack

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from hostops.blob_sources import FolderSource, HttpSource
from hostops.host import Host as HostLayer
from hostops.specs import (
    BlobSource,
    CallbackArguments,
    CancelToken,
    ConfigPart,
    InstalledRelease,
    InstanceSpec,
    InstanceState,
    InstanceStatus,
    SteamAccount,
)
from jobs.database import Channel, announce, is_away, write_turn
from jobs.logs import faults, find_secrets, make_line_safe, mask_known, secrets_of_server
from jobs.models import STARTS, Job, Operation, SteamGuardCode
from jobs.unpacking import make_version_of
from servers.config import find_gaps
from servers.models import (
    LOOPBACK,
    ActualState,
    Host,
    Release,
    Run,
    Server,
    Upload,
)
from servers.people import with_people
from servers.store import sign_blob_path

logger = logging.getLogger(__name__)

MAX_CONFIG_PARTS = 128
MAX_CONFIG_CHARS = 20_000
MAX_CONFIG_WARNINGS = 100
"""What a row has of a config chain at most: the host layer writes less."""

CODE_WAIT_SECONDS = 300.0
CODE_LOOK_SECONDS = 1.0
UP_STATES = (InstanceState.STARTING, InstanceState.RUNNING)

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
        content=find_blob_source(),
        steam_account=SteamAccount(
            settings.STEAM_ACCOUNT, settings.STEAM_PASSWORD, settings.STEAM_PASSWORD_FILE
        )
        if settings.STEAM_ACCOUNT
        else None,
    )


def find_blob_source() -> BlobSource | None:
    """Return where this worker's host gets the files of overlays' versions; None if nothing says that.

    From the panel's store where this machine has it, else from the panel.
    """
    store = settings.CONTENT_ROOT
    if store.is_dir() and os.access(store, os.R_OK | os.X_OK):
        return FolderSource(store)
    return HttpSource(settings.PANEL_URL, sign_blob_path) if settings.PANEL_URL else None


FinishConsole = Callable[[HostLayer, str, CancelToken], object]
"""Stores what a server has printed before its files are removed."""


@dataclass
class PlannedRun:
    """What a server is about to be started with.

    `as_it_was_at` is when the run began that this one repeats. `fingerprints` are those of its overlays as they
    were when the job began.
    """

    spec: InstanceSpec
    as_it_was_at: datetime | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    def carry_out(
        self,
        act: Callable[..., None],
        host: HostLayer,
        **callbacks: Unpack[CallbackArguments],
    ) -> None:
        """Do what starts the server, and note what its overlays are: the job's thread has the time for it."""
        if self.spec.overlays:
            self.fingerprints = host.overlay_fingerprints(self.spec.overlays)
        act(host, self.spec, **callbacks)


class Prepared(NamedTuple):
    """What carries a job out without the database, what it makes its server of, and what it starts."""

    operate: Callable[..., object]
    spec: InstanceSpec | None = None
    planned_run: PlannedRun | None = None


def prepare(job: Job, finish_console: FinishConsole) -> Prepared:
    """Read what the job needs from the database, and return what carries it out without it.

    `finish_console` is called before a deletion removes anything. What `operate` is takes `on_line`, `on_stage`
    and `cancel`, and raises what the host layer raises. Raises `MalformedJobError`, or ValueError for a server
    that the host layer would refuse.
    """
    operation, host = job.operation, get_host(job.host_name)
    if operation not in OPERATIONS:
        raise MalformedJobError(f"“{operation}” is not an operation Saferoom knows.")
    if operation == Operation.INSTALL:
        return Prepared(partial(install, host, job.pk))
    if operation == Operation.ROLLBACK:
        return Prepared(partial(host.rollback, job.build_id or None))
    if operation == Operation.CHECK:
        return Prepared(host.check_update)
    if operation == Operation.UNPACK:
        return Prepared(plan_unpacking(host, job))
    server = job.server
    if server is None:
        raise MalformedJobError(f"{job.operation_label} needs a server, and this job has none.")
    if operation == Operation.DELETE:
        return Prepared(partial(delete, host, server.name, finish_console))
    if operation in BY_NAME:
        return Prepared(partial(BY_NAME[operation], host, server.name))
    run = job.run
    spec = with_people(repeat(run, server) if run else server.to_spec(), server)
    if operation not in STARTS:
        return Prepared(partial(BY_SPEC[operation], host, spec), spec)
    planned = PlannedRun(spec, (run.as_it_was_at or run.started_at) if run else None)
    is_automatic = operation == Operation.START and not job.requested_by_name
    act = partial(start, is_automatic=True) if is_automatic else BY_SPEC[operation]
    return Prepared(partial(planned.carry_out, act, host), spec, planned)


def plan_unpacking(host: HostLayer, job: Job) -> Callable[..., None]:
    """Return what makes a version of a job's upload. Raises `MalformedJobError` if it was discarded."""
    related = ("overlay__latest", "overlay__owner", "by")
    upload = Upload.objects.select_related(*related).filter(pk=job.upload_id or 0).first()
    if upload is None:
        raise MalformedJobError("The upload was discarded: there is nothing to unpack.")
    return partial(make_version_of, host, upload, list(upload.parts.all()))


def repeat(run: Run, server: Server) -> InstanceSpec:
    """Return what starts a server as it was in `run`.

    Raises ValueError if that is unreadable, and `MalformedJobError` if its port has become another server's, or
    the panel has one of its overlays no longer: whoever starts it may not name a folder of a host as one.
    """
    spec = run.to_spec(server)
    if gaps := find_gaps(server, [run])[run.pk]:
        raise MalformedJobError(" ".join(gaps))
    return spec


def describe_run(
    server: Server,
    planned: PlannedRun | None,
    status: InstanceStatus | None,
    *,
    not_before: float,
    has_answered: bool,
    started_by_name: str,
) -> Run | None:
    """Return the run that a job has started, for its end to be stored with; None if it has started none.

    A server that ran before the job began, at `not_before` in seconds since the epoch, goes on with what it was
    started with, whatever the job wrote for its next start.
    """
    if planned is None or status is None or status.started_at is None:
        return None
    if status.state not in UP_STATES or status.started_at < not_before:
        return None
    return Run.describe(
        server,
        planned.spec,
        status,
        fingerprints=planned.fingerprints,
        started_at=datetime.fromtimestamp(status.started_at, UTC),
        has_answered=has_answered,
        started_by_name=started_by_name,
        as_it_was_at=planned.as_it_was_at,
    )


def install(host: HostLayer, job_id: int, **callbacks: Unpack[CallbackArguments]) -> None:
    """Install or update the game; whoever looks at the job's page is asked for a Steam Guard code."""
    ask_code = partial(wait_for_code, job_id, callbacks["cancel"], set())
    host.install_runtime(ask_code=ask_code, **callbacks)


def wait_for_code(job_id: int, cancel: CancelToken, tried: set[str]) -> str | None:
    """Return the Steam Guard code that somebody enters for a job, or None if nobody does in time.

    Not one that was `tried` already: a form that is sent twice, while the first code is taken, would answer the
    next question too, and Steam allows few tries. Adds the code to `tried`. Looks once a second, and holds no
    connection to the database in between. Raises OperationCancelled.
    """
    until = monotonic() + CODE_WAIT_SECONDS
    while True:
        cancel.raise_if_cancelled()
        try:
            code = SteamGuardCode.take(job_id)
        except Exception as error:
            if not is_away(error):
                raise
            logger.warning("job %s: no code can be read yet: %s", job_id, error)
            code = ""
        finally:
            if not connection.in_atomic_block:
                connection.close()
        if code and code not in tried:
            tried.add(code)
            return code
        if monotonic() > until:
            return None
        cancel.wait(CODE_LOOK_SECONDS)


def initialize(host: HostLayer, spec: InstanceSpec, **callbacks: Unpack[CallbackArguments]) -> None:
    """Make the instance, or bring it up to date."""
    host.initialize(spec, **callbacks)


def start(
    host: HostLayer,
    spec: InstanceSpec,
    *,
    is_automatic: bool = False,
    **callbacks: Unpack[CallbackArguments],
) -> None:
    """Bring the instance up to date, so that edits of its blueprint apply, and start it.

    It is automatic if nobody has asked for it: after a crash it counts in the budget of restarts.
    """
    host.initialize(spec, **callbacks)
    host.start(spec.name, is_automatic=is_automatic, **callbacks)


def stop(host: HostLayer, name: str, **callbacks: Unpack[CallbackArguments]) -> None:
    """Stop the instance."""
    host.stop(name, **callbacks)


def restart(host: HostLayer, spec: InstanceSpec, **callbacks: Unpack[CallbackArguments]) -> None:
    """Stop the instance, bring it up to date, and start it; nothing is stopped for what cannot start."""
    host.check(spec, **callbacks)
    host.stop(spec.name, **callbacks)
    start(host, spec, **callbacks)


def reset(host: HostLayer, name: str, **callbacks: Unpack[CallbackArguments]) -> None:
    """Stop the instance and remove what it wrote."""
    host.reset(name, **callbacks)


def delete(
    host: HostLayer,
    name: str,
    finish_console: FinishConsole,
    **callbacks: Unpack[CallbackArguments],
) -> None:
    """Remove the instance and its runtime files from the host; the server's row and its console stay."""
    finish = partial(finish_console, host, name, callbacks["cancel"])
    host.delete(name, before_removal=finish, **callbacks)


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


def read_config_chain(server: Server, secrets: frozenset[str]) -> dict[str, Any]:
    """Return what the server's row is to say of its config chain: by column, as SQL takes it, if it is news.

    `secrets` are masked in it, and those of which the host layer knows.
    Whatever keeps it from being read is in the log, and the row stays as it is. It has no passwords, nor what
    the database does not take: where games are not boxed, they could have written what the host layer reads.
    """
    try:
        parts = get_host(server.host.name).config_chain(server.name)
        if not parts:
            return {}
        # A start as it was writes what the rows no longer say.
        secrets |= read_running_secrets(server.host.name, server.name)
        chain = [describe_part(part, secrets) for part in parts[:MAX_CONFIG_PARTS]]
        if chain == server.config_chain:
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
        disk_total_bytes=facts.disk_total_bytes,
        memory_total_bytes=facts.memory_total_bytes,
        memory_available_bytes=facts.memory_available_bytes,
        load_average=os.getloadavg()[0] / (os.cpu_count() or 1),
        reported_at=timezone.now(),
    )
    store_taken_ports(host, facts.taken_ports)
    store_address(host, layer.query_address, is_simulated=facts.game_source == "simulator")
    store_releases(host, installed)


def store_address(host: Host, address: str, *, is_simulated: bool) -> None:
    """Store where a host's servers are reached, until an admin says it: where they answer is the best guess.

    Nobody reaches a real game on loopback, whoever put that there.
    """
    if not ip_address(address).is_loopback:
        Host.objects.filter(pk=host.pk, address__in=LOOPBACK).update(address=address)
    elif is_simulated:
        Host.objects.filter(pk=host.pk, address="").update(address=address)


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
