"""URLs of jobs and of the streams that pages follow."""

from django.urls import path

import servers.urls  # noqa: F401 - registers the `name` converter
from jobs import live, pages

app_name = "jobs"

urlpatterns = [
    path("events", live.change_events, name="change_events"),
    path("hosts/", pages.host_list, name="hosts"),
    path("hosts/<name:name>/", pages.host_detail, name="host"),
    path("hosts/<name:name>/drain", pages.host_drain, name="host_drain"),
    path("hosts/<name:name>/jobs/", pages.host_job_create, name="host_job_create"),
    path("jobs/", pages.job_list, name="list"),
    path("jobs/<int:pk>/", pages.job_detail, name="detail"),
    path("jobs/<int:pk>/events", live.job_events, name="events"),
    path("jobs/<int:pk>/log.txt", pages.job_log, name="log"),
    path("jobs/<int:pk>/cancel", pages.job_cancel, name="cancel"),
    path("jobs/<int:pk>/retry", pages.job_retry, name="retry"),
    path("jobs/<int:pk>/steam-guard-code", pages.job_steam_guard_code, name="steam_guard_code"),
    path(
        "blueprints/<name:name>/save-and-restart",
        pages.blueprint_save_and_restart,
        name="blueprint_save_and_restart",
    ),
    path("overlays/<name:name>/uploads/", pages.uploads, name="uploads"),
    path("overlays/<name:name>/uploads/<int:pk>/", pages.upload_detail, name="upload"),
    path(
        "overlays/<name:name>/uploads/<int:pk>/version", pages.upload_finish, name="upload_finish"
    ),
    path(
        "overlays/<name:name>/uploads/<int:pk>/discard",
        pages.upload_discard,
        name="upload_discard",
    ),
    path("servers/new/start", pages.server_make_and_start, name="make_and_start"),
    path("jobs/many/", pages.jobs_create, name="create_many"),
    path("tags/many/", pages.tags_change, name="tag_many"),
    path("servers/<name:name>/jobs/", pages.job_create, name="create"),
    path("servers/<name:name>/failure/dismiss", pages.failure_dismiss, name="failure_dismiss"),
    path("servers/<name:name>/deferred/forget", pages.deferred_forget, name="deferred_forget"),
    path(
        "servers/<name:name>/save-and-restart",
        pages.server_save_and_restart,
        name="save_and_restart",
    ),
    path("servers/<name:name>/map/", pages.server_map, name="map"),
    path("servers/<name:name>/map/chapters/", pages.map_chapters, name="map_chapters"),
    path("servers/<name:name>/map/now/", pages.map_now, name="map_now"),
    path("servers/<name:name>/map/next/", pages.map_next, name="map_next"),
    path("servers/<name:name>/players/", pages.players, name="players"),
    path("servers/<name:name>/players/kick/", pages.player_kick, name="player_kick"),
    path("servers/<name:name>/players/say/", pages.players_say, name="players_say"),
    path("servers/<name:name>/admins/", pages.game_admins, name="game_admins"),
    path(
        "servers/<name:name>/admins/<int:pk>/remove/",
        pages.game_admin_remove,
        name="game_admin_remove",
    ),
    path("servers/<name:name>/players/tell/", pages.player_tell, name="player_tell"),
    path("servers/<name:name>/bans/", pages.bans, name="bans"),
    path("servers/<name:name>/bans/import/", pages.ban_import, name="ban_import"),
    path("servers/<name:name>/bans/banned_user.cfg", pages.ban_export, name="ban_export"),
    path("servers/<name:name>/bans/<int:pk>/lift/", pages.ban_lift, name="ban_lift"),
    path("servers/<name:name>/commands/", pages.commands, name="commands"),
    path("servers/<name:name>/commands/latest/", pages.command_latest, name="command_latest"),
    path("servers/<name:name>/commands/names/", pages.command_names, name="command_names"),
    path("servers/<name:name>/commands/<int:pk>.txt", pages.command_answer, name="command_answer"),
    path("servers/<name:name>/console/events", live.console_events, name="console_events"),
]

server_urlpatterns = [
    path("servers/<name:name>/", pages.server_detail, name="detail"),
    path("servers/<name:name>/config/", pages.server_config, name="config"),
    path("servers/<name:name>/console/", pages.server_console, name="console"),
    path("servers/<name:name>/crashes/", pages.server_crashes, name="crashes"),
    path("servers/<name:name>/history/", pages.server_history, name="history"),
    path("servers/<name:name>/starts/", pages.server_starts, name="starts"),
    path("servers/<name:name>/starts/compare/", pages.server_starts_compare, name="starts_compare"),
]
"""The pages of one server. `l4d2site.urls` adds them behind the other URLs of `servers`."""
