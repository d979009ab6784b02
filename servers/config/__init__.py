"""What a server starts with, and what has changed since its last start."""

from servers.config.cures import (
    CureError,
    Problem,
    apply_cure,
    find_providers,
    propose_cures,
)
from servers.config.game_installs import GameOnHost, read_games
from servers.config.names import suggest_server_name
from servers.config.ready_blueprints import READY_BLUEPRINTS, find_rows
from servers.config.secret_moves import (
    OtherKeysError,
    find_unmoved,
    give_rcon_password,
    move_found_secrets,
    rotate_secrets,
)
from servers.config.sourcemod_notes import find_sourcemod_note
from servers.config.start_checks import find_certain_conflicts
from servers.config.starts import compare_runs, find_gaps, list_starts
from servers.config.waiting_changes import (
    describe_waiting,
    find_waiting,
    find_way_back,
    name_parts,
    newest_runs,
)

__all__ = [
    "READY_BLUEPRINTS",
    "CureError",
    "GameOnHost",
    "OtherKeysError",
    "Problem",
    "apply_cure",
    "compare_runs",
    "describe_waiting",
    "find_certain_conflicts",
    "find_gaps",
    "find_providers",
    "find_rows",
    "find_sourcemod_note",
    "find_unmoved",
    "find_waiting",
    "find_way_back",
    "give_rcon_password",
    "list_starts",
    "move_found_secrets",
    "name_parts",
    "newest_runs",
    "propose_cures",
    "read_games",
    "rotate_secrets",
    "suggest_server_name",
]
