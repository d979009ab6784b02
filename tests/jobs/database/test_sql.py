"""Statements that bypass Django's cursor, but not its transactions; on both engines."""

from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import IntegrityError, connection, transaction
from django.forms import model_to_dict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from hostops.errors import HostError
from hostops.specs import CancelToken
from jobs.claimed_jobs import ClaimedServer
from jobs.database.sql import execute, execute_all, with_equation
from jobs.logs.finishing import Ending
from jobs.models import Job, JobState, Operation, Worker
from jobs.operations import BY_NAME, BY_SPEC
from jobs.queue import liveness, transitions
from jobs.queue.claim_statements import JOB_COLUMNS
from jobs.queue.liveness import ClaimPulse, register_worker
from jobs.queue.requests import enqueue
from jobs.queue.transitions import claim_jobs, claim_next_job
from jobs.worker.execution import execute as carry_out
from jobs.worker.execution import plan
from servers.models import Ban, Blueprint, BlueprintOverlay, Host, Overlay, Server
from servers.secrets import ServerSecret
from tests.fakes import FakeHost


@pytest.mark.django_db
def test_an_enqueued_job_is_the_row_that_is_stored(server: Server) -> None:
    other = enqueue("stop", server=server, requested_by=None)
    job = enqueue("start", server=server, requested_by=server.owner, retry_of=other, build_id="7")
    stored = Job.objects.get(pk=job.pk)
    assert model_to_dict(job) == model_to_dict(stored)
    assert (job.created_at, job.updated_at) == (stored.created_at, stored.updated_at)
    assert (job.host, job.server, job.requested_by) == (server.host, server, server.owner)
    assert job.requested_by_name == server.owner.username


@pytest.mark.django_db
@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_array_names_rows_however_long_it_is(server: Server, count: int) -> None:
    jobs = [enqueue("start", server=server, requested_by=None).pk for _ in range(4)]
    found = execute(
        "SELECT id FROM jobs_job WHERE state = %s AND id = ANY(%s)", ["queued", jobs[:count]]
    )
    assert sorted(job_id for (job_id,) in found.rows) == jobs[:count]


def test_an_array_of_one_is_an_equation_and_the_other_parameters_stay() -> None:
    statement = "UPDATE row SET a = %s WHERE id = ANY(%s) AND b = %s"
    equation = "UPDATE row SET a = %s WHERE id = %s AND b = %s"
    assert with_equation(statement, [1, [2], 3]) == (equation, [1, 2, 3])
    assert with_equation(statement, [1, [2, 4], 3]) == (statement, [1, [2, 4], 3])
    assert with_equation(statement, [1, [], 3]) == (statement, [1, [], 3])
    notify = "SELECT unnest(%s::text[])"
    assert with_equation(notify, [["pages"]]) == (notify, [["pages"]])


