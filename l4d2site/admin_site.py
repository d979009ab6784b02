"""The admin site, and the button on it that installs or updates the game on a host."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from jobs import queue
from jobs.models import Operation
from servers.access import SignedInRequest, sign_in_required
from servers.models import Host


class SaferoomAdminSite(AdminSite):
    """Django's admin under our name."""

    site_header = "Saferoom"
    site_title = "Saferoom"
    index_title = "Hosts, people and jobs"

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Return the addresses of the admin, with that of the install button."""
        return [path("install", self.install, name="install"), *super().get_urls()]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return what admin pages show; the hosts are read only where the install button is."""
        context = super().each_context(request)
        return {
            **context,
            "install_hosts": Host.objects.all(),
            "install_host_name": settings.HOST_NAME,
        }

    @method_decorator([require_POST, sign_in_required])
    def install(self, request: SignedInRequest) -> HttpResponse:
        """Request the install or update of the game on a host, by default the one of the settings.

        Not an `admin_view`: that one would send an owner to a login form, and they are signed in.
        """
        if not self.has_permission(request):
            raise PermissionDenied("Only an admin installs or updates the game.")
        host = self.host_to_install_on(request.POST.get("host", ""))
        try:
            requested = queue.request(Operation.INSTALL, host=host, requested_by=request.user)
        except queue.RequestRefused as refusal:
            messages.error(request, str(refusal))
        else:
            job = requested.job
            doing = "is queued" if requested.is_new else "waits or runs already"
            messages.info(
                request, f"Install runtime on host {job.host_name} {doing}: job {job.pk}."
            )
        return HttpResponseRedirect(reverse("admin:jobs_job_changelist"), status=303)

    def host_to_install_on(self, name: str) -> Host:
        """Return the host with that name; without a name, the one that the settings name."""
        if not name:
            return Host.local()
        for host in Host.objects.all():
            if host.name == name:
                return host
        raise Http404(f"There is no host called {name!r}.")
