"""What a job that starts a server stores about the run, with its end, and what a start “as it was” repeats."""

import json
from dataclasses import replace
from time import time
from typing import Any

import pytest
from django.utils import timezone

from hostops.errors import HostError, OperationCancelled
from hostops.specs import (
    ConfigPart,
    InstanceState,
    InstanceStatus,
    LoadedCheck,
    LoadedKind,
    LoadedReport,
    NotLoaded,
)
from jobs.logs.safe_lines import MASK
from jobs.models import Job, JobState, Worker
from jobs.queue import recover_stale_jobs
from jobs.queue.requests import RequestRefused, enqueue, request
from jobs.worker.single_job import run_worker_once
from servers.models import RUNS_KEPT, Host, Overlay, Run, Server
from servers.secrets.encryption import ServerSecret, decrypt
from tests.fakes import FakeHost

pytestmark = pytest.mark.django_db


def run(operation: str, server: Server, **facts: Any) -> Job:
    job = enqueue(operation, server=server, requested_by=None, **facts)
    assert run_worker_once()
    job.refresh_from_db()
    return job


def change(server: Server, **columns: Any) -> None:
    Server.objects.filter(pk=server.pk).update(**columns)


@pytest.mark.parametrize("operation", ["start", "restart"])
def test_a_start_stores_what_the_server_was_started_with(
    server: Server, fake_host: FakeHost, operation: str
) -> None:
    server.blueprint.set_overlays([Overlay.objects.create(name="pack", is_host_folder=True)])
    change(server, config="hostname Night\nsv_password letmein; echo hi\n", arguments="+sv_lan 0")
    before = time()
    assert run(operation, server).state == JobState.SUCCEEDED
    [stored] = Run.objects.all()
    assert before <= stored.started_at.timestamp() <= time()
    assert (stored.server, stored.port, stored.build_id) == (server, server.port, "100")
    assert stored.arguments == "+map c1m1_hotel\n+sv_lan 0"
    assert stored.overlay_references == ("pack",)
    assert stored.has_answered
    assert json.loads(decrypt(stored.sealed))["config"] == fake_host.specs[-1].config


def test_a_run_has_no_password_in_plain(server: Server, fake_host: FakeHost) -> None:
    server.set_secret(ServerSecret.JOIN_PASSWORD, "hunter22")
    server.config = "sv_tags hunter22\nrcon_password secret99; echo hi\n"
    server.save()
    run("start", server)
    [stored] = Run.objects.values()
    assert "hunter22" not in str(stored)
    assert "secret99" not in str(stored)
    # The fake was told both.
    assert fake_host.specs[-1].join_password == "hunter22"
    assert "secret99" in fake_host.specs[-1].config


@pytest.mark.parametrize("operation", ["initialize", "stop", "reset"])
def test_what_starts_nothing_stores_no_run(
    server: Server, fake_host: FakeHost, operation: str
) -> None:
    fake_host.states["alpha"] = InstanceState.STOPPED
    assert run(operation, server).state == JobState.SUCCEEDED
    assert not Run.objects.exists()


def test_a_start_of_what_runs_already_does_not_pass_for_a_new_run(
    server: Server, fake_host: FakeHost
) -> None:
    run("start", server)
    change(server, config="hostname Later\n")
    assert run("start", server).state == JobState.SUCCEEDED
    [stored] = Run.objects.all()
    assert stored.config == ""


def running(number: int, started_at: float) -> InstanceStatus:
    return InstanceStatus(
        "alpha", InstanceState.RUNNING, run=number, started_at=started_at, release="100"
    )


@pytest.mark.parametrize("ahead_seconds", [3600, -3600])
def test_a_run_is_new_or_not_by_its_number_also_if_the_clock_was_set(
    server: Server, fake_host: FakeHost, ahead_seconds: int
) -> None:
    started_at = time() + ahead_seconds

    def begin_run(verb: str, *_: object) -> None:
        if verb == "start":
            fake_host.told["alpha"] = running(2, started_at)

    fake_host.told["alpha"] = running(1, started_at)
    assert run("start", server).state == JobState.SUCCEEDED
    assert not Run.objects.exists()
    fake_host.act = begin_run
    assert run("start", server).state == JobState.SUCCEEDED
    assert Run.objects.exists()


