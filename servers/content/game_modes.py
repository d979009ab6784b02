"""The game modes of Left 4 Dead 2, as players know them, and which chapters can be played in each."""

import re
from dataclasses import dataclass

COOP, VERSUS, SURVIVAL, SCAVENGE = "coop", "versus", "survival", "scavenge"

PLAYED_ON = {"realism": COOP, "teamversus": VERSUS, "teamscavenge": SCAVENGE}
"""Modes that mission files do not name as they are played on the chapters of another one (gamemodes.txt)."""

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
"""What the name of a mode may be for us to send it: one word of the console, and nothing else."""


@dataclass(frozen=True)
class GameMode:
    """One mode: what the game calls it, and what people do."""

    name: str

    @property
    def label(self) -> str:
        """What players call it; its name where no one has told us another one."""
        return _LABELS.get(self.name, self.name)


def find_mode_in(keywords: str) -> str:
    """Return the mode among the keywords of a server's answer to queries; empty if none or several are there.

    The owner's own tags (`sv_tags`) stand there too.
    """
    modes = {
        one for one in keywords.lower().split(",") if one in _LABELS or _NUMBERED.fullmatch(one)
    }
    return modes.pop() if len(modes) == 1 else ""


def name_mode(name: str) -> str:
    """Return what players call a mode."""
    return GameMode(name).label


def sort_key(name: str) -> tuple[int, str]:
    """Order modes as the game's own menu does, those that nobody knows behind them."""
    names = list(_LABELS)
    return (names.index(name) if name in names else len(names), name)
