"""The admin site, and its additions: installing or updating the game on a host."""

from typing import Any, NamedTuple, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from jobs import queue
from jobs.models import Job, Operation
from l4d2site.admin_requests import CheckedRequests
from servers.access import SignedInRequest, require, sign_in_required
from servers.models import Blueprint, Host, Overlay, Server
from servers.permissions import Verb, may
from servers.secrets import keys_note


class SaferoomAdminSite(AdminSite):
    """Django's admin under our name."""

    site_header = "Saferoom"
    site_title = "Saferoom"
    index_title = gettext_lazy("Hosts, people and jobs")

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Register models, of packages too, with pages that judge what they are asked."""
        pages = admin_class or ModelAdmin
        checked = type(pages.__name__, (CheckedRequests, pages), {"__module__": pages.__module__})
        super().register(model_or_iterable, checked, **options)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Return the addresses of the admin, including our own.

        Without Django's way to a row's page: it takes any text as a key, and asks for no permission.
        """
        of_django = [
            one for one in super().get_urls() if getattr(one, "name", "") != "view_on_site"
        ]
        return [
            path("install", self.install, name="install"),
            path("releases/", self.admin_view(self.releases), name="releases"),
            path(
                "r/<int:content_type_id>/<int:object_id>/",
                self.admin_view(self.view_on_site),
                name="view_on_site",
            ),
            *of_django,
        ]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return the context of admin pages. The hosts are queried only where the install button is."""
        context = super().each_context(request)
        return {
            **context,
            "install_hosts": Host.objects.all(),
            "install_host_name": settings.HOST_NAME,
            "secrets_note": keys_note() if may(request.user, Verb.VIEW_HOSTS) else "",
        }

    @method_decorator(never_cache)
    def login(
        self,
        request: HttpRequest,
        extra_context: dict[str, Any] | None = None,  # noqa: ARG002 - as Django calls it
    ) -> HttpResponse:
        """Sign in as everywhere. A signed-in person who may not be here is told so.

        Redirecting them to the sign-in, as Django does, would send them back here.
        """
        if request.user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied(_("Only an admin can see the admin pages."))
        # Only here: each process loads this module, and a worker or a command shows no page.
        from l4d2site.accounts.pages import SignIn

        response: HttpResponse = SignIn.as_view(default_url=reverse("admin:index"))(request)
        return response

    def password_change(  # type: ignore[override] # It shows no page of its own.
        self,
        request: HttpRequest,  # noqa: ARG002 - as Django calls it
        extra_context: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> HttpResponse:
        """Redirect to the panel's page for that."""
        return HttpResponseRedirect(reverse("password_change"))

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """Show the index, with the rows that cannot be started as they are."""
        faulty_rows = read_faulty_rows(cast("User", request.user))
        return super().index(request, {**(extra_context or {}), "faulty_rows": faulty_rows})

    @method_decorator([require_POST, sign_in_required])
    def install(self, request: SignedInRequest) -> HttpResponse:
        """Request the install or update of the game on a host, by default the one in the settings.

        Not an `admin_view`, which would send an owner to a login form although they are signed in.
        """
        require(request.user, Verb.INSTALL)
        host = self.host_to_install_on(request.POST.get("host", ""))
        try:
            requested = queue.request(Operation.INSTALL, host=host, requested_by=request.user)
        except queue.RequestRefused as refusal:
            messages.error(request, str(refusal))
        else:
            job = requested.job
            text = (
                _("%(operation_label)s on host %(host_name)s is queued: job %(job)s.")
                if requested.is_new
                else _(
                    "%(operation_label)s on host %(host_name)s is already waiting or running:"
                    " job %(job)s."
                )
            )
            names = {"operation_label": job.operation_label, "host_name": job.host_name}
            messages.info(request, text % {**names, "job": job.pk})
        return HttpResponseRedirect(reverse("admin:jobs_job_changelist"), status=303)

    def view_on_site(
        self, request: HttpRequest, content_type_id: int, object_id: int
    ) -> HttpResponse:
        """Redirect to a row's page, but unlike Django only for people who may see the row.

        Some addresses are secrets, such as an invitation's, and most have names in them.
        """
        model = get_object_or_404(ContentType, pk=content_type_id).model_class()
        rows = find_rows_with_pages(cast("User", request.user), model)
        return HttpResponseRedirect(get_object_or_404(rows, pk=object_id).get_absolute_url())

    def releases(self, request: HttpRequest) -> HttpResponse:
        """Redirect to the panel's pages of hosts, which list the builds of each."""
        require(cast("User", request.user), Verb.VIEW_HOSTS)
        return HttpResponseRedirect(reverse("jobs:hosts"))

    def host_to_install_on(self, name: str) -> Host:
        """Return the host with this name; if the name is empty, the one in the settings."""
        if not name:
            return Host.local()
        for host in Host.objects.all():
            if host.name == name:
                return host
        raise Http404(_("There is no host called “%(name)s”.") % {"name": name})


def find_rows_with_pages(user: User, model: type[Model] | None) -> QuerySet[Any]:
    """Return the rows of `model` whose pages `user` may see. Other models' rows have no page to lead to."""
    if model in (Blueprint, Job, Server):
        return model.objects.visible_to(user)
    if model is Overlay:
        return Overlay.objects.usable_by(user)
    if model is Host and may(user, Verb.VIEW_HOSTS):
        return Host.objects.all()
    raise Http404(_("There is no such page."))


ROWS_HELD = 100
"""How many rows are in memory at a time while faults are searched: each may have long texts."""


class FaultyRow(NamedTuple):
    """A blueprint or server whose stored arguments or config break a rule that was added later."""

    is_server: bool
    name: str
    owner: str
    url: str
    first_fault: str


def read_faulty_rows(user: User) -> list[FaultyRow]:
    """Return the unstartable rows that `user` may change: blueprints, then servers with faults of their own."""
    blueprints = {
        row.pk: row
        for row in Blueprint.objects.editable_by(user).select_related("owner").iterator(ROWS_HELD)
        if row.faults
    }
    allowed = Server.objects.allowed(user, Verb.CONFIGURE).select_related("owner", "blueprint")
    servers = [
        row
        for row in allowed.iterator(ROWS_HELD)
        if row.blueprint_id not in blueprints and row.spec_faults
    ]
    return [
        *(describe_fault(row, row.faults[0], is_server=False) for row in blueprints.values()),
        *(describe_fault(row, row.spec_faults[0], is_server=True) for row in servers),
    ]


def describe_fault(row: Blueprint | Server, first_fault: str, *, is_server: bool) -> FaultyRow:
    """Return a row as the index lists it."""
    return FaultyRow(is_server, row.name, str(row.owner), row.get_absolute_url(), first_fault)
