"""What each operation does on a host. Apart from `jobs.watch`, the only place that drives the host layer."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from time import monotonic, time
from typing import Any, NamedTuple, Self, Unpack

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from hostops.blob_sources import FolderSource, HttpSource, NearestSource
from hostops.errors import OperationCancelled
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
    LoadedReport,
    SteamAccount,
)
from jobs.claimed_jobs import ClaimedJob, ClaimedServer
from jobs.database import Channel, announce, is_away, outage_log, write_turn
from jobs.logs import faults, find_secrets, make_line_safe, mask_known, secrets_of_server
from jobs.models import HOST_OPERATIONS, STARTS, Operation, SteamGuardCode
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
"""Limits on the config chain in a row; the host layer normally stays below them."""

CODE_WAIT_SECONDS = 300.0
CODE_LOOK_SECONDS = 1.0
UP_STATES = (InstanceState.STARTING, InstanceState.RUNNING)

OPERATIONS = frozenset(Operation)  # `in` on the enumeration itself builds a list each time.


class MalformedJobError(Exception):
    """A job that cannot be carried out as it is stored; the text says why."""


def get_host(name: str) -> HostLayer:
    """Return the host layer of the host `name`. Only this makes it, and tests put a fake here.

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
    """Return where this worker's host gets the files of overlays' versions; None if no source is configured.

    From the panel's store where this machine has it, else from the panel. A folder of that name may be there
    and be no store of this panel's: each machine that is installed has one.
    """
    root = settings.CONTENT_ROOT
    # access() first: until Python 3.14, is_dir() raises for a folder that this account may not look at.
    store = FolderSource(root) if os.access(root, os.R_OK | os.X_OK) and root.is_dir() else None
    panel = HttpSource(settings.PANEL_URL, sign_blob_path) if settings.PANEL_URL else None
    return NearestSource(store, panel) if store and panel else store or panel


FinishConsole = Callable[[HostLayer, str, CancelToken], object]
"""Stores a server's remaining console output before its files are removed."""


@dataclass
class PlannedRun:
    """What a server is about to be started with.

    `as_it_was_at` is when the run that this one repeats began. `fingerprints` are those of the overlays when
    the job began. `loaded` is what the server said, once it was up, that it has loaded of them.
    """

    spec: InstanceSpec
    as_it_was_at: datetime | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    loaded: LoadedReport | None = None
    loaded_at: datetime | None = None

    def carry_out(
        self,
        act: Callable[..., None],
        host: HostLayer,
        **callbacks: Unpack[CallbackArguments],
    ) -> None:
        """Note the overlays' fingerprints, call `act`, which starts the server, and ask what it has loaded.

        The job's thread has the time for that.
        """
        if not self.spec.overlays:
            act(host, self.spec, **callbacks)
            return
        self.fingerprints = read_fingerprints(host, self.spec)
        act(host, self.spec, **callbacks)
        self.loaded = ask_for_loaded(host, self.spec.name, **callbacks)
        self.loaded_at = timezone.now() if self.loaded else None


def read_fingerprints(host: HostLayer, spec: InstanceSpec) -> Mapping[str, str]:
    """Return the fingerprints of a server's overlays; none if that fails, which is no reason not to start."""
    try:
        return host.overlay_fingerprints(spec.overlays)
    except Exception as error:  # noqa: BLE001 - logged
        faults.tell(logger, f"server {spec.name}: its overlays' state is not known", error)
        return {}


def ask_for_loaded(
    host: HostLayer, name: str, **callbacks: Unpack[CallbackArguments]
) -> LoadedReport | None:
    """Return what a server that has just been started has loaded; None if that is not known.

    Whatever prevents it, or ends it early, does not make the start fail.
    """
    try:
        return host.loaded_report(name, **callbacks)
    except OperationCancelled:
        return None  # The server was up before this question was asked.
    except Exception as error:  # noqa: BLE001 - told in the log
        faults.tell(logger, f"server {name}: what it has loaded is not known", error)
        return None


class Prepared(NamedTuple):
    """The function that carries out a job, the server's spec, and the planned run.

    For most operations the function needs no database. An install may wait for a Steam Guard code there,
    unpacking makes a version, and a deletion stores the rest of the console. Each of them waits while the
    database is away.
    """

    operate: Callable[..., object]
    spec: InstanceSpec | None = None
    planned_run: PlannedRun | None = None


