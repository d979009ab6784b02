"""A person who loses access while a stream is open loses the stream."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection, transaction
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext

from jobs.live import fan_out, stream_access
from jobs.live.fan_out import Hub
from jobs.live.page_topics import PageTopic
from jobs.live.stream_access import Permit, find_revoked, permit_for, right_changes
from jobs.live.topics import ChangesTopic, ConsoleTopic, JobTopic, Topic
from jobs.models import Job, JobState
from l4d2site.accounts.memberships import take_role
from servers.models import Membership, Server
from servers.permissions import Role
from tests.jobs.live.test_streams import Event, parse, run

pytestmark = pytest.mark.django_db(transaction=True)


def sign_in(user: User) -> str:
    """Return the key of a new session of `user`."""
    client = Client()
    client.force_login(user)
    return client.cookies["sessionid"].value


@pytest.fixture
def job(server: Server) -> Job:
    """Return a running job of Alice's server."""
    return Job.objects.create(operation="start", server=server, state=JobState.RUNNING)


@pytest.fixture
def mine(alice: User, job: Job, server: Server) -> list[Permit]:
    """Return permits for Alice's one session: for changes, a job, and a console."""
    key = sign_in(alice)
    return [
        Permit(key, alice.pk, False),
        Permit(key, alice.pk, False, job_id=job.pk),
        Permit(key, alice.pk, False, server_id=server.pk),
    ]


def test_who_is_as_before_may_go_on(mine: list[Permit], dana: User, job: Job) -> None:
    admins = Permit(sign_in(dana), dana.pk, True, job_id=job.pk)
    assert find_revoked([*mine, admins]) == set()


def sign_out(alice: User) -> None:
    Session.objects.all().delete()


def let_session_expire(alice: User) -> None:
    Session.objects.update(expire_date="2020-01-01T00:00Z")


def deactivate(alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)


def switch_off(alice: User) -> None:
    alice.is_active = False
    alice.save(update_fields=["is_active"])


def change_password(alice: User) -> None:
    alice.set_password("a-better-one-42")
    alice.save()


def promote(alice: User) -> None:
    # What an admin follows is something else: the page has to be loaded again.
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.user_permissions.add(Permission.objects.get(codename="view_any_server"))


@pytest.mark.parametrize(
    "change", [sign_out, let_session_expire, deactivate, change_password, promote]
)
def test_who_is_not_signed_in_as_before_loses_everything(
    mine: list[Permit], alice: User, change: Callable[[User], None]
) -> None:
    change(alice)
    assert find_revoked(mine) == set(mine)


def test_an_admin_who_is_none_any_more_loses_what_admins_follow(dana: User, job: Job) -> None:
    permit = Permit(sign_in(dana), dana.pk, True)
    User.objects.filter(pk=dana.pk).update(is_staff=False)
    assert find_revoked([permit]) == {permit}


def test_a_server_that_is_given_away_takes_its_log_and_console_along(
    mine: list[Permit], server: Server, bob: User
) -> None:
    Server.objects.update(owner=bob)
    assert find_revoked(mine) == set(mine[1:])


def share(server: Server, bob: User) -> Membership:
    return Membership.objects.create(server=server, user=bob, role=Role.VIEWER)


def test_a_role_that_is_taken_takes_log_and_console_along(
    server: Server, job: Job, bob: User
) -> None:
    membership = share(server, bob)
    key = sign_in(bob)
    changes = Permit(key, bob.pk, False)
    shared = [
        Permit(key, bob.pk, False, job_id=job.pk),
        Permit(key, bob.pk, False, server_id=server.pk),
    ]
    assert find_revoked([changes, *shared]) == set()
    membership.delete()
    assert find_revoked([changes, *shared]) == set(shared)


def test_staff_follow_what_their_permissions_say_and_no_more(
    server: Server, job: Job, bob: User
) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    install = Job.objects.create(operation="install", state=JobState.RUNNING)
    drain = Permission.objects.get(codename="drain")
    bob.user_permissions.add(drain)
    key = sign_in(bob)
    of_host = Permit(key, bob.pk, True, job_id=install.pk)
    of_server = [
        Permit(key, bob.pk, True, job_id=job.pk),
        Permit(key, bob.pk, True, server_id=server.pk),
    ]
    assert find_revoked([of_host, *of_server]) == set(of_server)
    bob.user_permissions.remove(drain)
    assert find_revoked([of_host]) == {of_host}


def version_for(person: User) -> bytes:
    (snapshot,) = ChangesTopic.read_snapshots([ChangesTopic(person.pk)])
    return b"".join(snapshot.events)


def test_a_member_hears_of_what_is_shared_with_them(server: Server, job: Job, bob: User) -> None:
    stranger = User.objects.create_user("carol")
    before = version_for(stranger)
    versions = [version_for(bob)]
    membership = share(server, bob)
    versions.append(version_for(bob))
    server.save()
    versions.append(version_for(bob))
    job.save()
    versions.append(version_for(bob))
    membership.role = Role.OPERATOR
    membership.save()
    versions.append(version_for(bob))
    membership.delete()
    versions.append(version_for(bob))
    # Each step was noticed; at the end it is as at first.
    assert len(set(versions[:-1])) == 5
    assert versions[-1] == versions[0]
    assert version_for(stranger) == before


def test_another_persons_session_is_no_permit(alice: User, bob: User) -> None:
    permit = Permit(sign_in(bob), alice.pk, False)
    assert find_revoked([permit]) == {permit}


