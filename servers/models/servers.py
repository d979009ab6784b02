"""Servers, and what is known about their crashes."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Self

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Prefetch, Q, Subquery, Value
from django.db.models.functions import Coalesce, Now
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import cached_property
from django.utils.timezone import localtime
from django.utils.translation import gettext, gettext_lazy, ngettext

from hostops.specs import (
    InstanceSpec,
    InstanceState,
    join_arguments,
    parse_arguments,
    require_secret,
)
from servers.models.blueprints import Blueprint
from servers.models.hosts import Host
from servers.models.launches import LaunchSettings, LaunchTexts, read_token
from servers.models.memberships import Membership, has_role
from servers.models.reach import is_loopback, is_private
from servers.models.validation import (
    name_check,
    validate_arguments,
    validate_config,
    validate_name,
    validate_server_name,
)
from servers.permissions import SERVER_OPERATION_VERBS, Person, Role, Verb, may
from servers.secrets import (
    SecretError,
    ServerSecret,
    encrypt,
    has_keys,
    make_password,
    rotate,
    sets_secret,
    take_secrets,
)

CRASHES_KEPT = 20
"""The limit per server."""

ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - for comparison only
MAP_CHARS = 64
"""The longest map name: as long as the engine's own paths permit."""
MODE_CHARS = 32
"""The longest name of a game mode."""


class DesiredState(models.TextChoices):
    """What a server should be doing: `start` and `restart` ask for running, `stop` and `delete` for stopped."""

    RUNNING = "running", gettext_lazy("running")
    STOPPED = "stopped", gettext_lazy("stopped")


class ActualState(models.TextChoices):
    """What a server's instance was doing when its host was last asked; `unknown` until then."""

    UNKNOWN = "unknown", gettext_lazy("unknown")
    ABSENT = InstanceState.ABSENT.value, gettext_lazy("not set up")
    STOPPED = InstanceState.STOPPED.value, gettext_lazy("stopped")
    STARTING = InstanceState.STARTING.value, gettext_lazy("starting")
    RUNNING = InstanceState.RUNNING.value, gettext_lazy("running")
    CRASHED = InstanceState.CRASHED.value, gettext_lazy("crashed")


HANGING = "hanging"
"""What pages call a server that runs and does not answer."""

UP_STATES = (ActualState.RUNNING, ActualState.STARTING)
DOWN_STATES = (ActualState.STOPPED, ActualState.CRASHED, ActualState.ABSENT)


