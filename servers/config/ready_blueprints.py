"""Blueprints for a new server before anybody has written one."""

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db.models import Count, Q
from django.db.models.functions import Length
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from servers.config.names import first_free_name
from servers.models import Blueprint
from servers.models.validation import to_plain_lines


@dataclass(frozen=True)
class ReadyBlueprint:
    """A way to play, with everything that the game has to be told for it."""

    key: str
    label: str | Promise
    explanation: str | Promise
    map: str
    mode: str

    @property
    def arguments(self) -> str:
        """The launch arguments. They must include the mode: configs cannot set `mp_gamemode`."""
        return f"+map {self.map} +mp_gamemode {self.mode}"

    @property
    def config(self) -> str:
        """The config: people may connect by address, and no lobby changes the mode.

        By default the game admits people only through its matchmaking lobbies.
        """
        return f"sv_allow_lobby_connect_only 0\nsv_gametypes {self.mode}"


READY_BLUEPRINTS = (
    ReadyBlueprint(
        "campaign",
        _("Campaign"),
        _("Up to four survivors fight their way through the campaigns, from Dead Center on."),
        *("c1m1_hotel", "coop"),
    ),
    ReadyBlueprint(
        "versus",
        _("Versus"),
        _("Two teams of four take turns as survivors and as infected. The higher score wins."),
        *("c5m1_waterfront", "versus"),
    ),
    ReadyBlueprint(
        "realism",
        _("Realism"),
        _("The campaign for experienced players: no outlines, harder hits, no rescue closets."),
        *("c2m1_highway", "realism"),
    ),
    ReadyBlueprint(
        "survival",
        _("Survival"),
        _("One place, endless waves: up to four survivors hold out as long as they can."),
        *("c1m4_atrium", "survival"),
    ),
)


_LONGEST_CONFIG = 256
"""A longer config is not loaded to compare it: none of these has half as much, with any line ends."""


def find_rows(owner: User) -> dict[str, Blueprint]:
    """Return, by the key of each ready blueprint, the one of `owner` with exactly its content, or a new one.

    A new one is not stored yet. Two queries.
    """
    own = Blueprint.objects.alias(config_length=Length("config")).filter(
        owner=owner,
        arguments__in=[ready.arguments for ready in READY_BLUEPRINTS],
        config_length__lte=_LONGEST_CONFIG,
        memory_limit_mib=None,
        tasks_limit=None,
        cpu_weight=None,
    )
    plain = own.annotate(overlay_count=Count("overlays")).filter(overlay_count=0)
    rows = {(row.arguments, to_plain_lines(row.config)): row for row in plain.order_by("-name")}
    is_alike = Q()
    for ready in READY_BLUEPRINTS:
        is_alike |= Q(name__startswith=ready.key)
    taken = set(Blueprint.objects.filter(is_alike).values_list("name", flat=True))
    return {
        ready.key: rows.get((ready.arguments, ready.config))
        or Blueprint(
            name=first_free_name(taken, ready.key),
            owner=owner,
            arguments=ready.arguments,
            config=ready.config,
        )
        for ready in READY_BLUEPRINTS
    }
