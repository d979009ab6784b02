"""The name of a download, whatever is in it."""

import pytest
from django.http import HttpResponse

from servers.downloads import as_download


@pytest.mark.parametrize(
    ("filename", "header"),
    [
        ("banned_user.cfg", 'attachment; filename="banned_user.cfg"'),
        ('a"b.cfg', 'attachment; filename="a\\"b.cfg"'),
        ("é.cfg", "attachment; filename*=utf-8''%C3%A9.cfg"),
        ("", "attachment"),
    ],
)
def test_a_browser_saves_a_download_under_its_quoted_name(filename: str, header: str) -> None:
    response = as_download(HttpResponse("text"), filename)
    assert response["Content-Disposition"] == header
    assert response["X-Content-Type-Options"] == "nosniff"
