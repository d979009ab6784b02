"""The starts of a server: the list, how two of them differ, and the way back to one of them."""

import re
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client

from hostops.specs import InstanceState
from hostops.specs import OverlayReport as OverlayFacts
from jobs.models import Job
from jobs.queue.requests import enqueue
from jobs.worker.single_job import run_worker_once
from servers.config import compare_runs, find_gaps, list_starts
from servers.config.starts import find_differences
from servers.models import Blueprint, Membership, Overlay, Run, RunPart, Server
from servers.secrets.encryption import ServerSecret
from tests.fakes import FakeHost
from tests.overlays import bring
from tests.pages.conftest import sign_in
from tests.states import make_run

pytestmark = pytest.mark.django_db


ADDED = '<span class="change-word">added</span>'
REMOVED = '<span class="change-word">removed</span>'


def start(server: Server, fake_host: FakeHost, by: User | None = None) -> Run:
    """Start a server again; return the run."""
    fake_host.states[server.name] = InstanceState.STOPPED
    enqueue("start", server=server, requested_by=by)
    assert run_worker_once()
    server.refresh_from_db()
    return Run.objects.filter(server=server).latest("pk")


@pytest.fixture
def runs(server: Server, alice: User, fake_host: FakeHost) -> tuple[Run, Run]:
    """Return two starts of Alice's server that differ in nearly everything; it is stopped."""
    server.set_secret(ServerSecret.JOIN_PASSWORD, "hunter22")
    server.config = "hostname Night\nsv_password hunter22\n"
    server.save()
    server.blueprint.set_overlays([Overlay.objects.create(name="pack", is_host_folder=True)])
    fake_host.overlays["pack"] = OverlayFacts("pack", "one", 3, 4096)
    fake_host.build_id = "100"
    first = start(Server.objects.get(), fake_host, alice)
    Blueprint.objects.update(arguments="+map c2m1_highway", memory_limit_mib=2048)
    Blueprint.objects.get().set_overlays(
        [
            Overlay.objects.create(name="more", is_host_folder=True),
            *Overlay.objects.filter(name="pack"),
        ]
    )
    server = Server.objects.get()
    server.config = "hostname Day\nsv_password hunter22\n"
    server.set_secret(ServerSecret.JOIN_PASSWORD, "letmein-now")
    server.port = 27077
    server.save()
    fake_host.overlays["pack"] = OverlayFacts("pack", "two", 3, 4096)
    fake_host.build_id = "200"
    second = start(Server.objects.get(), fake_host)
    enqueue("stop", server=server, requested_by=None)
    assert run_worker_once()
    return first, second


def test_each_start_is_listed_with_who_when_build_and_what_changed(
    as_alice: Client, runs: tuple[Run, Run]
) -> None:
    newest, oldest = list_starts(Server.objects.get())
    assert (newest.run, newest.before, oldest.before) == (runs[1], runs[0], None)
    page = " ".join(as_alice.get("/servers/alpha/starts/").content.decode().split())
    rows = re.findall(r"<tr role=\"row\">.*?</tr>", page)[1:]
    assert [("alice" in row, "Saferoom" in row) for row in rows] == [(False, True), (True, False)]
    assert ["200" in rows[0], "100" in rows[1]] == [True, True]
    assert "launch arguments, config, overlays, files of overlays, limits, port" in rows[0]
    assert f'?from={runs[0].pk}&amp;to={runs[1].pk}"' in rows[0]
    assert "–, the oldest one kept" in rows[1]
    # The last two are offered for comparison.
    assert re.findall(r'value="(\d+)" selected', page) == [str(runs[0].pk), str(runs[1].pk)]


def test_two_starts_are_compared_part_by_part_without_passwords(
    as_alice: Client, runs: tuple[Run, Run]
) -> None:
    url = f"/servers/alpha/starts/compare/?from={runs[0].pk}&to={runs[1].pk}"
    page = as_alice.get(url).content.decode()
    for text in (
        *(f"{REMOVED} <del>+map c1m1_hotel</del>", f"{ADDED} <ins>+map c2m1_highway</ins>"),
        *(f"{REMOVED} <del>hostname Night</del>", f"{ADDED} <ins>hostname Day</ins>"),
        *(f"{ADDED} <ins>more</ins>", ">same</span> <code>pack</code>"),
        *("Changed on the host between the two: pack.", "memory: 2048 MiB", "to 27077"),
        *("from 100 to 200", "It is another one."),
    ):
        assert text in page
    assert "hunter22" not in page
    assert "letmein-now" not in page
    text = " ".join(page.partition("compare-heading")[2].split())
    for word, run, by in (("Before", runs[0], "alice"), ("After", runs[1], "Saferoom")):
        moment = f'<time datetime="{run.started_at.isoformat()}">'
        assert f"<dt>{word}</dt> <dd>Start of {moment}" in text
        assert f"</time>, by {by}" in text
    back = as_alice.get(f"/servers/alpha/starts/compare/?from={runs[1].pk}&to={runs[0].pk}")
    assert "from 200 to 100" in back.content.decode()
    same = as_alice.get(f"/servers/alpha/starts/compare/?from={runs[1].pk}&to={runs[1].pk}")
    assert "They were started with the same." in same.content.decode()
    for bad in (
        "",
        "?from=1",
        "?from=x&to=y",
        f"?from={'9' * 40}&to=1",
        "?with=%00",
        "?with=nobody",
    ):
        assert as_alice.get(f"/servers/alpha/starts/compare/{bad}").status_code == 404


