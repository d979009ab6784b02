"""What each run of a server was started with, and how its next start would differ.

Passwords are not stored in plain: texts are shown without them, and compared by keyed digests.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from hostops.specs import LIMIT_NAMES, InstanceSpec, InstanceStatus
from servers.models.reports import OverlayReport
from servers.models.servers import Server
from servers.secrets import (
    HIDDEN,
    DigestKey,
    SecretError,
    ServerSecret,
    decrypt,
    digest_token,
    encrypt,
    find_digest_key,
    has_keys,
    hide_secrets,
    make_digest,
    new_digest_key,
)

RUNS_KEPT = 20
"""Per server, besides those that jobs refer to."""

MIN_SECRET_CHARS = 4
"""A shorter password is hidden only after its name: hiding it everywhere would hide half of every line."""


class RunPart(models.TextChoices):
    """A part of what a server is started with, named as on pages."""

    ARGUMENTS = "arguments", gettext_lazy("launch arguments")
    CONFIG = "config", gettext_lazy("config")
    OVERLAYS = "overlays", gettext_lazy("overlays")
    FILES = "files", gettext_lazy("files of overlays")
    LIMITS = "limits", gettext_lazy("limits")
    PORT = "port", gettext_lazy("port")
    ADDRESS = "address", gettext_lazy("bind address")
    RCON_PASSWORD = "rcon_password", gettext_lazy("RCON password")
    JOIN_PASSWORD = "join_password", gettext_lazy("join password")
    BUILD = "build", gettext_lazy("build")


RESTORED_PARTS = frozenset(
    {
        *(RunPart.ARGUMENTS, RunPart.CONFIG, RunPart.OVERLAYS),
        *(RunPart.LIMITS, RunPart.PORT, RunPart.ADDRESS),
    }
)
"""What a start “as it was” takes from a run. Passwords, the build and the overlays' files are today's."""


class SeenFiles(NamedTuple):
    """What an overlay's files were found to be, and when they were first found so."""

    fingerprint: str
    looked_at: datetime


