"""The addresses of a server's people, below `servers/<name>/people/`, and of its audit."""

from django.urls import path

from l4d2site.accounts import audit_pages
from l4d2site.accounts import server_people_pages as pages

urlpatterns = [
    path("", pages.server_people, name="server_people"),
    path("audit/", audit_pages.server_audit, name="server_audit"),
    path("add/", pages.member_add, name="member_add"),
    path("links/", pages.invitation_make, name="server_invitation_make"),
    path("links/<uuid:pk>/revoke/", pages.invitation_revoke, name="server_invitation_revoke"),
    path("<int:pk>/role/", pages.member_change, name="member_change"),
    path("<int:pk>/remove/", pages.member_remove, name="member_remove"),
]
