"""Hosts, overlays, blueprints and servers. What happens to them is in `jobs`; nothing here touches a host."""

from servers.models.admins import MOST_ADMINS, AdminPreset, AdminsNote, AdminsState, GameAdmin
from servers.models.bans import Ban, BanQuerySet, bans_changed, find_lasting
from servers.models.blueprints import (
    Blueprint,
    BlueprintOverlay,
    BlueprintQuerySet,
    overlays_changed,
)
from servers.models.commands import (
    ANSWER_SECONDS,
    COMMANDS_KEPT,
    LOST_AFTER,
    MAX_COMMAND_BYTES,
    TAKE_WITHIN,
    CommandState,
    ConsoleCommand,
    note_news,
)
from servers.models.console_names import ConsoleName, ConsoleNames
from servers.models.consoles import Block, ConsoleLine, ConsoleRun, ConsoleSegment, StoredLine
from servers.models.hosts import Host, HostQuerySet, NoFreePortError, Release
from servers.models.launches import LaunchSettings, LaunchTexts
from servers.models.maps import SETTLES_WITHIN, MapChange, MapChangeState
from servers.models.memberships import Membership, MembershipQuerySet, has_role
from servers.models.overlays import (
    NOTE_CHARS,
    LaidOutVersion,
    Overlay,
    OverlayQuerySet,
    OverlayVersion,
)
from servers.models.players import (
    NAME_CHARS,
    SESSIONS_KEPT_OF_SERVER,
    PlayerSession,
    PlayerSessionQuerySet,
)
from servers.models.reach import LOOPBACK
from servers.models.reports import (
    REPORT_VERSION,
    OverlayReport,
    OverlayReportQuerySet,
    ReleaseReport,
)
from servers.models.runs import RUNS_KEPT, Run, RunPart
from servers.models.servers import (
    CRASHES_KEPT,
    MAP_CHARS,
    MODE_CHARS,
    UP_STATES,
    ActualState,
    Crash,
    DesiredState,
    Server,
    ServerQuerySet,
)
from servers.models.tags import TAG_CHARS, ServerTag
from servers.models.uploads import (
    KEPT_DAYS,
    MOST_PARTS,
    Upload,
    UploadPart,
    UploadQuerySet,
    UploadState,
)
from servers.models.validation import (
    validate_arguments,
    validate_config,
    validate_name,
    validate_server_name,
)

__all__ = [
    "ANSWER_SECONDS",
    "COMMANDS_KEPT",
    "CRASHES_KEPT",
    "KEPT_DAYS",
    "LOOPBACK",
    "LOST_AFTER",
    "MAP_CHARS",
    "MAX_COMMAND_BYTES",
    "MODE_CHARS",
    "MOST_ADMINS",
    "MOST_PARTS",
    "NAME_CHARS",
    "NOTE_CHARS",
    "REPORT_VERSION",
    "RUNS_KEPT",
    "SESSIONS_KEPT_OF_SERVER",
    "SETTLES_WITHIN",
    "TAG_CHARS",
    "TAKE_WITHIN",
    "UP_STATES",
    "ActualState",
    "AdminPreset",
    "AdminsNote",
    "AdminsState",
    "Ban",
    "BanQuerySet",
    "Block",
    "Blueprint",
    "BlueprintOverlay",
    "BlueprintQuerySet",
    "CommandState",
    "ConsoleCommand",
    "ConsoleLine",
    "ConsoleName",
    "ConsoleNames",
    "ConsoleRun",
    "ConsoleSegment",
    "Crash",
    "DesiredState",
    "GameAdmin",
    "Host",
    "HostQuerySet",
    "LaidOutVersion",
    "LaunchSettings",
    "LaunchTexts",
    "MapChange",
    "MapChangeState",
    "Membership",
    "MembershipQuerySet",
    "NoFreePortError",
    "Overlay",
    "OverlayQuerySet",
    "OverlayReport",
    "OverlayReportQuerySet",
    "OverlayVersion",
    "PlayerSession",
    "PlayerSessionQuerySet",
    "Release",
    "ReleaseReport",
    "Run",
    "RunPart",
    "Server",
    "ServerQuerySet",
    "ServerTag",
    "StoredLine",
    "Upload",
    "UploadPart",
    "UploadQuerySet",
    "UploadState",
    "bans_changed",
    "find_lasting",
    "has_role",
    "note_news",
    "overlays_changed",
    "validate_arguments",
    "validate_config",
    "validate_name",
    "validate_server_name",
]
