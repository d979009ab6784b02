"""The pages of an overlay's versions: making, reading, comparing, changing, restoring and removing them."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from l4d2site.accounts.models import AccountEvent
from servers.models import (
    ActualState,
    Blueprint,
    Host,
    LaidOutVersion,
    Overlay,
    OverlayReport,
    OverlayVersion,
    Server,
)
from servers.pages import overlay_pages, version_pages
from servers.store import changed_lines, get_store, read_files
from servers.store import versions as store_versions
from tests.overlays import bring, lose
from tests.pages.queries import count_queries
from tests.pages.test_overlays import report
from tests.states import make_run

A, B = "left4dead2/cfg/a.cfg", "left4dead2/addons/b.vpk"
HOSTILE = [
    "left4dead2/cfg/<script>alert(1)<.cfg",
    "left4dead2/cfg/\"quotes\" & 'more'.cfg",
    "left4dead2/cfg/\u202egfc.exe.cfg",
    "left4dead2/cfg/a b%2f?c#d&path=x.cfg",
    f"left4dead2/cfg/{'n' * 251}.cfg",
    f"left4dead2/cfg/{'ü' * 125}.cfg",
]


@pytest.fixture(autouse=True)
def store_below(tmp_path: Path, settings: LazySettings) -> None:
    """Give each test a store of its own."""
    settings.CONTENT_ROOT = tmp_path / "content"


@pytest.fixture
def overlay(alice: User) -> Overlay:
    """Return an overlay of Alice's with two versions."""
    overlay = Overlay.objects.create(name="maps", owner=alice, is_shared=False)
    bring(overlay, alice, {A: "one\r\ntwo\r\n", B: b"\0pack"}, note="the first")
    bring(overlay, alice, {A: "one\r\nthree\r\n", B: b"\0pack"}, origin="pack.zip")
    return overlay


def to_url(page: str, *arguments: object, **parameters: object) -> str:
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parameters.items())
    return reverse(f"servers:overlay_{page}", args=arguments) + (f"?{query}" if query else "")


def read(client: Client, url: str, status: int = 200) -> str:
    response = client.get(url)
    assert response.status_code == status
    return response.content.decode()


def seen_version(page: str) -> str:
    match = re.search(r'name="version" value="([^"]*)"', page)
    return match[1] if match else ""


def post(client: Client, url: str, **data: str) -> Any:
    """Send a form as it is on its page, with the given input."""
    return client.post(url, {"version": seen_version(read(client, url)), **data})


def newest_text(overlay: Overlay, path: str) -> bytes:
    version = overlay.versions.first()
    assert version is not None
    [file] = [file for file in read_files(version) if file.path == path]
    return get_store().read(file.sha256, 10**6)


# --- Overlays ---------------------------------------------------------------------------------


def test_an_owner_makes_a_private_overlay_and_writes_its_first_file(
    as_alice: Client, as_bob: Client, alice: User
) -> None:
    response = as_alice.post(to_url("create"), {"name": "rules", "description": "For a night."})
    overlay = Overlay.objects.get(name="rules")
    assert (response.headers["Location"], overlay.owner, overlay.is_shared) == (
        overlay.get_absolute_url(),
        alice,
        False,
    )
    page = read(as_alice, overlay.get_absolute_url())
    assert "There is nothing in it yet" in page
    assert "HOST_ROOT" not in page
    assert as_bob.get(overlay.get_absolute_url()).status_code == 404
    new = to_url("file_new", "rules")
    as_alice.post(new, {"path": "left4dead2/cfg/x.cfg", "text": "sv_lan 0\r\n", "note": "Hello."})
    [version] = overlay.versions.all()
    assert (version.note, version.files) == ("Hello.", 1)
    assert newest_text(overlay, "left4dead2/cfg/x.cfg") == b"sv_lan 0\n"
    assert "version 1, 9" in " ".join(read(as_alice, to_url("list")).split())
    kinds = AccountEvent.objects.order_by("pk").values_list("kind", "detail")
    assert list(kinds)[-2:] == [
        ("overlay_made", "rules"),
        ("overlay_changed", "rules, version 1 made"),
    ]