@pytest.mark.django_db
def test_who_wraps_djangos_cursor_sees_every_statement() -> None:
    seen = []

    def note(do: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return do(sql, parameters, many, context)

    with connection.execute_wrapper(note):
        assert execute("SELECT %s", [1]).rows == [(1,)]
    assert execute("SELECT %s", [2]).rows == [(2,)]
    assert seen == ["SELECT %s"]


@pytest.mark.django_db
def test_several_statements_are_executed_in_order_and_each_has_its_result(server: Server) -> None:
    job = enqueue("start", server=server, requested_by=None)
    stage = "UPDATE jobs_job SET stage = %s WHERE id = ANY(%s)"
    changed, read, none = execute_all(
        [
            (stage, ["first", [job.pk]]),
            ("SELECT stage, operation FROM jobs_job WHERE id = %s", [job.pk]),
            (stage, ["second", []]),
        ]
    )
    assert (changed.rows, changed.count) == ([], 1)
    assert read.rows == [("first", "start")]
    assert (none.rows, none.count) == ([], 0)


@pytest.mark.django_db(transaction=True)
def test_if_one_of_several_statements_is_refused_none_after_it_is_executed(server: Server) -> None:
    job = enqueue("start", server=server, requested_by=None)
    setting = "UPDATE jobs_job SET {} WHERE id = %s"
    statements = [
        (setting.format("stage = 'first'"), [job.pk]),
        (setting.format("progress = 101"), [job.pk]),
        (setting.format("stage = 'last'"), [job.pk]),
    ]
    with pytest.raises(IntegrityError, match="job_progress_is_percent"), transaction.atomic():
        execute_all(statements)
    job.refresh_from_db()
    assert (job.stage, job.progress) == ("", None)
    assert execute("SELECT %s", [1]).rows == [(1,)]


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no round trips")
@pytest.mark.django_db
def test_several_statements_cost_one_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.ensure_connection()
    raw = connection.connection
    open_pipeline = Mock(side_effect=raw.pipeline)
    monkeypatch.setattr(raw, "pipeline", open_pipeline)
    results = execute_all([("SELECT %s::integer", [number]) for number in range(3)])
    assert [result.rows for result in results] == [[(0,)], [(1,)], [(2,)]]
    open_pipeline.assert_called_once_with()


@pytest.mark.django_db(transaction=True)
def test_jobs_come_and_go_under_the_log_of_queries(server: Server) -> None:
    worker = register_worker(server.host, concurrency=1, is_claiming=True)
    with CaptureQueriesContext(connection) as queries:
        enqueue("start", server=server, requested_by=None)
        job = claim_next_job(worker)
        assert job
        assert transitions.finish_job(job, exit_code=0, server_changes={"last_error": ""})
    assert Job.objects.get().state == JobState.SUCCEEDED
    assert any("jobs_job SET state" in query["sql"] for query in queries)


def claim_server(server: Server) -> ClaimedServer:
    """Claim the job of a server, and return what the worker keeps of the server."""
    worker = register_worker(server.host, concurrency=1, is_claiming=True)
    (job,) = claim_jobs(worker, server.host, 1)
    assert job.server
    return job.server


@pytest.mark.django_db
def test_a_claimed_job_has_its_overlays_the_topmost_first(
    server: Server, blueprint: Blueprint
) -> None:
    names = ("zoo", "maps", "admin")
    blueprint.set_overlays(
        [Overlay.objects.create(name=name, is_host_folder=True) for name in names]
    )
    enqueue("start", server=server, requested_by=None)
    assert claim_server(server).to_spec().overlays == names


@pytest.mark.django_db
@pytest.mark.parametrize("is_claimed", [True, False])
def test_a_host_is_not_told_the_name_of_an_overlay_that_is_no_folder(
    server: Server, blueprint: Blueprint, is_claimed: bool
) -> None:
    blueprint.set_overlays([Overlay.objects.create(name="empty"), Overlay.objects.create(name="x")])
    if is_claimed:
        enqueue("start", server=server, requested_by=None)
    settings = claim_server(server) if is_claimed else server.launch_settings
    assert settings.place_references == (None, None)
    with pytest.raises(ValueError, match=r"have no files: empty, x\. Upload some"):
        settings.to_spec()


@pytest.mark.django_db
@pytest.mark.parametrize("operation", sorted({*BY_SPEC, *BY_NAME} - {Operation.DELETE}))
def test_a_claimed_job_has_all_that_carrying_it_out_takes(
    server: Server, fake_host: FakeHost, operation: str
) -> None:
    """Except the end of a console, which a removal copies."""
    worker = register_worker(server.host, concurrency=1, is_claiming=True)
    asked_for = enqueue(operation, server=server, requested_by=server.owner)
    (job,) = claim_jobs(worker, server.host, 1)
    stored: list[Ending] = []
    sink = Mock(finish=lambda _job, ending: stored.append(ending))
    fake_host.act = Mock(side_effect=HostError("no"))
    with CaptureQueriesContext(connection) as queries:
        carry_out(plan(job), sink, CancelToken())
    assert [ending.error for ending in stored] == ["no"]
    assert not [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    asked_for.refresh_from_db()
    for column in JOB_COLUMNS:
        assert getattr(job, column) == getattr(asked_for, column)


@pytest.mark.django_db
def test_a_claimed_server_is_started_with_what_its_rows_have(
    server: Server, blueprint: Blueprint
) -> None:
    server.set_secret(ServerSecret.RCON_PASSWORD, "hunter2-of-rcon")
    server.set_secret(ServerSecret.JOIN_PASSWORD, "sesame-to-join")
    server.arguments, server.config = "+map c1m1_hotel", "hostname own"
    server.bind_address = "10.0.0.6"
    server.save()
    blueprint.arguments, blueprint.config = "-maxplayers 8", "hostname shared"
    blueprint.memory_limit_mib, blueprint.tasks_limit, blueprint.cpu_weight = 2048, 64, 200
    blueprint.save()
    folder = Overlay.objects.create(name="maps", is_host_folder=True)
    blueprint.set_overlays([Overlay.objects.create(name="empty"), folder])
    Host.objects.update(bind_address="10.0.0.7")
    enqueue("start", server=server, requested_by=None)
    row = Server.objects.get(pk=server.pk)
    assert claim_server(server) == ClaimedServer.of(row)
    Server.objects.update(bind_address=None)
    BlueprintOverlay.objects.filter(overlay__name="empty").delete()
    assert ClaimedServer.of(row).place_references == (None, "maps")
    spec = Server.objects.get(pk=server.pk).to_spec()
    assert (spec.rcon_password, spec.join_password) == ("hunter2-of-rcon", "sesame-to-join")
    assert spec.arguments == ("-maxplayers", "8", "+map", "c1m1_hotel")
    assert (spec.config, spec.bind_address) == ("hostname shared\nhostname own\n", "10.0.0.7")
    assert (spec.tasks_limit, spec.cpu_weight, spec.overlays) == (64, 200, ("maps",))


@pytest.mark.django_db
@pytest.mark.parametrize("whose", ["nobody", "ours", "the owner's", "another's", "an admin"])
def test_a_claimed_server_has_people_if_it_has_bans_or_admins(server: Server, whose: str) -> None:
    other = Server.objects.create(
        name="beta", owner=server.owner, host=server.host, blueprint=server.blueprint
    )
    if whose == "an admin":
        server.game_admins.create(steam_id="STEAM_1:0:4", preset="moderator", name="Zoey")
    elif whose != "nobody":
        where = {"ours": server, "the owner's": None, "another's": other}[whose]
        Ban.objects.create(owner=server.owner, server=where, steam_id="STEAM_1:0:1")
    enqueue("start", server=server, requested_by=None)
    has_people = whose not in ("nobody", "another's")
    assert claim_server(server).has_people is server.has_people is has_people


@pytest.mark.django_db
def test_a_claimed_job_has_the_address_that_its_host_is_given_now(server: Server) -> None:
    """The worker read its host's row only once, when it started."""
    worker = register_worker(server.host, concurrency=1, is_claiming=True)
    Host.objects.update(bind_address="10.0.0.7")
    enqueue("start", server=server, requested_by=None)
    (job,) = claim_jobs(worker, worker.host, 1)
    assert job.server
    assert job.server.to_spec().bind_address == "10.0.0.7"


@pytest.mark.django_db(transaction=True)
def test_each_claim_after_a_pause_is_a_sign_of_life(
    server: Server, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = register_worker(host, concurrency=4, is_claiming=True)
    seconds = 0.0
    monkeypatch.setattr(liveness, "clock_gettime", lambda _clock: seconds)
    pulse = ClaimPulse()
    hour_ago = timezone.now() - timedelta(hours=1)

    def claim_is_heard() -> bool:
        Worker.objects.update(heartbeat_at=hour_ago)
        job = enqueue("start", server=server, requested_by=None)
        (claimed,) = claim_jobs(worker, host, 1, pulse=pulse)
        assert claimed.id == job.pk
        transitions.finish_job(Job.objects.get(pk=job.pk), exit_code=0)
        return Worker.objects.get().heartbeat_at > hour_ago

    assert claim_is_heard()
    assert not claim_is_heard()
    seconds = 1.5
    assert claim_is_heard()


@pytest.mark.django_db
def test_an_update_tells_how_many_rows_it_changed(server: Server) -> None:
    jobs = [enqueue("start", server=server, requested_by=None) for _ in range(3)]
    update = "UPDATE jobs_job SET stage = %s WHERE id = ANY(%s)"
    assert execute(update, ["x", [job.pk for job in jobs[1:]]]).count == 2
    assert execute(update, ["x", []]).count == 0
    assert Job.objects.filter(stage="x").count() == 2


@pytest.mark.django_db
def test_a_result_has_all_rows_and_a_statement_without_any_has_none(server: Server) -> None:
    ids = [enqueue("start", server=server, requested_by=None).pk for _ in range(3)]
    statement = "SELECT id FROM jobs_job WHERE NOT id = ANY(%s) ORDER BY id"
    assert execute(statement, [ids[:1]]).rows == [(ids[1],), (ids[2],)]
    assert execute("DELETE FROM jobs_job WHERE id = ANY(%s)", [ids]).rows == []


@pytest.mark.django_db(transaction=True)
def test_a_job_that_the_database_refuses_is_not_there_and_nothing_is_left_open(host: Host) -> None:
    missing = Host(pk=host.pk + 1000, name="missing")
    with pytest.raises(IntegrityError):
        enqueue("install", host=missing, requested_by=None)
    assert not Job.objects.exists()
    assert not connection.in_atomic_block
    enqueue("install", host=host, requested_by=None)
    assert Job.objects.count() == 1
