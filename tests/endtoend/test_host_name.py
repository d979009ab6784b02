"""A panel whose HOST_NAME has changed: the servers of the old host are out of reach, and all else works."""

import pytest

from tests.endtoend.panel import Panel
from tests.waiting import wait_until

pytestmark = pytest.mark.endtoend


def test_servers_on_a_host_without_a_worker_do_not_keep_the_panel_from_starting(
    panel: Panel,
) -> None:
    panel.make_server("alpha")
    panel.stop()
    panel.more_settings["HOST_NAME"] = "other"
    panel.start()

    def notes() -> list[str]:
        return [line for line in panel.output if line.startswith("Note: ")]

    (note,) = wait_until(notes, 10, "it says nothing of the other host")
    assert note.startswith("Note: Host local: its worker was last heard from ")
    assert note.endswith(" ago. Its servers cannot be started or stopped.")
    health = panel.health()
    assert health["status"] == "unhealthy"
    assert [worker["host"] for worker in health["workers"]] == ["other"]
    panel.client.sign_in()
    panel.succeed(panel.install())
