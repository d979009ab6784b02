"""Addresses of servers and blueprints; the pages that show a server's jobs are in `jobs.urls`."""

from django.urls import URLPattern, URLResolver, include, path, register_converter
from django.views.generic import RedirectView

from hostops.specs import NAME_PATTERN
from servers.pages import (
    blob_pages,
    console_pages,
    cure_pages,
    file_pages,
    new_server_pages,
    overlay_pages,
    secret_pages,
    server_pages,
    tag_pages,
    version_pages,
)


class NameConverter:
    """A name of a host, server or blueprint; any other address is a 404."""

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
    path("<name:name>/cure/", cure_pages.blueprint_cure, name="blueprint_cure"),
]

version_urls = [
    path("", version_pages.overlay_version, name="overlay_version"),
    path("file/", version_pages.overlay_file, name="overlay_file"),
    path("download/", version_pages.overlay_file_download, name="overlay_file_download"),
    path("changes/", version_pages.overlay_changes, name="overlay_changes"),
    path("restore/", version_pages.overlay_version_restore, name="overlay_version_restore"),
    path("remove/", version_pages.overlay_version_remove, name="overlay_version_remove"),
]

overlay_urls: list[URLPattern | URLResolver] = [
    path("", overlay_pages.overlay_list, name="overlay_list"),
    path("new/", overlay_pages.overlay_create, name="overlay_create"),
    path("<name:name>/", overlay_pages.overlay_detail, name="overlay_detail"),
    path("<name:name>/edit/", overlay_pages.overlay_edit, name="overlay_edit"),
    path("<name:name>/remove/", overlay_pages.overlay_remove, name="overlay_remove"),
    # Files are named by `?path=`: their names are longer and stranger than address parts may be.
    path("<name:name>/files/new/", file_pages.overlay_file_new, name="overlay_file_new"),
    path("<name:name>/files/edit/", file_pages.overlay_file_edit, name="overlay_file_edit"),
    path("<name:name>/files/rename/", file_pages.overlay_file_rename, name="overlay_file_rename"),
    path("<name:name>/files/remove/", file_pages.overlay_file_remove, name="overlay_file_remove"),
    path("<name:name>/files/seed/", file_pages.overlay_file_seed, name="overlay_file_seed"),
    path("<name:name>/versions/<int:number>/", include(version_urls)),
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
