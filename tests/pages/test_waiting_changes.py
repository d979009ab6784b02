"""Servers that run with settings other than the saved ones say so, until they are restarted."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from hostops.specs import InstanceState
from hostops.specs import OverlayReport as OverlayFacts
from jobs.live.topics import ChangesTopic
from jobs.queue.requests import enqueue
from jobs.worker.single_job import run_worker_once
from servers.config.secret_moves import rotate_secrets
from servers.config.waiting_changes import (
    LINES_SHOWN,
    describe_texts,
    describe_waiting,
    find_waiting,
    find_way_back,
)
from servers.models import Blueprint, Host, Membership, Overlay, OverlayReport, Run, Server
from servers.models import RunPart as Part
from servers.secrets.encryption import ServerSecret
from tests.fakes import FakeHost
from tests.overlays import bring, lose
from tests.pages.conftest import sign_in
from tests.pages.queries import count_queries

pytestmark = pytest.mark.django_db

OTHER_KEY = "b3RoZXIta2V5LXRoYXQtb25seS10aGUtdGVzdHMtaGE="


def do(operation: str, server: Server) -> None:
    enqueue(operation, server=server, requested_by=None)
    assert run_worker_once()
    server.refresh_from_db()


@pytest.fixture
def running(server: Server, fake_host: FakeHost) -> Server:
    """Return Alice's server, started with every kind of setting."""
    server.set_secret(ServerSecret.JOIN_PASSWORD, "hunter22")
    server.config = "hostname Night\nsv_tags secret\n"
    server.save()
    server.blueprint.set_overlays([Overlay.objects.create(name="pack", is_host_folder=True)])
    Host.objects.update(limits_without_effect="", build_id="100")
    server = Server.objects.get()
    fake_host.overlays["pack"] = OverlayFacts("pack", "one", 3, 4096)
    do("start", server)
    return Server.objects.get()


def waiting_of(server: Server) -> tuple[Part, ...]:
    server = Server.objects.get(pk=server.pk)
    return find_waiting([server]).get(server.pk, ())


def change_blueprint(**columns: Any) -> None:
    Blueprint.objects.update(**columns)


def set_password(secret: ServerSecret) -> None:
    server = Server.objects.get()
    server.set_secret(secret, "another-one")
    server.save()


CHANGES: dict[Part, Callable[[], object]] = {
    Part.ARGUMENTS: lambda: change_blueprint(arguments="+map c2m1_highway"),
    Part.CONFIG: lambda: change_blueprint(config="sv_lan 0\n"),
    Part.OVERLAYS: lambda: Blueprint.objects.get().set_overlays([]),
    Part.LIMITS: lambda: change_blueprint(memory_limit_mib=2048),
    Part.PORT: lambda: Server.objects.update(port=27099),
    Part.ADDRESS: lambda: Host.objects.update(bind_address="0.0.0.0"),  # noqa: S104
    Part.RCON_PASSWORD: lambda: set_password(ServerSecret.RCON_PASSWORD),
    Part.JOIN_PASSWORD: lambda: set_password(ServerSecret.JOIN_PASSWORD),
    Part.BUILD: lambda: Host.objects.update(build_id="200"),
}


@pytest.mark.parametrize("part", CHANGES)
def test_each_change_is_told_on_the_page_and_in_the_list_until_the_restart(
    as_alice: Client, running: Server, fake_host: FakeHost, part: Part
) -> None:
    page, listed = running.get_absolute_url(), "/servers/"
    assert "Restart to apply" not in as_alice.get(page).content.decode()
    assert "restart to apply" not in as_alice.get(listed).content.decode()
    CHANGES[part]()
    assert f"Restart to apply: {part.label}</summary>" in as_alice.get(page).content.decode()
    assert f"restart to apply: {part.label}</span>" in as_alice.get(listed).content.decode()
    fake_host.build_id = Host.objects.get().build_id
    fake_host.states["alpha"] = InstanceState.STOPPED
    do("restart", Server.objects.get())
    assert "Restart to apply" not in as_alice.get(page).content.decode()
    assert "restart to apply" not in as_alice.get(listed).content.decode()


