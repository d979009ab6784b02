"""Log lines on pages: their colours, searches, pagination, and downloads."""

from servers.logs.ansi import ESCAPE, Piece, find_shown, to_pieces
from servers.logs.downloads import send_text
from servers.logs.log_pages import (
    LogLine,
    LogPage,
    RowLog,
    Search,
    Searched,
    read_log_page,
    read_wanted,
    to_seq,
)
from servers.logs.searches import CLIENT_HAS_LEFT, SEARCH_SECONDS, SearchTurn, turns

__all__ = [
    "CLIENT_HAS_LEFT",
    "ESCAPE",
    "SEARCH_SECONDS",
    "LogLine",
    "LogPage",
    "Piece",
    "RowLog",
    "Search",
    "SearchTurn",
    "Searched",
    "find_shown",
    "read_log_page",
    "read_wanted",
    "send_text",
    "to_pieces",
    "to_seq",
    "turns",
]