def test_a_start_that_failed_stores_no_run(server: Server, fake_host: FakeHost) -> None:
    def fail(verb: str, *_: object) -> None:
        if verb == "start":
            raise HostError("No.")

    fake_host.act = fail
    assert run("start", server).state == JobState.FAILED
    assert not Run.objects.exists()


def test_a_server_that_was_left_running_by_a_failed_start_has_a_run_that_did_not_answer(
    server: Server, fake_host: FakeHost
) -> None:
    def fail_late(verb: str, *_: object) -> None:
        if verb == "start":
            fake_host.told["alpha"] = InstanceStatus(
                "alpha", InstanceState.RUNNING, started_at=time(), release="100"
            )
            raise HostError("It does not answer.")

    fake_host.act = fail_late
    assert run("start", server).state == JobState.FAILED
    [stored] = Run.objects.all()
    assert not stored.has_answered


def test_a_run_is_stored_although_the_database_refuses_the_state_of_its_server(
    server: Server, fake_host: FakeHost
) -> None:
    fake_host.act = lambda *_: fake_host.told.update(
        alpha=replace(running(1, time()), restarts=2**70)
    )
    assert run("start", server).state == JobState.SUCCEEDED
    assert Run.objects.exists()


def test_a_job_whose_worker_is_gone_leaves_a_run_of_which_nothing_is_known(
    server: Server, host: Host, fake_host: FakeHost
) -> None:
    run("start", server)
    gone = Worker.objects.create(
        host=host,
        pid=1,
        process_started=1,
        concurrency=1,
        started_at=timezone.now(),
        heartbeat_at=timezone.now(),
        stopped_at=timezone.now(),
    )
    job = enqueue("restart", server=server, requested_by=None)
    Job.objects.filter(pk=job.pk).update(state="running", worker=gone, started_at=timezone.now())
    assert [one.pk for one in recover_stale_jobs()] == [job.pk]
    assert [stored.is_known for stored in server.runs.all()] == [False, True]


def test_the_newest_runs_are_kept_and_those_that_jobs_are_to_repeat(
    server: Server, fake_host: FakeHost
) -> None:
    run("start", server)
    first = Run.objects.get()
    waiting = enqueue("start", server=server, requested_by=None, run=first)
    Run.record([Run(server=server)])
    second = Run.objects.latest("pk")
    for _ in range(RUNS_KEPT):
        Run.record([Run(server=server)])
    kept = set(Run.objects.values_list("pk", flat=True))
    assert first.pk in kept
    assert second.pk not in kept
    assert len(kept) == RUNS_KEPT + 1
    waiting.refresh_from_db()
    assert waiting.run == first


