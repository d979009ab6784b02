"""What may be in the way of a server's next start, though it is not certain, by what its host reported."""

import difflib
from collections.abc import Sequence
from typing import Any

from django.utils.translation import gettext as _

from hostops.specs import ArgumentsError, find_conflicts, find_map, parse_arguments
from servers.models import OverlayReport, ReleaseReport, Server

_LIKENESS = 0.6
_HIDING = frozenset({"unreadable", "pack_broken"})
"""Codes of findings: as long as an overlay has one, it may have more maps than were reported."""


def find_start_notes(server: Server) -> list[str]:
    """Return sentences on what the server's launch arguments say; none as long as they are faulty.

    That is told by `Server.spec_faults`. One query or two if the arguments name a map.
    """
    try:
        arguments = [
            word
            for text in (server.blueprint.arguments, server.arguments)
            for word in parse_arguments(text)
        ]
    except ArgumentsError:
        return []
    name = find_map(arguments)
    note = find_map_note(server, name) if name else ""
    return [*find_conflicts(arguments), *([note] if note else [])]


def find_map_note(server: Server, name: str) -> str:
    """Return that no file of a map was reported; empty if one was, or if not everything could be looked at.

    The server's own files are not reported, and may have it: a start looks into those too.
    """
    host, overlays = server.host, server.blueprint.overlay_names
    release = ReleaseReport.objects.filter(host=host, build_id=host.build_id).first()
    if release is None or release.obstacles:
        return ""
    reports = list(OverlayReport.objects.filter(host=host, name__in=overlays)) if overlays else []
    if len(reports) < len(overlays) or any(has_hidden_maps(report.findings) for report in reports):
        return ""
    maps = {one for report in (release, *reports) for one in report.maps}
    key = name.lower().removesuffix(".bsp")
    if key in maps:
        return ""
    nearest = difflib.get_close_matches(key[:128], sorted(maps), 1, _LIKENESS)
    hint = _(" The nearest is %(map)s.") % {"map": nearest[0]} if nearest else ""
    return _(
        "The map %(name)s is neither in the game on host %(host)s nor in the "
        "overlays.%(hint)s Unless the server has it among its own files, it will not "
        "start: change +map in the launch arguments."
    ) % {"name": name, "host": host.name, "hint": hint}


def has_hidden_maps(findings: Sequence[dict[str, Any]]) -> bool:
    """Whether what was found of an overlay leaves it open which maps it has."""
    return any(finding["code"] in _HIDING for finding in findings)
