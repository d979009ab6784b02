"""Whom a server's game is to know from its start on: who may not play, and who are its admins."""

from dataclasses import replace

from django.utils import timezone

from hostops.specs import InstanceSpec, SpecBan
from servers.models import Ban, Server, find_lasting


def with_people(spec: InstanceSpec, server: Server) -> InstanceSpec:
    """Return `spec` with the bans that hold on `server` now, the newest first, and with its admins.

    The newest are the likeliest to come back, and a config may not have room for all. Makes two queries.
    """
    now = timezone.now()
    lasting = find_lasting(Ban.objects.of_servers([server]).in_force())
    newest_first = sorted(lasting.values(), key=lambda ban: ban.pk, reverse=True)
    return replace(
        spec,
        bans=tuple(SpecBan(ban.steam_id, ban.minutes_left(now)) for ban in newest_first),
        admins=tuple(admin.to_spec() for admin in server.game_admins.all()),
    )
