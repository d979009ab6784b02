"""The missing map that made a start fail, and the maps that may have been meant."""

import re
from dataclasses import dataclass

from hostops.specs import ArgumentsError, find_map, find_mode, find_similar, to_map_key
from servers.content.map_choices import MapChoice, to_choices
from servers.content.reported_content import read_content
from servers.models import Server

MOST_SIMILAR = 3
_USUAL_MODE = "coop"


@dataclass(frozen=True)
class MissingMap:
    """A map that does not exist, as the launch arguments name it, and the chapters with similar names."""

    name: str
    similar: tuple[MapChoice, ...]


def find_missing_map(server: Server, error: str) -> MissingMap | None:
    """Return the map that made a start fail with this `error`; None if another try may succeed.

    Another try may succeed if the launch arguments name another map by now, or if its host has reported the
    map since. The server's own files are not reported, but the start itself has looked at those. At most
    three queries.
    """
    try:
        arguments = server.read_arguments()
    except ArgumentsError:
        return None
    name = find_map(arguments)
    if not name or not re.search(rf"the map {re.escape(name)}[:,]", error, re.IGNORECASE):
        return None
    content = read_content(server, server.blueprint.overlay_references, server.host.build_id)
    key = to_map_key(name)
    if key in content.maps:
        return None
    choices = to_choices(content, server)
    similar = find_similar(key, choices.maps, MOST_SIMILAR)
    mode = find_mode(arguments) or _USUAL_MODE
    found = (choices.find_map(one, mode) for one in similar)
    return MissingMap(name, tuple(one for one in found if one))
