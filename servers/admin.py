"""Hosts, overlays, blueprints and servers in the Django admin."""

from typing import Any, cast

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from servers.forms import VERSION_FIELD, SecretsForm, VersionedAdminForm, find_port_obstacle
from servers.models import Blueprint, BlueprintOverlay, Host, Overlay, Server
from servers.permissions import Verb, may
from servers.store import find_overlay_holders


class GuardedDeletion:
    """Keeps rows from being deleted, alone or in bulk, while something on a host depends on them."""

    def obstacle(self, row: Any) -> str:
        """Return why `row` cannot be deleted now, in a sentence; empty when it can be."""
        raise NotImplementedError

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count an obstacle as something protected: the admin shows it, and deletes nothing."""
        deleted, counts, permissions, protected = super().get_deleted_objects(objs, request)  # type: ignore[misc]
        obstacles = [text for text in map(self.obstacle, objs) if text]
        return deleted, counts, permissions, [*protected, *obstacles]


class VersionedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that are not saved over what somebody else has saved since the page was opened."""

    form = VersionedAdminForm

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Leave the hidden field out where nothing can be saved: there is no form that has it."""
        fields = list(super().get_fields(request, obj))
        if self.has_change_permission(request, obj):
            return fields
        return [name for name in fields if name != VERSION_FIELD]


@admin.register(Host)
class HostAdmin(GuardedDeletion, admin.ModelAdmin):  # type: ignore[type-arg]
    """Hosts: a worker makes its own row, and reports into it."""

    list_display = ["name", "address", "build_id", "game_source", "driver", "reported_at"]
    reported = [
        *("driver", "game_source", "layering", "layering_detail"),
        *("installed_releases", "latest_build_id", "latest_build_at"),
        *("box", "missing_limits", "free_disk", "load", "held_ports"),
        *("reported_at", "created_at"),
    ]
    fields = ["name", "address", "bind_address", "is_draining", *reported]

    @admin.display(description="releases")
    def installed_releases(self, host: Host) -> str:
        """Return the builds that are installed, and which one is current."""
        builds = [
            f"{one.build_id} (current)" if one.is_current else one.build_id
            for one in host.releases.all()
        ]
        return ", ".join(builds) or "none"

    @admin.display(description="box")
    def box(self, host: Host) -> str:
        """Return what keeps a game's code in, and what does not."""
        if not host.walls:
            return "not reported"
        standing = host.standing_walls
        lead = f"{standing[0].upper()}{standing[1:]}." if standing else _("No wall stands.")
        return " ".join([lead, *host.missing_walls])

    @admin.display(description=gettext_lazy("limits without effect"))
    def missing_limits(self, host: Host) -> str:
        """Return which limits of blueprints nothing holds servers to."""
        return host.limits_without_effect or "none"

    @admin.display(description=gettext_lazy("free disk space"))
    def free_disk(self, host: Host) -> str:
        """Return how much room is left for the host's folder."""
        return "" if host.disk_free_bytes is None else filesizeformat(host.disk_free_bytes)

    @admin.display(description="load")
    def load(self, host: Host) -> str:
        """Return how busy its processors are."""
        return "" if host.load_percent is None else f"{host.load_percent} % of its processors"

    @admin.display(description=gettext_lazy("ports in use by other programs"))
    def held_ports(self, host: Host) -> str:
        """Return the ports of the range that no server can be given."""
        return ", ".join(map(str, host.taken_ports)) or "none"

    def get_readonly_fields(self, request: HttpRequest, obj: Host | None = None) -> list[str]:  # noqa: ARG002
        """Keep what the worker reports, and the name by which it knows its row."""
        return [*(["name"] if obj else []), *self.reported]

    def get_fields(self, request: HttpRequest, obj: Host | None = None) -> list[Any]:  # noqa: ARG002
        """Show what a worker has reported of a host that is there."""
        written = [name for name in self.fields if name not in self.reported]
        return [*written, *(self.reported if obj else [])]

    def has_view_permission(self, request: HttpRequest, obj: Host | None = None) -> bool:  # noqa: ARG002
        """Return what the rule says."""
        return may(request.user, Verb.VIEW_HOSTS)

    def obstacle(self, row: Host) -> str:
        """Keep a host that has work to do."""
        if row.jobs.active().exists():
            return _(
                "Host %(row)s has a job that is waiting or running. Cancel it, or wait until it "
                "has ended."
            ) % {"row": row.name}
        return ""


