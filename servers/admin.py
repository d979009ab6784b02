"""Hosts, overlays, blueprints and servers in the Django admin."""

from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from servers.forms import VERSION_FIELD, SecretsForm, VersionedAdminForm, find_port_obstacle
from servers.models import Blueprint, BlueprintOverlay, Host, Overlay, Server
from servers.models.overlays import OverlayQuerySet
from servers.permissions import Verb, may
from servers.quotas import (
    TooManyBlueprintsError,
    TooManyOverlaysError,
    TooManyServersError,
    find_content_obstacle,
    take_blueprint_place,
    take_overlay_place,
    take_server_place,
)
from servers.store import find_overlay_holders

LONG_TEXTS = ("arguments", "config")


class GuardedDeletion:
    """Keeps rows from being deleted, one by one or in bulk, while something on a host depends on them."""

    def obstacle(self, row: Any) -> str:
        """Return why `row` cannot be deleted now, in a sentence; empty if it can be."""
        raise NotImplementedError

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Report obstacles as protected objects: the admin shows them, and deletes nothing."""
        deleted, counts, permissions, protected = super().get_deleted_objects(objs, request)  # type: ignore[misc]
        obstacles = [text for text in map(self.obstacle, objs) if text]
        return deleted, counts, permissions, [*protected, *obstacles]


class ToldCollisions(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows whose name or port another request may take just as the form is being stored."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show and store the form, or say that it collided."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except IntegrityError:
            text = _(
                "Somebody took that name or port, or stored the same, at the same moment. Nothing was "
                "saved: try again."
            )
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())


class OwnerLimitForm(VersionedAdminForm):
    """A row that counts towards its owner's limit, even if others make it or give it to them.

    Superusers are exempt: they could raise the limit.
    """

    asker: User
    """Who is filling in the form; set by `OwnerLimitAdmin`."""

    def take_place(self, owner: User) -> None:
        """Raise ValidationError if `owner` may not have another of these."""
        raise NotImplementedError

    def clean(self) -> dict[str, Any]:
        """Say in the form if the new owner has as many as they may have."""
        # The owner is locked before the row's host and the row itself, as on the panel's pages.
        owner = self.cleaned_data.get("owner")
        if owner and owner.pk != self.instance.owner_id and not self.asker.is_superuser:
            try:
                self.take_place(owner)
            except (TooManyServersError, TooManyBlueprintsError, TooManyOverlaysError):
                text = _("%(owner)s has as many %(things)s as they may have.")
                things = self._meta.model._meta.verbose_name_plural
                self.add_error("owner", text % {"owner": owner, "things": things})
        return super().clean() or self.cleaned_data


class OwnerLimitAdmin(ToldCollisions):
    """Rows that count towards their owner's limit."""

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Return the form for this person."""
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.asker = cast("User", request.user)
        return form


class VersionedAdmin(OwnerLimitAdmin):
    """Rows whose form refuses to overwrite what somebody else saved after the page was opened."""

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Leave out the hidden field if nothing can be saved: then there is no form for it."""
        fields = list(super().get_fields(request, obj))
        if self.has_change_permission(request, obj):
            return fields
        return [name for name in fields if name != VERSION_FIELD]


