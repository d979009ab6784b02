"""Hosts and the releases of the game that are installed there."""

from collections import Counter
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.translation import gettext, gettext_lazy, ngettext

from hostops.specs import PORT_RANGE, Severity
from servers.models.ports import find_panel_ports, find_port_obstacle
from servers.models.validation import name_check, validate_name


class NoFreePortError(ValidationError):
    """Every port of the range is taken on a host."""


class HostQuerySet(models.QuerySet["Host"]):
    """Hosts, by their load."""

    def least_loaded(self) -> "Host | None":
        """Return the best host for a new server: the one with the fewest servers."""
        hosts = self.taking_servers().annotate(server_count=models.Count("servers"))
        return hosts.order_by("server_count", "name").first()

    def taking_servers(self) -> "HostQuerySet":
        """Return the hosts that accept new servers."""
        return self.filter(is_draining=False)

    def placement_obstacle(self) -> str:
        """Return why no host accepts a new server, in a sentence; empty if one does, or there are no hosts."""
        hosts = list(self)
        if any(not host.placement_obstacle for host in hosts):
            return ""
        if len(hosts) == 1:
            return hosts[0].placement_obstacle
        return (
            gettext(
                "All hosts are being drained. None takes a new server until an admin ends that."
            )
            if hosts
            else ""
        )