def test_a_config_that_the_game_cannot_read_to_its_end_is_saved_with_a_warning(
    as_alice: Client, overlay: Overlay
) -> None:
    new = to_url("file_new", "maps")
    said = "Line 2 of left4dead2/cfg/x.cfg contains"
    text = {"path": "left4dead2/cfg/x.cfg", "text": "sv_lan 0\r\nsay quité\r\n", "note": ""}
    page = as_alice.post(new, text, follow=True).content.decode()
    assert said in page
    assert "the game reads plain ASCII only." in page
    edit = to_url("file_edit", "maps", path="left4dead2/cfg/x.cfg")
    post(as_alice, edit, text="sv_lan 1\r\nsay fiancé")
    assert said in read(as_alice, overlay.get_absolute_url())
    text = {"path": "left4dead2/cfg/notes.txt", "text": "quité", "note": ""}
    assert "ASCII" not in as_alice.post(new, text, follow=True).content.decode()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("new", "is taken by a page"),
        ("maps", "That is already taken."),
        ("stray", "A host has a folder"),
        ("Rules", "lower-case letters"),
    ],
)
def test_a_name_that_an_overlay_cannot_have_is_refused(
    as_alice: Client, overlay: Overlay, host: Host, name: str, words: str
) -> None:
    report(host, "stray")
    response = as_alice.post(to_url("create"), {"name": name})
    assert words in response.content.decode()
    assert Overlay.objects.count() == 1


def test_who_may_have_no_server_makes_no_overlay(
    as_alice: Client, settings: LazySettings, db: None
) -> None:
    settings.SERVERS_PER_OWNER = 0
    assert "You may have no overlays" in read(as_alice, to_url("create"))
    assert (
        "You may have no overlays"
        in as_alice.post(to_url("create"), {"name": "rules"}).content.decode()
    )
    assert not Overlay.objects.exists()


def test_the_detail_says_who_uses_which_version_and_who_runs_with_another(
    as_alice: Client, overlay: Overlay, server: Server, blueprint: Blueprint
) -> None:
    second, first = overlay.versions.all()
    blueprint.set_overlays([overlay])
    run = make_run(server)
    server.actual_state = ActualState.RUNNING
    server.save()
    page = " ".join(read(as_alice, overlay.get_absolute_url()).split())
    assert "runs with version" not in page
    run.overlays = [[first.reference, ""]]
    run.save()
    page = " ".join(read(as_alice, overlay.get_absolute_url()).split())
    assert "runs with version 1; restart to apply version 2" in page
    blueprint.set_overlays([overlay], {overlay.pk: first})
    page = " ".join(read(as_alice, overlay.get_absolute_url()).split())
    assert "runs with version" not in page
    assert "pinned to version 1" in page
    assert second.origin in page


def test_the_detail_says_which_hosts_have_a_version_ready(
    as_alice: Client, overlay: Overlay
) -> None:
    second, first = overlay.versions.all()
    for number in range(5):
        host = Host.objects.create(name=f"site{number}")
        LaidOutVersion.objects.create(host=host, version=second)
    LaidOutVersion.objects.create(host=host, version=first)
    page = re.sub("<[^>]*>", " ", read(as_alice, overlay.get_absolute_url()))
    newer, older = page[page.index("Ready on") :].split("Version 1")
    assert "site0 , site1 , site2 and 2 more" in " ".join(newer.split())
    assert "site4" in older
    assert "site0" not in older


def test_an_overlay_with_versions_is_not_missed_on_hosts(
    as_alice: Client, overlay: Overlay, server: Server, host: Host
) -> None:
    server.blueprint.set_overlays([overlay])
    report(host, "another")
    for url in (
        to_url("list"),
        overlay.get_absolute_url(),
        server.get_absolute_url(),
        server.blueprint.get_absolute_url(),
    ):
        assert "ot on host" not in read(as_alice, url)


def test_an_overlay_in_use_is_removed_only_once_it_is_not(
    as_alice: Client, overlay: Overlay, blueprint: Blueprint
) -> None:
    blueprint.set_overlays([overlay])
    response = as_alice.post(to_url("remove", "maps"))
    assert response.status_code == 409
    assert "Blueprint coop uses it." in response.content.decode()
    blueprint.set_overlays([])
    assert as_alice.post(to_url("remove", "maps")).status_code == 302
    assert not Overlay.objects.exists()
    assert AccountEvent.objects.filter(kind="overlay_removed", detail="maps").count() == 1


