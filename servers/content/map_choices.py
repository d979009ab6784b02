"""What a server can be told to play: campaigns and their chapters, in the modes that each one has."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from hostops.specs import ArgumentsError, find_map, find_mode, parse_arguments
from servers.config import newest_runs
from servers.content.chapter_names import name_chapter
from servers.content.game_modes import MODE, PLAYED_ON, name_mode, sort_key
from servers.content.reported_content import ReportedContent, read_content
from servers.models import MAP_CHARS, Server

MAP = re.compile(rf"[a-z0-9_][a-z0-9_.+-]{{0,{MAP_CHARS - 1}}}")
"""The names of maps that we are willing to send. Authors may have typed anything into their mission files."""


@dataclass(frozen=True)
class MapChoice:
    """One chapter in one mode; `value` is what a form sends for it."""

    campaign: str
    chapter: str
    number: int
    map: str
    mode: str

    @property
    def value(self) -> str:
        """Its identifier among the choices of a server."""
        return f"{self.mode}/{self.map}"

    @property
    def label(self) -> str:
        """The chapter as players know it, with its number."""
        return f"{self.number}. {self.chapter or self.map}"

    @property
    def title(self) -> str:
        """The choice in words: campaign, chapter, mode."""
        return f"{self.campaign}, {self.label}, {name_mode(self.mode)}"


@dataclass(frozen=True)
class ModeChoices:
    """The chapters of a campaign in one mode."""

    mode: str
    choices: tuple[MapChoice, ...]

    @property
    def label(self) -> str:
        """What players call the mode."""
        return name_mode(self.mode)


@dataclass(frozen=True)
class CampaignChoices:
    """One campaign. `left_out` counts the chapters whose map is in none of the layers, or cannot be named."""

    key: str
    title: str
    modes: tuple[ModeChoices, ...]
    left_out: int = 0
    problem: str = ""

    def has(self, value: str) -> bool:
        """Return whether the choice that a form has sent is one of its chapters."""
        return any(choice.value == value for choice in _choices_of(self))


@dataclass(frozen=True)
class MapChoices:
    """Everything that a server can be told to play. `obstacle` says why that is unknown or incomplete."""

    campaigns: tuple[CampaignChoices, ...]
    obstacle: str = ""

    @property
    def maps(self) -> set[str]:
        """The maps of all chapters."""
        return {choice.map for choice in self._all()}

    def find_campaign(self, key: str) -> CampaignChoices | None:
        """Return the campaign with this key."""
        return next((one for one in self.campaigns if one.key == key), None)

    def find(self, value: str) -> MapChoice | None:
        """Return the choice that a form has sent; None if it does not exist, or no longer does."""
        return next((one for one in self._all() if one.value == value), None)

    def find_map(self, name: str, mode: str = "") -> MapChoice | None:
        """Return the chapter that is played on a map, in this mode if the chapter has it."""
        on_map = [one for one in self._all() if one.map == name.lower()]
        in_mode = (one for one in on_map if one.mode == mode)
        return next(in_mode, on_map[0] if on_map else None)

    def campaign_of(self, choice: MapChoice) -> CampaignChoices:
        """Return the campaign that has a choice."""
        return next(one for one in self.campaigns if choice in list(_choices_of(one)))

    def _all(self) -> Iterable[MapChoice]:
        return (choice for campaign in self.campaigns for choice in _choices_of(campaign))

    def describe(self, name: str, mode: str) -> str:
        """Return what players call a map and a mode, with the map's own name. An empty mode is unknown."""
        choice = self.find_map(name, mode)
        parts = [f"{choice.campaign}, {choice.label} ({name})" if choice else name]
        return ", ".join([*parts, *([name_mode(mode)] if mode else [])])


def _choices_of(campaign: CampaignChoices) -> Iterable[MapChoice]:
    return (choice for mode in campaign.modes for choice in mode.choices)


@dataclass(frozen=True)
class NextStart:
    """The map and mode that a server's launch arguments start it with; each may be empty.

    `is_own` says whether they come from its own arguments rather than its blueprint's.
    """

    map: str
    mode: str
    is_own: bool


