"""What comes after files were uploaded to an overlay: no server has them until a blueprint uses the overlay."""

from dataclasses import dataclass

from django.contrib.auth.models import User

from servers.models import Blueprint, BlueprintOverlay, Overlay

BLUEPRINTS_NAMED = 8


@dataclass(frozen=True)
class NextSteps:
    """Where an overlay is used, and the user's blueprints that it can be added to."""

    places: list[BlueprintOverlay]
    candidates: list[Blueprint]


def find_next_steps(user: User, overlay: Overlay) -> NextSteps:
    """Return where an overlay is used, and where `user` may add it. Two queries."""
    used = BlueprintOverlay.objects.filter(overlay=overlay)
    places = used.filter(blueprint__in=Blueprint.objects.visible_to(user))
    candidates = Blueprint.objects.editable_by(user).exclude(pk__in=used.values("blueprint"))
    return NextSteps(
        list(
            places.select_related("blueprint", "version").order_by("blueprint__name")[
                :BLUEPRINTS_NAMED
            ]
        ),
        list(candidates.filter(owner=user).order_by("name")[:BLUEPRINTS_NAMED]),
    )