class TestAsItWas:
    @pytest.fixture
    def first(self, server: Server, fake_host: FakeHost) -> Run:
        """Return a run of a server whose settings have all changed since, and that has stopped."""
        server.blueprint.set_overlays([Overlay.objects.create(name="pack", is_host_folder=True)])
        change(server, config="hostname Then\n", bind_address="10.0.0.7")
        run("start", server)
        run("stop", server)
        change(server, config="hostname Now\n", bind_address=None, port=27099)
        server.blueprint.set_overlays([])
        server.refresh_from_db()
        server.set_secret(ServerSecret.JOIN_PASSWORD, "newer")
        server.save()
        return Run.objects.get()

    def test_it_starts_with_what_the_run_had_and_todays_passwords(
        self, server: Server, fake_host: FakeHost, first: Run
    ) -> None:
        job = run("start", server, run=first)
        assert job.state == JobState.SUCCEEDED
        assert job.operation_label == "Start as it was"
        spec = fake_host.specs[-1]
        assert (spec.config, spec.overlays) == ("hostname Then\n", ("pack",))
        assert (spec.port, spec.bind_address) == (first.port, "10.0.0.7")
        assert spec.join_password == "newer"
        assert Run.objects.latest("pk").as_it_was_at == first.started_at

    def test_a_port_that_is_another_servers_now_is_not_taken(
        self, server: Server, fake_host: FakeHost, first: Run
    ) -> None:
        Server.objects.create(
            name="beta",
            owner=server.owner,
            host=server.host,
            blueprint=server.blueprint,
            port=first.port or 0,
        )
        verbs = list(fake_host.verbs)
        job = run("start", server, run=first)
        assert job.state == JobState.FAILED
        assert "which another server has now" in job.error
        assert fake_host.verbs == verbs

    def test_an_overlay_that_the_panel_has_no_longer_is_not_brought_back(
        self, server: Server, fake_host: FakeHost, first: Run
    ) -> None:
        Overlay.objects.get(name="pack").delete()
        verbs = list(fake_host.verbs)
        job = run("start", server, run=first)
        assert job.state == JobState.FAILED
        assert "folders of its host that no overlay is marked for now: pack" in job.error
        assert fake_host.verbs == verbs

    def test_a_password_that_only_the_run_had_shows_nowhere(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        fake_host.chains["alpha"] = (ConfigPart("server.cfg", "server", "say secret99", ()),)
        change(server, config="rcon_password secret99; echo hi\n")
        run("start", server)
        run("stop", server)
        change(server, config="")

        def act(verb: str, *arguments: Any) -> None:
            fake_host.settings["alpha"] = (fake_host.specs[-1].config,)
            arguments[1]("stdout", "it says secret99")

        fake_host.act, fake_host.settings = act, {}
        job = run("start", server, run=Run.objects.get())
        assert [line.line for line in job.logs.all()] == [f"it says {MASK}"] * 2
        assert "secret99" not in str(Server.objects.values())

    def test_a_run_that_has_just_been_removed_is_refused(self, server: Server, first: Run) -> None:
        Run.objects.filter(pk=first.pk).delete()
        with pytest.raises(RequestRefused, match="alpha was started with then is no longer stored"):
            request("start", server=server, requested_by=server.owner, run=first)
        assert not server.jobs.active().exists()

    def test_without_the_key_it_says_so(
        self, server: Server, fake_host: FakeHost, first: Run, settings: Any
    ) -> None:
        change(server, rcon_password_token="", join_password_token="")
        settings.SECRETS_KEYS = ["b3RoZXIta2V5LXRoYXQtb25seS10aGUtdGVzdHMtaGE="]
        job = run("start", server, run=first)
        assert job.state == JobState.FAILED
        assert "What server alpha was started with cannot be decrypted" in job.error


# --- What it has loaded -----------------------------------------------------------------------

LOADED = LoadedReport(
    (
        LoadedCheck(
            *(LoadedKind.PLUGIN, 41),
            (NotLoaded("a.smx", "A", "hunter22\0"), NotLoaded("b.smx")),
            more_count=1,
        ),
    )
)


@pytest.fixture
def packed(server: Server) -> Server:
    """Return a server with an overlay: without one, nothing is asked."""
    server.blueprint.set_overlays([Overlay.objects.create(name="pack", is_host_folder=True)])
    server.set_secret(ServerSecret.JOIN_PASSWORD, "hunter22")
    server.save()
    return server


def test_a_start_stores_what_the_server_says_that_it_has_loaded(
    packed: Server, fake_host: FakeHost
) -> None:
    fake_host.loaded = lambda _: LOADED
    before = timezone.now()
    assert run("start", packed).state == JobState.SUCCEEDED
    [stored] = Run.objects.all()
    assert stored.loaded
    assert stored.loaded_at
    assert before <= stored.loaded_at <= timezone.now()
    [check] = stored.loaded["checks"]
    assert (check["kind"], check["expected"], check["more_count"]) == ("plugin", 41, 1)
    [one, other] = check["not_loaded"]
    assert one["reason"].startswith(MASK)
    assert "\0" not in one["reason"]
    assert other == {"file": "b.smx", "title": "", "reason": ""}


@pytest.mark.parametrize("error", [HostError("No."), OperationCancelled("No."), ValueError("No.")])
def test_that_it_cannot_be_asked_is_nothing_that_a_start_fails_of(
    packed: Server, fake_host: FakeHost, error: Exception
) -> None:
    def fail(_: str) -> None:
        raise error

    fake_host.loaded = fail
    assert run("restart", packed).state == JobState.SUCCEEDED
    [stored] = Run.objects.all()
    assert (stored.has_answered, stored.loaded, stored.loaded_at) == (True, None, None)
