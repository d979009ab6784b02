"""Addresses of servers and blueprints; those of the pages that show a server's jobs are in `jobs.urls`."""

from django.urls import URLPattern, URLResolver, include, path, register_converter
from django.views.generic import RedirectView

from hostops.specs import NAME_PATTERN
from servers.pages import (
    blob_pages,
    console_pages,
    new_server_pages,
    overlay_pages,
    secret_pages,
    server_pages,
    tag_pages,
)


class NameConverter:
    """A name as hosts, servers and blueprints have them; any other address is a 404."""

    regex = NAME_PATTERN

    def to_python(self, value: str) -> str:
        """Return the name."""
        return value

    def to_url(self, value: str) -> str:
        """Return the name."""
        return value


register_converter(NameConverter, "name")

app_name = "servers"

server_urls = [
    path("", server_pages.server_list, name="list"),
    path("new/", new_server_pages.server_create, name="create"),
    path("<name:name>/console.txt", console_pages.console_text, name="console_text"),
    path("<name:name>/edit/", server_pages.server_edit, name="edit"),
    path("<name:name>/secrets/<slug:secret>/", secret_pages.show_secret, name="secret"),
    path("<name:name>/move-port/", server_pages.server_move_port, name="move_port"),
    path("<name:name>/remove/", server_pages.server_remove, name="remove"),
]

blueprint_urls = [
    path("", server_pages.blueprint_list, name="blueprint_list"),
    path("new/", server_pages.blueprint_create, name="blueprint_create"),
    path("<name:name>/", server_pages.blueprint_detail, name="blueprint_detail"),
    path("<name:name>/edit/", server_pages.blueprint_edit, name="blueprint_edit"),
    path("<name:name>/remove/", server_pages.blueprint_remove, name="blueprint_remove"),
]

overlay_urls = [
    path("", overlay_pages.overlay_list, name="overlay_list"),
    path("<name:name>/", overlay_pages.overlay_detail, name="overlay_detail"),
]

tag_urls = [
    path("", tag_pages.tag_list, name="tags"),
    path("rename/", tag_pages.tag_rename, name="tag_rename"),
    path("remove/", tag_pages.tag_remove, name="tag_remove"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="servers:list"), name="home"),
    path("servers/", include(server_urls)),
    path("blueprints/", include(blueprint_urls)),
    path("overlays/", include(overlay_urls)),
    path("tags/", include(tag_urls)),
    path("content/blobs/<str:sha256>", blob_pages.blob, name="blob"),
]