class Host(models.Model):
    """A machine that runs game servers, with its worker's latest reports."""

    name = models.CharField(max_length=32, unique=True, validators=[validate_name])
    address = models.CharField(
        max_length=255,
        blank=True,
        help_text=gettext_lazy(
            "Name or IP address that players connect to. Shown on server pages."
        ),
    )
    bind_address = models.GenericIPAddressField(
        gettext_lazy("bind address"),
        protocol="IPv4",
        null=True,
        blank=True,
        help_text=gettext_lazy(
            "The address that its game servers bind to (-ip), such as 0.0.0.0. Empty: the "
            "game chooses."
        ),
    )
    taken_ports = models.JSONField(
        default=list,
        blank=True,
        editable=False,
        help_text=gettext_lazy("Ports that other programs hold, as its worker saw."),
    )
    driver = models.CharField(max_length=16, blank=True, editable=False)
    game_source = models.CharField(max_length=16, blank=True, editable=False)
    is_draining = models.BooleanField(
        gettext_lazy("draining"),
        default=False,
        help_text=gettext_lazy("Its workers take no more jobs, and no new server is placed on it."),
    )
    layering = models.CharField(max_length=16, blank=True, editable=False)
    layering_detail = models.TextField(blank=True, editable=False)
    limits_without_effect = models.CharField(
        max_length=64,
        blank=True,
        editable=False,
        help_text=gettext_lazy("Which limits of blueprints nothing holds servers to here."),
    )
    build_id = models.CharField(max_length=32, blank=True, editable=False)
    latest_build_id = models.CharField(
        max_length=32, blank=True, editable=False, help_text=gettext_lazy("What Steam hands out.")
    )
    latest_build_at = models.DateTimeField(
        null=True,
        editable=False,
        help_text=gettext_lazy("When Steam said so; it may have changed since."),
    )
    walls = models.JSONField(
        default=list,
        blank=True,
        editable=False,
        help_text=gettext_lazy("What keeps a game's code in on this host."),
    )
    disk_free_bytes = models.BigIntegerField(null=True, editable=False)
    load_average = models.FloatField(
        null=True,
        editable=False,
        help_text=gettext_lazy("Of the last minute, as a share of its processors."),
    )
    disk_total_bytes = models.BigIntegerField(null=True, editable=False)
    memory_total_bytes = models.BigIntegerField(null=True, editable=False)
    memory_available_bytes = models.BigIntegerField(null=True, editable=False)
    reported_at = models.DateTimeField(null=True, editable=False)
    findings = models.JSONField(
        default=list,
        blank=True,
        editable=False,
        help_text=gettext_lazy(
            "What its worker’s doctor found: subject, text, cure and severity of each."
        ),
    )
    findings_at = models.DateTimeField(
        null=True, editable=False, help_text=gettext_lazy("When it looked last, whatever it found.")
    )
    overlays_reported_at = models.DateTimeField(
        null=True,
        editable=False,
        help_text=gettext_lazy(
            "When its overlays, or what its release has, were last found to have changed."
        ),
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = HostQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        permissions = [
            ("install", "Can install and update the game"),
            ("rollback", "Can roll the game back"),
            ("check", "Can look for updates of the game"),
            ("drain", "Can drain hosts"),
        ]
        constraints = [name_check("host_name_is_valid")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the address of the host's page."""
        return reverse("jobs:host", args=[self.name])

    @classmethod
    def local(cls) -> "Host":
        """Return the row of the host named in the settings, creating it if it is missing."""
        return cls.objects.get_or_create(name=settings.HOST_NAME)[0]

    @property
    def is_simulated(self) -> bool:
        """Whether the servers of this host run the simulated game."""
        return self.game_source == "simulator"

    @property
    def load_percent(self) -> int | None:
        """How busy its processors were in the minute before its worker's last report."""
        return None if self.load_average is None else round(self.load_average * 100)

    @property
    def load_text(self) -> str:
        """The load in words; empty if unknown."""
        percent = self.load_percent
        if percent is None or percent <= 100:
            return "" if percent is None else f"{percent} %"
        # In percent, an overload looks like a fault of the measurement.
        times = f"{percent / 100:.1f}" if percent < 1000 else f"{percent / 100:.0f}"
        return gettext("%(times)s × what its cores can do") % {"times": times}

    @property
    def memory_text(self) -> str:
        """How much memory is free, and how much there is; empty if unknown."""
        return describe_free(self.memory_available_bytes, self.memory_total_bytes)

    @property
    def disk_text(self) -> str:
        """How much of the disk is free, and how much there is; empty if unknown."""
        return describe_free(self.disk_free_bytes, self.disk_total_bytes)

    @property
    def memory_percent(self) -> int | None:
        """The percentage of its memory in use at its worker's last report."""
        return used_percent(self.memory_available_bytes, self.memory_total_bytes)

    @property
    def disk_percent(self) -> int | None:
        """The percentage in use of the disk with its servers, at its worker's last report."""
        return used_percent(self.disk_free_bytes, self.disk_total_bytes)

    @property
    def problems(self) -> list[dict[str, Any]]:
        """Its doctor's findings that are not as they should be, worst first."""
        worst_first = [Severity.FAULT, Severity.WARNING, Severity.TODO]
        found = [one for one in self.findings if one["severity"] in worst_first]
        return sorted(found, key=lambda one: worst_first.index(one["severity"]))

    @property
    def worst_severity(self) -> str:
        """How bad the worst of its problems is; empty if there are none."""
        return next((one["severity"] for one in self.problems), "")

    @property
    def problems_words(self) -> str:
        """How many problems of which severity it has, worst first, such as “1 fault, 2 warnings”; or empty."""
        counts = Counter(one["severity"] for one in self.problems)
        words = {
            Severity.FAULT: ngettext("%(count)d fault", "%(count)d faults", counts["fault"]),
            Severity.WARNING: ngettext(
                "%(count)d warning", "%(count)d warnings", counts["warning"]
            ),
            Severity.TODO: ngettext(
                "%(count)d thing to do", "%(count)d things to do", counts["todo"]
            ),
        }
        found = [words[one] % {"count": counts[one]} for one in words if counts[one]]
        return ", ".join(found)

    @property
    def problems_url(self) -> str:
        """The address of its problems, which are the first thing on its page."""
        return f"{self.get_absolute_url()}#problems"

    @property
    def fine_findings(self) -> list[dict[str, Any]]:
        """Its doctor's findings that are as they should be."""
        return [one for one in self.findings if one["severity"] == Severity.OK]

    @property
    def standing_walls(self) -> str:
        """The walls of the box that its game servers run in, in words; empty if there are none."""
        return ", ".join(wall["name"].lower() for wall in self.walls if wall["stands"])

    @property
    def missing_walls(self) -> list[str]:
        """A sentence for each wall that does not stand: why, and what would put it up."""
        return [wall["sentence"] for wall in self.walls if not wall["stands"]]

    @property
    def available_build_id(self) -> str:
        """The build that Steam offered when it was last asked, if a different one is current here."""
        is_other = self.build_id and self.latest_build_id != self.build_id
        return self.latest_build_id if is_other else ""

    @property
    def placement_obstacle(self) -> str:
        """Why no new server can be placed here, in a sentence; empty if one can."""
        if not self.is_draining:
            return ""
        return gettext(
            "Host %(name)s is being drained and takes no new server until an admin ends that."
        ) % {"name": self.name}

    @property
    def lacks_game(self) -> bool:
        """Whether the host has reported, and has no release of the game."""
        return self.reported_at is not None and not self.build_id

    def find_free_port(self, *, locks: bool = True) -> int:
        """Return the lowest port that no server of this host has and no program holds. Needs a transaction.

        The host's worker last reported which ports programs hold. Raises `NoFreePortError` if all are taken.
        With `locks`, searches take turns, as new servers have to. Without, the row of a server may be locked
        already: workers lock hosts before servers, and servers before hosts. Storing the port then raises
        IntegrityError if somebody else was faster.
        """
        # On PostgreSQL the lock makes two searches take turns; SQLite's transactions always do.
        rows = Host.objects.select_for_update(no_key=True) if locks else Host.objects.all()
        self.taken_ports = rows.get(pk=self.pk).taken_ports
        if (port := self.next_free_port()) is not None:
            return port
        raise NoFreePortError(
            gettext(
                "Host %(name)s has no free port between %(first)s and %(last)s. Remove a server "
                "first, or ask an admin to give the server another port."
            )
            % {"name": self.name, "first": PORT_RANGE[0], "last": PORT_RANGE[-1]}
        )

    def next_free_port(self) -> int | None:
        """Return the same port as `find_free_port`, without a lock: somebody else may take it first."""
        taken = {
            *self.servers.values_list("port", flat=True),
            *self.servers.exclude(running_port=None).values_list("running_port", flat=True),
            *self.taken_ports,
            *find_panel_ports(),
        }
        return next((port for port in PORT_RANGE if port not in taken), None)

    def find_port_obstacle(
        self, port: int, *, is_any_allowed: bool, server_pk: int | None = None
    ) -> str:
        """Return why a server here cannot have a port, in a sentence; empty if it can. Costs a query.

        `is_any_allowed` says whether this person may choose a port outside the range. `server_pk` is the
        server's, unless it is new: it may have the port with which it still runs.
        """
        is_others = ~Q(pk=server_pk) if server_pk else Q()
        if self.pk and self.servers.filter(is_others, running_port=port).exists():
            return gettext(
                "A server on host %(name)s still runs with port %(port)s, until it is restarted. "
                "Choose another port, or leave this empty to get the next free one."
            ) % {"name": self.name, "port": port}
        if port in self.taken_ports:
            return gettext(
                "Another program on host %(name)s uses port %(port)s. Choose another port, or "
                "leave this empty to get the next free one."
            ) % {"name": self.name, "port": port}
        return find_port_obstacle(port, is_any_allowed=is_any_allowed)


def describe_free(free: int | None, total: int | None) -> str:
    """Return how much of something is free, in words; empty if unknown."""
    if free is None or total is None:
        return ""
    texts = {"free": filesizeformat(free), "total": filesizeformat(total)}
    return gettext("%(free)s of %(total)s free") % texts


def used_percent(free: int | None, total: int | None) -> int | None:
    """Return how much of something is used, in percent; None if unknown."""
    if free is None or not total:
        return None
    return round(100 * (total - free) / total)


class Release(models.Model):
    """One installed build of the game, according to the host's worker's last report."""

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