class Run(models.Model):
    """One start of a server, with what it was started with.

    The job that starts a server stores it, in the transaction that ends the job. A job whose worker was
    killed leaves a run of which nothing is known, so that nobody mistakes the run before it for the current
    one. A start by hand (`l4d2ctl start`) leaves none.
    """

    server = models.ForeignKey(Server, models.CASCADE, related_name="runs", db_index=False)
    started_at = models.DateTimeField(default=timezone.now)
    has_answered = models.BooleanField(
        default=False, help_text=gettext_lazy("Whether the job that started it succeeded.")
    )
    started_by_name = models.CharField(  # noqa: DJ001 - empty and not known are two things
        max_length=150,
        null=True,
        help_text=gettext_lazy("Who asked for it; empty if Saferoom did, null if it is not known."),
    )
    as_it_was_at = models.DateTimeField(
        null=True,
        help_text=gettext_lazy("When the run was started whose settings this one repeats."),
    )
    build_id = models.CharField(max_length=32, blank=True)
    port = models.PositiveIntegerField(null=True)
    bind_address = models.CharField(max_length=15, blank=True)
    overlays = models.JSONField(
        default=list, help_text=gettext_lazy("Pairs of name and fingerprint, the topmost first.")
    )
    memory_limit_bytes = models.BigIntegerField(null=True)
    tasks_limit = models.PositiveIntegerField(null=True)
    cpu_weight = models.PositiveIntegerField(null=True)
    # For people: without passwords, each argument and its values on a line of its own.
    arguments = models.TextField(blank=True)
    config = models.TextField(blank=True)
    digest_key = models.CharField(max_length=8, blank=True)
    whole_digest = models.CharField(
        max_length=64,
        blank=True,
        help_text=gettext_lazy("Of all that it was started with but files and build."),
    )
    arguments_digest = models.CharField(max_length=64, blank=True)
    config_digest = models.CharField(max_length=64, blank=True)
    rcon_password_digest = models.CharField(max_length=64, blank=True)
    join_password_digest = models.CharField(max_length=64, blank=True)
    sealed = models.TextField(
        blank=True,
        help_text=gettext_lazy("A token with the arguments and the config as they were."),
    )
    loaded = models.JSONField(
        null=True,
        help_text=gettext_lazy("What it said that it has loaded, of what its overlays bring."),
    )
    loaded_at = models.DateTimeField(
        null=True, help_text=gettext_lazy("When it was asked for that.")
    )

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["server", "-id"], name="runs_of_server")]

    def __str__(self) -> str:
        return f"{self.server} started {self.started_at:%Y-%m-%d %H:%M:%S}"

    @classmethod
    def describe(
        cls,
        server_id: int,
        spec: InstanceSpec,
        status: InstanceStatus,
        *,
        fingerprints: Mapping[str, str],
        **facts: Any,
    ) -> Self:
        """Return the row of a run that was started with `spec`, not stored yet; `facts` are further columns."""
        key = new_digest_key()
        rcon = make_digest(key, spec.rcon_password)
        join = make_digest(key, spec.join_password)
        return cls(
            server_id=server_id,
            build_id=status.release or "",
            port=spec.port,
            bind_address=spec.bind_address,
            overlays=[[name, fingerprints.get(name, "")] for name in spec.overlays],
            memory_limit_bytes=spec.memory_limit_bytes,
            tasks_limit=spec.tasks_limit,
            cpu_weight=spec.cpu_weight,
            arguments=show_arguments(spec),
            config=show_config(spec),
            digest_key=key.id,
            whole_digest=digest_whole(key, spec, rcon, join),
            arguments_digest=make_digest(key, "\0".join(spec.arguments)),
            config_digest=make_digest(key, spec.config),
            rcon_password_digest=rcon,
            join_password_digest=join,
            sealed=seal(spec),
            **facts,
        )

    @classmethod
    def record(cls, runs: Sequence[Self]) -> None:
        """Store runs, and delete the oldest of their servers' runs beyond those that are kept."""
        for run in runs:
            run.pk = None  # An attempt to store it may have been rolled back.
        cls.objects.bulk_create(runs)
        for server_id in {run.server_id for run in runs}:
            of_server = cls.objects.filter(server_id=server_id)
            kept = list(of_server.values_list("pk", flat=True)[:RUNS_KEPT])
            if len(kept) == RUNS_KEPT:
                # A job that repeats a run keeps the reference to it for as long as the job itself exists.
                old = of_server.filter(pk__lt=kept[-1], jobs=None).order_by()
                # Locked, and then checked again: a request to repeat one may be on its way.
                locked = [run.pk for run in old.select_for_update(of=("self",)).only("pk")]
                old.filter(pk__in=locked).delete()

    @property
    def is_known(self) -> bool:
        """Whether it is known what it was started with."""
        return bool(self.digest_key)

    @property
    def started_by(self) -> str:
        """Who requested it, in words."""
        if self.started_by_name is None:
            return _("not known")
        return self.started_by_name or "Saferoom"

    @property
    def overlay_references(self) -> tuple[str, ...]:
        """The overlays that it was started with, topmost first."""
        return tuple(name for name, _fingerprint in self.overlays)

    def to_spec(self, server: Server) -> InstanceSpec:
        """Return a spec that starts `server` as it was, with today's passwords.

        Raises `SecretError` if what was kept, or a password, cannot be decrypted.
        """
        try:
            kept = json.loads(decrypt(self.sealed))
        except SecretError as error:
            raise SecretError(
                _(
                    "What server %(server)s was started with %(error)s. Or start it with what is "
                    "saved now."
                )
                % {"server": server.name, "error": error}
            ) from None
        spec = InstanceSpec(
            name=server.name,
            port=self.port or server.port,
            overlays=self.overlay_references,
            arguments=tuple(kept["arguments"]),
            config=kept["config"],
            memory_limit_bytes=self.memory_limit_bytes,
            tasks_limit=self.tasks_limit,
            cpu_weight=self.cpu_weight,
            bind_address=self.bind_address,
        )
        texts = server.launch_texts
        return texts.add_passwords(spec, texts.argued_passwords())

    def find_changes(
        self, server: Server, spec: InstanceSpec, seen_files: Mapping[str, SeenFiles]
    ) -> tuple[RunPart, ...]:
        """Return the parts in which a start of `server` with `spec` would differ from this run.

        `spec` has no passwords: those are `server`'s. `seen_files` is what the overlays on its host are now;
        an overlay for which that is unknown, now or then, counts as unchanged. Empty if nothing is known of
        this run.
        """
        if not self.is_known:
            return ()
        try:
            key = find_digest_key(self.digest_key)
        except SecretError:  # What people can read tells nearly as much.
            key, spec = None, with_readable_passwords(server, spec)
        has_changed = {
            RunPart.ARGUMENTS: self.arguments_digest != make_digest(key, "\0".join(spec.arguments))
            if key
            else self.arguments != show_arguments(spec),
            RunPart.CONFIG: self.config_digest != make_digest(key, spec.config)
            if key
            else self.config != show_config(spec),
            RunPart.OVERLAYS: self.overlay_references != spec.overlays,
            RunPart.FILES: bool(self.changed_overlays(seen_files)),
            RunPart.LIMITS: self._has_changed_limits(server, spec),
            RunPart.PORT: self.port != spec.port,
            RunPart.ADDRESS: self.bind_address != spec.bind_address,
            RunPart.RCON_PASSWORD: key is not None
            and self._has_changed_password(key, server, ServerSecret.RCON_PASSWORD),
            RunPart.JOIN_PASSWORD: key is not None
            and self._has_changed_password(key, server, ServerSecret.JOIN_PASSWORD),
        }
        return tuple(part for part, is_other in has_changed.items() if is_other)

    def changed_overlays(self, seen_files: Mapping[str, SeenFiles]) -> list[str]:
        """Return the overlays whose files are no longer those that the run was started with.

        What was seen before the start proves nothing: hosts are only checked every now and then.
        """
        return [
            name
            for name, then in self.overlays
            if then
            and (now := seen_files.get(name))
            and now.fingerprint not in ("", then)
            and now.looked_at > self.started_at
        ]

    def _has_changed_password(self, key: DigestKey, server: Server, secret: ServerSecret) -> bool:
        then: str = getattr(self, f"{secret.value}_digest")
        try:
            return digest_password(key, server, secret) != then
        except SecretError:
            return False  # Unknown; the server's page says what cannot be decrypted.

    def _has_changed_limits(self, server: Server, spec: InstanceSpec) -> bool:
        then = (self.memory_limit_bytes, self.tasks_limit, self.cpu_weight)
        now = (spec.memory_limit_bytes, spec.tasks_limit, spec.cpu_weight)
        without_effect = server.host.limits_without_effect.split(", ")
        return any(
            before != after and name not in without_effect
            for name, before, after in zip(LIMIT_NAMES, then, now, strict=True)
        )


