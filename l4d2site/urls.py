"""Which address leads where."""

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, URLResolver, include, path

from l4d2site.accounts import PasswordChange, SignIn
from l4d2site.health import healthz

account_urls = [
    path("login/", SignIn.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("password/", PasswordChange.as_view(), name="password_change"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("servers.urls")),
    path("", include("jobs.urls")),
    path("accounts/", include(account_urls)),
    path("admin/", admin.site.urls),
    path("healthz", healthz, name="healthz"),
]

handler400 = "l4d2site.errors.bad_request"
handler403 = "l4d2site.errors.permission_denied"
handler404 = "l4d2site.errors.page_not_found"