def test_the_page_says_what_has_changed_without_passwords(
    as_alice: Client, running: Server
) -> None:
    running.config = "hostname Day\nsv_tags secret\nsv_password letmein; echo x\n"
    running.save()
    page = as_alice.get(running.get_absolute_url()).content.decode()
    section = page[page.index("waiting-changes") : page.index("server-panel")]
    assert "<del>hostname Night</del>" in section
    assert "<ins>hostname Day</ins>" in section
    assert "sv_password ••••" in section
    assert "letmein" not in section


def test_what_contains_a_password_of_a_field_is_hidden_on_both_sides(running: Server) -> None:
    running.set_secret(ServerSecret.JOIN_PASSWORD, "secret")
    running.save()
    Run.objects.update(config="hostname Night\nsv_tags ••••\n")
    Server.objects.update(config="hostname Day\nsv_tags secret\n")
    waiting = describe_waiting(Server.objects.get())
    assert waiting is not None
    [change, _] = waiting.changes
    assert change.lines == (("-", "hostname Night"), ("+", "hostname Day"), (" ", "sv_tags ••••"))


def test_a_password_in_a_config_that_is_another_one_shows_and_what_it_is_does_not(
    as_alice: Client, running: Server, fake_host: FakeHost
) -> None:
    Server.objects.update(config="echo x; sv_password letmein\n")
    fake_host.states["alpha"] = InstanceState.STOPPED
    do("restart", running)
    Server.objects.update(config="echo x; sv_password letmeout\n")
    waiting = describe_waiting(Server.objects.get())
    assert waiting is not None
    [change] = waiting.changes
    assert (change.part, change.lines) == (Part.CONFIG, ())
    assert change.sentence.startswith("Only a password, shown as ••••, or what follows it")
    for before, after, said in (
        ("echo x\n", "echo x\r\n", "Only the ends of lines have changed, which are not shown."),
        ("a ••••\n", "a ••••", "Only line ends, or a password shown as ••••, have changed."),
    ):
        assert describe_texts(Part.CONFIG, before, after).sentence == said


def test_a_viewer_is_told_that_it_waits_and_not_what_the_config_says(
    bob: User, running: Server
) -> None:
    Membership.objects.create(server=running, user=bob, role="viewer")
    Server.objects.update(config="hostname Day\n")
    page = sign_in(bob).get(running.get_absolute_url()).content.decode()
    assert "Restart to apply: config</summary>" in page
    assert "hostname" not in page


def test_a_stopped_server_waits_for_nothing(running: Server) -> None:
    do("stop", running)
    CHANGES[Part.CONFIG]()
    assert waiting_of(running) == ()


def test_of_a_server_that_was_started_before_the_upgrade_only_another_build_is_known(
    running: Server,
) -> None:
    Run.objects.all().delete()
    CHANGES[Part.CONFIG]()
    assert waiting_of(running) == ()
    CHANGES[Part.BUILD]()
    assert waiting_of(running) == (Part.BUILD,)


def test_of_a_start_whose_worker_was_killed_nothing_is_told(running: Server) -> None:
    CHANGES[Part.CONFIG]()
    Run.record([Run(server=running)])
    assert waiting_of(running) == ()


def test_a_limit_without_effect_here_does_not_wait(running: Server) -> None:
    CHANGES[Part.LIMITS]()
    Host.objects.update(limits_without_effect="memory, tasks")
    assert waiting_of(running) == ()


def report_files(fingerprint: str, age: timedelta = timedelta()) -> None:
    """Store what a worker found in the overlay this long ago."""
    OverlayReport.objects.update_or_create(
        host=Host.objects.get(),
        name="pack",
        defaults={"fingerprint": fingerprint, "looked_at": timezone.now() - age},
    )


