"""The pages of servers, blueprints and overlays that show no job."""

from servers.pages.console_pages import read_console_page
from servers.pages.live import Renewal, choose_renewal, is_refresh, needs_log
from servers.pages.new_server_pages import MADE_PARAMETER, create_server
from servers.pages.server_pages import edit_blueprint, edit_server, lead_to_server
from servers.pages.tag_pages import say_taken

__all__ = [
    "MADE_PARAMETER",
    "Renewal",
    "choose_renewal",
    "create_server",
    "edit_blueprint",
    "edit_server",
    "is_refresh",
    "lead_to_server",
    "needs_log",
    "read_console_page",
    "say_taken",
]