@admin.register(Overlay)
class OverlayAdmin(GuardedDeletion, VersionedAdmin):
    """Overlays: the names of folders that lie on the hosts, and of what the panel has versions of."""

    list_display = ["name", "description", "owner", "is_shared"]
    raw_id_fields = ["owner"]
    list_filter = ["is_shared"]
    search_fields = ["name", "description"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether a folder of the hosts may be named, which has native code in it, as likely as not."""
        return super().has_add_permission(request) and may(request.user, Verb.BRING_NATIVE_CODE)

    def get_readonly_fields(self, request: HttpRequest, obj: Overlay | None = None) -> list[str]:
        """Keep the name where another folder must not be named, and where versions go by it."""
        is_free = obj is None or obj.latest_id is None
        return [] if is_free and may(request.user, Verb.BRING_NATIVE_CODE) else ["name"]

    def obstacle(self, row: Overlay) -> str:
        """Keep one that something uses."""
        return " ".join(find_overlay_holders(row))


class BlueprintOverlayInline(admin.TabularInline):  # type: ignore[type-arg]
    """The overlays of a blueprint by their place; 1 lies on top."""

    model = BlueprintOverlay
    fields = ["overlay", "position"]  # The panel's own form has the versions of each overlay.
    extra = 1
    autocomplete_fields = ["overlay"]


@admin.register(Blueprint)
class BlueprintAdmin(VersionedAdmin):
    """Blueprints of everybody."""

    list_display = ["name", "owner", "is_shared", "updated_at"]
    list_filter = ["is_shared"]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__username"]
    autocomplete_fields = ["owner"]
    inlines = [BlueprintOverlayInline]

    def has_view_permission(self, request: HttpRequest, obj: Blueprint | None = None) -> bool:  # noqa: ARG002
        """Return what the rule says."""
        return may(request.user, Verb.VIEW_BLUEPRINT)

    def has_change_permission(self, request: HttpRequest, obj: Blueprint | None = None) -> bool:  # noqa: ARG002
        """Return what the rule says."""
        return may(request.user, Verb.CHANGE_BLUEPRINT)

    def has_delete_permission(self, request: HttpRequest, obj: Blueprint | None = None) -> bool:  # noqa: ARG002
        """Return what the rule says."""
        return may(request.user, Verb.REMOVE_BLUEPRINT)


class ServerAdminForm(SecretsForm, VersionedAdminForm):
    """A server; without a port it must be possible to find one. Passwords go out of its config here too."""

    is_any_port_allowed = False
    """Whether it is for somebody who may give a server any port."""

    def clean(self) -> dict[str, Any]:
        """Give a server without a port the next free one, or say in the form that there is none."""
        cleaned = super().clean() or self.cleaned_data
        host = cleaned.get("host") or getattr(self.instance, "host", None)
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
                    cleaned["port"] = host.find_free_port()
            except ValidationError as error:
                self.add_error("port", error)
        return cleaned


@admin.register(Server)
class ServerAdmin(GuardedDeletion, admin.ModelAdmin):  # type: ignore[type-arg]
    """Servers of everybody."""

    form = ServerAdminForm
    list_display = ["name", "owner", "host", "port", "blueprint", "desired_state", "actual_state"]
    list_filter = ["actual_state", "host"]
    list_select_related = ["owner", "host", "blueprint"]
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

    def has_view_permission(self, request: HttpRequest, obj: Server | None = None) -> bool:  # noqa: ARG002
        """Return what the rule says of all servers."""
        return may(request.user, Verb.VIEW)

    def has_change_permission(self, request: HttpRequest, obj: Server | None = None) -> bool:  # noqa: ARG002
        """Return what the rule says of all servers."""
        return may(request.user, Verb.CONFIGURE)

    def has_delete_permission(self, request: HttpRequest, obj: Server | None = None) -> bool:  # noqa: ARG002
        """Return what the rule says of all servers."""
        return may(request.user, Verb.REMOVE)

    def get_form(
        self, request: HttpRequest, obj: Server | None = None, change: bool = False, **kwargs: Any
    ) -> type[ServerAdminForm]:
        """Return the form for the one who asks: not everybody who writes it may take any port."""
        form = cast("type[ServerAdminForm]", super().get_form(request, obj, change, **kwargs))
        form.is_any_port_allowed = may(request.user, Verb.SET_ANY_PORT)
        return form

    def get_fields(self, request: HttpRequest, obj: Server | None = None) -> list[Any]:
        """Show what the host said of a server that is there, and its config to who may read that."""
        is_hidden = obj is not None and not may(request.user, Verb.CONFIGURE)
        written = [
            name for name in self.written if not (is_hidden and name in ("arguments", "config"))
        ]
        version = [VERSION_FIELD] if self.has_change_permission(request, obj) else []
        return [*written, *version, *(self.probed if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Server | None = None) -> list[str]:
        """Keep what is written by jobs; and name and host, while files on the host go by them."""
        kept = [] if may(request.user, Verb.SET_ANY_PORT) else ["bind_address"]
        return [*self.probed, *kept, *(["name", "host"] if obj and obj.has_instance else [])]

    def save_model(self, request: HttpRequest, obj: Server, form: Any, change: bool) -> None:
        """Store the server, and say which passwords went out of its config."""
        super().save_model(request, obj, form, change)
        for note in form.notes:
            self.message_user(request, note)

    def obstacle(self, row: Server) -> str:
        """Keep a server that its host still has files of, or that a job is about."""
        return row.removal_obstacle()

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show and store the form; tell if somebody took its name or port at the same moment."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except IntegrityError:
            text = _(
                "Somebody took that name or port at the same moment. Nothing was saved: try again."
            )
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
