"""Uploading to an overlay in a real browser: a folder, across a killed web process and a reload."""

import os
import zipfile
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, Route, expect

from hostops.host import Host as HostLayer
from jobs import operations
from jobs.models import Job, JobState
from jobs.worker import run_worker_once
from servers.models import Overlay, Upload, UploadPart, UploadState
from servers.store import get_store, path_of, read_files
from tests.pages.browsing import OpenPage
from tests.pages.webserver import WebServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

BIG_BYTES = 16 * 1024**2
BYTES_A_SECOND = 1.5 * 1024**2
"""Slow enough that none of this is over before the next step, even on a busy machine."""


@pytest.fixture
def content_root(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give web server and worker the same store, and the worker the real host layer."""
    layer = HostLayer(tmp_path / "host", driver="process", game_source="simulator")
    monkeypatch.setattr(operations, "get_host", lambda _name: layer)
    return store


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Return a folder with many small files, an archive and a large file."""
    game = tmp_path / "pack" / "left4dead2"
    (game / "cfg").mkdir(parents=True)
    for number in range(30):
        (game / "cfg" / f"{number}.cfg").write_text(f"echo {number}\n")
    (game / "cfg" / "größe.cfg").write_text("echo\n")
    (game / "addons").mkdir()
    (game / "addons" / "big.vpk").write_bytes(os.urandom(BIG_BYTES))
    with zipfile.ZipFile(tmp_path / "pack" / "more.zip", "w") as archive:
        archive.writestr("more/left4dead2/cfg/more.cfg", "echo more\n")
    return tmp_path / "pack"


def arrived() -> int:
    """Return how much of the large file has arrived."""
    part = UploadPart.objects.filter(path__endswith="big.vpk").first()
    return path_of(part).stat().st_size if part and path_of(part).exists() else 0


def choose_folder(page: Page, folder: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a folder").click()
    chooser.value.set_files(folder)


def drop(page: Page, name: str, content: bytes) -> None:
    """Drop a file onto the page, beside the form."""
    transfer = page.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name));
            return transfer;
        }""",
        [name, list(content)],
    )
    page.dispatch_event("h1", "drop", {"dataTransfer": transfer})


def test_what_needs_a_script_can_be_clicked_once_the_script_listens(
    open_page: OpenPage, alice: User
) -> None:
    Overlay.objects.create(name="maps", owner=alice, is_shared=False)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page = open_page()
    page.route("**/upload_form*.js", hold)
    with page.expect_request("**/upload_form*.js"):
        page.goto("/overlays/maps/uploads/", wait_until="commit")
    expect(page.get_by_role("button", name="Upload")).to_be_visible()
    button = page.get_by_text("Choose a folder")
    expect(button).to_be_hidden()
    for route in held:
        route.continue_()
    expect(button).to_be_visible()
    amounts = "{received: 0, count: 1, sent: 4, total: 455}"
    # One part is not counted: its bytes say everything.
    said = page.evaluate(
        "import(document.querySelector('link[href*=amounts]').href)"
        f".then((module) => module.describePause({amounts}))"
    )
    assert said == "4 bytes of 455 bytes, paused"


@pytest.mark.usefixtures("beating_worker")
def test_a_folder_arrives_over_a_killed_web_process_and_a_reload(
    content_root: Path, pack: Path, site: WebServer, open_page: OpenPage, alice: User
) -> None:
    overlay = Overlay.objects.create(name="maps", owner=alice, is_shared=False)
    page = open_page()
    page.on("dialog", lambda dialog: dialog.accept())
    network = page.context.new_cdp_session(page)
    network.send(
        "Network.emulateNetworkConditions",
        {
            "offline": False,
            "latency": 0,
            "downloadThroughput": -1,
            "uploadThroughput": BYTES_A_SECOND,
        },
    )
    page.goto("/overlays/maps/")
    page.get_by_role("link", name="Upload files").click()
    choose_folder(page, pack)
    wait_until(lambda: arrived() > 0, 30, "the large file does not arrive")
    said = page.locator("[data-upload-said]")
    expect(said).to_contain_text("of 3 parts")

    site.stop()
    before = arrived()
    site.start()
    wait_until(lambda: arrived() > before, 30, "it does not continue after the web process died")
    page.get_by_role("button", name="Pause").click()
    expect(said).to_contain_text("paused")

    page.reload()
    expect(page.get_by_text("not fully arrived yet")).to_be_visible()
    expect(page.get_by_text("big.vpk")).to_be_visible()
    page.get_by_role("button", name="Continue").click()
    assert before < arrived() < BIG_BYTES
    network.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    choose_folder(page, pack)
    wait_until(Job.objects.exists, 30, "no job was requested")
    assert Upload.objects.count() == 1
    assert UploadPart.objects.count() == 3
    expect(page.get_by_text("Unpack upload").first).to_be_visible()
    assert run_worker_once()
    assert (Job.objects.get().state, Job.objects.get().error) == (JobState.SUCCEEDED, "")
    expect(page.get_by_role("link", name="Version 1")).to_be_visible()
    overlay.refresh_from_db()
    assert overlay.latest
    files = {file.path: file for file in read_files(overlay.latest)}
    assert len(files) == 33
    assert "left4dead2/cfg/größe.cfg" in files
    assert "left4dead2/cfg/more.cfg" in files
    big = files["left4dead2/addons/big.vpk"]
    assert (
        get_store().path_of(big.sha256).read_bytes()
        == (pack / "left4dead2/addons/big.vpk").read_bytes()
    )

    drop(page, "broken.zip", b"PK\3\4 and no more")
    wait_until(lambda: Job.objects.count() == 2, 20, "what was dropped is not sent")
    assert run_worker_once()
    expect(page.get_by_text("broken.zip was not unpacked").first).to_be_visible()
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    page.get_by_text("Discard…").click()
    page.get_by_role("button", name="Discard", exact=True).click()
    expect(page.get_by_text("broken.zip")).to_have_count(0)
    assert not Upload.objects.exclude(state=UploadState.DONE).exists()
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("There are no files in that. Choose some first.")

    page.goto("/overlays/maps/files/new/")
    page.get_by_label("Path", exact=True).fill("left4dead2/cfg/mine.cfg")
    page.get_by_label("Text", exact=True).fill("echo mine")
    page.get_by_role("button", name="Save as a new version").dblclick()
    expect(page.get_by_text("Version 2 was made.")).to_be_visible()
