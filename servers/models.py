"""Hosts, overlays, blueprints and servers. What happens to them is in `jobs`; nothing here touches a host."""

from collections.abc import Collection
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models, transaction
from django.db.models import OuterRef, Prefetch, Q, Subquery
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from hostops.specs import (
    NAME_PATTERN,
    PORT_RANGE,
    InstanceSpec,
    InstanceState,
    parse_arguments,
    require_config,
)

User = AbstractBaseUser | AnonymousUser

CRASHES_KEPT = 20
"""Per server."""

validate_name = RegexValidator(
    rf"\A{NAME_PATTERN}\Z",
    "Use 1 to 32 lower-case letters, digits and dashes, starting with a letter or digit.",
)


def validate_server_name(name: str) -> None:
    """Refuse names that are pages of ours: /servers/new/ is where servers are made."""
    if name in {"new", "events"}:
        raise ValidationError(f"“{name}” is taken by a page of the panel. Choose another name.")


def validate_arguments(text: str) -> None:
    """Refuse launch arguments that cannot be split or that Saferoom sets itself."""
    try:
        parse_arguments(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def validate_config(text: str) -> None:
    """Refuse config text that the game cannot read."""
    try:
        require_config(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def name_check(name: str) -> models.CheckConstraint:
    """Return the constraint that holds a `name` column to the pattern, in the database too."""
    return models.CheckConstraint(condition=Q(name__regex=rf"\A{NAME_PATTERN}\Z"), name=name)


class NoFreePortError(ValidationError):
    """Every port of the range is taken on a host."""


class HostQuerySet(models.QuerySet["Host"]):
    """Hosts, by how much is on them."""

    def least_loaded(self) -> "Host | None":
        """Return the host that a new server is best placed on: the one with the fewest servers."""
        hosts = self.filter(is_draining=False).annotate(server_count=models.Count("servers"))
        return hosts.order_by("server_count", "name").first()


class Host(models.Model):
    """A machine that runs game servers. What its worker last reported of it is kept here."""

    name = models.CharField(max_length=32, unique=True, validators=[validate_name])
    address = models.CharField(
        max_length=255,
        blank=True,
        help_text="Name or IP address that players connect to. Shown on server pages.",
    )
    driver = models.CharField(max_length=16, blank=True, editable=False)
    game_source = models.CharField(max_length=16, blank=True, editable=False)
    is_draining = models.BooleanField(
        "draining",
        default=False,
        help_text="Its workers take no more jobs, and no new server is placed on it.",
    )
    layering = models.CharField(max_length=16, blank=True, editable=False)
    layering_detail = models.TextField(blank=True, editable=False)
    build_id = models.CharField(max_length=32, blank=True, editable=False)
    disk_free_bytes = models.BigIntegerField(null=True, editable=False)
    load_average = models.FloatField(
        null=True, editable=False, help_text="Of the last minute, as a share of its processors."
    )
    reported_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = HostQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [name_check("host_name_is_valid")]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def local(cls) -> "Host":
        """Return the row of the host that the settings name, made if it is missing."""
        return cls.objects.get_or_create(name=settings.HOST_NAME)[0]

    @property
    def is_simulated(self) -> bool:
        """Whether the servers of this host run the simulated game."""
        return self.game_source == "simulator"

    @property
    def load_percent(self) -> int | None:
        """How busy its processors were in the last minute before its worker's last report."""
        return None if self.load_average is None else round(self.load_average * 100)

    @property
    def lacks_game(self) -> bool:
        """Whether the host has reported, and has no release of the game."""
        return self.reported_at is not None and not self.build_id

    def find_free_port(self) -> int:
        """Return the lowest port no server of this host has; call it in a transaction.

        Raises `NoFreePortError` when all are taken.
        """
        # On PostgreSQL the lock makes two new servers take turns; SQLite's transactions always do.
        Host.objects.select_for_update(no_key=True).get(pk=self.pk)
        taken = set(self.servers.values_list("port", flat=True))
        for port in PORT_RANGE:
            if port not in taken:
                return port
        raise NoFreePortError(
            f"Host {self.name} has no free port between {PORT_RANGE[0]} and {PORT_RANGE[-1]}: "
            "remove a server first, or give the new one a port by hand."
        )


class Release(models.Model):
    """One installed build of the game, as the host's worker reported it last."""

    host = models.ForeignKey(Host, models.CASCADE, related_name="releases")
    build_id = models.CharField(max_length=32)
    is_current = models.BooleanField(default=False)
    installed_at = models.DateTimeField()

    class Meta:
        ordering = ["-installed_at", "-build_id"]
        constraints = [
            models.UniqueConstraint(fields=["host", "build_id"], name="release_once_per_host"),
            models.UniqueConstraint(
                fields=["host"], condition=Q(is_current=True), name="one_current_release_per_host"
            ),
        ]

    def __str__(self) -> str:
        return self.build_id


class OverlayQuerySet(models.QuerySet["Overlay"]):
    """Overlays, by who may use them."""

    def usable_by(self, user: User) -> "OverlayQuerySet":
        """Return the overlays that `user` may put into a blueprint."""
        return self if getattr(user, "is_staff", False) else self.filter(is_shared=True)


class Overlay(models.Model):
    """A named set of files laid over the game: addons, SourceMod, maps, cfg.

    The files lie on each host below `HOST_ROOT/overlays/<name>/`, laid out as in the game's own folder.
    """

    name = models.CharField(max_length=32, unique=True, validators=[validate_name])
    description = models.TextField(blank=True)
    is_shared = models.BooleanField(
        "shared", default=True, help_text="Every owner may use it in blueprints."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = OverlayQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [name_check("overlay_name_is_valid")]

    def __str__(self) -> str:
        return self.name


class BlueprintQuerySet(models.QuerySet["Blueprint"]):
    """Blueprints, by who may do what with them."""

    def usable_by(self, user: User) -> "BlueprintQuerySet":
        """Return the blueprints that `user` may make servers from."""
        if getattr(user, "is_staff", False):
            return self
        return self.filter(Q(owner_id=user.pk) | Q(is_shared=True))

    def visible_to(self, user: User) -> "BlueprintQuerySet":
        """Return the blueprints that `user` may read: the usable ones, and those of their servers.

        One that is no longer shared still says what the servers made from it start with.
        """
        if getattr(user, "is_staff", False):
            return self
        of_own_servers = Server.objects.filter(owner_id=user.pk).values("blueprint_id")
        return self.filter(Q(owner_id=user.pk) | Q(is_shared=True) | Q(pk__in=of_own_servers))

    def editable_by(self, user: User) -> "BlueprintQuerySet":
        """Return the blueprints that `user` may change."""
        return self if getattr(user, "is_staff", False) else self.filter(owner_id=user.pk)

    def with_ordered_overlays(self) -> "BlueprintQuerySet":
        """Fetch the overlays along, as `blueprint_overlays` with their places, the topmost first."""
        return self.prefetch_related("blueprint_overlays__overlay")


class Blueprint(models.Model):
    """Ordered overlays, launch arguments and config text that servers are made from.

    It is live-linked: an edit applies at the next start of each server that uses it.
    """

    name = models.CharField(max_length=32, unique=True, validators=[validate_name])
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="blueprints")
    is_shared = models.BooleanField(
        "shared",
        default=False,
        help_text="Every owner may make servers from it; only you change it.",
    )
    overlays = models.ManyToManyField(
        Overlay, through="BlueprintOverlay", related_name="blueprints", blank=True
    )
    arguments = models.TextField(
        "launch arguments",
        blank=True,
        validators=[validate_arguments],
        help_text="What srcds is started with, such as +map c1m1_hotel -maxplayers 8.",
    )
    config = models.TextField(
        blank=True,
        validators=[validate_config],
        help_text="Goes into cfg/server.cfg, before the server’s own config. Plain ASCII.",
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
        """Refuse the name that is a page of ours: /blueprints/new/ is where blueprints are made."""
        if self.name == "new":
            raise ValidationError(
                {"name": "“new” is taken by a page of the panel. Choose another name."}
            )

    def ordered_overlays(self) -> models.QuerySet[Overlay]:
        """Return the overlays, the topmost first."""
        return self.overlays.order_by("blueprint_overlays__position")

    def set_overlays(self, overlays: Collection[Overlay]) -> None:
        """Replace the overlays by `overlays`, the topmost first."""
        with transaction.atomic():
            self.blueprint_overlays.all().delete()
            BlueprintOverlay.objects.bulk_create(
                BlueprintOverlay(blueprint=self, overlay=overlay, position=position)
                for position, overlay in enumerate(overlays, start=1)
            )


class BlueprintOverlay(models.Model):
    """The place of one overlay in a blueprint; position 1 lies on top."""

    blueprint = models.ForeignKey(Blueprint, models.CASCADE, related_name="blueprint_overlays")
    overlay = models.ForeignKey(Overlay, models.PROTECT, related_name="blueprint_overlays")
    position = models.PositiveSmallIntegerField(default=1)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(
                fields=["blueprint", "overlay"], name="overlay_once_per_blueprint"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.position}. {self.overlay}"


class DesiredState(models.TextChoices):
    """What a server should be doing: `start` and `restart` ask for running, `stop` and `delete` for stopped."""

    RUNNING = "running", "running"
    STOPPED = "stopped", "stopped"


class ActualState(models.TextChoices):
    """What a server's instance was doing when its host was last asked; `unknown` until it was."""

    UNKNOWN = "unknown", "unknown"
    ABSENT = InstanceState.ABSENT.value, "no instance"
    STOPPED = InstanceState.STOPPED.value, "stopped"
    STARTING = InstanceState.STARTING.value, "starting"
    RUNNING = InstanceState.RUNNING.value, "running"
    CRASHED = InstanceState.CRASHED.value, "crashed"


class ServerQuerySet(models.QuerySet["Server"]):
    """Servers, by who may know of them."""

    def visible_to(self, user: User) -> "ServerQuerySet":
        """Return the servers that `user` owns, or all of them for an admin."""
        return self if getattr(user, "is_staff", False) else self.filter(owner_id=user.pk)

    def with_latest_job(self) -> "ServerQuerySet":
        """Fetch the newest job of each server along, as the only element of its `latest_jobs`."""
        # `jobs` knows this package, not the other way round: the relation leads to its model.
        jobs: models.QuerySet[Any] = models.QuerySet(Server.jobs.rel.related_model)
        # One look into the index of jobs by server and age for each server, whatever its history.
        newest_job = jobs.filter(server=OuterRef("pk")).order_by("-created_at", "-id").values("pk")
        newest_ids = Server.objects.values(newest_job_id=Subquery(newest_job[:1]))
        newest_jobs = jobs.filter(pk__in=newest_ids)
        return self.prefetch_related(Prefetch("jobs", newest_jobs, to_attr="latest_jobs"))


class Server(models.Model):
    """A game server as its owner sees it; its own arguments and config follow the blueprint's."""

    name = models.CharField(
        max_length=32, unique=True, validators=[validate_name, validate_server_name]
    )
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="servers")
    host = models.ForeignKey(Host, models.PROTECT, related_name="servers")
    port = models.PositiveIntegerField(
        blank=True,
        validators=[MinValueValidator(1024), MaxValueValidator(65535)],
        help_text="UDP for the game, TCP for RCON. Leave empty to get the next free one.",
    )
    blueprint = models.ForeignKey(Blueprint, models.PROTECT, related_name="servers")
    arguments = models.TextField(
        "own launch arguments",
        blank=True,
        validators=[validate_arguments],
        help_text="Added after the blueprint’s.",
    )
    config = models.TextField(
        "own config",
        blank=True,
        validators=[validate_config],
        help_text="Added after the blueprint’s; a later line wins.",
    )
    desired_state = models.CharField(
        max_length=16, choices=DesiredState, default=DesiredState.STOPPED, editable=False
    )
    actual_state = models.CharField(
        max_length=16, choices=ActualState, default=ActualState.UNKNOWN, editable=False
    )
    actual_state_at = models.DateTimeField(null=True, editable=False)
    running_build_id = models.CharField(
        max_length=32,
        blank=True,
        editable=False,
        help_text="The build that it runs from, if it runs.",
    )
    restarts = models.PositiveIntegerField(
        default=0, editable=False, help_text="After crashes, since somebody started it."
    )
    last_error = models.TextField(blank=True, editable=False)
    # How far the console has been copied into ConsoleLine rows: see jobs.watch.
    console_run = models.PositiveIntegerField(default=0, editable=False)
    console_offset = models.PositiveBigIntegerField(default=0, editable=False)
    console_seq = models.PositiveBigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ServerQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            name_check("server_name_is_valid"),
            models.UniqueConstraint(
                fields=["host", "port"],
                name="one_server_per_port",
                violation_error_message="Another server of this host has that port.",
            ),
            models.CheckConstraint(
                condition=Q(port__gte=1024, port__lte=65535), name="server_port_is_valid"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the row; one that has no port is given the next free one, or `NoFreePortError`."""
        if not self.port:
            with transaction.atomic():
                self.port = self.host.find_free_port()
                super().save(*args, **kwargs)
        else:
            super().save(*args, **kwargs)

    def get_absolute_url(self) -> str:
        """Return the address of the server's page."""
        return reverse("servers:detail", args=[self.name])

    @property
    def address(self) -> str:
        """What a player types after `connect`: the host's address, or its name, and the port."""
        return f"{self.host.address or self.host.name}:{self.port}"

    @property
    def runs_other_build(self) -> bool:
        """Whether it runs from another build than the next start would take."""
        return bool(self.running_build_id) and self.running_build_id != self.host.build_id

    @property
    def should_be(self) -> str:
        """The desired state where the actual one is another, in a word; empty where they agree."""
        is_up = self.actual_state in (ActualState.RUNNING, ActualState.STARTING)
        if (self.desired_state == DesiredState.RUNNING) == is_up:
            return ""
        if self.actual_state == ActualState.UNKNOWN and self.actual_state_at is None:
            return ""
        return self.get_desired_state_display()

    @property
    def operations(self) -> list[str]:
        """The operations that make sense for what the instance is doing, the likeliest first."""
        match self.actual_state:
            case ActualState.RUNNING | ActualState.STARTING:
                return ["stop", "restart", "initialize", "reset", "delete"]
            case ActualState.ABSENT:
                return ["start", "initialize"]
            case ActualState.STOPPED:
                return [
                    "start",
                    *(["stop"] if self.should_be else []),
                    "initialize",
                    "reset",
                    "delete",
                ]
            case _:
                return ["start", "stop", "restart", "initialize", "reset", "delete"]

    @property
    def has_instance(self) -> bool:
        """Whether the host has, or may have, files of this server."""
        if self.actual_state == ActualState.UNKNOWN:
            return self.actual_state_at is not None
        return self.actual_state != ActualState.ABSENT

    def removal_obstacle(self) -> str:
        """Return why the row cannot be removed now, in a sentence; empty when it can be."""
        if self.has_instance:
            return (
                f"Server {self.name} still has an instance on host {self.host.name}: "
                "delete the instance first."
            )
        if self.jobs.active().exists():
            return (
                f"A job of server {self.name} waits or runs: cancel it, or wait until it has ended."
            )
        return ""

    def to_spec(self) -> InstanceSpec:
        """Return what the host layer needs to make this server's instance, as the rows are now."""
        config = "\n".join(
            text.rstrip() for text in (self.blueprint.config, self.config) if text.strip()
        )
        return InstanceSpec(
            name=self.name,
            port=self.port,
            overlays=tuple(self.blueprint.ordered_overlays().values_list("name", flat=True)),
            arguments=parse_arguments(f"{self.blueprint.arguments}\n{self.arguments}"),
            config=config + "\n" if config else "",
        )

    def record_actual_state(self, state: str) -> None:
        """Store what the host says the instance is doing."""
        self.actual_state = state
        self.actual_state_at = timezone.now()
        self.save(update_fields=["actual_state", "actual_state_at", "updated_at"])


class Crash(models.Model):
    """An end that nobody asked for: when it was seen, what is known of it, and the last console lines.

    The newest `CRASHES_KEPT` of each server stay.
    """

    server = models.ForeignKey(Server, models.CASCADE, related_name="crashes", db_index=False)
    at = models.DateTimeField(default=timezone.now)
    exit_signal = models.CharField(
        max_length=16, blank=True, help_text="Such as SIGSEGV; only systemd tells it."
    )
    detail = models.TextField(blank=True)
    last_lines = models.TextField(blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name_plural = "crashes"
        indexes = [models.Index(fields=["server", "-at"], name="crashes_of_server")]

    def __str__(self) -> str:
        return f"{self.server} at {self.at:%Y-%m-%d %H:%M:%S}"

    @classmethod
    def record(cls, server: Server, *, exit_signal: str, detail: str, last_lines: str) -> None:
        """Store a crash, and forget the oldest beyond those that are kept."""
        cls.objects.create(
            server=server, exit_signal=exit_signal, detail=detail, last_lines=last_lines
        )
        kept = server.crashes.values_list("pk", flat=True)[:CRASHES_KEPT]
        server.crashes.exclude(pk__in=list(kept)).delete()


class ConsoleLine(models.Model):
    """One line of a server's console, copied from its host. `run` counts the server's starts."""

    server = models.ForeignKey(Server, models.CASCADE, related_name="console_lines", db_index=False)
    seq = models.PositiveBigIntegerField()
    run = models.PositiveIntegerField()
    line = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["seq"]
        constraints = [
            models.UniqueConstraint(fields=["server", "seq"], name="console_seq_once_per_server")
        ]

    def __str__(self) -> str:
        return self.line