def test_few_changed_lines_of_overlays_are_shown_to_who_may_read_those(
    as_alice: Client, server: Server, dana: User, tmp_path: Path, settings: LazySettings
) -> None:
    settings.CONTENT_ROOT = tmp_path / "content"
    overlay = Overlay.objects.create(name="rules", owner=dana, is_shared=True)
    cfg = "left4dead2/cfg/a.cfg"
    versions = [bring(overlay, dana, {cfg: f"sv_lan {number}"}) for number in (0, 1)]
    older, newer = (make_run(server, overlays=(one.reference,)) for one in versions)
    url = f"/servers/alpha/starts/compare/?from={older.pk}&to={newer.pk}"
    page = as_alice.get(url).content.decode()
    assert "<del>- sv_lan 0</del><ins>+ sv_lan 1</ins>" in page
    assert "Show the lines" not in page
    Overlay.objects.update(is_shared=False)
    page = as_alice.get(url).content.decode()
    assert "Files changed: 1." in page
    assert "sv_lan" not in page
    assert "lines=1" not in page


def test_what_texts_hide_is_compared_by_digests_of_one_key(runs: tuple[Run, Run]) -> None:
    first, second = runs
    first.config = second.config = "sv_password ••••"
    assert RunPart.CONFIG in find_differences(first, second)
    [change] = [one for one in compare_runs(first, second) if one.part is RunPart.CONFIG]
    assert change.sentence.startswith("Only a password, shown as ••••,")
    second.digest_key = "another"
    assert RunPart.CONFIG not in find_differences(first, second)
    assert RunPart.JOIN_PASSWORD not in find_differences(first, second)
    second.digest_key = ""
    assert find_differences(first, second) == ()


def test_two_servers_last_starts_are_compared_by_who_may_configure_both(
    as_alice: Client, bob: User, runs: tuple[Run, Run], fake_host: FakeHost
) -> None:
    alpha = runs[1].server
    other = Blueprint.objects.create(name="other", owner=bob, config="sv_tags bobs\n")
    beta = Server.objects.create(name="beta", owner=bob, host=alpha.host, blueprint=other)
    start(beta, fake_host)
    url = "/servers/alpha/starts/compare/?with=beta"
    assert as_alice.get(url).status_code == 404
    assert "beta" not in as_alice.get("/servers/alpha/starts/").content.decode()
    membership = Membership.objects.create(server=beta, user=alpha.owner, role="operator")
    assert as_alice.get(url).status_code == 403
    assert "<option>beta" not in as_alice.get("/servers/alpha/starts/").content.decode()
    membership.role = "manager"
    membership.save()
    assert "<option>beta</option>" in as_alice.get("/servers/alpha/starts/").content.decode()
    page = as_alice.get(url).content.decode()
    assert "From alpha to beta" in page
    assert ">only beta</span> <ins>sv_tags bobs</ins>" in page
    assert ">only alpha</span> <del>hostname Day</del>" in page
    # Two servers always have two passwords, and their hosts' files two times: that means nothing.
    parts = find_differences(runs[1], Run.objects.get(server=beta))
    assert not {RunPart.FILES, RunPart.RCON_PASSWORD, RunPart.JOIN_PASSWORD} & set(parts)


def test_a_viewer_sees_which_parts_changed_and_not_what_they_say(
    bob: User, runs: tuple[Run, Run]
) -> None:
    Membership.objects.create(server=runs[0].server, user=bob, role="viewer")
    page = sign_in(bob).get("/servers/alpha/starts/").content.decode()
    assert "launch arguments, config" in page
    for hidden in ("/starts/compare/", "Start as it was then"):
        assert hidden not in page


def test_a_server_is_started_as_it_was_at_an_earlier_start(
    as_alice: Client, runs: tuple[Run, Run], fake_host: FakeHost
) -> None:
    first, _second = runs
    page = as_alice.get("/servers/alpha/starts/").content.decode()
    assert page.count(">Start as it was then<") == 2
    form = {"operation": "start", "run": str(first.pk), "next": "/servers/alpha/starts/"}
    assert as_alice.post("/servers/alpha/jobs/", form).status_code == 303
    fake_host.states["alpha"] = InstanceState.STOPPED
    assert run_worker_once()
    assert fake_host.specs[-1].config == "hostname Night\nsv_password hunter22\n"
    page = as_alice.get("/servers/alpha/starts/").content.decode()
    assert "as it was on" in page
    assert page.count("Stop the server to start it as it was at one of these times.") == 1


def test_what_is_no_longer_there_is_said_in_the_place_of_the_button(
    as_alice: Client, runs: tuple[Run, Run], alice: User
) -> None:
    first, second = runs
    server = first.server
    Server.objects.create(
        name="beta", owner=alice, host=server.host, blueprint=server.blueprint, port=first.port or 0
    )
    Blueprint.objects.get().set_overlays([])
    Overlay.objects.filter(name="more").delete()
    # Somebody's own overlay of that name is not the host's folder.
    Overlay.objects.create(name="more", owner=alice)
    gaps = find_gaps(server, [first, second])
    [gap] = gaps[first.pk]
    assert gap.startswith(f"alpha ran on port {first.port}, which another server has now.")
    folders = "alpha ran with folders of its host that no overlay is marked for now: more. Start it"
    assert gaps[second.pk][0].startswith(folders)
    Run.objects.filter(pk=second.pk).update(overlays=[[f"more@3-{'0' * 64}", "three"]])
    gone = "alpha ran with overlays that are no longer in the panel: more, version 3. Start it"
    assert find_gaps(server, [Run.objects.get(pk=second.pk)])[second.pk][0].startswith(gone)
    page = as_alice.get("/servers/alpha/starts/").content.decode()
    assert (page.count("Cannot be repeated"), ">Start as it was then<" in page) == (2, False)
    Run.objects.update(sealed="")
    assert "was not kept" in find_gaps(server, [Run.objects.get(pk=second.pk)])[second.pk][0]
    assert Job.objects.filter(operation="start").count() == 2
