"""Records what people change about servers, blueprints and overlays, on any page or in the admin.

It does not record what a worker writes to these rows, because a worker answers no request.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.db.models.signals import post_delete, post_save, pre_save
from django.dispatch import receiver
from django.utils.timesince import timesince

from jobs.models import DeferredAction, label_as_stored
from l4d2site.accounts.events import make_printable, record_event
from l4d2site.accounts.models import EventKind
from l4d2site.accounts.password_changes import current_request
from servers.fleet import tags_changed
from servers.forms import SETTING_WORDS
from servers.models import (
    Ban,
    Blueprint,
    GameAdmin,
    Overlay,
    OverlayVersion,
    Server,
    ServerTag,
    bans_changed,
    overlays_changed,
)

MADE, CHANGED, REMOVED = range(3)
KINDS: dict[type[Model], tuple[EventKind, EventKind, EventKind]] = {
    Server: (EventKind.SERVER_MADE, EventKind.SERVER_CHANGED, EventKind.SERVER_REMOVED),
    Blueprint: (
        EventKind.BLUEPRINT_MADE,
        EventKind.BLUEPRINT_CHANGED,
        EventKind.BLUEPRINT_REMOVED,
    ),
    Overlay: (EventKind.OVERLAY_MADE, EventKind.OVERLAY_CHANGED, EventKind.OVERLAY_REMOVED),
}
SERVERS_NAMED = 5
BANS_NAMED = 3
OWNER_CHARS = 40


@receiver(pre_save, sender=Server)
@receiver(pre_save, sender=Blueprint)
@receiver(pre_save, sender=Overlay)
def note_stored(
    instance: Any, update_fields: frozenset[str] | None, raw: bool, **_kwargs: Any
) -> None:
    """Save on `instance` the stored values of the fields about to be written, for `record_saved`."""
    fields = written_fields(SETTING_WORDS[type(instance)], update_fields)
    if raw or not fields or instance.pk is None or find_person() is None:
        return
    stored = type(instance).objects.filter(pk=instance.pk).values(*fields).first()
    instance._stored_settings = stored  # noqa: SLF001


@receiver(post_save, sender=Server)
@receiver(post_save, sender=Blueprint)
@receiver(post_save, sender=Overlay)
def record_saved(
    instance: Server | Blueprint | Overlay, created: bool, raw: bool, **_kwargs: Any
) -> None:
    """Record that somebody created one of these, or which of its settings they changed."""
    stored: dict[str, Any] | None = instance.__dict__.pop("_stored_settings", None)
    person = find_person()
    if raw or person is None:
        return
    kinds = KINDS[type(instance)]
    if created:
        instance.__dict__["_was_made"] = True
        record(kinds[MADE], person, instance, instance.name)
    elif stored:
        words = SETTING_WORDS[type(instance)]
        changed = [
            words[name] for name, value in stored.items() if getattr(instance, name) != value
        ]
        if words["owner_id"] in changed:
            changed.remove(words["owner_id"])
            changed.append(describe_owners(stored["owner_id"], instance.owner))
        if changed:
            record(kinds[CHANGED], person, instance, f"{instance.name}: {', '.join(changed)}")


def describe_owners(before: int | None, after: User | None) -> str:
    """Return from whom to whom something was given. `servers.forms` looks for the word before the comma."""
    former = User.objects.filter(pk=before).first() if before else None
    old, new = (make_printable(str(person or "nobody"), OWNER_CHARS) for person in (former, after))
    return f"owner, from {old} to {new}"


@receiver(post_delete, sender=Server)
@receiver(post_delete, sender=Blueprint)
@receiver(post_delete, sender=Overlay)
def record_removed(instance: Server | Blueprint | Overlay, **_kwargs: Any) -> None:
    """Record that somebody removed one of these."""
    if (person := find_person()) is not None:
        record(KINDS[type(instance)][REMOVED], person, None, instance.name)


@receiver(overlays_changed, sender=Blueprint)
def record_overlays(instance: Blueprint, **_kwargs: Any) -> None:
    """Record that somebody changed the overlays of a blueprint; its first ones come with it."""
    was_made = instance.__dict__.pop("_was_made", False)
    person = find_person()
    if person is not None and not was_made:
        record(EventKind.BLUEPRINT_CHANGED, person, instance, f"{instance.name}: overlays")


@receiver(post_save, sender=OverlayVersion)
def record_version(instance: OverlayVersion, created: bool, raw: bool, **_kwargs: Any) -> None:
    """Record that somebody made a version of an overlay on a page; a job reports its own versions."""
    person = find_person()
    if created and not raw and person is not None:
        record(EventKind.OVERLAY_CHANGED, person, None, f"{instance} made")


@receiver(post_delete, sender=OverlayVersion)
def record_version_removed(instance: OverlayVersion, origin: Any, **_kwargs: Any) -> None:
    """Record that somebody removed a version; a removed overlay's versions are not recorded one by one."""
    person = find_person()
    if person is not None and isinstance(origin, OverlayVersion):
        record(EventKind.OVERLAY_CHANGED, person, None, f"{instance} removed")


