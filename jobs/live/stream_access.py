"""Checks whether people may keep following a stream: still signed in, and still allowed to see its contents.

A stream may last for days. What allowed it to be opened is kept as a permit, and all permits of a process
are checked together: at intervals, and soon after this process has changed what they depend on
(`jobs.live.fan_out`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from jobs.live.page_topics import PageTopic
from jobs.live.topics import ConsoleTopic, JobTopic, Topic
from jobs.models import Job
from servers.models import Membership, Server
from servers.permissions import Verb, follows_everything

AT_ONCE = 500
"""How many sessions one query reads: databases limit the number of parameters."""


class RightChanges:
    """How often this process has changed, and committed, what permits depend on."""

    def __init__(self) -> None:
        self.count = 0

    def note(self) -> None:
        """Count a change. Of two at one moment one may be lost: it only matters whether there were any."""
        self.count += 1


right_changes = RightChanges()
"""Those of this process, which alone serves pages. What commands change is left to the regular checks."""


@receiver([post_save, post_delete], sender=User)
@receiver([post_save, post_delete], sender=Membership)
@receiver(post_delete, sender=Group)
@receiver(m2m_changed, sender=User.groups.through)
@receiver(m2m_changed, sender=User.user_permissions.through)
@receiver(m2m_changed, sender=Group.permissions.through)
def note_changed_rights(
    created: bool = False, update_fields: Collection[str] | None = None, **_kwargs: Any
) -> None:
    """Have the permits checked soon, unless a row is new, or somebody has only signed in."""
    if not created and (update_fields is None or set(update_fields) != {"last_login"}):
        transaction.on_commit(right_changes.note)


@receiver(post_delete, sender=Session)
def note_ended_session(instance: Session, **_kwargs: Any) -> None:
    """Have the permits checked soon, unless it is a session from before a sign-in."""
    if SESSION_KEY in instance.get_decoded():
        transaction.on_commit(right_changes.note)


@dataclass(frozen=True)
class Permit:
    """Who follows what, and in which session: a job's log, a server's console, or only changes."""

    session_key: str
    user_id: int
    follows_everything: bool
    job_id: int | None = None
    server_id: int | None = None


def permit_for(request: HttpRequest, topic: Topic) -> Permit:
    """Return the permit by which the person behind `request`, who is signed in, follows `topic`."""
    log = topic.log if isinstance(topic, PageTopic) else topic
    user = cast("User", request.user)
    return Permit(
        request.session.session_key or "",
        user.pk,
        follows_everything(user),
        log.job_id if isinstance(log, JobTopic) else None,
        log.server_id if isinstance(log, ConsoleTopic) else None,
    )


def find_revoked(permits: Collection[Permit]) -> set[Permit]:
    """Return those of `permits` that would no longer be given.

    Costs one query per some hundred sessions and one for the people; for each person one or two for what they
    follow, and two for the permissions of staff who are not superusers.
    """
    hashes = read_sessions({permit.session_key for permit in permits})
    people = User.objects.in_bulk({permit.user_id for permit in permits})
    of_person: dict[int, list[Permit]] = defaultdict(list)
    revoked = set()
    for permit in permits:
        user = people.get(permit.user_id)
        if user is None or not is_signed_in(user, permit, hashes):
            revoked.add(permit)
        else:
            of_person[user.pk].append(permit)
    for user_id, theirs in of_person.items():
        revoked |= find_hidden(people[user_id], theirs)
    return revoked


def find_revoked_and_disconnect(permits: Collection[Permit]) -> set[Permit]:
    """Call `find_revoked`, and close the thread's connection."""
    try:
        return find_revoked(permits)
    finally:
        connection.close()


def is_signed_in(user: User, permit: Permit, hashes: dict[str, tuple[str, str]]) -> bool:
    """Return whether the permit's session is still this person's, and they may still follow as much."""
    user_id, session_hash = hashes.get(permit.session_key, ("", ""))
    return (
        user.is_active
        and user_id == str(user.pk)
        # The hash changes with the password, which signs the person out everywhere.
        and constant_time_compare(session_hash, user.get_session_auth_hash())
        and follows_everything(user) == permit.follows_everything
    )


def read_sessions(keys: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the user's id and the hash of each session that has not ended."""
    found = {}
    for some in in_portions(keys):
        sessions = Session.objects.filter(session_key__in=some, expire_date__gt=timezone.now())
        for session in sessions:
            values = session.get_decoded()
            found[session.session_key] = (
                str(values.get(SESSION_KEY, "")),
                str(values.get(HASH_SESSION_KEY, "")),
            )
    return found


def in_portions(keys: Iterable[str]) -> Iterator[list[str]]:
    """Yield `keys` in lists of limited length."""
    rest = iter(keys)
    while some := list(islice(rest, AT_ONCE)):
        yield some


def find_hidden(user: User, permits: Iterable[Permit]) -> set[Permit]:
    """Return the permits for what this person may no longer see. Without jobs or servers no query."""
    permits = list(permits)
    jobs = {permit.job_id for permit in permits if permit.job_id is not None}
    servers = {permit.server_id for permit in permits if permit.server_id is not None}
    seen_jobs = set(Job.objects.visible_to(user).filter(pk__in=jobs).values_list("pk", flat=True))
    visible = Server.objects.allowed(user, Verb.VIEW).filter(pk__in=servers)
    seen_servers = set(visible.values_list("pk", flat=True))
    return {
        permit
        for permit in permits
        if (permit.job_id is not None and permit.job_id not in seen_jobs)
        or (permit.server_id is not None and permit.server_id not in seen_servers)
    }
