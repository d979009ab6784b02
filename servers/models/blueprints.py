"""Blueprints, and the overlays they have."""

from collections.abc import Collection, Mapping
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Case, F, Prefetch, Q, When
from django.db.models.functions import Coalesce, Now
from django.dispatch import Signal
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from hostops.specs import CPU_WEIGHT_RANGE, LIMIT_NAMES, MEMORY_LIMIT_RANGE, TASKS_LIMIT_RANGE
from servers.models.memberships import has_role
from servers.models.overlays import Overlay, OverlayQuerySet, OverlayVersion
from servers.models.validation import (
    find_argument_faults,
    find_config_faults,
    name_check,
    validate_arguments,
    validate_config,
    validate_name,
)
from servers.permissions import Person, Role, Verb, may

MIB = 1024**2

overlays_changed = Signal()
"""Sent when a blueprint, `instance`, gets different overlays, another order of them, or different pins."""

LOWEST_MEMORY_LIMIT_MIB = 512
"""With less, the game cannot even load a map, and would be killed at every start."""

LOWEST_TASKS_LIMIT = 32
"""srcds has a dozen threads of its own, beside the script that runs it."""

LOWEST_CPU_WEIGHT = CPU_WEIGHT_RANGE.start


class BlueprintQuerySet(models.QuerySet["Blueprint"]):
    """Blueprints, by who may do what with them."""

    def usable_by(self, user: Person) -> "BlueprintQuerySet":
        """Return the blueprints that `user` may make servers from."""
        if may(user, Verb.VIEW_BLUEPRINT):
            return self
        return self.filter(Q(owner_id=user.pk) | Q(is_shared=True))

    def visible_to(self, user: Person) -> "BlueprintQuerySet":
        """Return the blueprints that `user` may read: the usable ones, and those of servers they configure.

        One that is no longer shared still says what the servers made from it start with.
        """
        if may(user, Verb.VIEW_BLUEPRINT):
            return self
        configured = Blueprint.objects.filter(has_role(user, Verb.CONFIGURE, "servers__"))
        return self.filter(
            Q(owner_id=user.pk) | Q(is_shared=True) | Q(pk__in=configured.values("pk"))
        )

    def editable_by(self, user: Person) -> "BlueprintQuerySet":
        """Return the blueprints that `user` may change."""
        if may(user, Verb.CHANGE_BLUEPRINT):
            return self
        return self.filter(owner_id=user.pk)

    def with_ordered_overlays(self) -> "BlueprintQuerySet":
        """Fetch the overlays as well, as `blueprint_overlays` with their places, topmost first."""
        overlays = Overlay.objects.with_summaries()
        return self.prefetch_related(Prefetch("blueprint_overlays__overlay", overlays))

    def without_texts(self) -> "BlueprintQuerySet":
        """Leave out texts that can be long, for lists that only name the blueprints."""
        return self.defer("arguments", "config")


