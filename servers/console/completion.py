"""Completion at the prompt: the cvars and commands of the server's own game."""

import hashlib
import json

from servers.config import newest_runs
from servers.models import ConsoleName, ConsoleNames, Run, Server

KEY_VERSION = 2
"""The version of the stored names. Changing it makes every game be asked again."""


def find_key(server: Server, run: Run | None) -> str:
    """Return the key for the names of a running server's game; empty if it is not known.

    It covers the build and the files of the overlays, but not what the server itself has added to its own
    files. If some files could not be read, the key is for this run only.
    """
    if run is None or not run.is_known or run.build_id != server.running_build_id:
        return ""
    is_told = bool(run.build_id) and all(fingerprint for _, fingerprint in run.overlays)
    told = [KEY_VERSION, run.build_id, run.overlays, 0 if is_told else run.pk]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def read_names(server: Server) -> list[ConsoleName]:
    """Return what can be typed into a running server's console; empty until that is known. Two queries."""
    names = _find(server)
    return names.names if names else []


def may_say_to_one(server: Server) -> bool | None:
    """Return whether a running server can say something to a single player; None if that is unknown.

    Costs two queries, however long the list of names is.
    """
    names = _find(server, "has_private_say")
    return names.has_private_say if names else None


def _find(server: Server, *fields: str) -> ConsoleNames | None:
    key = find_key(server, newest_runs([server.pk]).first()) if server.is_up else ""
    rows = ConsoleNames.objects.only(*fields) if fields else ConsoleNames.objects
    return rows.filter(key=key).first() if key else None