def test_pages_cost_the_same_with_many_versions_and_servers(
    as_alice: Client, alice: User, overlay: Overlay, server: Server, blueprint: Blueprint
) -> None:
    blueprint.set_overlays([overlay])
    make_run(server)
    urls = [
        *(to_url("list"), overlay.get_absolute_url(), to_url("version", "maps", 1)),
        *(blueprint.get_absolute_url(), reverse("servers:blueprint_edit", args=["coop"])),
    ]
    for url in urls:
        as_alice.get(url)  # What is queried only once.
    before = [count_queries(as_alice, url) for url in urls]
    for number in range(4):
        bring(overlay, alice, {A: f"{number}"})
        other = Server.objects.create(
            name=f"s{number}", owner=alice, host=server.host, blueprint=blueprint
        )
        make_run(other)
    assert [count_queries(as_alice, url) for url in urls] == before


# --- Versions and files -----------------------------------------------------------------------


def test_all_versions_can_be_reached(
    as_alice: Client, overlay: Overlay, blueprint: Blueprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay_pages, "VERSIONS_PER_PAGE", 1)
    page = read(as_alice, overlay.get_absolute_url())
    assert 'href="?page=2"' in page
    assert "from pack.zip" in page
    assert "the first" not in page
    assert "None of your blueprints uses it yet." in page
    blueprint.set_overlays([overlay])
    page = read(as_alice, f"{overlay.get_absolute_url()}?page=2")
    assert "the first" in page
    assert "Version 2, the latest" in page
    assert "None of your blueprints uses it yet." not in page


def test_files_are_shown_by_folders_and_downloaded_as_they_are(
    as_alice: Client, overlay: Overlay
) -> None:
    assert "<bdi>left4dead2</bdi>/" in read(as_alice, to_url("version", "maps", 2, path=""))
    opened = as_alice.get(to_url("version", "maps", 2)).context
    assert (opened["folder"].path, opened["is_whole"]) == ("left4dead2", True)
    folder = read(as_alice, to_url("version", "maps", 2, path="left4dead2/cfg"))
    assert "a.cfg" in folder
    assert "b.vpk" not in folder
    assert as_alice.get(to_url("version", "maps", 2, path="left4dead2/no")).status_code == 404
    assert "three" in read(as_alice, to_url("file", "maps", 2, path=A))
    assert "It is not a text file" in read(as_alice, to_url("file", "maps", 2, path=B))
    response = as_alice.get(to_url("file_download", "maps", 2, path=A))
    assert b"".join(response.streaming_content) == b"one\r\nthree\r\n"  # type: ignore[attr-defined]
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Disposition"] == 'attachment; filename="a.cfg"'


def test_folders_are_shown_page_by_page_like_files(
    as_alice: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_pages, "FILES_PER_PAGE", 3)
    overlay = Overlay.objects.create(name="many", owner=alice)
    bring(overlay, alice, {f"left4dead2/cfg/{number}/a.cfg": "x" for number in range(4)})
    first = read(as_alice, to_url("version", "many", 1))
    assert "<bdi>2</bdi>/" in first
    assert "<bdi>3</bdi>/" not in first
    url = to_url("version", "many", 1, path="left4dead2/cfg")
    assert "<bdi>3</bdi>/" in read(as_alice, f"{url}&page=2")