def read_seen_files(host_ids: Iterable[int]) -> dict[int, dict[str, SeenFiles]]:
    """Return the overlays' files by host and by name, as the hosts' workers last reported them."""
    found: dict[int, dict[str, SeenFiles]] = {host_id: {} for host_id in host_ids}
    reports = OverlayReport.objects.order_by().filter(host__in=found)
    rows = reports.values_list("host_id", "name", "fingerprint", "looked_at")
    for host_id, name, fingerprint, looked_at in rows:
        found[host_id][name] = SeenFiles(fingerprint, looked_at)
    return found


def digest_password(key: DigestKey, server: Server, secret: ServerSecret) -> str:
    """Return the digest of a password that `server` would be started with now. Raises `SecretError`."""
    token: str = getattr(server, secret.column)
    if token:
        return digest_token(key, token)
    return make_digest(key, server.launch_texts.argued_passwords().get(secret, ""))


def digest_whole(key: DigestKey, spec: InstanceSpec, rcon: str, join: str) -> str:
    """Return one digest of a whole spec, in which the passwords are represented by their digests."""
    limits = (spec.memory_limit_bytes, spec.tasks_limit, spec.cpu_weight)
    whole = (spec.arguments, spec.config, spec.overlays, limits, spec.port, spec.bind_address)
    return make_digest(key, json.dumps((*whole, rcon, join)))


def digest_server(key_id: str, server: Server) -> str:
    """Return the same for what `server` would be started with now.

    Raises ValueError if it cannot be started as it is, or if its passwords cannot be decrypted.
    """
    key = find_digest_key(key_id)
    rcon, join = (
        digest_password(key, server, secret)
        for secret in (ServerSecret.RCON_PASSWORD, ServerSecret.JOIN_PASSWORD)
    )
    return digest_whole(key, server.to_bare_spec(), rcon, join)


def with_readable_passwords(server: Server, spec: InstanceSpec) -> InstanceSpec:
    """Return `spec` with the passwords of `server`, so that they are masked where it is shown.

    Without them if one cannot be decrypted.
    """
    texts = server.launch_texts
    try:
        return texts.add_passwords(spec, texts.argued_passwords())
    except SecretError:
        return spec


def seal(spec: InstanceSpec) -> str:
    """Return a token of what may contain passwords and is needed to start again; empty without keys."""
    if not has_keys():
        return ""
    return encrypt(json.dumps({"arguments": spec.arguments, "config": spec.config}))


def show_arguments(spec: InstanceSpec) -> str:
    """Return launch arguments for people: each with its values on a line of its own, without passwords."""
    lines: list[list[str]] = []
    for word in spec.arguments:
        if not lines or word[:1] in ("+", "-"):
            lines.append([])
        lines[-1].append(word)
    text, _ = hide_secrets("\n".join(shlex.join(line) for line in lines), "")
    return _hide(text, spec)


def show_config(spec: InstanceSpec) -> str:
    """Return a config for people, without passwords."""
    _, text = hide_secrets("", spec.config)
    return _hide(text, spec)


def _hide(text: str, spec: InstanceSpec) -> str:
    secrets = (spec.rcon_password, spec.join_password)
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MIN_SECRET_CHARS:
            text = text.replace(secret, HIDDEN)
    return text
