"""Many servers at once: the list, its filters and its tags."""

from servers.fleet.board import BoardQuery, find_matching, read_board
from servers.fleet.tags import (
    TagsError,
    add_tag,
    adopt_spelling,
    configurable_by,
    count_tags,
    parse_tag,
    parse_tags,
    rename_tag,
    set_tags,
    tags_changed,
    tags_of,
    take_tag,
)

__all__ = [
    "BoardQuery",
    "TagsError",
    "add_tag",
    "adopt_spelling",
    "configurable_by",
    "count_tags",
    "find_matching",
    "parse_tag",
    "parse_tags",
    "read_board",
    "rename_tag",
    "set_tags",
    "tags_changed",
    "tags_of",
    "take_tag",
]