def prepare(job: ClaimedJob, finish_console: FinishConsole) -> Prepared:
    """Read what the job needs from the database, and return what carries it out.

    `finish_console` is called before a deletion removes anything. `operate` takes `on_line`, `on_stage` and
    `cancel`, and raises what the host layer raises. Raises `MalformedJobError`, or ValueError for a server
    that the host layer would refuse.
    """
    operation, host = job.operation, get_host(job.host_name)
    if operation not in OPERATIONS:
        raise MalformedJobError(f"“{operation}” is not an operation Saferoom knows.")
    if operation in HOST_OPERATIONS:
        return Prepared(plan_for_host(host, job))
    server = job.server
    if server is None:
        raise MalformedJobError(f"{job.operation_label} needs a server, and this job has none.")
    if operation == Operation.DELETE:
        return Prepared(partial(delete, host, server.name, finish_console))
    if operation in BY_NAME:
        return Prepared(partial(BY_NAME[operation], host, server.name))
    run = Run.objects.get(pk=job.run_id) if job.run_id else None
    spec = repeat(run, server.read_row()) if run else server.to_spec()
    if server.has_people:
        spec = with_people(spec, server.read_row())
    if operation not in STARTS:
        return Prepared(partial(BY_SPEC[operation], host, spec), spec)
    planned = PlannedRun(spec, (run.as_it_was_at or run.started_at) if run else None)
    act = BY_SPEC[operation]
    if is_restart_after_crash(job, server):
        act = partial(start, is_automatic=True)
    return Prepared(partial(planned.carry_out, act, host), spec, planned)


def is_restart_after_crash(job: ClaimedJob, server: ClaimedServer) -> bool:
    """Whether a job starts a server that has crashed, and that nobody asked to start."""
    if job.operation != Operation.START or job.requested_by_name:
        return False
    return Server.objects.filter(pk=server.id, actual_state=ActualState.CRASHED).exists()


def plan_for_host(host: HostLayer, job: ClaimedJob) -> Callable[..., object]:
    """Return what carries out a job of no server."""
    if job.operation == Operation.INSTALL:
        return partial(install, host, job.id)
    if job.operation == Operation.ROLLBACK:
        return partial(host.rollback, job.build_id or None)
    if job.operation == Operation.CHECK:
        return host.check_update
    return plan_unpacking(host, job)


def plan_unpacking(host: HostLayer, job: ClaimedJob) -> Callable[..., None]:
    """Return a function that makes a version from a job's upload. Raises `MalformedJobError` if it is gone."""
    related = ("overlay__latest", "overlay__owner", "by")
    upload = Upload.objects.select_related(*related).filter(pk=job.upload_id or 0).first()
    if upload is None:
        raise MalformedJobError("The upload was discarded: there is nothing to unpack.")
    return partial(make_version_of, host, upload, list(upload.parts.all()))


def repeat(run: Run, server: Server) -> InstanceSpec:
    """Return the spec that starts a server as it was in `run`.

    Raises ValueError if that is unreadable, and `MalformedJobError` if its port now belongs to another server
    or the panel no longer has one of its overlays: its name could then lead to a host's folder that the person
    may not use.
    """
    spec = run.to_spec(server)
    if gaps := find_gaps(server, [run])[run.pk]:
        raise MalformedJobError(" ".join(gaps))
    return spec


class Before(NamedTuple):
    """What was so before a job: `at` in seconds since the epoch, and `run`, the server's last run, if known."""

    at: float
    run: int | None = None

    @classmethod
    def look(cls, job: ClaimedJob) -> Self:
        """Return what is so now. A server that has never run has the run 0."""
        try:
            return cls(time(), get_host(job.host_name).status(job.server_name).run or 0)
        except Exception as error:  # noqa: BLE001 - logged
            faults.tell(logger, f"server {job.server_name}: its last run cannot be read", error)
            return cls(time())

    def is_run(self, number: int | None, started_at: float) -> bool:
        """Whether this is the run of before. Times are only compared where a number is not known."""
        if number is None or self.run is None:
            return started_at < self.at
        return number == self.run


def describe_run(
    job: ClaimedJob,
    planned: PlannedRun | None,
    status: InstanceStatus | None,
    *,
    before: Before | None,
    has_answered: bool,
    secrets: frozenset[str] = frozenset(),
) -> Run | None:
    """Return the run that a job has started, to be stored with the job's end; None if it has started none.

    A server that has the same run as before the job keeps what it started with, whatever the job wrote for its
    next start. `secrets` are masked in the server's own words.
    """
    if not job.server_id or planned is None or before is None:
        return None
    if status is None or status.started_at is None:
        return None
    if status.state not in UP_STATES or before.is_run(status.run, status.started_at):
        return None
    return Run.describe(
        job.server_id,
        planned.spec,
        status,
        fingerprints=planned.fingerprints,
        started_at=datetime.fromtimestamp(status.started_at, UTC),
        has_answered=has_answered,
        started_by_name=job.requested_by_name,
        as_it_was_at=planned.as_it_was_at,
        loaded=describe_loaded(job, planned.loaded, secrets) if planned.loaded else None,
        loaded_at=planned.loaded_at,
    )