class Blueprint(models.Model):
    """Ordered overlays, launch arguments and config text that servers are made from.

    It is live-linked: an edit applies at the next start of each server that uses it.
    """

    name = models.CharField(max_length=32, unique=True, validators=[validate_name])
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="blueprints")
    is_shared = models.BooleanField(
        gettext_lazy("shared"),
        default=False,
        help_text=gettext_lazy("Every owner may make servers from it; only you change it."),
    )
    overlays = models.ManyToManyField(
        Overlay, through="BlueprintOverlay", related_name="blueprints", blank=True
    )
    arguments = models.TextField(
        gettext_lazy("launch arguments"),
        blank=True,
        validators=[validate_arguments],
        help_text=gettext_lazy(
            "What srcds is started with, such as +map c1m1_hotel -maxplayers 8."
        ),
    )
    config = models.TextField(
        blank=True,
        validators=[validate_config],
        help_text=gettext_lazy(
            "Goes into cfg/server.cfg, before the server’s own config. Plain ASCII."
        ),
    )
    memory_limit_mib = models.PositiveIntegerField(
        gettext_lazy("memory, in MiB"),
        null=True,
        blank=True,
        validators=[
            MinValueValidator(
                LOWEST_MEMORY_LIMIT_MIB,
                gettext_lazy(
                    "The game needs %(limit_value)s MiB at the least: with less it would be ended "
                    "at each start."
                ),
            ),
            MaxValueValidator((MEMORY_LIMIT_RANGE.stop - 1) // MIB),
        ],
        help_text=gettext_lazy(
            "The most that a server may take. One that wants more is ended by the kernel, "
            "and restarted as after a crash. 2048 is plenty for most."
        ),
    )
    tasks_limit = models.PositiveIntegerField(
        gettext_lazy("processes and threads"),
        null=True,
        blank=True,
        validators=[
            MinValueValidator(
                LOWEST_TASKS_LIMIT,
                gettext_lazy(
                    "The game needs %(limit_value)s at the least: with fewer it does not start."
                ),
            ),
            MaxValueValidator(TASKS_LIMIT_RANGE.stop - 1),
        ],
        help_text=gettext_lazy(
            "The most that a server may have at a time. More cannot be started: what the "
            "game or a plugin wanted one for fails, and the game may crash."
        ),
    )
    cpu_weight = models.PositiveIntegerField(
        gettext_lazy("CPU weight"),
        null=True,
        blank=True,
        validators=[
            MinValueValidator(LOWEST_CPU_WEIGHT),
            MaxValueValidator(CPU_WEIGHT_RANGE.stop - 1),
        ],
        help_text=gettext_lazy(
            "Its share where servers compete for a busy processor: 1 to 10000, and 100 is "
            "what everything else has. An idle processor is never withheld."
        ),
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = BlueprintQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [name_check("blueprint_name_is_valid")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the address of the blueprint's page."""
        return reverse("servers:blueprint_detail", args=[self.name])

    def clean(self) -> None:
        """Refuse the name of one of our own pages: /blueprints/new/ is where blueprints are made."""
        if self.name == "new":
            raise ValidationError(
                {"name": _("“new” is the address of a page of the panel. Choose another name.")}
            )

    def role_of(self, user: Person) -> Role | None:
        """Return the role of `user` on it: that of its owner, or of people who may read it. One query."""
        if self.owner_id == user.pk:
            return Role.OWNER
        configured = self.servers.filter(has_role(user, Verb.CONFIGURE))
        return Role.VIEWER if self.is_shared or configured.exists() else None

    @property
    def faults(self) -> list[str]:
        """What is wrong with its arguments and config: they may break rules that are newer than they are."""
        return [*find_argument_faults(self.arguments), *find_config_faults(self.config)]

    @property
    def limits_label(self) -> str:
        """The limits in words; empty if there are none."""
        parts = []
        if self.memory_limit_mib is not None:
            parts.append(_("%(count)s MiB of memory") % {"count": self.memory_limit_mib})
        if self.tasks_limit is not None:
            parts.append(_("%(count)s processes and threads") % {"count": self.tasks_limit})
        if self.cpu_weight is not None:
            parts.append(_("CPU weight %(weight)s") % {"weight": self.cpu_weight})
        return ", ".join(parts)

    @property
    def limit_names(self) -> list[str]:
        """Which limits are set, in the words of `hostops.specs.LIMIT_NAMES`."""
        values = (self.memory_limit_mib, self.tasks_limit, self.cpu_weight)
        return [name for name, value in zip(LIMIT_NAMES, values, strict=True) if value is not None]

    def ordered_overlays(self) -> models.QuerySet[Overlay]:
        """Return the overlays with their latest versions, topmost first."""
        overlays = cast("OverlayQuerySet", self.overlays.all()).with_summaries()
        return overlays.order_by("blueprint_overlays__position").select_related("latest")

    def read_pins(self) -> dict[int, OverlayVersion]:
        """Return the versions that are pinned here, by the ids of their overlays. One query."""
        places = self.blueprint_overlays.exclude(version=None).select_related("version")
        return {place.overlay_id: place.version for place in places if place.version}

    @cached_property
    def place_references(self) -> tuple[str | None, ...]:
        """What is at each place, topmost first: an `OverlayReference` as text, None for an empty overlay.

        As it was when this was first asked for. For an overlay with versions it is the one pinned here, or
        else the latest.
        """
        return tuple(refer(self.blueprint_overlays.all()))

    @property
    def overlay_references(self) -> tuple[str, ...]:
        """What a server is made of, topmost first, as texts of `hostops.specs.OverlayReference`."""
        return tuple(reference for reference in self.place_references if reference is not None)

    @classmethod
    def fetch_overlay_references(cls, blueprints: Collection["Blueprint"]) -> None:
        """Make `overlay_references` of many blueprints cost one query."""
        found: dict[int, list[str | None]] = {blueprint.pk: [] for blueprint in blueprints}
        places = BlueprintOverlay.objects.filter(blueprint__in=found)
        for blueprint_id, reference in refer(places, "blueprint_id"):
            found[blueprint_id].append(reference)
        for blueprint in blueprints:
            blueprint.place_references = tuple(found[blueprint.pk])

    def set_overlays(
        self, overlays: Collection[Overlay], pins: Mapping[int, OverlayVersion] | None = None
    ) -> None:
        """Replace the overlays by `overlays`, topmost first; `pins` has versions by their overlays' ids."""
        pins = pins or {}
        places = [
            BlueprintOverlay(
                blueprint=self, overlay=overlay, position=position, version=pins.get(overlay.pk)
            )
            for position, overlay in enumerate(overlays, start=1)
        ]
        with transaction.atomic():
            before = list(self.blueprint_overlays.values_list("overlay_id", "version_id"))
            self.blueprint_overlays.all().delete()
            BlueprintOverlay.objects.bulk_create(places)
        self.__dict__.pop("place_references", None)
        if before != [(place.overlay_id, place.version_id) for place in places]:
            overlays_changed.send(sender=Blueprint, instance=self)


class BlueprintOverlay(models.Model):
    """The place of one overlay in a blueprint; position 1 is on top."""

    blueprint = models.ForeignKey(Blueprint, models.CASCADE, related_name="blueprint_overlays")
    overlay = models.ForeignKey(Overlay, models.PROTECT, related_name="blueprint_overlays")
    position = models.PositiveSmallIntegerField(default=1)
    version = models.ForeignKey(
        OverlayVersion,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="pinned_places",
        help_text=gettext_lazy("The version that servers start with; empty: the latest."),
    )

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(
                fields=["blueprint", "overlay"], name="overlay_once_per_blueprint"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.position}. {self.overlay}"

    def clean(self) -> None:
        """Refuse a pin to a version of another overlay."""
        if self.version is not None and self.version.overlay_id != self.overlay_id:
            raise ValidationError(_("The version that is pinned here is one of another overlay."))


def refer(places: models.QuerySet[BlueprintOverlay], *columns: str) -> models.QuerySet[Any, Any]:
    """Return the references of overlays at `places`, topmost first: each alone, or after `columns`.

    None stands for an empty overlay: its name may be that of a folder that nobody had the right to name.
    """
    folder = Case(When(overlay__is_host_folder=True, then=F("overlay__name")))
    reference = Coalesce("version__reference", "overlay__latest__reference", folder)
    rows = places.order_by("position").annotate(reference=reference)
    return rows.values_list(*columns, "reference", flat=not columns)


def require_filled_overlays(
    blueprint_id: int, references: tuple[str | None, ...]
) -> tuple[str, ...]:
    """Return the `place_references` of a blueprint if none is None.

    Raises ValueError for an empty overlay: what a server should have of it, nobody can tell.
    """
    filled = tuple(reference for reference in references if reference is not None)
    if len(filled) == len(references):
        return filled
    empty = BlueprintOverlay.objects.filter(
        blueprint=blueprint_id, overlay__latest=None, overlay__is_host_folder=False, version=None
    )
    names = ", ".join(empty.values_list("overlay__name", flat=True))
    raise ValueError(
        _(
            "Overlays of the blueprint have no files: %(names)s. Upload some on their pages, or take them "
            "out of the blueprint."
        )
        % {"names": names}
    )
