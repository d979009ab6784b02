"""The rules for tags, and every change of them. Anybody who may configure a server may set its tags.

The limits count what a person's servers have, so changes for one owner take turns: under `lock_person`.
"""

import re
from collections.abc import Iterable
from unicodedata import normalize

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, QuerySet
from django.dispatch import Signal
from django.utils import timezone
from django.utils.translation import gettext as _

from servers.models import TAG_CHARS, Server, ServerTag
from servers.permissions import Verb
from servers.quotas import lock_person

MOST_PER_SERVER = 10
MOST_PER_OWNER = 50
"""The most different tags on all servers of a person: more would not help anybody to find anything."""
LONGEST_TYPED = 4 * TAG_CHARS
"""The longest name that is normalized. Composing makes one character of four at most, and takes time quadratic
in the length of a run of combining marks."""

tags_changed = Signal()
"""Sent in the transaction of a change, with the affected `servers` and a description in `words`."""


class TagsError(ValidationError):
    """What was typed cannot be tags, or there are too many."""


def parse_tag(text: str) -> str:
    """Return the tag that somebody typed, in its stored form. Raises `TagsError` for an invalid one."""
    name = " ".join(text.split())
    if len(name) <= LONGEST_TYPED:  # A longer one is refused below, and shown as it was typed.
        name = normalize("NFC", name)
    if not name:
        raise TagsError(_("Type a tag."))
    # Otherwise it could look like another tag, or reverse the text after it.
    if not name.isprintable():
        raise TagsError(_("A tag cannot have invisible characters."))
    if "," in name:
        raise TagsError(_("Commas separate tags, so a tag cannot contain one."))
    if len(name) > TAG_CHARS:
        words = {"tag": name[:TAG_CHARS], "most": TAG_CHARS, "count": len(name)}
        text = _("“%(tag)s…” has %(count)d characters. A tag can have at most %(most)d.")
        raise TagsError(text % words)
    return name


def parse_tags(text: str) -> list[str]:
    """Return the tags in a text, separated by commas or line breaks, each once and in order."""
    names: dict[str, str] = {}
    for part in re.split(r"[,\n\r]", text):
        if part.strip():
            name = parse_tag(part)
            names.setdefault(name.casefold(), name)
    if len(names) > MOST_PER_SERVER:
        words = {"most": MOST_PER_SERVER, "count": len(names)}
        raise TagsError(
            _("A server can have at most %(most)d tags, and these are %(count)d.") % words
        )
    return list(names.values())


def tags_of(server: Server) -> list[str]:
    """Return the tags of a server by name; no query if they are prefetched."""
    return [tag.name for tag in server.tags.all()]


def having_tag(name: str) -> QuerySet[ServerTag, int]:
    """Return the ids of the servers with a tag, for use in a subquery."""
    return ServerTag.objects.filter(name=name).order_by().values_list("server_id", flat=True)


def count_tags(servers: QuerySet[Server]) -> list[tuple[str, int]]:
    """Return the tags of `servers` with the number of servers that have each, most used first."""
    of_servers = ServerTag.objects.filter(server__in=servers.order_by().values("pk"))
    counts = of_servers.order_by().values_list("name").annotate(count=Count("pk"))
    return list(counts.order_by("-count", "name"))


def set_tags(server: Server, names: Iterable[str]) -> None:
    """Give a server exactly these tags, as returned by `parse_tags`. Raises `TagsError`."""
    with transaction.atomic():
        lock_person(server.owner)
        wanted = adopt_spelling(server, names)
        present = set(server.tags.values_list("name", flat=True))
        added = [ServerTag(server=server, name=name) for name in wanted if name not in present]
        gone = present - set(wanted)
        if not added and not gone:
            return
        server.tags.filter(name__in=gone).delete()
        ServerTag.objects.bulk_create(added, ignore_conflicts=True)
        note_change([server], _("tags"))


def adopt_spelling(server: Server, names: Iterable[str]) -> list[str]:
    """Return `names` as the server's owner spells them elsewhere. Raises `TagsError` if there are too many."""
    others = ServerTag.objects.filter(server__owner=server.owner_id).exclude(server=server.pk)
    spelled = {name.casefold(): name for name in others.order_by().values_list("name", flat=True)}
    wanted = [spelled.get(name.casefold(), name) for name in names]
    new = set(wanted).difference(spelled.values())
    if new and len(spelled) + len(new) > MOST_PER_OWNER:
        text = _("The servers of %(owner)s already have %(most)d different tags. Use one of these.")
        raise TagsError(text % {"most": MOST_PER_OWNER, "owner": server.owner})
    return wanted


def add_tag(servers: Iterable[Server], name: str) -> tuple[int, list[str]]:
    """Put a tag on each of `servers`; return how many did not have it, and why it is not on others."""
    changed, refusals = 0, []
    for server in servers:
        if has_tag(tags_of(server), name):
            continue
        try:
            with transaction.atomic():
                lock_person(server.owner)
                # Others may have added some since the servers were read.
                present = list(server.tags.values_list("name", flat=True))
                if has_tag(present, name):
                    continue
                set_tags(server, parse_tags(",".join([*present, name])))
        except TagsError as error:
            refusals.append(f"{server.name}: {' '.join(error.messages)}")
        else:
            changed += 1
    return changed, refusals


def has_tag(names: Iterable[str], name: str) -> bool:
    """Return whether `name` is among `names`, in any spelling."""
    return name.casefold() in {one.casefold() for one in names}


def take_tag(servers: QuerySet[Server], name: str) -> int:
    """Remove a tag from those of `servers` that have it; return how many there were."""
    with transaction.atomic():
        having = list(servers.filter(pk__in=having_tag(name)))
        ServerTag.objects.filter(server__in=having, name=name).delete()
        if having:
            note_change(having, _("tag %(tag)s taken off") % {"tag": name})
    return len(having)


def rename_tag(servers: QuerySet[Server], name: str, new_name: str) -> int:
    """Replace the tag `name` by `new_name` on those of `servers` that have it; return how many there are."""
    with transaction.atomic():
        owners = User.objects.filter(pk__in=servers.order_by().values("owner_id")).order_by("pk")
        list(owners.select_for_update(no_key=True).values_list("pk"))  # As `lock_person`, for each.
        present = [one for one, _count in count_tags(servers) if one != name]
        new_name = next((one for one in present if one.casefold() == new_name.casefold()), new_name)
        having = list(servers.filter(pk__in=having_tag(name)))
        if not having or name == new_name:
            return len(having)
        rows = ServerTag.objects.filter(server__in=having)
        # A server that has both already keeps the new one.
        both = list(rows.filter(name=new_name).values_list("server_id", flat=True))
        rows.filter(name=name, server__in=both).delete()
        rows.filter(name=name).update(name=new_name)
        note_change(having, _("tag %(old)s renamed to %(new)s") % {"old": name, "new": new_name})
    return len(having)


def configurable_by(user: User) -> QuerySet[Server]:
    """Return the servers whose tags `user` may set."""
    return Server.objects.allowed(user, Verb.CONFIGURE)


def note_change(servers: list[Server], words: str) -> None:
    """Announce a change to open pages and the record."""
    # Pages follow the rows of servers.
    Server.objects.filter(pk__in=[server.pk for server in servers]).update(
        updated_at=timezone.now()
    )
    tags_changed.send(sender=ServerTag, servers=servers, words=words)