def describe_loaded(
    job: ClaimedJob, report: LoadedReport, secrets: frozenset[str]
) -> dict[str, Any]:
    """Return what a server has loaded in the form for its run's row: without passwords, and safe to show."""
    secrets |= read_running_secrets(job.host_name, job.server_name)

    def to_safe(value: Any) -> Any:
        match value:
            case str():
                return make_line_safe(mask_known(value, secrets))
            case dict():
                return {name: to_safe(inner) for name, inner in value.items()}
            case list() | tuple():
                return [to_safe(inner) for inner in value]
        return value

    # A password that equals the name of a kind must not mask the kind.
    checks = [to_safe(asdict(check)) | {"kind": check.kind.value} for check in report.checks]
    return {"checks": checks, "unasked": to_safe(report.unasked)}


def install(host: HostLayer, job_id: int, **callbacks: Unpack[CallbackArguments]) -> None:
    """Install or update the game; for an account, the job's page asks for the code that Steam may want."""
    if not settings.STEAM_ACCOUNT:
        host.install_runtime(**callbacks)
        return
    ask_code = partial(wait_for_code, job_id, callbacks["cancel"], set())
    host.install_runtime(ask_code=ask_code, **callbacks)


def wait_for_code(job_id: int, cancel: CancelToken, tried: set[str]) -> str | None:
    """Return the Steam Guard code that somebody enters for a job, or None if nobody does in time.

    Skips a code that was `tried` already: if a form is sent twice while the first code is taken, the second
    would answer the next question, and Steam allows few tries. Adds the code to `tried`. Checks once a second,
    and holds no connection to the database in between. Raises OperationCancelled.
    """
    until = monotonic() + CODE_WAIT_SECONDS
    what = f"job {job_id}: no code can be read yet"
    while True:
        cancel.raise_if_cancelled()
        try:
            code = SteamGuardCode.take(job_id)
        except Exception as error:
            if not is_away(error):
                raise
            outage_log.tell(what, error)
            code = ""
        else:
            outage_log.end(what)
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
    """Create the instance, or bring it up to date."""
    host.initialize(spec, **callbacks)


def start(
    host: HostLayer,
    spec: InstanceSpec,
    *,
    is_automatic: bool = False,
    **callbacks: Unpack[CallbackArguments],
) -> None:
    """Bring the instance up to date, so that edits of its blueprint apply, and start it.

    With `is_automatic` it is a restart after a crash, and counts against the restart budget.
    """
    host.initialize(spec, **callbacks)
    act = partial(host.start, is_automatic=True) if is_automatic else host.start
    act(spec.name, **callbacks)


def stop(host: HostLayer, name: str, **callbacks: Unpack[CallbackArguments]) -> None:
    """Stop the instance."""
    host.stop(name, **callbacks)


def restart(host: HostLayer, spec: InstanceSpec, **callbacks: Unpack[CallbackArguments]) -> None:
    """Stop the instance, bring it up to date, and start it; stops nothing if the instance could not start."""
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
"""Operations that bring an instance up to date, and so need the server's spec."""

BY_NAME: dict[str, Callable[..., None]] = {
    Operation.STOP: stop,
    Operation.RESET: reset,
}
"""Operations that, like a deletion, have to work even for a server whose blueprint is broken."""


def read_status(host_name: str, name: str) -> InstanceStatus | None:
    """Return what a server's instance is doing, asked of its host; None if that is unknown."""
    try:
        return get_host(host_name).status(name)
    except Exception as error:  # noqa: BLE001 - logged
        faults.tell(logger, f"server {name}: its state cannot be read", error)
        return None


def read_running_secrets(host_name: str, name: str) -> frozenset[str]:
    """Return the passwords that an instance was started with; its row may have newer ones."""
    try:
        return find_secrets(*get_host(host_name).instance_settings(name))
    except Exception as error:  # noqa: BLE001 - logged
        faults.tell(logger, f"server {name}: the settings that it runs with cannot be read", error)
        return frozenset()


def measure_own_bytes(host_name: str, name: str) -> int | None:
    """Return how much disk space a server's own files take on its host; None if that is unknown."""
    try:
        return get_host(host_name).own_bytes(name)
    except Exception as error:  # noqa: BLE001 - logged
        faults.tell(logger, f"server {name}: its own files cannot be measured", error)
        return None


