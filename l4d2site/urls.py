"""Which address leads where."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

import jobs.urls
import servers.urls
from l4d2site.health.pages import health_page, healthz, livez

# In one namespace: code that links to a server need not know which app has the page.
server_pages: list[URLPattern | URLResolver] = [
    *servers.urls.urlpatterns,
    *jobs.urls.server_urlpatterns,
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include((server_pages, servers.urls.app_name))),
    path("", include("jobs.urls")),
    path("servers/<name:name>/people/", include("l4d2site.accounts.server_urls")),
    path("accounts/", include("l4d2site.accounts.urls")),
    path("admin/", admin.site.urls),
    path("health/", health_page, name="health"),
    path("healthz", healthz, name="healthz"),
    path("livez", livez, name="livez"),
]

handler400 = "l4d2site.errors.bad_request"
handler403 = "l4d2site.errors.permission_denied"
handler404 = "l4d2site.errors.page_not_found"
handler429 = "l4d2site.errors.too_many_requests"
