"""Uploads: what people send to an overlay from their browsers, until a job has made a version from it."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy

from servers.models.overlays import NOTE_CHARS, Overlay, OverlayVersion
from servers.permissions import Person, Role, Verb, may

KEPT_DAYS = 7
"""How long an upload is kept that nobody continues or makes a version from."""

MOST_PARTS = 10_000
PATH_CHARS = 512


class UploadState(models.TextChoices):
    """Where an upload is.

    `receiving → waiting → done | failed | cancelled`; `failed | cancelled → waiting` for another try. Its files
    are kept until it is done, or discarded, which removes the row.
    """

    RECEIVING = "receiving", gettext_lazy("receiving")
    WAITING = "waiting", gettext_lazy("being made a version of")
    DONE = "done", gettext_lazy("done")
    FAILED = "failed", gettext_lazy("failed")
    CANCELLED = "cancelled", gettext_lazy("cancelled")


class UploadQuerySet(models.QuerySet["Upload"]):
    """Uploads, by who may see them and by their state."""

    def visible_to(self, user: Person) -> "UploadQuerySet":
        """Return the uploads to overlays that `user` may change."""
        if may(user, Verb.CHANGE_OVERLAY):
            return self
        return self.filter(overlay__owner_id=user.pk)

    def open(self) -> "UploadQuerySet":
        """Return the uploads whose files are kept."""
        return self.exclude(state=UploadState.DONE)

    def abandoned(self, now: datetime | None = None) -> "UploadQuerySet":
        """Return those that nobody has continued for so long that their files are removed."""
        before = (now or timezone.now()) - timedelta(days=KEPT_DAYS)
        return self.filter(touched_at__lt=before).exclude(state=UploadState.WAITING)


class Upload(models.Model):
    """What somebody sends to one overlay at one time: files, and archives of files.

    With `adds_to_latest` it adds to the files of the latest version and replaces those at the same path;
    otherwise the new version has nothing else. `base` is the version that it was combined with in the end.
    """

    overlay = models.ForeignKey(Overlay, models.CASCADE, related_name="uploads")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="uploads")
    adds_to_latest = models.BooleanField(default=True)
    note = models.CharField(max_length=NOTE_CHARS, blank=True)
    state = models.CharField(
        max_length=16, choices=UploadState, default=UploadState.RECEIVING, editable=False
    )
    error = models.TextField(blank=True, help_text=gettext_lazy("One line for people."))
    base = models.ForeignKey(
        OverlayVersion, models.SET_NULL, null=True, editable=False, related_name="+"
    )
    version = models.ForeignKey(
        OverlayVersion, models.SET_NULL, null=True, editable=False, related_name="uploads"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    touched_at = models.DateTimeField(default=timezone.now, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)

    objects = UploadQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in UploadState]),
                name="upload_state_is_known",
            )
        ]

    def __str__(self) -> str:
        return f"upload {self.pk} to {self.overlay_id}"

    def get_absolute_url(self) -> str:
        """Return the address that reports its state."""
        return reverse("jobs:upload", args=[self.overlay.name, self.pk])

    def role_of(self, user: Person) -> Role | None:
        """Return the role of `user` on its overlay."""
        return self.overlay.role_of(user)

    @property
    def is_receiving(self) -> bool:
        """Whether it still takes files."""
        return self.state == UploadState.RECEIVING

    @property
    def can_be_tried(self) -> bool:
        """Whether a version may be made from what has arrived."""
        return self.state in (UploadState.RECEIVING, UploadState.FAILED, UploadState.CANCELLED)

    @property
    def expires_at(self) -> datetime:
        """When it is removed, if nobody continues it."""
        return self.touched_at + timedelta(days=KEPT_DAYS)

    def touch(self, **changes: Any) -> None:
        """Store changes of this row, and note that somebody still needs it."""
        changes["touched_at"] = timezone.now()
        for name, value in changes.items():
            setattr(self, name, value)
        self.save(update_fields=list(changes))


class UploadPart(models.Model):
    """One file of an upload. What has arrived of it is in the file named by its token.

    `path` is how it was dropped: a name, or a path within a folder. An `is_bundle` part is a tar that the
    browser has made of many small files, whose paths count as if each had been sent by itself. `modified_ms` is
    the file's own time, in milliseconds since the epoch: by path, size and time a browser finds what it has
    begun to send.
    """

    upload = models.ForeignKey(Upload, models.CASCADE, related_name="parts")
    token = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    path = models.CharField(max_length=PATH_CHARS)
    size = models.PositiveBigIntegerField()
    modified_ms = models.BigIntegerField(default=0)
    is_bundle = models.BooleanField(default=False)
    received_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["upload", "path"], name="upload_part_once_per_path")
        ]

    def __str__(self) -> str:
        return self.path