class ServerQuerySet(models.QuerySet["Server"]):
    """Servers, by who may know about them."""

    def allowed(self, user: Person, verb: Verb) -> "ServerQuerySet":
        """Return the servers to which `user` may do `verb`, according to `may`."""
        return self if may(user, verb) else self.filter(has_role(user, verb))

    def visible_to(self, user: Person) -> "ServerQuerySet":
        """Return the servers that `user` may see, each with their role on it."""
        servers = self.defer("config_chain")  # Kilobytes each, and only one page shows it.
        return servers.allowed(user, Verb.VIEW).with_role_of(user)

    def with_role_of(self, user: Person) -> "ServerQuerySet":
        """Annotate what `role_of` returns for `user`."""
        role = Membership.objects.filter(server=OuterRef("pk")).of(user).values("role")
        return self.annotate(
            asker_id=Value(user.pk, models.BigIntegerField()),
            asker_role=Coalesce(Subquery(role), Value("")),
        )

    def with_heartbeat(self) -> "ServerQuerySet":
        """Annotate when each server's host was last heard from: see `Server.not_heard_of_since`."""
        # `jobs` depends on this package, not the other way round. Its model and rule are reached by the
        # relation.
        workers: Any = Host.workers.rel.related_model
        of_host = workers.objects.filter(host=OuterRef("host_id"))
        newest_beat = of_host.order_by("-heartbeat_at").values("heartbeat_at")[:1]
        return self.annotate(
            host_is_heard=Exists(of_host.alive()), host_heard_at=Subquery(newest_beat)
        )

    def with_latest_job(self, ids: Sequence[int]) -> "ServerQuerySet":
        """Prefetch the newest job of each of the servers `ids`, as the only element of its `latest_jobs`."""
        # `jobs` depends on this package, not the other way round. Its model is reached by the relation.
        jobs: models.QuerySet[Any] = models.QuerySet(Server.jobs.rel.related_model)
        # One lookup per server in the index of jobs by server and age, however long its history is.
        newest_job = jobs.filter(server=OuterRef("pk")).order_by("-id").values("pk")
        shown = Server.objects.order_by().filter(pk__in=ids)
        newest_ids = shown.values(newest_job_id=Subquery(newest_job[:1]))
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
        help_text=gettext_lazy(
            "UDP for the game, TCP for RCON. Leave empty to get the next free one."
        ),
    )
    blueprint = models.ForeignKey(Blueprint, models.PROTECT, related_name="servers")
    arguments = models.TextField(
        gettext_lazy("own launch arguments"),
        blank=True,
        validators=[validate_arguments],
        help_text=gettext_lazy("Added after the blueprint’s."),
    )
    config = models.TextField(
        gettext_lazy("own config"),
        blank=True,
        validators=[validate_config],
        help_text=gettext_lazy("Added after the blueprint’s; a later line wins."),
    )
    bind_address = models.GenericIPAddressField(
        gettext_lazy("bind address"),
        protocol="IPv4",
        null=True,
        blank=True,
        help_text=gettext_lazy(
            "The address that the game binds to (-ip). Empty: its host’s, or all of them."
        ),
    )
    # Fernet tokens; `servers.secrets.encryption` writes and reads them.
    rcon_password_token = models.TextField(blank=True, editable=False)
    join_password_token = models.TextField(blank=True, editable=False)
    # The parts of cfg/server.cfg as last written, without passwords. The worker reads them off the host.
    config_chain = models.JSONField(default=list, blank=True, editable=False)
    config_chain_at = models.DateTimeField(null=True, editable=False)
    desired_state = models.CharField(
        max_length=16, choices=DesiredState, default=DesiredState.STOPPED, editable=False
    )
    actual_state = models.CharField(
        max_length=16, choices=ActualState, default=ActualState.UNKNOWN, editable=False
    )
    actual_state_at = models.DateTimeField(null=True, editable=False)
    state_note = models.CharField(
        max_length=64,
        blank=True,
        editable=False,
        help_text=gettext_lazy("The state in other words, such as “restarting (2 of 5)”."),
    )
    state_detail = models.TextField(blank=True, editable=False)
    running_build_id = models.CharField(
        max_length=32,
        blank=True,
        editable=False,
        help_text=gettext_lazy("The build that it runs from, if it runs."),
    )
    running_port = models.PositiveIntegerField(
        null=True,
        editable=False,
        help_text=gettext_lazy("The port that it was started with, if it runs."),
    )
    running_address = models.CharField(
        max_length=64,
        blank=True,
        db_default="",
        editable=False,
        help_text=gettext_lazy("The only address that it was started on, if it runs."),
    )
    restarts = models.PositiveIntegerField(
        default=0,
        editable=False,
        help_text=gettext_lazy("After crashes, since somebody started it."),
    )
    crashed_run = models.PositiveIntegerField(
        default=0,
        editable=False,
        help_text=gettext_lazy(
            "The last of its starts whose crash is recorded; they are counted by its host."
        ),
    )
    last_error = models.TextField(blank=True, editable=False)
    own_bytes = models.PositiveBigIntegerField(
        null=True,
        editable=False,
        help_text=gettext_lazy(
            "What it wrote itself takes on its host's disk; unknown until that was measured."
        ),
    )
    # The server's own answers to queries: see jobs.watch.player_watch.
    players = models.PositiveSmallIntegerField(
        null=True,
        editable=False,
        help_text=gettext_lazy("People on it, without bots; unknown unless it runs and answers."),
    )
    max_players = models.PositiveSmallIntegerField(null=True, editable=False)
    map = models.CharField(max_length=MAP_CHARS, blank=True, editable=False)
    mode = models.CharField(
        max_length=MODE_CHARS,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text=gettext_lazy("The game mode; empty too if it answers and does not tell."),
    )
    unanswered_since = models.DateTimeField(
        null=True,
        editable=False,
        help_text=gettext_lazy("Since when it has left queries unanswered, once that lasts."),
    )
    # How far the console has been copied, and how much of it is waiting to become a segment:
    # see jobs.watch.console_copier.
    console_run = models.PositiveIntegerField(default=0, editable=False)
    console_run_started_at = models.FloatField(default=0, editable=False)
    console_offset = models.PositiveBigIntegerField(default=0, editable=False)
    console_seq = models.PositiveBigIntegerField(default=0, editable=False)
    console_tail_bytes = models.PositiveIntegerField(default=0, editable=False)
    # Counts events of its console commands, for watching pages.
    commands_version = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ServerQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        permissions = [
            ("view_any_server", "Can see every server"),
            ("operate_any_server", "Can start and stop every server"),
            ("set_any_port", "Can give a server any port and bind address"),
        ]
        constraints = [
            name_check("server_name_is_valid"),
            models.UniqueConstraint(
                fields=["host", "port"],
                name="one_server_per_port",
                violation_error_message=gettext_lazy("Another server of this host has that port."),
            ),
            models.CheckConstraint(
                condition=Q(port__gte=1024, port__lte=65535), name="server_port_is_valid"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the row. Without a port it gets the next free one, or `NoFreePortError` is raised.

        A new row gets its passwords, if there are keys for them.
        """
        if self._state.adding and has_keys():
            self.adopt_secrets()
        if not self.port:
            with transaction.atomic():
                self.port = self.host.find_free_port(locks=self._state.adding)
                super().save(*args, **kwargs)
        else:
            super().save(*args, **kwargs)

    def get_absolute_url(self) -> str:
        """Return the address of the server's page."""
        return reverse("servers:detail", args=[self.name])

    def role_of(self, user: Person) -> Role | None:
        """Return the role of `user` on it. Costs one query, unless it was annotated."""
        if self.owner_id == user.pk:
            return Role.OWNER
        fetched: dict[str, Any] = vars(self)
        if fetched.get("asker_id") != user.pk:
            found = self.memberships.of(user).values_list("role")
            fetched["asker_id"], fetched["asker_role"] = user.pk, (found.first() or ("",))[0]
        return Role(fetched["asker_role"]) if fetched["asker_role"] else None

    def move_to_free_port(self) -> int | None:
        """Give the server the next free port if another program holds its own; return that port, or None.

        Applies at the next start. Raises `NoFreePortError`, and IntegrityError if somebody typed that very port
        into a form at the same moment.
        """
        with transaction.atomic():
            # A second click finds the server already moved.
            locked = Server.objects.select_for_update(no_key=True).get(pk=self.pk)
            self.port, self.actual_state = locked.port, locked.actual_state
            port = self.host.find_free_port(locks=False)
            if not self.is_port_taken:
                return None
            self.port = port
            self.save(update_fields=["port", "updated_at"])
        return port

    @property
    def is_up(self) -> bool:
        """Whether it was running or starting when its host was last asked."""
        return self.actual_state in UP_STATES

    @property
    def is_down(self) -> bool:
        """Whether it is known not to run, so that stopping it would only change what it should be."""
        if self.not_heard_of_since:
            return False
        is_new = self.actual_state_at is None and self.actual_state == ActualState.UNKNOWN
        return is_new or self.actual_state in DOWN_STATES

    @property
    def is_port_taken(self) -> bool:
        """Whether another program held its port when the host's worker last checked."""
        return not self.is_up and self.port in self.host.taken_ports

    @property
    def current_port(self) -> int:
        """The port that it has: while it runs, the one that it was started with."""
        return (self.running_port if self.is_up else None) or self.port

    @property
    def own_address(self) -> str:
        """The only address that it binds to, by its own setting or its host's; empty if it binds to all.

        While it runs, that is the one that it was started on.
        """
        if self.is_up and self.running_port:
            address = self.running_address
        else:
            address = self.bind_address or self.host.bind_address or ""
        return "" if address == ALL_ADDRESSES else address

    @property
    def address(self) -> str:
        """What a player types after `connect`: the server's address and port."""
        return f"{self._reached_at}:{self.current_port}"

    @property
    def address_remark(self) -> str:
        """From where it can be reached, in words, unless that is everywhere as far as the address shows."""
        if is_loopback(self._reached_at):
            return gettext("on its own host only")
        return gettext("in your network") if is_private(self._reached_at) else ""

    @property
    def _reached_at(self) -> str:
        """The only address that it binds to, unless that is behind a router; its host's; or its host's name."""
        own, of_host = self.own_address, self.host.address
        # A real game does not answer on loopback, and nobody plays on a simulated one.
        if self.host.game_source != "simulator":
            own, of_host = ("" if is_loopback(one) else one for one in (own, of_host))
        is_behind_router = of_host and is_private(own) and not is_private(of_host)
        return (of_host if is_behind_router else own) or of_host or self.host.name

    @property
    def runs_other_build(self) -> bool:
        """Whether it runs a different build than the next start would use."""
        is_known = self.running_build_id and self.host.build_id
        return bool(is_known) and self.running_build_id != self.host.build_id

    @property
    def not_heard_of_since(self) -> datetime | None:
        """When a worker of its host last sent a heartbeat, if none is alive: since then its state is unknown.

        None if the host is alive, or never had a worker.
        """
        own: dict[str, Any] = vars(self)
        if "host_is_heard" not in own:
            found = Server.objects.with_heartbeat().filter(pk=self.pk).first()
            annotated = vars(found) if found else {"host_is_heard": True, "host_heard_at": None}
            own |= {name: annotated[name] for name in ("host_is_heard", "host_heard_at")}
        heard_at: datetime | None = own["host_heard_at"]
        return None if own["host_is_heard"] else heard_at

    @property
    def hanging_since(self) -> datetime | None:
        """Since when it runs and leaves queries unanswered; None if it answers, or only just did not."""
        if self.actual_state != ActualState.RUNNING or self.not_heard_of_since:
            return None
        since, run_began = self.unanswered_since, self.actual_state_at
        is_of_this_run = since is not None and (run_began is None or since >= run_began)
        return since if is_of_this_run else None

    @property
    def shown_state(self) -> str:
        """The actual state, `unknown` while its host is silent, or `hanging`."""
        if self.not_heard_of_since:
            return ActualState.UNKNOWN.value
        return HANGING if self.hanging_since else self.actual_state

    @property
    def state_label(self) -> str:
        """What it is doing, in one to three words, distinguishing a crash, a restart attempt, and giving up."""
        if since := self.not_heard_of_since:
            when = date_format(localtime(since), "j M, H:i")
            return gettext("not heard from since %(when)s") % {"when": when}
        if self.hanging_since:
            return gettext("running, does not answer queries")
        if self.state_note and self.actual_state in (ActualState.CRASHED, ActualState.RUNNING):
            return f"{self.get_actual_state_display()}, {self.state_note}"
        if self.state_note and self.actual_state == ActualState.STARTING:
            return self.state_note
        if self.actual_state == ActualState.UNKNOWN:
            return gettext("being looked at") if self.actual_state_at else gettext("new")
        return self.get_actual_state_display()

    @property
    def state_remark(self) -> str:
        """What the host says about the state in a sentence, unless the last error says the same."""
        if since := self.not_heard_of_since:
            when = date_format(localtime(since), "j M Y, H:i T")
            return gettext(
                "No worker of host %(host)s has been heard from since %(when)s. The server was "
                "%(actual_state)s then."
            ) % {
                "host": self.host.name,
                "when": when,
                "actual_state": self.get_actual_state_display(),
            }
        if since := self.hanging_since:
            when = date_format(localtime(since), "j M Y, H:i T")
            return gettext(
                "It has not answered since %(when)s, so it may hang: then nobody can join until it "
                "is restarted."
            ) % {"when": when}
        if self.actual_state == ActualState.CRASHED and not self.state_note:
            return ""
        return "" if self.state_detail in self.last_error else self.state_detail

    @property
    def limits_without_effect(self) -> str:
        """Which limits of its blueprint its host cannot enforce, according to the host's report."""
        names = self.host.limits_without_effect.split(", ")
        return ", ".join(name for name in self.blueprint.limit_names if name in names)

    @property
    def players_label(self) -> str:
        """How many people are on, and of how many if that is known: `2/4`."""
        return f"{self.players}/{self.max_players}" if self.max_players else f"{self.players}"

    @property
    def has_known_players(self) -> bool:
        """Whether it is running, and said how many people play when it was last asked."""
        if self.not_heard_of_since:
            return False
        return self.actual_state == ActualState.RUNNING and self.players is not None

    def count_people(self) -> int:
        """Return how many people may be on it: as it last said or, while it does not answer, as were last seen.

        Costs a query if it does not answer.
        """
        if self.actual_state != ActualState.RUNNING or self.not_heard_of_since:
            return 0
        if self.players is not None:
            return self.players
        return self.player_sessions.open().count()

    @property
    def people_words(self) -> str:
        """How many people are on it, in words that fit into a sentence."""
        if not self.has_known_players:
            return gettext("the panel does not know how many people are on")
        if not self.players:
            return gettext("nobody is on")
        words = ngettext("%(count)d person is on", "%(count)d people are on", self.players)
        return words % {"count": self.players}

    @property
    def should_be(self) -> str:
        """The desired state in a word, if the actual one differs; empty if they agree."""
        if self.not_heard_of_since:
            return ""
        if (self.desired_state == DesiredState.RUNNING) == self.is_up:
            return ""
        if self.actual_state == ActualState.UNKNOWN and self.actual_state_at is None:
            return ""
        return self.get_desired_state_display()

    @property
    def should_be_words(self) -> str:
        """The value of `should_be` in the words of pages."""
        state = self.should_be
        return gettext("should be %(state)s") % {"state": state} if state else ""

    @property
    def operations(self) -> list[str]:
        """The operations that make sense for what the instance is doing, likeliest first."""
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
                resets = ["reset"] if self.has_instance else []
                return ["start", "stop", "restart", "initialize", *resets, "delete"]

    def operations_for(self, user: Person) -> list[str]:
        """Return those of `operations` that `user` may request."""
        return [one for one in self.operations if may(user, SERVER_OPERATION_VERBS[one], self)]

    @property
    def has_instance(self) -> bool:
        """Whether the host has, or may have, files of this server."""
        if self.actual_state == ActualState.UNKNOWN:
            return self.actual_state_at is not None
        return self.actual_state != ActualState.ABSENT

    def removal_obstacle(self) -> str:
        """Return why the row cannot be removed now, in a sentence; empty if it can be."""
        if self.has_instance:
            return gettext(
                "Server %(name)s still has files on host %(host)s. Delete its files first."
            ) % {"name": self.name, "host": self.host.name}
        if self.jobs.active().exists():
            return gettext(
                "Server %(name)s has a job that is waiting or running. Cancel it, or wait until "
                "it has ended."
            ) % {"name": self.name}
        return ""

    # --- Passwords ----------------------------------------------------------------------------

    def has_secret(self, secret: ServerSecret) -> bool:
        """Return whether a password is stored. It may not be decryptable."""
        return bool(getattr(self, secret.column))

    def read_secret(self, secret: ServerSecret) -> str:
        """Return a password, empty if there is none. Raises `SecretError` with a complete sentence."""
        return read_token(self.name, secret, getattr(self, secret.column))

    def set_secret(self, secret: ServerSecret, plain: str) -> None:
        """Put the token of a password into its column, or nothing for an empty password. Does not save.

        Raises `SecretError` without keys, and ValueError for a password that a config cannot contain.
        """
        require_secret(secret.what, plain)
        setattr(self, secret.column, encrypt(plain) if plain else "")

    @property
    def stored_secrets(self) -> list[ServerSecret]:
        """The passwords that are stored."""
        return [secret for secret in ServerSecret if self.has_secret(secret)]

    @property
    def secret_faults(self) -> list[str]:
        """A sentence for each stored password that cannot be decrypted."""
        faults = []
        for secret in ServerSecret:
            try:
                self.read_secret(secret)
            except SecretError as error:
                faults.append(str(error))
        return faults

    def adopt_secrets(self) -> None:
        """Fill the password fields from the texts that the server is made of. Does not save.

        Its own texts lose the passwords taken. The blueprint's are copied if its own texts have none. If
        nothing sets an RCON password, it gets a random one.
        """
        own = take_secrets(self.arguments, self.config)
        self.arguments, self.config = own.arguments, own.config
        blueprint = self.blueprint
        given = take_secrets(blueprint.arguments, blueprint.config).values
        values = {
            secret: value
            for secret, value in given.items()
            if not self.has_secret(secret) and not sets_secret(self.arguments, self.config, secret)
        } | own.values
        for secret, value in values.items():
            self.set_secret(secret, value)
        self.make_rcon_password()

    def make_rcon_password(self) -> bool:
        """Set a random RCON password if the field is empty. Does not save. Return whether it did.

        Not if a text sets one that cannot be moved into the field: the owner's tools know that one.
        """
        secret = ServerSecret.RCON_PASSWORD
        if self.has_secret(secret) or any(
            sets_secret(row.arguments, row.config, secret) for row in (self, self.blueprint)
        ):
            return False
        self.set_secret(secret, make_password())
        return True

    def rotate_secrets(self) -> int:
        """Re-encrypt the passwords with the first key. Does not save. Return how many.

        `secret_faults` names the others.
        """
        count = 0
        for secret in self.stored_secrets:
            try:
                setattr(self, secret.column, rotate(getattr(self, secret.column)))
            except SecretError:
                continue
            count += 1
        return count

    # --- What its host gets -------------------------------------------------------------------

    @cached_property
    def has_people(self) -> bool:
        """Whether anybody was ever banned from it, or is its admin in the game. Usually not."""
        bans = self.bans.model.objects.of_servers([self])
        return bans.exists() or self.game_admins.exists()

    def read_arguments(self) -> tuple[str, ...]:
        """Return its launch arguments as stored, including passwords. Raises `ArgumentsError`."""
        texts = (self.blueprint.arguments, self.arguments)
        return join_arguments(*map(parse_arguments, texts))

    @property
    def launch_texts(self) -> LaunchTexts:
        """What people wrote for its start, and its passwords."""
        blueprint = self.blueprint
        return LaunchTexts(
            self.name,
            blueprint.arguments,
            self.arguments,
            blueprint.config,
            self.config,
            self.rcon_password_token,
            self.join_password_token,
        )

    @property
    def launch_settings(self) -> LaunchSettings:
        """What it is started with, from the rows as they are now."""
        blueprint = self.blueprint
        return LaunchSettings(
            **asdict(self.launch_texts),
            blueprint_id=blueprint.pk,
            place_references=blueprint.place_references,
            port=self.port,
            bind_address=self.bind_address,
            host_bind_address=self.host.bind_address,
            memory_limit_mib=blueprint.memory_limit_mib,
            tasks_limit=blueprint.tasks_limit,
            cpu_weight=blueprint.cpu_weight,
        )

    @property
    def spec_faults(self) -> tuple[str, ...]:
        """Why it cannot be started as stored, a sentence for each reason; usually none."""
        return self.launch_texts.find_faults()

    def to_spec(self) -> InstanceSpec:
        """Return what the host layer needs to make this server's instance: see `LaunchSettings.to_spec`."""
        return self.launch_settings.to_spec()

    def to_bare_spec(self) -> InstanceSpec:
        """Return `to_spec` without its passwords: nothing is decrypted. Raises ValueError as that does."""
        return self.launch_settings.to_bare_spec()


class Crash(models.Model):
    """An end that nobody asked for: when it was seen, what is known about it, and the last console lines.

    The newest `CRASHES_KEPT` of each server are kept.
    """

    server = models.ForeignKey(Server, models.CASCADE, related_name="crashes", db_index=False)
    at = models.DateTimeField(default=timezone.now)
    exit_signal = models.CharField(
        max_length=16,
        blank=True,
        help_text=gettext_lazy("Such as SIGSEGV; empty where it is not known: only systemd tells."),
    )
    detail = models.TextField(blank=True)
    last_lines = models.TextField(blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name_plural = gettext_lazy("crashes")
        indexes = [models.Index(fields=["server", "-at"], name="crashes_of_server")]

    def __str__(self) -> str:
        return f"{self.server} at {self.at:%Y-%m-%d %H:%M:%S}"

    @classmethod
    def record(cls, server: Server, crashes: Sequence[Self]) -> None:
        """Store crashes of a server, and delete the oldest beyond the limit."""
        if not crashes:
            return
        cls.objects.bulk_create(crashes)
        # By the order of their rows: a time may be from before the clock was set back.
        kept = server.crashes.order_by("-pk").values_list("pk", flat=True)[:CRASHES_KEPT]
        server.crashes.exclude(pk__in=list(kept)).delete()
