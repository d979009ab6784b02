"""Which address leads where."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from l4d2site.health.pages import health_page, healthz, livez

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("servers.urls")),
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
