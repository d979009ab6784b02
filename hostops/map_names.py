"""Names of maps as people write them, and the map that a wrong name probably meant."""

import difflib
import heapq
from collections.abc import Iterable

_FOLDERS = ("maps/", "maps\\")
_LIKENESS = 0.6
_MAX_COMPARED = 5_000
_MAX_CHARS = 64
_MAX_CANDIDATES = 8
"""How many names, those sharing the most letter pairs with the wrong one, are compared letter by letter. That
would take minutes for 5,000 long names chosen by an attacker."""


def to_map_key(name: str) -> str:
    """Return a map's comparable name: the game ignores case, and an optional `.bsp`."""
    return name.lower().removesuffix(".bsp")


def drop_folder(name: str) -> str:
    """Return a map's name without a leading `maps/`; empty if it has none.

    The engine adds that itself (Source SDK, `CModelLoader::Map_IsValid`), so it would look for
    `maps/maps/NAME.bsp`.
    """
    return name[len(_FOLDERS[0]) :] if name.lower().startswith(_FOLDERS) else ""


def find_nearest(name: str, names: Iterable[str]) -> str | None:
    """Return which of these lower-case `names` was probably meant; None if none is similar."""
    return next(iter(find_similar(name, names, 1)), None)


def find_similar(name: str, names: Iterable[str], count: int) -> list[str]:
    """Return at most `count` of these lower-case `names` that are similar to a wrong one, the nearest first.

    Takes less than a second of CPU time for any names; if there are more than 5,000, some are left out.
    """
    asked = (drop_folder(name) or name).lower()[:_MAX_CHARS]
    asked_pairs = _pairs(asked)

    def likeness(one: str) -> float:
        pairs = _pairs(one)
        return len(pairs & asked_pairs) / max(1, len(pairs) + len(asked_pairs))

    by_length = sorted(names, key=lambda one: (abs(len(one) - len(asked)), one))
    beginnings = {one[:_MAX_CHARS]: one for one in by_length[:_MAX_COMPARED]}
    candidates = heapq.nlargest(_MAX_CANDIDATES, beginnings, key=likeness)
    return [
        beginnings[one] for one in difflib.get_close_matches(asked, candidates, count, _LIKENESS)
    ]


def _pairs(name: str) -> set[str]:
    """Return the pairs of adjacent letters in a name."""
    return {name[position : position + 2] for position in range(len(name) - 1)}