@admin.register(Host)
class HostAdmin(GuardedDeletion, ToldCollisions):
    """Hosts. A worker creates its own row, and writes its reports there."""

    list_display = ["name", "address", "build_id", "game_source", "driver", "reported_at"]
    reported = [
        *("driver", "game_source", "layering", "layering_detail"),
        *("installed_releases", "latest_build_id", "latest_build_at"),
        *("box", "missing_limits", "free_disk", "load", "held_ports"),
        *("reported_at", "created_at"),
    ]
    fields = ["name", "address", "bind_address", "is_draining", *reported]

    @admin.display(description=gettext_lazy("releases"))
    def installed_releases(self, host: Host) -> str:
        """Return the installed builds, and which one is current."""
        builds = [
            _("%(build)s (current)") % {"build": one.build_id} if one.is_current else one.build_id
            for one in host.releases.all()
        ]
        return ", ".join(builds) or _("none")

    @admin.display(description=gettext_lazy("box"))
    def box(self, host: Host) -> str:
        """Return which walls confine a game's code, and which are missing."""
        if not host.walls:
            return _("not reported")
        standing = host.standing_walls
        lead = f"{standing[0].upper()}{standing[1:]}." if standing else _("No wall stands.")
        return " ".join([lead, *host.missing_walls])

    @admin.display(description=gettext_lazy("limits without effect"))
    def missing_limits(self, host: Host) -> str:
        """Return which limits of blueprints nothing enforces."""
        return host.limits_without_effect or _("none")

    @admin.display(description=gettext_lazy("free disk space"))
    def free_disk(self, host: Host) -> str:
        """Return how much space is left for the host's folder."""
        return "" if host.disk_free_bytes is None else filesizeformat(host.disk_free_bytes)

    @admin.display(description=gettext_lazy("load"))
    def load(self, host: Host) -> str:
        """Return how busy its processors are."""
        return (
            ""
            if host.load_percent is None
            else _("%(percent)s %% of its processors") % {"percent": host.load_percent}
        )

    @admin.display(description=gettext_lazy("ports in use by other programs"))
    def held_ports(self, host: Host) -> str:
        """Return the ports of the range that no server can have."""
        return ", ".join(map(str, host.taken_ports)) or _("none")

    def get_readonly_fields(self, request: HttpRequest, obj: Host | None = None) -> list[str]:
        """Protect the worker's reports, the name by which it finds its row, and for some people, drains."""
        drains = [] if may(request.user, Verb.DRAIN) else ["is_draining"]
        return [*(["name"] if obj else []), *drains, *self.reported]

    def get_fields(self, request: HttpRequest, obj: Host | None = None) -> list[Any]:  # noqa: ARG002
        """Show a worker's reports only for an existing host."""
        written = [name for name in self.fields if name not in self.reported]
        return [*written, *(self.reported if obj else [])]

    def has_view_permission(self, request: HttpRequest, obj: Host | None = None) -> bool:  # noqa: ARG002
        """Follow the permission rule."""
        return may(request.user, Verb.VIEW_HOSTS)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Let the rows of a host's workers go with it: nobody may delete one by itself."""
        deleted, counts, permissions, protected = super().get_deleted_objects(objs, request)
        workers = Host.workers.rel.related_model._meta.verbose_name
        return deleted, counts, permissions - {workers}, protected

    def obstacle(self, row: Host) -> str:
        """Keep a host that has jobs, or a worker, which would make the row again."""
        if row.jobs.active().exists():
            return _(
                "Host %(row)s has a job that is waiting or running. Cancel it, or wait until it "
                "has ended."
            ) % {"row": row.name}
        if row.workers.alive().exists():
            return _("Host %(row)s has a worker that runs. Stop it on that machine first.") % {
                "row": row.name
            }
        return ""


class OverlayAdminForm(OwnerLimitForm):
    """An overlay, which may have no owner."""

    def clean(self) -> dict[str, Any]:
        """Keep the owner: files of an overlay without an owner would count for nobody."""
        is_cleared = "owner" in self.cleaned_data and not self.cleaned_data["owner"]
        if is_cleared and self.instance.owner_id and not self.asker.is_superuser:
            text = _(
                "Only a superuser can take an overlay from its owner without giving it to another."
            )
            self.add_error("owner", text)
        if "name" in self.changed_data and self.instance.latest_id is not None:
            self.add_error("name", _("An overlay with versions keeps its name."))
        return super().clean()

    def take_place(self, owner: User) -> None:
        """Raise ValidationError if `owner` may not have another overlay, or the bytes of this one."""
        take_overlay_place(owner)
        versions = self.instance.versions.all() if self.instance.pk else ()
        if find_content_obstacle(owner, sum(one.added_bytes for one in versions)):
            text = _("The files of this overlay are more than %(owner)s has room for.")
            raise ValidationError({"owner": text % {"owner": owner}})


@admin.register(Overlay)
class OverlayAdmin(GuardedDeletion, VersionedAdmin):
    """Overlays: names of folders on the hosts, and of overlays that the panel has versions of."""

    form = OverlayAdminForm
    list_display = ["name", "summary", "owner", "is_shared", "is_host_folder"]
    list_select_related = ["owner"]
    raw_id_fields = ["owner"]
    list_filter = ["is_shared", "is_host_folder"]
    search_fields = ["name", "description"]

    @admin.display(description=gettext_lazy("description"))
    def summary(self, overlay: Overlay) -> str:
        """Return the beginning of its description."""
        return overlay.summary

    def get_queryset(self, request: HttpRequest) -> QuerySet[Overlay]:
        """Load only the part of each description that the list shows; the form loads the rest."""
        return cast("OverlayQuerySet", super().get_queryset(request)).with_summaries()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may name a folder of the hosts, which quite likely contains native code."""
        return super().has_add_permission(request) and may(request.user, Verb.BRING_NATIVE_CODE)

    def get_readonly_fields(self, request: HttpRequest, obj: Overlay | None = None) -> list[str]:
        """Protect the name if versions depend on it, or if the user may not name a folder of the hosts."""
        if not may(request.user, Verb.BRING_NATIVE_CODE):
            return ["name", "is_host_folder"]
        # A name that was sent is refused by the form: without its field it would be ignored in silence.
        is_kept = obj is not None and (request.method == "POST" or obj.latest_id is not None)
        return ["name"] if is_kept and "name" not in request.POST else []

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Suggest a folder of the hosts: other overlays are made on the panel's own page."""
        return {"is_host_folder": True, **super().get_changeform_initial_data(request)}

    def has_delete_permission(self, request: HttpRequest, obj: Overlay | None = None) -> bool:
        """Return whether the user may delete and, as on the overlay's page, change it."""
        return super().has_delete_permission(request, obj) and may(
            request.user, Verb.CHANGE_OVERLAY
        )

    def obstacle(self, row: Overlay) -> str:
        """Keep an overlay that is in use."""
        return " ".join(find_overlay_holders(row))


