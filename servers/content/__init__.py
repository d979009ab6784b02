"""What overlays and the game contain: campaigns, chapters, modes, and what would prevent a start."""

from servers.content.game_modes import find_mode_in
from servers.content.loaded_notes import find_loaded_notes
from servers.content.map_choices import (
    MapChoice,
    MapChoices,
    NextStart,
    find_obstacle_now,
    read_choices,
    read_next_start,
)
from servers.content.map_words import map_command, save_next_start, tell_outcome
from servers.content.missing_maps import MissingMap, find_missing_map
from servers.content.next_steps import find_next_steps
from servers.content.overlay_notes import list_campaigns, read_overlay_rows
from servers.content.report_columns import describe_overlay, describe_plugins, describe_release
from servers.content.start_notes import find_start_notes

__all__ = [
    "MapChoice",
    "MapChoices",
    "MissingMap",
    "NextStart",
    "describe_overlay",
    "describe_plugins",
    "describe_release",
    "find_loaded_notes",
    "find_missing_map",
    "find_mode_in",
    "find_next_steps",
    "find_obstacle_now",
    "find_start_notes",
    "list_campaigns",
    "map_command",
    "read_choices",
    "read_next_start",
    "read_overlay_rows",
    "save_next_start",
    "tell_outcome",
]
