"""How much one person may have at a time: servers, waiting jobs, pages that follow live, content.

The settings say it for everybody; a row of `l4d2site.accounts.models.OwnQuotas` can change it for one person.
Superusers have no limit. Count after `lock_person`, in the transaction that adds something.
"""

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Q, Sum
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from servers.models import Overlay, OverlayVersion, Server, Upload, UploadPart, UploadState

OVERLAYS_PER_OWNER = 200
"""Everybody shares one set of overlay names, and an empty overlay counts no bytes."""


BLUEPRINTS_PER_OWNER = 200
"""Lists and forms name all of them, and everybody shares one set of names."""


class TooManyBlueprintsError(ValidationError):
    """An owner has as many blueprints as allowed; the text says how many, and what to do."""


class TooManyOverlaysError(ValidationError):
    """An owner has as many overlays as allowed; the text says how many, and what to do."""


class TooManyServersError(ValidationError):
    """An owner has as many servers as allowed; the text says how many, and what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(text, code="too_many_servers")


def lock_person(person: User) -> User:
    """Make those who count for `person` take turns until the transaction ends; return the current row.

    Take it before a host's row, as everybody does: two locks in two orders would wait for each other. On SQLite
    there is nothing to lock: its transactions are IMMEDIATE and take turns anyway.
    """
    people = User.objects.select_related("own_quotas")
    return people.select_for_update(no_key=True, of=("self",)).get(pk=person.pk)


def most_servers(person: User) -> int | None:
    """Return how many servers a person may own; None means no limit."""
    if person.is_superuser:
        return None
    own = own_value(person, "servers")
    return settings.SERVERS_PER_OWNER if own is None else own


def describe_new_account() -> str:
    """Return how many servers a new account may make, in a sentence for the person who invites."""
    most = settings.SERVERS_PER_OWNER
    words = ngettext(
        "A new account may make %(most)d server of its own.",
        "A new account may make up to %(most)d servers of its own.",
        most,
    )
    return words % {"most": most}


def most_waiting_jobs(person: User) -> int | None:
    """Return how many of a person's requested jobs may wait; None means no limit.

    Without a value of their own it is never less than two for each of their servers: a person with a hundred
    must be able to restart them all.
    """
    if person.is_superuser:
        return None
    own = own_value(person, "waiting_jobs")
    if own is not None:
        return own
    return max(settings.WAITING_JOBS_PER_OWNER, 2 * Server.objects.filter(owner=person).count())


def most_streams(person: User) -> int | None:
    """Return how many streams a person may have open; None means no limit."""
    if person.is_superuser:
        return None
    own = own_value(person, "streams")
    return settings.STREAMS_PER_PERSON if own is None else own


def most_content_bytes(person: User) -> int | None:
    """Return how many bytes of overlays a person may add to the panel's store; None means no limit."""
    if person.is_superuser:
        return None
    own = own_value(person, "content_bytes")
    return settings.CONTENT_BYTES_PER_OWNER if own is None else own


def count_content_bytes(owner: User) -> int:
    """Return how many bytes this owner's overlays use."""
    versions = OverlayVersion.objects.filter(overlay__owner=owner)
    used: int = versions.aggregate(used=Sum("added_bytes"))["used"] or 0
    return used


def find_overlay_obstacle(owner: User) -> str:
    """Return why this owner cannot make an overlay, in a sentence; empty if they can.

    A person who may not own a server does not need one.
    """
    if owner.is_superuser:
        return ""
    if most_servers(owner) == 0 or most_content_bytes(owner) == 0:
        return _("You may have no overlays of your own. Ask an admin if you need one.")
    if Overlay.objects.filter(owner=owner).count() < OVERLAYS_PER_OWNER:
        return ""
    return _(
        "You have %(most)d overlays, the most anybody may have. Remove one you no longer need."
    ) % {"most": OVERLAYS_PER_OWNER}


def take_overlay_place(owner: User) -> None:
    """Raise `TooManyOverlaysError` if the owner cannot have another, in the transaction that makes it."""
    if obstacle := find_overlay_obstacle(lock_person(owner)):
        raise TooManyOverlaysError(obstacle)


def take_blueprint_place(owner: User) -> None:
    """Raise `TooManyBlueprintsError` if the owner cannot have another, in the transaction that makes it."""
    if owner.is_superuser or lock_person(owner).blueprints.count() < BLUEPRINTS_PER_OWNER:
        return
    raise TooManyBlueprintsError(
        _("You have %(most)d blueprints, the most anybody may have. Remove one you no longer need.")
        % {"most": BLUEPRINTS_PER_OWNER}
    )


def find_content_obstacle(owner: User, more_bytes: int, *, without: Upload | None = None) -> str:
    """Return why this owner's overlays cannot take that many more bytes, in a sentence; empty if they can.

    A file counts once in each overlay that has it, however many of its versions have it. Uploads count in full
    until they are done; the one that these bytes come from can be left out.
    """
    most = most_content_bytes(owner)
    if most is None or more_bytes <= 0:
        return ""
    used = count_content_bytes(owner)
    # An overlay without an owner counts for the person who uploads to it.
    is_own = Q(upload__overlay__owner=owner) | Q(upload__overlay__owner=None, upload__by=owner)
    parts = UploadPart.objects.filter(is_own).exclude(upload__state=UploadState.DONE)
    parts = parts.exclude(upload=without) if without else parts
    used += parts.order_by().aggregate(used=Sum("size"))["used"] or 0
    if used + more_bytes <= most:
        return ""
    return _(
        "This needs %(more)s, and %(used)s of the %(most)s that you may have are in use. Remove versions "
        "or uploads you no longer need, or ask an admin to raise your limit."
    ) % {
        "more": filesizeformat(more_bytes),
        "most": filesizeformat(most),
        "used": filesizeformat(used),
    }


def own_value(person: User, name: str) -> int | None:
    """Return the value that an admin has set for this person, if any."""
    # The model belongs to the site, which this package does not import; it is reached by the relation. If there
    # is no row, that raises AttributeError.
    value: int | None = getattr(getattr(person, "own_quotas", None), name, None)
    return value


def find_server_obstacle(owner: User) -> str:
    """Return why this owner cannot make another server, in a sentence; empty if they can."""
    most = most_servers(owner)
    if most is None:
        return ""
    count = Server.objects.filter(owner=owner).count()
    if count < most:
        return ""
    words = ngettext(
        "You have %(count)d server, and you may have %(most)d. Remove one that you no longer need, or ask an "
        "admin to raise your limit.",
        "You have %(count)d servers, and you may have %(most)d. Remove one that you no longer need, or ask an "
        "admin to raise your limit.",
        count,
    )
    return words % {"count": count, "most": most}


def take_server_place(owner: User) -> None:
    """Raise `TooManyServersError` if the owner cannot have another, in the transaction that makes it."""
    if owner.is_superuser:
        return
    if obstacle := find_server_obstacle(lock_person(owner)):
        raise TooManyServersError(obstacle)