class BlueprintOverlayInline(admin.TabularInline):  # type: ignore[type-arg]
    """The overlays of a blueprint by position; 1 is on top."""

    model = BlueprintOverlay
    fields = ["overlay", "position"]  # Versions can be chosen in the panel's own form.
    extra = 1
    autocomplete_fields = ["overlay"]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may use every overlay."""
        return super().has_add_permission(request, obj) and self.may_use_all(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may use every overlay."""
        return super().has_change_permission(request, obj) and self.may_use_all(request)

    def may_use_all(self, request: HttpRequest) -> bool:
        """Return whether the user may use every overlay: only the panel's own form checks them one by one.

        For one without a version that takes the right to name a folder of a host, since that is what it is.
        """
        verbs = (Verb.USE_OVERLAY, Verb.BRING_NATIVE_CODE)
        return all(may(request.user, verb) for verb in verbs)


class BlueprintAdminForm(OwnerLimitForm):
    """A blueprint."""

    def take_place(self, owner: User) -> None:
        """Raise ValidationError if `owner` may not have another blueprint."""
        take_blueprint_place(owner)


@admin.register(Blueprint)
class BlueprintAdmin(VersionedAdmin):
    """Everybody's blueprints."""

    form = BlueprintAdminForm
    list_display = ["name", "owner", "is_shared", "updated_at"]
    list_filter = ["is_shared"]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__username"]
    autocomplete_fields = ["owner"]
    inlines = [BlueprintOverlayInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Blueprint]:
        """Leave out the texts; only the form shows them, and loads them then."""
        return super().get_queryset(request).defer(*LONG_TEXTS)

    def get_readonly_fields(self, request: HttpRequest, obj: Blueprint | None = None) -> list[str]:
        """Protect the owner, who may remove it, from people who may only change it."""
        is_free = obj is None or may(request.user, Verb.REMOVE_BLUEPRINT)
        return [] if is_free else ["owner"]

    def has_view_permission(self, request: HttpRequest, obj: Blueprint | None = None) -> bool:  # noqa: ARG002
        """Follow the permission rule."""
        return may(request.user, Verb.VIEW_BLUEPRINT)

    def has_change_permission(self, request: HttpRequest, obj: Blueprint | None = None) -> bool:  # noqa: ARG002
        """Follow the permission rule."""
        return may(request.user, Verb.CHANGE_BLUEPRINT)

    def has_delete_permission(self, request: HttpRequest, obj: Blueprint | None = None) -> bool:  # noqa: ARG002
        """Follow the permission rule."""
        return may(request.user, Verb.REMOVE_BLUEPRINT)


class ServerAdminForm(SecretsForm, OwnerLimitForm):
    """A server. Without a port, there must be a free one. Here too, passwords move out of its config."""

    is_any_port_allowed = False
    """Whether the person who fills it in may give a server any port."""

    def take_place(self, owner: User) -> None:
        """Raise ValidationError if `owner` may not have another server."""
        take_server_place(owner)

    def clean(self) -> dict[str, Any]:
        """Give a server without a port the next free one, or say in the form that there is none.

        A new name or host is refused if a job has come in since the fields were shown.
        """
        cleaned = super().clean() or self.cleaned_data
        host = cleaned.get("host") or getattr(self.instance, "host", None)
        if (
            self.instance.pk
            and host
            and (moved := {"name", "host"}.intersection(self.changed_data))
        ):
            # Requests for jobs lock the host's row too: none can slip in before this is stored.
            both = Host.objects.filter(pk__in=[self.instance.host_id, host.pk]).order_by("pk")
            list(both.select_for_update(no_key=True))
            server = Server.objects.filter(pk=self.instance.pk).first()
            if server and (text := server.removal_obstacle()):
                self.add_error(min(moved), text)
        if host and host.pk != self.instance.host_id and host.placement_obstacle:
            self.add_error("host", host.placement_obstacle)
        port, is_any_allowed = cleaned.get("port"), self.is_any_port_allowed
        if host and (
            text := find_port_obstacle(self.instance, host, port, is_any_allowed=is_any_allowed)
        ):
            self.add_error("port", text)
        elif host and "port" in cleaned and not cleaned["port"]:
            try:
                with transaction.atomic():
                    cleaned["port"] = host.find_free_port(locks=not self.instance.pk)
            except ValidationError as error:
                self.add_error("port", error)
        return cleaned


