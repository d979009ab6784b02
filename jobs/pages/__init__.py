"""The pages of jobs and hosts, those of servers that show their jobs, and the requests that they post."""

from jobs.pages.admin_pages import game_admin_remove, game_admins
from jobs.pages.ban_pages import ban_export, ban_import, ban_lift, bans
from jobs.pages.command_pages import (
    command_answer,
    command_latest,
    command_names,
    commands,
)
from jobs.pages.host_pages import host_detail, host_drain, host_job_create, host_list
from jobs.pages.job_lists import describe_missing_indexes
from jobs.pages.job_pages import (
    deferred_forget,
    job_cancel,
    job_create,
    job_detail,
    job_list,
    job_log,
    job_retry,
    job_steam_guard_code,
)
from jobs.pages.make_and_start import server_make_and_start
from jobs.pages.many_servers import jobs_create, tags_change
from jobs.pages.map_pages import map_chapters, map_next, map_now, server_map
from jobs.pages.player_pages import player_kick, player_tell, players, players_say
from jobs.pages.save_and_restart import blueprint_save_and_restart, server_save_and_restart
from jobs.pages.server_heads import describe_head
from jobs.pages.server_pages import (
    server_config,
    server_console,
    server_crashes,
    server_detail,
    server_history,
)
from jobs.pages.server_strips import failure_dismiss
from jobs.pages.start_pages import server_starts, server_starts_compare
from jobs.pages.upload_pages import upload_detail, upload_discard, upload_finish, uploads

__all__ = [
    "ban_export",
    "ban_import",
    "ban_lift",
    "bans",
    "blueprint_save_and_restart",
    "command_answer",
    "command_latest",
    "command_names",
    "commands",
    "deferred_forget",
    "describe_head",
    "describe_missing_indexes",
    "failure_dismiss",
    "game_admin_remove",
    "game_admins",
    "host_detail",
    "host_drain",
    "host_job_create",
    "host_list",
    "job_cancel",
    "job_create",
    "job_detail",
    "job_list",
    "job_log",
    "job_retry",
    "job_steam_guard_code",
    "jobs_create",
    "map_chapters",
    "map_next",
    "map_now",
    "player_kick",
    "player_tell",
    "players",
    "players_say",
    "server_config",
    "server_console",
    "server_crashes",
    "server_detail",
    "server_history",
    "server_make_and_start",
    "server_map",
    "server_save_and_restart",
    "server_starts",
    "server_starts_compare",
    "tags_change",
    "upload_detail",
    "upload_discard",
    "upload_finish",
    "uploads",
]