def describe_state(
    host_name: str, server: Server | ClaimedServer, status: InstanceStatus | None
) -> dict[str, Any]:
    """Return a row's values for a server's state. Passwords are masked in what they quote of the console."""
    if status is None:
        return {"actual_state": ActualState.UNKNOWN, "state_note": "", "state_detail": ""}
    detail = status.detail
    if detail:
        secrets = secrets_of_server(server) | read_running_secrets(host_name, server.name)
        detail = make_line_safe(mask_known(detail, secrets))
    return {
        "actual_state": ActualState(status.state),
        "state_note": status.note,
        "state_detail": detail,
        "running_build_id": status.release or "",
        "running_port": status.port,
        "running_address": status.address,
        "restarts": status.restarts or 0,
    }


def read_config_chain(
    host_name: str, server: ClaimedServer, secrets: frozenset[str]
) -> dict[str, Any]:
    """Return new values for a row's config chain, by column, as SQL takes them; empty if nothing has changed.

    `secrets` are masked in it, and so are the passwords that the host layer knows. Characters that the database
    refuses are taken out: where games are not boxed, a game could have written what the host layer reads. If it
    cannot be read, the reason is in the log, and the row stays as it is.
    """
    try:
        parts = get_host(host_name).config_chain(server.name)
        if not parts:
            return {}
        # A start that repeats a run writes settings that the rows no longer have.
        secrets |= read_running_secrets(host_name, server.name)
        chain = [describe_part(part, secrets) for part in parts[:MAX_CONFIG_PARTS]]
        if is_stored(server, chain):
            return {}
    except Exception as error:  # noqa: BLE001 - logged
        faults.tell(logger, f"server {server.name}: its config chain cannot be read", error)
        return {}
    return {"config_chain": json.dumps(chain), "config_chain_at": timezone.now()}


def is_stored(server: ClaimedServer, chain: list[dict[str, Any]]) -> bool:
    """Return whether a server's row has this config chain; False if the database is away now.

    The job's end, which stores the chain, waits for the database.
    """
    try:
        return bool(chain == server.read_row().config_chain)
    except Exception as error:
        if not is_away(error):
            raise
        outage_log.tell(f"server {server.name}: its config chain cannot be compared", error)
        return False


def describe_part(part: ConfigPart, secrets: frozenset[str]) -> dict[str, Any]:
    """Return one part of a config chain, for a server's row."""

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
    """Store the host layer's report about this machine in the row of `host`.

    Unless a report of what was so later has been stored: a job's end and the worker's chores may both report.
    """
    asked_at = timezone.now()
    layer = get_host(host.name)
    facts, installed = layer.facts(), layer.releases()
    row = Host.objects.filter(pk=host.pk)
    # The clock may have been set back since the last report.
    is_newer = (
        Q(reported_at=None) | Q(reported_at__lte=asked_at) | Q(reported_at__gt=timezone.now())
    )
    is_stored = row.filter(is_newer).update(
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
        reported_at=asked_at,
    )
    if not is_stored:
        return
    store_taken_ports(host, facts.taken_ports)
    store_releases(host, installed)
    # Last, because a host layer need not know its address.
    store_address(host, layer.query_address, is_simulated=facts.game_source == "simulator")


def store_address(host: Host, address: str, *, is_simulated: bool) -> None:
    """Store the address of a host's servers, our best guess of where they answer, unless an admin has set one.

    Replaces a loopback address even if an admin has set it: nobody could reach a real game there.
    """
    if not ip_address(address).is_loopback:
        Host.objects.filter(pk=host.pk, address__in=LOOPBACK).update(address=address)
    elif is_simulated:
        Host.objects.filter(pk=host.pk, address="").update(address=address)


def report_taken_ports(host: Host) -> None:
    """Store which ports of this machine other programs use now, as the host layer sees it."""
    store_taken_ports(host, get_host(host.name).facts().taken_ports)


def store_taken_ports(host: Host, ports: Sequence[int]) -> None:
    """Store which ports other programs use on a host; update pages if that has changed."""
    with write_turn(), transaction.atomic():
        others = Host.objects.filter(pk=host.pk).exclude(taken_ports=list(ports))
        if others.update(taken_ports=list(ports)):
            announce(Channel.PAGES)


def store_releases(host: Host, installed: Sequence[InstalledRelease]) -> None:
    """Make the rows of a host's releases match the host layer's report; writes nothing if they already do."""
    wanted = {
        release.build_id: (release.is_current, datetime.fromtimestamp(release.installed_at, UTC))
        for release in installed
    }
    with transaction.atomic():
        # Two workers of one host take turns reporting.
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
