"""People in the game: their Steam IDs, who is on, who is banned, who is an admin."""

from servers.people.admin_forms import GameAdminForm
from servers.people.ban_forms import BanForm, BanListForm, find_room, full_text
from servers.people.game_people import with_people
from servers.people.game_people_counts import count_game_people
from servers.people.known_players import find_player_name, read_known_players
from servers.people.player_news import find_kicked, find_player_news, name_targets
from servers.people.player_words import (
    BadWordsError,
    kick_command,
    private_say_command,
    say_command,
)
from servers.people.steam_ids import to_steam_id

__all__ = [
    "BadWordsError",
    "BanForm",
    "BanListForm",
    "GameAdminForm",
    "count_game_people",
    "find_kicked",
    "find_player_name",
    "find_player_news",
    "find_room",
    "full_text",
    "kick_command",
    "name_targets",
    "private_say_command",
    "read_known_players",
    "say_command",
    "to_steam_id",
    "with_people",
]
