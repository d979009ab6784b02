"""The people whom a server's game must know from its start: those who may not play, and its admins."""

from dataclasses import replace

from django.utils import timezone

from hostops.specs import InstanceSpec, SpecBan
from servers.models import Ban, Server, find_lasting


def with_people(spec: InstanceSpec, server: Server) -> InstanceSpec:
    """Return `spec` with the bans that apply on `server` now, newest first, and with its admins.

    The people banned last are the likeliest to come back, and a config may not have room for all. It also gets
    those whose permanent bans were lifted since the last run but one: the last run may never have launched.
    """
    now = timezone.now()
    of_server = Ban.objects.of_servers([server])
    lasting = find_lasting(of_server.in_force())
    lifted = of_server.filter(ends_at=None, lifted_at__isnull=False)
    starts = list(server.runs.values_list("started_at", flat=True)[:2])
    if len(starts) == 2:
        lifted = lifted.filter(lifted_at__gte=starts[1])
    over = set(lifted.values_list("steam_id", flat=True)) - lasting.keys()
    newest_first = sorted(lasting.values(), key=lambda ban: ban.pk, reverse=True)
    return replace(
        spec,
        bans=tuple(SpecBan(ban.steam_id, ban.minutes_left(now)) for ban in newest_first),
        admins=tuple(admin.to_spec() for admin in server.game_admins.all()),
        lifted=tuple(sorted(over)),
    )