def test_which_files_of_a_changed_version_are_others_is_told(
    as_alice: Client, alice: User, running: Server, tmp_path: Path, settings: LazySettings
) -> None:
    settings.CONTENT_ROOT = tmp_path / "content"
    overlay = Overlay.objects.create(name="rules", owner=alice)
    many = {f"left4dead2/cfg/{number:02}.cfg": "x" for number in range(12)}
    first = bring(overlay, alice, {"left4dead2/cfg/0.cfg": "1", **many})
    run = Run.objects.latest("pk")
    run.overlays = [[first.reference, ""]]
    run.save()
    bring(overlay, alice, {"left4dead2/cfg/0.cfg": "2", "left4dead2/cfg/#<b>.cfg": "new"})
    running.blueprint.set_overlays([overlay])
    page = " ".join(as_alice.get(running.get_absolute_url()).content.decode().split())
    assert "rules, from version 1 to version 2: Files changed: 1. Added: 1. Removed: 12." in page
    for word, name, query in (
        ("added", "#&lt;b&gt;.cfg", "%23%3Cb%3E.cfg"),
        ("changed", "0.cfg", "0.cfg"),
        ("removed", "00.cfg", "00.cfg"),
    ):
        url = f"/overlays/rules/versions/2/changes/?from=1&amp;path=left4dead2%2Fcfg%2F{query}"
        said = f'{word}</span> <a href="{url}"><code><bdi>left4dead2/cfg/{name}</bdi></code></a>'
        assert said in page.replace(" </span>", "</span>").replace("<wbr>", "")
        assert as_alice.get(url.replace("&amp;", "&")).status_code == 200
    assert "4 more." in page
    lose(first.digest)
    page = as_alice.get(running.get_absolute_url()).content.decode()
    assert "is no longer in the store" in page


@pytest.mark.parametrize(
    ("fingerprint", "age", "expected"),
    [
        ("two", timedelta(), (Part.FILES,)),
        ("one", timedelta(), ()),
        # It was checked before the start, which may have had other files already.
        ("two", timedelta(hours=1), ()),
        # It cannot be read.
        ("", timedelta(), ()),
    ],
)
def test_files_that_changed_under_a_running_server_wait(
    running: Server, fingerprint: str, age: timedelta, expected: tuple[Part, ...]
) -> None:
    report_files(fingerprint, age)
    assert waiting_of(running) == expected


class TestKeys:
    def test_passwords_that_are_encrypted_anew_have_not_changed(
        self, running: Server, settings: Any
    ) -> None:
        settings.SECRETS_KEYS = [OTHER_KEY, *settings.SECRETS_KEYS]
        rotate_secrets()
        assert waiting_of(running) == ()
        set_password(ServerSecret.JOIN_PASSWORD)
        assert waiting_of(running) == (Part.JOIN_PASSWORD,)

    def test_without_the_old_key_texts_are_compared_as_they_are_shown(
        self, running: Server, settings: Any
    ) -> None:
        settings.SECRETS_KEYS = [OTHER_KEY, *settings.SECRETS_KEYS]
        rotate_secrets()
        settings.SECRETS_KEYS = [OTHER_KEY]
        assert waiting_of(running) == ()
        CHANGES[Part.CONFIG]()
        assert waiting_of(running) == (Part.CONFIG,)


def test_the_list_costs_the_same_queries_however_many_servers_wait(
    as_alice: Client, running: Server
) -> None:
    CHANGES[Part.CONFIG]()
    before = count_queries(as_alice, "/servers/")
    for number in range(5):
        server = Server.objects.create(
            name=f"more-{number}",
            owner=running.owner,
            host=running.host,
            blueprint=Blueprint.objects.create(name=f"other-{number}", owner=running.owner),
            actual_state="running",
        )
        run = Run.objects.latest("pk")
        run.pk, run.server = None, server
        run.save(force_insert=True)
    assert as_alice.get("/servers/").content.decode().count("restart to apply") == 6
    assert count_queries(as_alice, "/servers/") == before


