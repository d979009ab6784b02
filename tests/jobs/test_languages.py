"""In which language people are told of a job, and in which it is stored."""

import pytest
from django.utils import translation
from django.utils.translation import trans_real

from jobs.models import Job, JobState, label_as_stored
from servers.models import Server

GERMAN = {
    "Start": "Starten",
    "failed": "fehlgeschlagen",
    "%(operation)s to build %(build)s": "%(operation)s auf Build %(build)s",
}


@pytest.fixture
def german(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a language that has words for a start, although the panel itself has none but English."""
    monkeypatch.setattr(trans_real, "_translations", {})
    monkeypatch.setattr(trans_real, "_default", None)
    monkeypatch.setattr(translation, "_trans", trans_real)
    vars(trans_real.translation("de"))["_catalog"]._catalogs.insert(0, GERMAN)
    return "de"


def test_pages_tell_of_a_job_in_the_language_of_the_reader(server: Server, german: str) -> None:
    job = Job.objects.create(operation="start", server=server, state=JobState.FAILED)
    assert (job.operation_label, job.get_state_display()) == ("Start", "failed")
    with translation.override(german):
        assert (job.operation_label, job.get_state_display()) == ("Starten", "fehlgeschlagen")


def test_what_is_stored_of_a_job_is_the_same_in_every_language(german: str) -> None:
    with translation.override(german):
        assert label_as_stored("start", None, "12") == "Start to build 12"
        assert translation.get_language() == german
