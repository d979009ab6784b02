"""What may keep a server from starting next time, though it is not certain, according to its host's reports."""

from collections.abc import Iterator

from django.utils.translation import gettext as _

from hostops.specs import (
    ArgumentsError,
    drop_folder,
    find_conflicts,
    find_map,
    find_map_changes,
    find_nearest,
    to_map_key,
)
from servers.content.reported_content import read_content
from servers.models import Server

_MAX_LINES = 20


def find_start_notes(server: Server, *, is_map_told: bool = False) -> list[str]:
    """Return notes on the server's configs and launch arguments; none on the arguments if they are faulty.

    `Server.spec_faults` says what is faulty. With `is_map_told` a missing map is not mentioned, since the page
    already says so. Costs one or two queries if the arguments name a map.
    """
    of_configs = list(find_config_notes(server))
    try:
        arguments = server.read_arguments()
    except ArgumentsError:
        return of_configs
    name = find_map(arguments)
    note = find_map_note(server, name) if name and not is_map_told else ""
    return [*of_configs, *find_conflicts(arguments), *([note] if note else [])]


def find_config_notes(server: Server) -> Iterator[str]:
    """Yield which lines of the server's configs change the map: they are left out of what the game gets."""
    for text, sentence in (
        (
            server.blueprint.config,
            _(
                "Lines of the blueprint’s config change the map, and are left out at each start, as the game "
                "executes its configs on every map: %(lines)s. Choose the first map with +map in the launch "
                "arguments."
            ),
        ),
        (
            server.config,
            _(
                "Lines of the server’s config change the map, and are left out at each start, as the game "
                "executes its configs on every map: %(lines)s. Choose the first map with +map in the launch "
                "arguments."
            ),
        ),
    ):
        numbers = list(dict.fromkeys(str(number) for number, _map in find_map_changes(text)))
        if numbers:
            yield sentence % {"lines": ", ".join(numbers[:_MAX_LINES])}


def find_map_note(server: Server, name: str) -> str:
    """Return the note that no file of a map was reported; empty if one was, or if not everything could be read.

    The server's own files are not reported, and may include it: a start looks there too.
    """
    host = server.host
    content = read_content(server, server.blueprint.overlay_references, host.build_id)
    key = to_map_key(name)
    if not content.is_complete or key in content.maps:
        return ""
    plain = drop_folder(name)
    if to_map_key(plain) in content.maps:
        return _(
            "The map is named with its folder, below which the game looks anyway: it will not find %(name)s. "
            "Write +map %(plain)s in the launch arguments."
        ) % {"name": name, "plain": plain}
    nearest = find_nearest(key, content.maps)
    hint = _(" The nearest is %(map)s.") % {"map": nearest} if nearest else ""
    return _(
        "The map %(name)s is neither in the game on host %(host)s nor in the overlays.%(hint)s "
        "Unless the server has it among its own files, it will not start. Change +map in the "
        "launch arguments."
    ) % {"name": name, "host": host.name, "hint": hint}
