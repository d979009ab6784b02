"""Addresses of jobs and of the streams that pages follow."""

from django.urls import path

import servers.urls  # noqa: F401 - registers the `name` converter
from jobs import hosts, streams, views

app_name = "jobs"

urlpatterns = [
    path("events", streams.change_events, name="change_events"),
    path("hosts/", hosts.host_list, name="hosts"),
    path("hosts/<name:name>/drain", hosts.host_drain, name="host_drain"),
    path("jobs/", views.job_list, name="list"),
    path("jobs/<int:pk>/", views.job_detail, name="detail"),
    path("jobs/<int:pk>/events", streams.job_events, name="events"),
    path("jobs/<int:pk>/log.txt", views.job_log, name="log"),
    path("jobs/<int:pk>/cancel", views.job_cancel, name="cancel"),
    path("jobs/<int:pk>/retry", views.job_retry, name="retry"),
    path("servers/<name:name>/jobs/", views.job_create, name="create"),
    path("servers/<name:name>/console/events", streams.console_events, name="console_events"),
]
