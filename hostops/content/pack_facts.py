"""The facts about a pack (VPK file) after it was read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hostops.content.missions import to_campaign
from hostops.specs import Campaign

MAX_MAPS = 2_000
MAX_CAMPAIGNS = 50
"""The most that is kept of a pack. Most packs have one campaign of five maps."""


@dataclass(frozen=True)
class Pack:
    """A pack as `pack_reader` found it.

    `fault` completes "The pack …" and is empty if nothing is wrong. Without `has_directory` the pack's content
    is unknown; with it, `is_whole` says whether the rest here is complete. `odd_paths` counts the entries whose
    path leads out of the game's folder, or has a name that no file has.
    """

    version: int = 0
    fault: str = ""
    has_directory: bool = False
    is_whole: bool = False
    odd_paths: int = 0
    maps: tuple[str, ...] = ()
    campaigns: tuple[Campaign, ...] = ()
    configs: tuple[str, ...] = ()
    """Its files below cfg/. A server executes them as if they were in that folder."""


def to_pack(document: Mapping[str, Any]) -> Pack:
    """Return a pack from its JSON form, in which tuples are lists."""
    return Pack(
        **{
            **document,
            "maps": tuple(document["maps"]),
            "configs": tuple(document["configs"]),
            "campaigns": tuple(to_campaign(one) for one in document["campaigns"]),
        }
    )