def test_a_person_with_many_windows_costs_no_more_queries(mine: list[Permit], alice: User) -> None:
    with CaptureQueriesContext(connection) as few:
        find_revoked(mine)
    more = [Permit(sign_in(alice), alice.pk, False, job_id=mine[1].job_id) for _ in range(30)]
    with CaptureQueriesContext(connection) as many:
        assert find_revoked([*mine, *more]) == set()
    assert len(many) == len(few) == 4


@pytest.mark.parametrize("kind", ["job", "console", "changes"])
def test_a_permit_tells_what_a_page_follows(alice: User, kind: str) -> None:
    request = HttpRequest()
    request.user = alice
    client = Client()
    client.force_login(alice)
    request.session = client.session
    changes = ChangesTopic(alice.pk)
    topics: dict[str, Topic] = {
        "job": PageTopic(JobTopic(7), changes),
        "console": PageTopic(ConsoleTopic(8), changes),
        "changes": changes,
    }
    permit = permit_for(request, topics[kind])
    assert permit.session_key == client.session.session_key
    assert (permit.job_id, permit.server_id) == {
        "job": (7, None),
        "console": (None, 8),
        "changes": (None, None),
    }[kind]


# --- In a stream ------------------------------------------------------------------------------


async def follow_until_refused(permit: Permit, change: Callable[[], object]) -> list[Event]:
    """Follow a job, change something once it is live, and return all events when the stream has ended."""
    events: list[Event] = []
    assert permit.job_id is not None

    async def collect() -> None:
        topic = JobTopic(permit.job_id or 0)
        async with aclosing(Hub.of_running_loop().watch(topic, 0, permit)) as stream:
            async for payload in stream:
                events.extend(parse(payload))
                if len(events) == 1:
                    await sync_to_async(change)()

    await asyncio.wait_for(collect(), 30)
    return events


def test_an_open_stream_ends_soon_after_a_role_is_taken(
    server: Server, job: Job, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan_out, "CHECK_SECONDS", 0.05)
    membership = share(server, bob)
    permit = Permit(sign_in(bob), bob.pk, False, job_id=job.pk)
    events = run(follow_until_refused(permit, membership.delete))
    assert [event.name for event in events] == ["state", "refused"]


@pytest.mark.parametrize("change", [sign_out, switch_off, change_password, promote])
def test_a_change_by_the_panel_itself_is_noticed_before_the_next_regular_check(
    mine: list[Permit],
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[User], None],
) -> None:
    monkeypatch.setattr(fan_out, "CHECK_SECONDS", 3600.0)
    monkeypatch.setattr(fan_out, "CHECK_SOON_SECONDS", 0.05)
    events = run(follow_until_refused(mine[1], lambda: change(alice)))
    assert [event.name for event in events] == ["state", "refused"]


def test_a_role_that_the_panel_takes_is_noticed_before_the_next_regular_check(
    server: Server, job: Job, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan_out, "CHECK_SECONDS", 3600.0)
    monkeypatch.setattr(fan_out, "CHECK_SOON_SECONDS", 0.05)
    membership = share(server, bob)
    permit = Permit(sign_in(bob), bob.pk, False, job_id=job.pk)
    events = run(follow_until_refused(permit, lambda: take_role(membership)))
    assert [event.name for event in events] == ["state", "refused"]


def test_neither_a_sign_in_nor_a_new_row_has_the_permits_checked(
    alice: User, bob: User, server: Server
) -> None:
    before = right_changes.count
    Client().force_login(bob)
    share(server, bob)
    assert right_changes.count == before


def test_a_change_that_is_rolled_back_has_no_permit_checked(alice: User) -> None:
    before = right_changes.count
    with transaction.atomic():
        switch_off(alice)
        assert right_changes.count == before
        transaction.set_rollback(True)
    assert right_changes.count == before


def test_an_open_stream_ends_with_a_word_soon_after_its_permit(
    mine: list[Permit], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan_out, "CHECK_SECONDS", 0.05)
    events = run(follow_until_refused(mine[1], lambda: sign_out(alice)))
    assert [event.name for event in events] == ["state", "refused"]


def test_a_check_that_fails_throws_nobody_out(
    mine: list[Permit], alice: User, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def fail(permits: object) -> set[Permit]:
        tries.append(permits)
        if len(tries) < 3:
            raise OperationalError("away")
        return find_revoked(mine)

    monkeypatch.setattr(fan_out, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(stream_access, "find_revoked", fail)
    events = run(follow_until_refused(mine[1], lambda: sign_out(alice)))
    assert events[-1].name == "refused"
    assert len(tries) == 3


def test_others_go_on_when_one_is_refused(
    mine: list[Permit], dana: User, job: Job, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan_out, "CHECK_SECONDS", 0.05)
    admins = Permit(sign_in(dana), dana.pk, True, job_id=job.pk)

    async def scenario() -> list[str]:
        watching = Hub.of_running_loop().watch(JobTopic(job.pk), 0, admins)
        async with aclosing(watching) as stream:
            await anext(stream)
            await follow_until_refused(mine[1], lambda: deactivate(alice))
            await sync_to_async(finish)(job)
            return [event.name async for payload in stream for event in parse(payload)]

    assert run(scenario())[-1] == "end"


def finish(job: Job) -> None:
    job.state = JobState.SUCCEEDED
    job.save()
