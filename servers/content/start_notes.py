"""What may be in the way of a server's next start, though it is not certain, by what its host reported."""

import difflib

from django.utils.translation import gettext as _

from hostops.specs import ArgumentsError, find_conflicts, find_map
from servers.content.reported_content import read_content
from servers.models import Server

_LIKENESS = 0.6


def find_start_notes(server: Server) -> list[str]:
    """Return sentences on what the server's launch arguments say; none as long as they are faulty.

    That is told by `Server.spec_faults`. One query or two if the arguments name a map.
    """
    try:
        arguments = server.read_arguments()
    except ArgumentsError:
        return []
    name = find_map(arguments)
    note = find_map_note(server, name) if name else ""
    return [*find_conflicts(arguments), *([note] if note else [])]


def find_map_note(server: Server, name: str) -> str:
    """Return that no file of a map was reported; empty if one was, or if not everything could be looked at.

    The server's own files are not reported, and may have it: a start looks into those too.
    """
    host = server.host
    content = read_content(server, server.blueprint.overlay_references, host.build_id)
    key = name.lower().removesuffix(".bsp")
    if not content.is_complete or key in content.maps:
        return ""
    nearest = difflib.get_close_matches(key[:128], sorted(content.maps), 1, _LIKENESS)
    hint = _(" The nearest is %(map)s.") % {"map": nearest[0]} if nearest else ""
    return _(
        "The map %(name)s is neither in the game on host %(host)s nor in the "
        "overlays.%(hint)s Unless the server has it among its own files, it will not "
        "start: change +map in the launch arguments."
    ) % {"name": name, "host": host.name, "hint": hint}