def test_plugins_and_what_they_need_are_shown_with_who_has_it(
    as_alice: Client, alice: User, dana: User, overlay: Overlay
) -> None:
    folder = "left4dead2/addons/sourcemod"
    known = {
        "extensions": ["sdktools.ext"],
        "libraries": [["left4dhooks", "left4dhooks.smx"]],
        "provides": [],
    }
    plugins = [
        {"path": "fun.smx", "title": "Fun <b>", "author": "Ann", "version": "3.1", **known},
        {"path": "old.smx", **known},
    ]
    files = {f"{folder}/plugins/{name}": name for name in ("fun.smx", "old.smx", "disabled/no.smx")}
    bring(overlay, dana, files, report={"plugins": plugins})
    for name, is_shared in (("sm", True), ("of-others", False)):
        stack = Overlay.objects.create(name=name, owner=dana, is_shared=is_shared)
        extension = f"{folder}/extensions/sdktools.ext.so"
        bring(stack, dana, {f"{folder}/bin/sourcemod.so": "\x7fELF", extension: "\x7fELF"})
    for url in (overlay.get_absolute_url(), to_url("version", "maps", 3)):
        page = read(as_alice, url)
        text = " ".join(re.sub("<[^>]*>", " ", page.replace("<wbr>", "")).split())
        assert "2 plugins fun.smx Fun &lt;b&gt; 3.1 by Ann old.smx" in text
        assert (
            "SourceMod : in sm The extension sdktools.ext for 2 plugins : in sm The plugin" in text
        )
        assert "left4dhooks.smx for 2 plugins : in no overlay that you may use" in text
        assert "of-others" not in page
    assert "What it needs from other overlays" not in read(as_alice, to_url("version", "maps", 2))


def test_what_changed_between_two_versions_is_told_by_file_and_line(
    as_alice: Client, alice: User, overlay: Overlay
) -> None:
    page = " ".join(read(as_alice, to_url("changes", "maps", 2)).split())
    assert "Added: 0. Removed: 0. Changed: 1." in page
    lines = read(as_alice, to_url("changes", "maps", 2, path=A))
    assert "<del>- two</del>" in lines
    assert "<ins>+ three</ins>" in lines
    bring(overlay, alice, {B: b"\0other pack", "left4dead2/cfg/c.cfg": "c"})
    page = " ".join(read(as_alice, to_url("changes", "maps", 3, **{"from": 1})).split())
    assert "Added: 1. Removed: 1. Changed: 1." in page
    assert "It is not a text file" in read(as_alice, to_url("changes", "maps", 3, path=B))
    assert "Version 1 is the first" in read(as_alice, to_url("changes", "maps", 1))
    for url in (
        to_url("changes", "maps", 2, path=B),
        to_url("changes", "maps", 2, **{"from": 9}),
        to_url("version", "maps", 9),
        to_url("version", "maps", "9" * 30),
    ):
        assert as_alice.get(url).status_code == 404


def test_few_changed_lines_are_shown_at_once(as_alice: Client, overlay: Overlay) -> None:
    page = read(as_alice, to_url("changes", "maps", 2))
    assert "<del>- two</del><ins>+ three</ins>" in page
    assert "Show the lines" not in page


@pytest.mark.parametrize(
    ("files", "lines", "label"),
    [
        (changed_lines.FEW_FILES + 1, 1, "Show the lines of 6 files"),
        (1, changed_lines.FEW_LINES + 1, "Show the lines of 1 file"),
        (changed_lines.MOST_FILES + 1, 1, "Show the lines of the first 30 of 31 files"),
    ],
)
def test_many_changed_lines_are_shown_when_somebody_asks_for_them(
    as_alice: Client, alice: User, overlay: Overlay, files: int, lines: int, label: str
) -> None:
    texts = {f"left4dead2/cfg/{n:02}.cfg": "x\n" * lines for n in range(files)}
    bring(overlay, alice, {A: "one\r\nthree\r\n", B: b"\0pack", **texts})
    url = to_url("changes", "maps", 3)
    page = read(as_alice, url)
    assert "<ins>" not in page
    assert f'<a class="button" href="?from=2&amp;lines=1">{label}</a>' in page
    asked = read(as_alice, f"{url}?from=2&lines=1")
    assert asked.count('<pre class="code diff"') == min(files, changed_lines.MOST_FILES)
    assert "Show the lines" not in asked


