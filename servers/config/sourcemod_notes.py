"""Whether a server has SourceMod, which alone reads its admins, and how to add it."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from hostops.specs import OverlayReference
from servers.config.cures import PROVIDERS_OFFERED, find_overlays_with
from servers.models import AdminsNote, AdminsState, Blueprint, Overlay, OverlayVersion, Server
from servers.permissions import Verb, may
from servers.store import SOURCEMOD, BlobError, Need, read_traits

READ_STATES = (AdminsState.IN_FORCE, AdminsState.TYPED)
"""What a host reports only of a server that has SourceMod."""


@dataclass(frozen=True)
class SourceModNote:
    """What is known of a server's SourceMod, in a sentence, and what can be done.

    `blueprint` is set if the user may change it; `overlays` are those that they can add to it.
    """

    sentence: str
    blueprint: Blueprint | None
    overlays: Sequence[Overlay]


def find_sourcemod_note(
    user: User, server: Server, known: AdminsNote | None
) -> SourceModNote | None:
    """Return what to say before somebody is made an admin; None if the server is known to have SourceMod.

    `known` is what its host has reported about its admins. Costs a query, and reading the manifests of
    overlays.
    """
    if known is not None and known.state in READ_STATES:
        return None
    references = [OverlayReference.parse(one) for one in server.blueprint.overlay_references]
    of_panel = OverlayVersion.objects.filter(
        reference__in=[str(one) for one in references if one.digest]
    )
    versions = of_panel.defer("campaigns", "maps").in_bulk(field_name="reference")
    unseen = []
    for reference in references:
        version = versions.get(str(reference))
        has_it = _has_sourcemod(version) if version else None
        if has_it:
            return None
        if has_it is None:
            unseen.append(reference.name)
    is_editable = may(user, Verb.CHANGE_BLUEPRINT, server.blueprint)
    names = [reference.name for reference in references]
    overlays = (
        find_overlays_with(user, Need(SOURCEMOD, is_stack=True), names) if is_editable else []
    )
    return SourceModNote(
        _say(server, unseen, known, is_editable=is_editable),
        server.blueprint if is_editable else None,
        overlays[:PROVIDERS_OFFERED],
    )


def _has_sourcemod(version: OverlayVersion) -> bool | None:
    try:
        return SOURCEMOD in read_traits(version).stacks
    except BlobError:
        return None


def _say(
    server: Server, unseen: Sequence[str], known: AdminsNote | None, *, is_editable: bool
) -> str:
    if unseen:
        sentence = _(
            "Only SourceMod reads the admins. The panel cannot see whether this server has it: not all "
            "files of %(names)s are known here."
        ) % {"names": ", ".join(unseen)}
    elif known is not None and known.state == AdminsState.NO_SOURCEMOD:
        sentence = ""  # The host has already said so.
    elif known is not None and known.state == AdminsState.NOT_LOADED:
        sentence = _("No overlay of this server contains SourceMod.")
    else:
        sentence = _(
            "Only SourceMod reads the admins, and no overlay of this server contains it: they have no "
            "effect until one does."
        )
    if is_editable:
        return sentence
    words = {"blueprint": server.blueprint.name, "owner": server.blueprint.owner}
    ask = _("Ask %(owner)s to add it to blueprint %(blueprint)s.") % words
    return f"{sentence} {ask}".strip()
