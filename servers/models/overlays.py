"""Overlays, and the versions of those that the panel itself keeps."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Left, Now
from django.urls import reverse
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from hostops.specs import OverlayReference
from servers.models.hosts import Host
from servers.models.reports import ContentReport, WithFindings
from servers.models.validation import name_check, validate_name
from servers.permissions import Person, Role, Verb, may

NOTE_CHARS = 200
ORIGIN_CHARS = 200
SUMMARY_CHARS = 300
DIGEST_CHARS = 64
REFERENCE_CHARS = 128


class OverlayQuerySet(models.QuerySet["Overlay"]):
    """Overlays, by who may do what with them."""

    def usable_by(self, user: Person) -> "OverlayQuerySet":
        """Return the overlays that `user` may put into a blueprint."""
        if may(user, Verb.USE_OVERLAY):
            return self
        return self.filter(Q(is_shared=True) | Q(owner_id=user.pk))

    def with_summaries(self) -> "OverlayQuerySet":
        """Load only the beginning of each description, for lists: `summary` shows it."""
        start = Left("description", SUMMARY_CHARS + 1)
        return self.defer("description").annotate(description_start=start)


class Overlay(models.Model):
    """A named set of files laid over the game: addons, SourceMod, maps, cfg.

    One with a `latest` version is kept by the panel: hosts fetch its files. Without one it is empty, unless it
    `is_host_folder`: then its files lie on each host below `HOST_ROOT/overlays/<name>/`, laid out as in the
    game's own folder, put there by people.
    """

    name = models.CharField(max_length=32, unique=True, validators=[validate_name])
    description = models.TextField(blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="overlays",
        help_text=gettext_lazy("Who brings its versions, beside the admins."),
    )
    is_shared = models.BooleanField(
        gettext_lazy("shared"),
        default=True,
        help_text=gettext_lazy("Every owner may use it in blueprints."),
    )
    is_host_folder = models.BooleanField(
        gettext_lazy("folder of hosts"),
        default=False,
        db_default=False,
        help_text=gettext_lazy(
            "Until it has a version here, servers use the folder of its name on their hosts, native code and "
            "all. Only people who may bring native code can say so."
        ),
    )
    latest = models.ForeignKey(
        "OverlayVersion", models.SET_NULL, null=True, editable=False, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = OverlayQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        permissions = [("bring_native_code", "Can bring native code onto hosts")]
        constraints = [name_check("overlay_name_is_valid")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the address of its page."""
        return reverse("servers:overlay_detail", args=[self.name])

    @property
    def summary(self) -> str:
        """The beginning of its description, for lists."""
        loaded = vars(self)
        start = loaded["description_start" if "description_start" in loaded else "description"]
        return Truncator(start).chars(SUMMARY_CHARS)

    def clean(self) -> None:
        """Refuse the name of one of our own pages: /overlays/new/ is where overlays are made."""
        if self._state.adding and self.name == "new":
            raise ValidationError(
                {"name": _("“new” is taken by a page of the panel. Choose another name.")}
            )

    def role_of(self, user: Person) -> Role | None:
        """Return the role of `user` on it: that of its owner, or of people who may use it."""
        if self.owner_id is not None and self.owner_id == user.pk:
            return Role.OWNER
        return Role.VIEWER if self.is_shared else None


class OverlayVersion(WithFindings, ContentReport):
    """The state of an overlay at one time. Nothing about it ever changes except the report on what is in it.

    Its files are listed in a manifest (`hostops.specs.read_manifest`), which is a blob of the panel's store
    like the files themselves; `digest` is the manifest's hash. `findings` are like those of an
    `OverlayReport`.
    """

    overlay = models.ForeignKey(Overlay, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    digest = models.CharField(max_length=DIGEST_CHARS)
    reference = models.CharField(
        max_length=REFERENCE_CHARS,
        unique=True,
        help_text=gettext_lazy("What servers are made of it by."),
    )
    files = models.PositiveIntegerField()
    size_bytes = models.BigIntegerField()
    added_bytes = models.BigIntegerField(
        help_text=gettext_lazy(
            "Of its files and its manifest, what no version of the overlay had before it."
        )
    )
    has_native_code = models.BooleanField(default=False)
    findings = models.JSONField(default=list)
    plugins = models.JSONField(
        null=True,
        help_text=gettext_lazy(
            "What its plugins need and provide, as hostops.specs.PluginNeeds; null: not all were read."
        ),
    )
    note = models.CharField(max_length=NOTE_CHARS, blank=True)
    origin = models.CharField(
        max_length=ORIGIN_CHARS, blank=True, help_text=gettext_lazy("Where it came from.")
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    created_by_name = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["overlay", "number"], name="overlay_version_once")
        ]

    def __str__(self) -> str:
        return OverlayReference.parse(self.reference).label


class LaidOutVersion(models.Model):
    """A version that a host has ready, according to its worker: a start there does not have to fetch it."""

    host = models.ForeignKey(Host, models.CASCADE, related_name="laid_out_versions")
    version = models.ForeignKey(OverlayVersion, models.CASCADE, related_name="laid_out")
    found_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["host", "version"], name="laid_out_once_per_host")
        ]

    def __str__(self) -> str:
        return f"{self.version} on {self.host}"
