"""Hosts, overlays, blueprints and servers in the Django admin."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from servers.forms import find_port_obstacle
from servers.models import Blueprint, BlueprintOverlay, Host, Overlay, Server
from servers.secret_fields import SecretsForm

# Permissions are owner and admin, nothing between: groups would promise what they do not do.
admin.site.unregister(Group)


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


@admin.register(Host)
class HostAdmin(GuardedDeletion, admin.ModelAdmin):  # type: ignore[type-arg]
    """Hosts: a worker makes its own row, and reports into it."""

    list_display = ["name", "address", "build_id", "game_source", "driver", "reported_at"]
    reported = [
        "driver",
        "game_source",
        "layering",
        "layering_detail",
        "build_id",
        "disk_free_bytes",
        "taken_ports",
        "reported_at",
        "created_at",
    ]

    def get_readonly_fields(self, request: HttpRequest, obj: Host | None = None) -> list[str]:  # noqa: ARG002
        """Keep what the worker reports, and the name by which it knows its row."""
        return [*(["name"] if obj else []), *self.reported]

    def obstacle(self, row: Host) -> str:
        """Keep a host that has work to do."""
        if row.jobs.active().exists():
            return f"A job of host {row.name} waits or runs: cancel it, or wait until it has ended."
        return ""


@admin.register(Overlay)
class OverlayAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Overlays: the names of folders that lie on the hosts."""

    list_display = ["name", "description", "is_shared"]
    list_filter = ["is_shared"]
    search_fields = ["name", "description"]


class BlueprintOverlayInline(admin.TabularInline):  # type: ignore[type-arg]
    """The overlays of a blueprint by their place; 1 lies on top."""

    model = BlueprintOverlay
    extra = 1
    autocomplete_fields = ["overlay"]


@admin.register(Blueprint)
class BlueprintAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Blueprints of everybody."""

    list_display = ["name", "owner", "is_shared", "updated_at"]
    list_filter = ["is_shared"]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__username"]
    autocomplete_fields = ["owner"]
    inlines = [BlueprintOverlayInline]


class ServerAdminForm(SecretsForm):
    """A server; without a port it must be possible to find one. Passwords go out of its config here too."""

    def clean(self) -> dict[str, Any]:
        """Give a server without a port the next free one, or say in the form that there is none."""
        cleaned = super().clean() or self.cleaned_data
        host = cleaned.get("host") or getattr(self.instance, "host", None)
        if host and (
            text := find_port_obstacle(self.instance, host, cleaned.get("port"), is_staff=True)
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

    def get_fields(self, request: HttpRequest, obj: Server | None = None) -> list[Any]:  # noqa: ARG002
        """Show what the host said of a server that is there."""
        return [*self.written, *(self.probed if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Server | None = None) -> list[str]:  # noqa: ARG002
        """Keep what is written by jobs; and name and host, while files on the host go by them."""
        return [*self.probed, *(["name", "host"] if obj and obj.has_instance else [])]

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
            text = (
                "Somebody took that name or port at the same moment. Nothing is stored: try again."
            )
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