@receiver(tags_changed, sender=ServerTag)
def record_tags(servers: list[Server], words: str, **_kwargs: Any) -> None:
    """Record that somebody changed the tags of servers: one row, however many servers."""
    person = find_person()
    if person is None:
        return
    names = ", ".join(server.name for server in servers[:SERVERS_NAMED])
    more = f" and {len(servers) - SERVERS_NAMED} more" if len(servers) > SERVERS_NAMED else ""
    only = servers[0] if len(servers) == 1 else None
    record(EventKind.SERVER_CHANGED, person, only, f"{names}{more}: {words}")


@receiver(bans_changed, sender=Ban)
def record_bans(server: Server, is_lifted: bool, bans: list[Ban], **_kwargs: Any) -> None:
    """Record that somebody made or lifted bans on a server's page: one row, however many."""
    person = find_person()
    if person is None or not bans:
        return
    named = ", ".join(name_player(ban) for ban in bans[:BANS_NAMED])
    more = f" and {len(bans) - BANS_NAMED} more" if len(bans) > BANS_NAMED else ""
    length = f", {ban_length(bans[0])}" if len(bans) == 1 and not is_lifted else ""
    everywhere = "" if bans[0].server_id else ", on all servers of the owner"
    kind = EventKind.BAN_LIFTED if is_lifted else EventKind.PLAYER_BANNED
    record(kind, person, server, f"{server.name}: {named}{more}{length}{everywhere}")


def ban_length(ban: Ban) -> str:
    """Return for how long somebody was banned, in words."""
    if ban.ends_at is None:
        return "permanently"
    # Blanks that keep a number and its unit together would be recorded as unprintable.
    return f"for {timesince(ban.created_at, ban.ends_at)}".replace("\xa0", " ")


def name_player(row: Ban | GameAdmin) -> str:
    """Return a player's name, if it is known, and their Steam ID."""
    return f"{row.name} ({row.steam_id})" if row.name else row.steam_id


@receiver(post_save, sender=DeferredAction)
def record_deferred(instance: DeferredAction, raw: bool, **_kwargs: Any) -> None:
    """Record that somebody wants something done once nobody plays on a server."""
    if not raw and (person := find_person()) is not None:
        record_wish(person, instance, "requested")


@receiver(post_delete, sender=DeferredAction)
def record_deferred_no_more(instance: DeferredAction, origin: Any, **_kwargs: Any) -> None:
    """Record that somebody no longer wants that; dismissing the note about its end is no change."""
    person = find_person()
    is_chosen = isinstance(origin, QuerySet) and origin.model is DeferredAction
    if person is not None and is_chosen and instance.ended_at is None:
        record_wish(person, instance, "called off")


def record_wish(person: User, action: DeferredAction, change: str) -> None:
    """Record what `person` did to what waits until a server is empty."""
    server = action.server
    label = label_as_stored(action.operation, None, "")
    detail = f"{server.name}: {label} once nobody plays: {change}"
    record(EventKind.SERVER_CHANGED, person, server, detail)


@receiver(pre_save, sender=GameAdmin)
def record_admin(instance: GameAdmin, raw: bool, **_kwargs: Any) -> None:
    """Record that somebody appointed a server's admin, or changed an admin's powers."""
    person = find_person()
    stored = GameAdmin.objects.filter(pk=instance.pk).values_list("preset", flat=True).first()
    if not raw and person is not None and stored != instance.preset:
        record_admins(person, instance, f"now {instance.preset_words}")


@receiver(post_delete, sender=GameAdmin)
def record_admin_removed(instance: GameAdmin, origin: Any, **_kwargs: Any) -> None:
    """Record that somebody removed an admin; a removed server's admins are not recorded one by one."""
    person = find_person()
    if person is not None and isinstance(origin, GameAdmin):
        record_admins(person, instance, "no more")


def record_admins(person: User, admin: GameAdmin, change: str) -> None:
    """Record what `person` did to one admin of a server."""
    server = admin.server
    detail = f"{server.name}: {name_player(admin)}, {change}"
    record(EventKind.GAME_ADMIN_CHANGED, person, server, detail)


def record(kind: EventKind, person: User, subject: Model | None, detail: str) -> None:
    """Record what `person` did; an existing server is also referenced by its row."""
    server = subject if isinstance(subject, Server) else None
    record_event(kind, current_request(), user=person, detail=detail, server=server)


def find_person() -> User | None:
    """Return the person who is signed in and doing this; None in a worker or a command."""
    request = current_request()
    if request is None or not request.user.is_authenticated:
        return None
    return request.user


def written_fields(fields: Iterable[str], update_fields: frozenset[str] | None) -> list[str]:
    """Return those of `fields` that a save writes."""
    if update_fields is None:
        return list(fields)
    return [
        name
        for name in fields
        if name in update_fields or name.removesuffix("_id") in update_fields
    ]
