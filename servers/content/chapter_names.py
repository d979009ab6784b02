"""What players call the chapters of Valve's campaigns; their mission files only have keys of a string table."""

import re

_CHAPTERS = {
    1: ("The Hotel", "The Streets", "The Mall", "The Atrium"),
    2: ("The Highway", "The Fairgrounds", "The Coaster", "The Barns", "The Concert"),
    3: ("The Plank Country", "The Swamp", "The Shantytown", "The Plantation"),
    4: (
        "The Milltown",
        "The Sugar Mill",
        "The Mill Escape",
        "The Return to Town",
        "The Town Escape",
    ),
    5: ("The Waterfront", "The Park", "The Cemetery", "The Quarter", "The Bridge"),
    6: ("The Riverbank", "The Underground", "The Port"),
    7: ("The Docks", "The Barge", "The Port"),
    8: ("The Apartments", "The Subway", "The Sewer", "The Hospital", "The Rooftop"),
    9: ("The Alleys", "The Truck Depot"),
    10: ("The Turnpike", "The Drains", "The Church", "The Town", "The Boathouse"),
    11: ("The Greenhouse", "The Crane", "The Construction Site", "The Terminal", "The Runway"),
    12: ("The Woods", "The Tunnel", "The Bridge", "The Train Station", "The Farmhouse"),
    13: ("Alpine Creek", "South Pine Stream", "Memorial Bridge", "Cut-throat Creek"),
    14: ("The Junkyard", "The Lighthouse"),
}
"""By the number of the campaign, in the order of its chapters."""

_OFFICIAL = re.compile(r"c(\d{1,2})m([1-5])_[a-z_]+")


def name_chapter(map_name: str) -> str:
    """Return what players call a chapter of Valve's; empty for a map that is not one of them."""
    match = _OFFICIAL.fullmatch(map_name)
    chapters = _CHAPTERS.get(int(match[1]), ()) if match else ()
    number = int(match[2]) if match else 0
    return chapters[number - 1] if number <= len(chapters) and number else ""