def read_next_start(server: Server) -> NextStart | None:
    """Return what the next start will load; None while the launch arguments are faulty."""
    try:
        arguments = server.read_arguments()
        own = parse_arguments(server.arguments)
    except ArgumentsError:
        return None
    name = (find_map(arguments) or "").lower().removesuffix(".bsp")
    return NextStart(name, find_mode(arguments) or "", bool(find_map(own)))


def read_choices(server: Server) -> MapChoices:
    """Return what the next start of a server could be told to play, with its blueprint as it is now.

    At most three queries.
    """
    content = read_content(server, server.blueprint.overlay_references, server.host.build_id)
    return to_choices(content, server)


def find_obstacle_now(server: Server, choice: MapChoice) -> str:
    """Return why a running server cannot have a map that its next start would have; empty if it can.

    Until then it keeps the overlays that it was started with. At most three queries.
    """
    run = newest_runs([server.pk]).first()
    names = tuple(name for name, _ in run.overlays) if run and run.is_known else None
    if names is None or names == server.blueprint.overlay_references:
        return ""
    content = read_content(server, names, server.host.build_id)
    if not content.is_complete or choice.map in content.maps:
        return ""
    return _(
        "%(server)s was started before its blueprint had the overlay with %(map)s. Choose “At "
        "next start” and restart it."
    ) % {"server": server.name, "map": choice.map}


def to_choices(content: ReportedContent, server: Server) -> MapChoices:
    """Return what can be played of what was reported."""
    host = server.host.name
    if content.release is None and not content.overlays:
        return MapChoices(
            (),
            _(
                "The panel does not know yet what there is to play on host %(host)s: its worker "
                "has reported neither the game nor an overlay of this server. It does so soon "
                "after it starts, and after an install."
            )
            % {"host": host},
        )
    campaigns = [to_campaign(one, content) for one in content.campaigns]
    unknown = [*([_("the game")] if content.release is None else []), *content.missing]
    obstacle = ""
    if unknown:
        names = ", ".join(unknown)
        obstacle = _("Host %(host)s has not reported these yet: %(names)s.") % {
            "host": host,
            "names": names,
        }
    found = [one for one in campaigns if one.modes]
    if not found and not obstacle:
        obstacle = _(
            "Neither the game on host %(host)s nor an overlay of this server has a campaign."
        ) % {"host": host}
    return MapChoices(tuple(with_keys(found)), obstacle)


def to_campaign(campaign: Mapping[str, Any], content: ReportedContent) -> CampaignChoices:
    """Return a campaign, its modes in the order of the game's menu, with the chapters whose map exists."""
    title = campaign["title"] or campaign["name"] or campaign["path"]
    left_out: set[str] = set()
    modes: dict[str, ModeChoices] = {}
    for mode in campaign["modes"]:
        name = mode["name"].lower()
        choices = []
        for number, chapter in enumerate(mode["chapters"], start=1):
            is_there = chapter["map"] in content.maps or not content.is_complete
            if is_there and MAP.fullmatch(chapter["map"]) and MODE.fullmatch(name):
                has_title = chapter["title"].lower() not in ("", chapter["map"])
                called = chapter["title"] if has_title else name_chapter(chapter["map"])
                choices.append(MapChoice(title, called, number, chapter["map"], name))
            else:
                left_out.add(chapter["map"])
        if choices:
            modes.setdefault(name, ModeChoices(name, tuple(choices)))
    for name, base in PLAYED_ON.items():
        if base in modes and name not in modes:
            same = tuple(replace(choice, mode=name) for choice in modes[base].choices)
            modes[name] = ModeChoices(name, same)
    ordered = sorted(modes.values(), key=lambda one: sort_key(one.mode))
    return CampaignChoices("", title, tuple(ordered), len(left_out), campaign["problem"])


def with_keys(campaigns: Sequence[CampaignChoices]) -> Iterable[CampaignChoices]:
    """Yield campaigns with their keys in addresses: their first map, with a number if that is ambiguous."""
    seen: Counter[str] = Counter()
    for campaign in campaigns:
        first = campaign.modes[0].choices[0].map
        seen[first] += 1
        yield replace(campaign, key=first if seen[first] == 1 else f"{first}:{seen[first]}")
