"""The game modes of Left 4 Dead 2, as players know them, and which chapters can be played in each."""

import re
from dataclasses import dataclass

COOP, VERSUS, SURVIVAL, SCAVENGE = "coop", "versus", "survival", "scavenge"

PLAYED_ON = {"realism": COOP, "teamversus": VERSUS, "teamscavenge": SCAVENGE}
"""Modes that mission files do not name, because they are played on the chapters of another one
(gamemodes.txt).
"""

_LABELS = {
    COOP: "Campaign",
    "realism": "Realism",
    VERSUS: "Versus",
    SURVIVAL: "Survival",
    SCAVENGE: "Scavenge",
    "teamversus": "Team Versus",
    "teamscavenge": "Team Scavenge",
    "dash": "Dash",
    "holdout": "Holdout",
    "shootzones": "Shootzones",
    "mutation1": "Last Man on Earth",
    "mutation2": "Headshot!",
    "mutation3": "Bleed Out",
    "mutation4": "Hard Eight",
    "mutation5": "Four Swordsmen",
    "mutation7": "Chainsaw Massacre",
    "mutation8": "Iron Man",
    "mutation9": "Last Gnome on Earth",
    "mutation10": "Room for One",
    "mutation11": "Healthpackalypse!",
    "mutation12": "Realism Versus",
    "mutation13": "Follow the Liter",
    "mutation14": "Gib Fest",
    "mutation15": "Versus Survival",
    "mutation16": "Hunting Party",
    "mutation17": "Lone Gunman",
    "mutation18": "Bleed Out Versus",
    "mutation19": "Taaannnk!!",
    "mutation20": "Healing Gnome",
    "community1": "Special Delivery",
    "community5": "Death’s Door",
}

_NUMBERED = re.compile(r"(?:mutation|community)[0-9]{1,4}")

MODE = re.compile(r"[a-z][a-z0-9_]{0,31}")
"""The names of modes that we are willing to send: a single console word."""


@dataclass(frozen=True)
class GameMode:
    """A mode: what the game calls it, and what people do in it."""

    name: str

    @property
    def label(self) -> str:
        """What players call it, or its own name if we have no better one."""
        return _LABELS.get(self.name, self.name)


def find_mode_in(keywords: str) -> str:
    """Return the mode among the keywords that a server answers queries with; empty if there is none or several.

    The owner's own tags (`sv_tags`) are among the keywords too.
    """
    modes = {
        one for one in keywords.lower().split(",") if one in _LABELS or _NUMBERED.fullmatch(one)
    }
    return modes.pop() if len(modes) == 1 else ""


def name_mode(name: str) -> str:
    """Return what players call a mode."""
    return GameMode(name).label


def sort_key(name: str) -> tuple[int, str]:
    """The key that sorts modes as in the game's own menu, with unknown ones last."""
    names = list(_LABELS)
    return (names.index(name) if name in names else len(names), name)
