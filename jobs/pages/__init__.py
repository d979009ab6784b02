"""The pages of jobs and hosts, and the requests that they post."""

from jobs.pages.ban_pages import ban_export, ban_import, ban_lift, bans
from jobs.pages.command_pages import (
    command_answer,
    command_latest,
    commands,
)
from jobs.pages.host_pages import host_drain, host_list
from jobs.pages.job_pages import (
    job_cancel,
    job_create,
    job_detail,
    job_list,
    job_log,
    job_retry,
    job_steam_guard_code,
)
from jobs.pages.player_pages import player_kick, players, players_say
from jobs.pages.save_and_restart import blueprint_save_and_restart, server_save_and_restart

__all__ = [
    "ban_export",
    "ban_import",
    "ban_lift",
    "bans",
    "blueprint_save_and_restart",
    "command_answer",
    "command_latest",
    "commands",
    "host_drain",
    "host_list",
    "job_cancel",
    "job_create",
    "job_detail",
    "job_list",
    "job_log",
    "job_retry",
    "job_steam_guard_code",
    "player_kick",
    "players",
    "players_say",
    "server_save_and_restart",
]
