"""Where forms lead once they are done: back to a page of the panel, and never elsewhere."""

import pytest
from django.test import RequestFactory

from servers.return_addresses import lead_back

OTHERWISE = "/jobs/7/"


def led_to(**fields: str) -> str:
    answer = lead_back(RequestFactory().post("/jobs/7/cancel", fields), OTHERWISE)
    assert answer.status_code == 303
    return answer.headers["Location"]


def test_a_form_leads_back_to_the_page_that_it_names() -> None:
    assert led_to(return_to="/hosts/local/?tab=jobs") == "/hosts/local/?tab=jobs"


def test_without_a_page_it_leads_where_it_always_did() -> None:
    assert led_to() == OTHERWISE


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "///evil.example",
        "javascript:alert(1)",
        "evil.example",
    ],
)
def test_it_leads_nowhere_but_to_the_panel(address: str) -> None:
    assert led_to(return_to=address) == OTHERWISE