@admin.register(Server)
class ServerAdmin(GuardedDeletion, OwnerLimitAdmin):
    """Everybody's servers."""

    form = ServerAdminForm
    list_display = ["name", "owner", "host", "port", "blueprint", "desired_state", "actual_state"]
    list_filter = ["actual_state", "host"]
    list_select_related = ("owner", "host", "blueprint")
    search_fields = ["name", "owner__username"]
    autocomplete_fields = ["owner", "blueprint"]
    written = [
        *("name", "owner", "host", "port", "bind_address"),
        *("blueprint", "arguments", "config"),
    ]
    probed = [
        *("desired_state", "actual_state", "actual_state_at", "state_detail", "last_error"),
        "created_at",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Server]:
        """Leave out the texts; only the form shows them, and loads them then."""
        texts = [*LONG_TEXTS, *(f"blueprint__{name}" for name in LONG_TEXTS)]
        rows = super().get_queryset(request).select_related(*self.list_select_related)
        return rows.defer(*texts)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether servers may be added, and made from any blueprint: this form offers them all."""
        return super().has_add_permission(request) and may(request.user, Verb.VIEW_BLUEPRINT)

    def has_view_permission(self, request: HttpRequest, obj: Server | None = None) -> bool:  # noqa: ARG002
        """Follow the permission rule for all servers."""
        return may(request.user, Verb.VIEW)

    def has_change_permission(self, request: HttpRequest, obj: Server | None = None) -> bool:  # noqa: ARG002
        """Follow the permission rule for all servers."""
        return may(request.user, Verb.CONFIGURE)

    def has_delete_permission(self, request: HttpRequest, obj: Server | None = None) -> bool:  # noqa: ARG002
        """Follow the permission rule for all servers."""
        return may(request.user, Verb.REMOVE)

    def get_form(
        self, request: HttpRequest, obj: Server | None = None, change: bool = False, **kwargs: Any
    ) -> type[ServerAdminForm]:
        """Return the form for this person: not everybody who may use it may choose any port."""
        form = cast("type[ServerAdminForm]", super().get_form(request, obj, change, **kwargs))
        form.is_any_port_allowed = may(request.user, Verb.SET_ANY_PORT)
        return form

    def get_fields(self, request: HttpRequest, obj: Server | None = None) -> list[Any]:
        """Show the host's reports for an existing server, and its config to people who may read it."""
        is_hidden = obj is not None and not may(request.user, Verb.CONFIGURE)
        written = [
            name for name in self.written if not (is_hidden and name in ("arguments", "config"))
        ]
        version = [VERSION_FIELD] if self.has_change_permission(request, obj) else []
        return [*written, *version, *(self.probed if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Server | None = None) -> list[str]:
        """Protect fields that jobs write, and name and host while a job or files on the host depend on them.

        The owner too, who may delete and remove it, from people who may only change it. And the blueprint from
        people who may not read all of them: who configures a server reads its blueprint.
        """
        kept = [] if may(request.user, Verb.SET_ANY_PORT) else ["bind_address"]
        if obj:
            if request.method == "POST" or obj.removal_obstacle():
                # One that was sent is refused by the form: without its field it would be ignored in silence.
                # One that was not sent could not be changed when the form was shown.
                kept += [name for name in ("name", "host") if name not in request.POST]
            kept += [] if may(request.user, Verb.REMOVE) else ["owner"]
            kept += [] if may(request.user, Verb.VIEW_BLUEPRINT) else ["blueprint"]
        return [*self.probed, *kept]

    def save_model(self, request: HttpRequest, obj: Server, form: Any, change: bool) -> None:
        """Store the server, and say which passwords moved out of its config."""
        super().save_model(request, obj, form, change)
        for note in form.notes:
            self.message_user(request, note)

    def obstacle(self, row: Server) -> str:
        """Keep a server with files on its host, or with a job."""
        return row.removal_obstacle()