def test_a_lost_file_is_listed_without_its_lines(as_alice: Client, overlay: Overlay) -> None:
    latest = overlay.versions.get(number=2)
    lose(next(file.sha256 for file in read_files(latest) if file.path == A))
    page = read(as_alice, to_url("changes", "maps", 2))
    assert "left4dead2/cfg/a.cfg" in page.replace("<wbr>", "")
    assert "three" not in page


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path[15:25])
def test_hostile_names_stay_names_on_every_page(
    as_alice: Client,
    alice: User,
    overlay: Overlay,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Older versions may have names that are refused now.
    monkeypatch.setattr(store_versions, "require_readable_paths", lambda *_paths: None)
    bring(overlay, alice, {path: "sv_lan 0\n", A: "x"})
    for page in ("file", "changes"):
        text = read(as_alice, to_url(page, "maps", 3, path=path))
        assert "<script>alert" not in text
        assert "\u202e" not in text
    folder = read(as_alice, to_url("version", "maps", 3, path="left4dead2/cfg"))
    assert "<script>alert" not in folder
    assert "\u202e" not in folder
    link = to_url("file", "maps", 3, path=path)
    assert link.replace("&", "&amp;") in folder
    response = as_alice.get(to_url("file_download", "maps", 3, path=path))
    assert b"".join(response.streaming_content) == b"sv_lan 0\n"  # type: ignore[attr-defined]
    assert response.headers["Content-Disposition"].startswith("attachment")
    edit = to_url("file_edit", "maps", path=path)
    assert post(as_alice, edit, text="sv_lan 1").status_code == 302
    assert newest_text(overlay, path) == b"sv_lan 1"


def test_a_lost_file_is_a_sentence(as_alice: Client, overlay: Overlay) -> None:
    second, first = overlay.versions.all()
    text, pack = sorted(read_files(second), key=lambda file: file.path != A)
    lose(text.sha256)
    lose(pack.sha256)
    lose(first.digest)
    for url in (
        to_url("file", "maps", 2, path=A),
        to_url("file_download", "maps", 2, path=B),
        to_url("file_edit", "maps", path=A),
        to_url("version", "maps", 1),
        to_url("changes", "maps", 2),
    ):
        assert "is no longer in the store" in read(as_alice, url, 410)
    assert as_alice.post(to_url("version_restore", "maps", 1)).status_code == 410
    read(as_alice, overlay.get_absolute_url())
    assert as_alice.post(to_url("version_remove", "maps", 1)).status_code == 302


def test_a_store_that_gives_and_takes_nothing_is_a_sentence_and_nothing_typed_is_lost(
    as_alice: Client, alice: User, overlay: Overlay, settings: LazySettings, tmp_path: Path
) -> None:
    Overlay.objects.create(name="empty", owner=alice)
    (tmp_path / "file").touch()
    settings.CONTENT_ROOT = tmp_path / "file" / "content"
    page = read(as_alice, to_url("version", "maps", 2), 500)
    assert "The panel’s store cannot be read: Not a directory. Tell an admin." in page
    typed = {"path": A, "text": "words that were typed"}
    page = as_alice.post(to_url("file_new", "empty"), typed).content.decode()
    assert "could not store it: Not a directory" in page
    assert "words that were typed" in page


def test_a_reader_of_a_shared_overlay_is_not_told_what_others_call_their_blueprints(
    as_alice: Client, as_bob: Client, overlay: Overlay, blueprint: Blueprint
) -> None:
    Overlay.objects.update(is_shared=True)
    blueprint.set_overlays([overlay], {overlay.pk: overlay.versions.get(number=1)})
    page = to_url("version", "maps", 1)
    assert "Blueprint coop is pinned to it." in read(as_alice, page)
    assert "A blueprint of somebody else is pinned to it." in read(as_bob, page)


def test_files_of_a_private_overlay_are_not_shown_to_who_only_sees_the_blueprint(
    as_alice: Client, as_bob: Client, overlay: Overlay, blueprint: Blueprint
) -> None:
    blueprint.is_shared = True
    blueprint.save()
    blueprint.set_overlays([overlay])
    page = read(as_bob, overlay.get_absolute_url())
    assert to_url("version", "maps", 2) not in page
    for url in (to_url("version", "maps", 2), to_url("file_download", "maps", 2, path=A)):
        assert as_bob.get(url).status_code == 403
    Overlay.objects.update(is_shared=True)
    assert as_bob.get(to_url("version", "maps", 2)).status_code == 200
    assert as_bob.post(to_url("file_remove", "maps", path=A)).status_code == 403


def test_an_older_version_is_made_the_latest_again_and_an_unused_one_removed(
    as_alice: Client, overlay: Overlay
) -> None:
    as_alice.post(to_url("version_restore", "maps", 1))
    assert newest_text(overlay, A) == b"one\r\ntwo\r\n"
    assert "as version 1" in read(as_alice, overlay.get_absolute_url())
    response = as_alice.post(to_url("version_remove", "maps", 3))
    assert response.status_code == 409
    assert "It is the latest." in response.content.decode()
    assert "deleted for good" in read(as_alice, to_url("version_remove", "maps", 2))
    as_alice.post(to_url("version_remove", "maps", 2))
    assert list(overlay.versions.values_list("number", flat=True)) == [3, 1]


# --- The editor -------------------------------------------------------------------------------


def test_a_text_is_edited_with_the_ends_of_its_lines_kept(
    as_alice: Client, overlay: Overlay
) -> None:
    edit = to_url("file_edit", "maps", path=A)
    response = post(as_alice, edit, text="one\r\nfour\r\n", note="Better.")
    assert response.url == overlay.get_absolute_url()
    assert newest_text(overlay, A) == b"one\r\nfour\r\n"
    assert overlay.versions.first().note == "Better."  # type: ignore[union-attr]
    post(as_alice, edit, text="one\r\nfour\r\n")
    assert overlay.versions.count() == 3
    assert as_alice.get(to_url("file_edit", "maps", path=B)).status_code == 404


def test_a_text_that_was_changed_elsewhere_is_refused_with_both_shown(
    as_alice: Client, alice: User, overlay: Overlay
) -> None:
    edit = to_url("file_edit", "maps", path=A)
    opened = seen_version(read(as_alice, edit))
    bring(overlay, alice, {A: "theirs"})
    response = as_alice.post(edit, {"version": opened, "text": "mine", "note": ""})
    page = response.content.decode()
    assert response.status_code == 409
    assert "<ins>mine</ins></pre>" in page
    assert "You changed this in another tab at " in page
    assert "(version 3)." in page
    assert "Not saved: the file was changed since you opened it" in page
    assert "<del>theirs</del></pre>" in page
    assert overlay.versions.count() == 3
    as_alice.post(edit, {"version": seen_version(page), "text": "mine", "note": ""})
    assert newest_text(overlay, A) == b"mine"


def test_a_text_that_was_removed_elsewhere_is_not_lost_with_what_was_typed(
    as_alice: Client, alice: User, overlay: Overlay
) -> None:
    edit = to_url("file_edit", "maps", path=A)
    opened = seen_version(read(as_alice, edit))
    bring(overlay, alice, {B: b"\0pack"})
    response = as_alice.post(edit, {"version": opened, "text": "mine", "note": ""})
    assert response.status_code == 409
    page = response.content.decode()
    assert "Not saved: the file was removed since you opened it" in page
    as_alice.post(edit, {"version": seen_version(page), "text": "mine", "note": ""})
    assert newest_text(overlay, A) == b"mine"


def test_whether_servers_keep_their_own_is_shown_changed_and_told(
    as_alice: Client, overlay: Overlay
) -> None:
    place = f"?path={quote(A, safe='')}"
    page = read(as_alice, to_url("file", "maps", 2) + place)
    assert "has changed this file itself keeps its own copy" in page
    url = to_url("file_seed", "maps") + place
    assert f'action="{url}"' in page
    response = as_alice.post(url, {"version": seen_version(page), "seed": "0"}, follow=True)
    assert "Version 3 was made." in response.content.decode()
    page = read(as_alice, to_url("file", "maps", 3) + place)
    assert "All servers get this one at their next start." in page
    assert "Let servers keep their own" in page
    changes = read(as_alice, to_url("changes", "maps", 3) + place)
    assert "It now takes the place of a server’s own version of it." in changes
    assert "line endings" not in changes
    assert url not in read(as_alice, to_url("file", "maps", 2) + place)  # It is not the latest.
    response = as_alice.post(url, {"version": "0" * 64, "seed": "1"}, follow=True)
    assert f"{A} has been changed since you opened it." in response.content.decode()
    assert overlay.versions.count() == 3


def test_a_file_is_renamed_and_removed_each_as_a_version(
    as_alice: Client, overlay: Overlay
) -> None:
    new = "left4dead2/cfg/z.cfg"
    post(as_alice, to_url("file_rename", "maps", path=A), path=new, note="")
    assert newest_text(overlay, new) == b"one\r\nthree\r\n"
    assert "keep it, so you can go back" in read(as_alice, to_url("file_remove", "maps", path=new))
    post(as_alice, to_url("file_remove", "maps", path=new), note="Not needed.")
    version = overlay.versions.first()
    assert version is not None
    assert ([file.path for file in read_files(version)], version.number) == ([B], 4)


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("left4dead2/cfg/x.smx", "x", "has to end in one of these"),
        ("left4dead2/cfg/../x.cfg", "x", "is not a path below"),
        ("left4dead2\\cfg\\x.cfg", "x", "“left4dead2\\cfg\\x.cfg” is a Windows path"),
        ("left4dead2/cfg/", "x", "“left4dead2/cfg/” is a folder: add the name of a file."),
        ("left4dead2/cfg/A.cfg", "x", "differ only in capitals"),
        (A, "x", "There is already a file at"),
        ("left4dead2/cfg/x.cfg", "x" * 262_145, "larger than 256 KiB"),
        ("left4dead2/cfg/x.cfg", 'rcon_password "hunter22"', "sets rcon_password"),
        ("left4dead2/cfg/x.cfg", "a\0b", "Remove the NUL character."),
    ],
)
def test_a_text_that_cannot_be_stored_is_refused_in_the_form(
    as_alice: Client, overlay: Overlay, path: str, text: str, words: str
) -> None:
    response = as_alice.post(to_url("file_new", "maps"), {"path": path, "text": text})
    assert response.status_code == 200
    assert words in response.content.decode()
    assert overlay.versions.count() == 2