@pytest.mark.parametrize("part", [Part.CONFIG, Part.BUILD])
def test_open_pages_hear_of_what_running_servers_would_start_with(
    running: Server, part: Part
) -> None:
    topic = ChangesTopic(running.owner_id)
    [before] = ChangesTopic.read_snapshots([topic])
    blueprint = Blueprint.objects.get()
    if part is Part.CONFIG:
        blueprint.config = "sv_lan 0"
        blueprint.save()
    else:
        CHANGES[part]()
    [after] = ChangesTopic.read_snapshots([topic])
    assert before != after


# --- Start as it was --------------------------------------------------------------------------


@pytest.fixture
def failed(running: Server, fake_host: FakeHost) -> Server:
    """Return the server after an edit with which it does not start."""

    def fail(verb: str, *_: object) -> None:
        if verb == "start":
            raise RuntimeError("No.")

    Server.objects.update(config="hostname Broken\n")
    fake_host.act = fail
    do("restart", running)
    fake_host.act = lambda *_: None
    return Server.objects.get()


def test_after_a_failed_restart_both_pages_offer_to_start_as_it_was(
    as_alice: Client, failed: Server, fake_host: FakeHost
) -> None:
    run = Run.objects.get()
    job = failed.jobs.latest("pk")
    for page in (failed.get_absolute_url(), job.get_absolute_url()):
        assert f'name="run" value="{run.pk}"' in as_alice.get(page).content.decode()
    response = as_alice.post(
        f"/servers/{failed.name}/jobs/", {"operation": "start", "run": str(run.pk)}
    )
    assert response.status_code == 303
    assert run_worker_once()
    assert fake_host.specs[-1].config == "hostname Night\nsv_tags secret\n"
    page = as_alice.get(failed.get_absolute_url()).content.decode()
    assert "It was started as it ran on" in page
    assert "Restart to apply: config</summary>" in page
    assert "<title>Start alpha as it was: " in as_alice.get(response["Location"]).content.decode()


def test_it_is_not_offered_where_nothing_has_changed(failed: Server) -> None:
    assert find_way_back(failed) is not None
    Server.objects.update(config="hostname Night\nsv_tags secret\n")
    assert find_way_back(Server.objects.get()) is None


def test_it_is_not_offered_to_who_may_not_start_it(bob: User, failed: Server) -> None:
    Membership.objects.create(server=failed, user=bob, role="viewer")
    job = failed.jobs.latest("pk")
    for page in (failed.get_absolute_url(), job.get_absolute_url()):
        assert 'name="run"' not in sign_in(bob).get(page).content.decode()


def test_a_run_of_another_server_is_refused(
    as_alice: Client, failed: Server, fake_host: FakeHost
) -> None:
    other = Server.objects.create(
        name="beta", owner=failed.owner, host=failed.host, blueprint=failed.blueprint
    )
    run = Run.objects.get()
    data = {"operation": "start", "run": str(run.pk)}
    assert as_alice.post(f"/servers/{other.name}/jobs/", data).status_code == 409
    assert not other.jobs.exists()


def test_two_clicks_are_one_job_and_a_plain_start_is_another(
    as_alice: Client, failed: Server
) -> None:
    run = Run.objects.get()
    url = f"/servers/{failed.name}/jobs/"
    data = {"operation": "start", "run": str(run.pk)}
    first = as_alice.post(url, data)["Location"]
    assert as_alice.post(url, data)["Location"] == first
    assert as_alice.post(url, {"operation": "start"})["Location"] != first


def test_a_retry_repeats_the_same_run(as_alice: Client, failed: Server) -> None:
    run = Run.objects.get()
    job = enqueue("start", server=failed, requested_by=failed.owner, run=run)
    job.state = "failed"
    job.save()
    as_alice.post(f"/jobs/{job.pk}/retry")
    assert failed.jobs.latest("pk").run == run


def test_texts_made_to_be_hard_to_compare_are_compared_in_bounded_time_and_length() -> None:
    def text(other: str) -> str:
        return "\n".join(f"//{number}\n//{other}" for number in range(30_000))

    # Compared line by line it would take minutes.
    change = describe_texts(Part.CONFIG, text("u"), text("v"))
    assert len(change.lines) == LINES_SHOWN + 1