def test_a_password_that_came_with_a_pack_is_told_and_does_not_keep_it_from_being_edited(
    as_alice: Client, alice: User, overlay: Overlay
) -> None:
    bring(overlay, alice, {A: 'rcon_password "placeholder"\n'})
    assert "sets rcon_password, which everybody who may use" in read(
        as_alice, to_url("file", "maps", 3, path=A)
    )
    edit = to_url("file_edit", "maps", path=A)
    post(as_alice, edit, text='rcon_password "placeholder"\nsv_lan 0\n')
    assert overlay.versions.count() == 4
    post(as_alice, to_url("file_rename", "maps", path=A), path="left4dead2/cfg/c.cfg")
    assert overlay.versions.count() == 5
    edit = to_url("file_edit", "maps", path="left4dead2/cfg/c.cfg")
    secret = 'rcon_password "x"\nsv_password "hunter22"\n'
    for elsewhere in ({}, {"path": "left4dead2/readme.txt"}):
        response = post(as_alice, edit, text=secret, **elsewhere)
        assert "sets sv_password" in response.content.decode()


def test_a_note_with_a_password_does_not_become_a_config(
    as_alice: Client, alice: User, overlay: Overlay
) -> None:
    note = "left4dead2/cfg/note.txt"
    bring(overlay, alice, {note: 'rcon_password "hunter22"\n'})
    url = to_url("file_rename", "maps", path=note)
    response = post(as_alice, url, path="left4dead2/cfg/note.cfg")
    assert "sets rcon_password" in response.content.decode()
    assert overlay.versions.count() == 3
    assert post(as_alice, url, path="left4dead2/cfg/other.txt").status_code == 302
    assert overlay.versions.count() == 4


def test_the_first_version_of_what_is_kept_by_hand_says_what_it_replaces(
    as_dana: Client, host: Host
) -> None:
    Overlay.objects.create(name="by-hand", is_host_folder=True)
    report(host, "by-hand")
    assert "no longer use the folders" in read(as_dana, to_url("file_new", "by-hand"))
    assert "with that version instead of the folders there" in read(
        as_dana, to_url("detail", "by-hand")
    )


def test_reports_of_folders_are_left_to_those_who_see_hosts(
    as_alice: Client, overlay: Overlay, host: Host
) -> None:
    report(host, "maps")
    page = read(as_alice, overlay.get_absolute_url())
    assert "On host" not in page
    assert OverlayReport.objects.count() == 1
    assert OverlayVersion.objects.count() == 2
