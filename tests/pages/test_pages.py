"""What all pages have in common: notes, error pages, navigation, and the rules for their files."""

import errno
import os
import posixpath
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings, settings
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import reverse

from jobs.models import Job
from l4d2site.staticfiles import HashedStaticFilesStorage, remove_left_behind
from servers.models import Host, Overlay, Server

TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.html"))
STATIC: Path = settings.BASE_DIR / "l4d2site" / "static"
STYLES = sorted((STATIC / "css").rglob("*.css"))
MODULES = sorted((STATIC / "js").rglob("*.js"))
IMPORT = r"""import[^"']*["'](\.[^"']+)"""


@pytest.fixture
def pages(server: Server, failed_job: Job) -> list[str]:
    """Return the address of each kind of page that an owner sees."""
    blueprint = server.blueprint.name
    return [
        reverse("servers:list"),
        reverse("servers:create"),
        server.get_absolute_url(),
        reverse("servers:history", args=[server.name]),
        reverse("servers:crashes", args=[server.name]),
        reverse("servers:edit", args=[server.name]),
        reverse("servers:remove", args=[server.name]),
        reverse("servers:blueprint_list"),
        reverse("servers:blueprint_create"),
        reverse("servers:blueprint_detail", args=[blueprint]),
        reverse("servers:blueprint_edit", args=[blueprint]),
        reverse("servers:blueprint_remove", args=[blueprint]),
        reverse("servers:overlay_list"),
        reverse("jobs:list"),
        failed_job.get_absolute_url(),
        reverse("password_change"),
    ]


# --- Notes ------------------------------------------------------------------------------------


def test_every_page_says_that_the_game_is_simulated(as_alice: Client, pages: list[str]) -> None:
    for url in [*pages, "/nothing/here/"]:
        assert "Simulated game." in as_alice.get(url).content.decode(), url
    assert "Simulated game." in Client().get(reverse("account_login")).content.decode()


def test_no_page_says_so_where_the_game_is_real(
    as_alice: Client, pages: list[str], settings: LazySettings
) -> None:
    settings.GAME_SOURCE = "steam"
    for url in pages:
        assert "Simulated game." not in as_alice.get(url).content.decode(), url


def test_one_simulated_host_is_enough_to_say_so(as_alice: Client, settings: LazySettings) -> None:
    settings.GAME_SOURCE = "steam"
    Host.objects.create(name="toy", game_source="simulator")
    assert "Simulated game." in as_alice.get(reverse("servers:list")).content.decode()


def test_every_page_says_who_is_signed_in_and_offers_to_sign_out(
    as_alice: Client, pages: list[str]
) -> None:
    for url in pages:
        page = as_alice.get(url).content.decode()
        assert "alice" in page
        assert f'action="{reverse("logout")}"' in page


def test_the_admin_pages_are_in_the_navigation_of_admins_alone(
    as_alice: Client, as_dana: Client
) -> None:
    link = f'href="{reverse("admin:index")}"'
    assert link not in as_alice.get(reverse("servers:list")).content.decode()
    assert link in as_dana.get(reverse("servers:list")).content.decode()


def test_every_page_has_landmarks_one_heading_and_a_title_of_its_own(
    as_alice: Client, pages: list[str]
) -> None:
    titles = []
    for url in pages:
        page = as_alice.get(url).content.decode()
        assert page.count("<h1") == 1, url
        assert page.count("<main") == 1, url
        assert '<html lang="en">' in page
        assert 'href="#content"' in page
        title = re.search("<title>(.*?)</title>", page)
        assert title is not None
        titles.append(title[1])
    assert len(set(titles)) == len(titles), titles


def test_each_live_region_and_id_is_on_a_page_once(as_alice: Client, pages: list[str]) -> None:
    for url in pages:
        page = as_alice.get(url).content.decode()
        for attribute in ("data-live", " id"):
            values = re.findall(f'{attribute}="([^"]*)"', page)
            assert len(set(values)) == len(values), (url, values)


def test_every_control_has_a_label(as_alice: Client, pages: list[str]) -> None:
    for url in pages:
        page = as_alice.get(url).content.decode()
        for control in re.findall(r"<(?:input|select|textarea)[^>]*>", page):
            if 'type="hidden"' in control:
                continue
            control_id = re.search(' id="([^"]*)"', control)
            assert control_id is not None, control
            before = page.partition(control)[0]
            is_wrapped = before.rfind("<label") > before.rfind("</label>")
            assert is_wrapped or f'for="{control_id[1]}"' in page, control


# --- Errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/servers/ALPHA/",
        "/servers/-alpha/",
        "/servers/al%00pha/",
        "/servers/" + "a" * 33 + "/",
        "/servers/missing/",
        "/blueprints/COOP/",
        "/blueprints/missing/",
        "/jobs/0/",
        "/jobs/x/",
        "/jobs/99999999999999999999999999/",
        "/jobs/99999999999999999999999999/events",
        "/jobs/9223372036854775807/log.txt",
        "/nothing/here/",
    ],
)
def test_an_address_that_leads_nowhere_is_a_404_in_our_design(as_dana: Client, path: str) -> None:
    response = as_dana.get(path)
    assert response.status_code == 404
    assert "Page not found" in response.content.decode()
    assert 'class="masthead"' in response.content.decode()


@pytest.mark.parametrize(("method", "target"), [("OPTIONS", "*"), ("CONNECT", "a:1")])
def test_so_is_what_is_no_address_at_all(
    client: Client, db: None, method: str, target: str
) -> None:
    assert client.generic(method, "/", PATH_INFO=target).status_code == 404


def test_a_404_is_for_strangers_to_the_panel_too(client: Client, db: None) -> None:
    assert client.get("/nothing/here/").status_code == 404


def test_a_crash_is_a_500_in_our_design_that_needs_no_database(
    dana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(dana)

    def crash(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("servers.models.ServerQuerySet.visible_to", crash)
    response = client.get(reverse("servers:list"))
    assert response.status_code == 500
    assert "Something went wrong on our side" in response.content.decode()
    assert "out of luck" not in response.content.decode()


def test_a_forbidden_page_says_why(as_dana: Client, as_alice: Client) -> None:
    response = as_alice.post(reverse("admin:install"))
    assert response.status_code == 403
    assert "Only an admin may install and update the game." in response.content.decode()


@pytest.mark.parametrize(
    ("path", "way_back"),
    [
        ("/servers/alpha/map/now/", "/servers/alpha/map/"),
        ("/jobs/many/", "/jobs/"),
        ("/jobs/1/cancel", "/jobs/1/"),
        ("/servers/alpha/failure/dismiss", "/servers/alpha/"),
    ],
)
def test_an_address_that_only_takes_forms_says_so_with_the_way_back(
    as_alice: Client, server: Server, path: str, way_back: str
) -> None:
    html = {"Accept": "text/html,*/*;q=0.8"}
    response = as_alice.get(path, headers=html)
    page = response.content.decode()
    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert 'class="masthead"' in page
    assert f'data-kind="primary" href="{way_back}"' in page
    assert "data-live-from" not in page, "it would fetch itself in vain"
    assert as_alice.get(path, headers={"Accept": "*/*"}).content == b""
    assert as_alice.head(path, headers=html).content == b""


# --- People -----------------------------------------------------------------------------------


def test_signing_in_leads_to_where_one_wanted_to_go(client: Client, alice: User) -> None:
    wanted = reverse("jobs:list")
    way = client.get(wanted).headers["Location"]
    values = {"username": "alice", "password": "alice-password", "next": wanted}
    assert client.post(way, values).headers["Location"] == wanted


def test_signing_in_does_not_lead_elsewhere(client: Client, alice: User) -> None:
    values = {"username": "alice", "password": "alice-password", "next": "https://evil.example/"}
    response = client.post(reverse("account_login"), values)
    assert response.headers["Location"] == reverse("servers:list")


def test_a_wrong_password_is_told(client: Client, alice: User) -> None:
    response = client.post(reverse("account_login"), {"username": "alice", "password": "wrong"})
    assert "That username and password do not match" in response.content.decode()


def test_one_changes_ones_own_password(as_alice: Client, alice: User) -> None:
    values = {
        "old_password": "alice-password",
        "new_password1": "a-better-one-42",
        "new_password2": "a-better-one-42",
    }
    response = as_alice.post(reverse("password_change"), values, follow=True)
    assert "Your password was changed." in response.content.decode()
    alice.refresh_from_db()
    assert alice.check_password("a-better-one-42")


# --- Files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_inline_style_or_script(template: Path) -> None:
    text = template.read_text()
    assert " style=" not in text
    assert "<style" not in text
    assert not re.search(r"\son[a-z]+=", text)
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert "//cdn" not in text


@pytest.mark.parametrize("style", STYLES, ids=lambda path: path.name)
def test_a_style_sheet_keeps_to_the_rules(style: Path) -> None:
    text = re.sub(r"/\*.*?\*/", "", style.read_text(), flags=re.DOTALL)
    assert "!important" not in text
    assert not re.search(r"(^|[\s,])#[a-z][\w-]*\s*[,{]", text)
    assert not re.search(r"(margin|padding|border)-(left|right|top|bottom)\b", text)
    if style.name not in ("tokens.css", "admin.css"):
        assert not re.search(r":[^;]*#[0-9a-f]{3,8}\b", text)
        assert text.lstrip().startswith("@layer")


def test_only_ordered_lists_of_steps_are_numbered() -> None:
    text = (STATIC / "css" / "data" / "steps.css").read_text()
    rules = re.findall(r"\.steps[^{]*\bli\b[^{]*", text)
    assert rules
    assert all(rule.startswith(".steps ol li") for rule in rules), rules


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_script_is_small_and_writes_no_html(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= 60
    assert not re.search(
        r"\.(innerHTML|outerHTML)\s*=[^=]|insertAdjacentHTML|document\.write", text
    )


def test_a_page_names_all_of_its_modules_at_once(
    as_alice: Client, alice: User, server: Server
) -> None:
    every = {path.relative_to(STATIC).as_posix() for path in MODULES}
    of_uploads = {name for name in every if name.startswith("js/uploads/")}
    apart = {"js/app.js", "js/admin_jobs.js", "js/live/stream_worker.js"}
    assert find_preloads(as_alice, reverse("servers:list")) == every - apart - of_uploads
    Overlay.objects.create(name="maps", owner=alice)
    entry = {"js/uploads/upload_form.js"}
    assert find_preloads(as_alice, reverse("jobs:uploads", args=["maps"])) == every - apart - entry


def find_preloads(client: Client, address: str) -> set[str]:
    """Return the modules that a page names, so that the browser fetches them at once."""
    page = client.get(address).content.decode()
    return set(re.findall(r'<link rel="modulepreload" href="/static/([^"]+)"', page))


def test_every_style_sheet_is_loaded() -> None:
    loaded = (settings.BASE_DIR / "templates" / "_styles.html").read_text()
    for style in STYLES:
        name = style.relative_to(STATIC).as_posix()
        assert name in loaded or style.name == "admin.css"


def test_a_disabled_button_looks_disabled_whatever_its_kind() -> None:
    text = next(style for style in STYLES if style.name == "button.css").read_text()
    assert text.rindex(".button[data-kind=") < text.index(".button:disabled {")


def test_each_token_that_is_used_is_defined() -> None:
    text = "\n".join(style.read_text() for style in STYLES if style.name != "admin.css")
    defined = set(re.findall(r"(--[\w-]+)\s*:", text))
    assert set(re.findall(r"var\((--[\w-]+)", text)) == defined


@pytest.fixture
def static_files(tmp_path: Path) -> HashedStaticFilesStorage:
    """Return a folder with the scripts, as `collectstatic` copies them."""
    shutil.copytree(STATIC / "js", tmp_path / "js")
    return HashedStaticFilesStorage(location=tmp_path, base_url="/static/")


def hash_names(storage: HashedStaticFilesStorage) -> set[str]:
    """Process the scripts; return their hashed names."""
    names = [module.relative_to(STATIC).as_posix() for module in MODULES]
    done = storage.post_process({name: (storage, name) for name in names})
    return {new for _, new, _ in done if new}


def test_the_scripts_find_each_other_under_their_hashed_names(
    static_files: HashedStaticFilesStorage, tmp_path: Path
) -> None:
    hashed = hash_names(static_files)
    imports = [
        posixpath.normpath(f"{posixpath.dirname(name)}/{imported}")
        for name in hashed
        for imported in re.findall(IMPORT, (tmp_path / name).read_text())
    ]
    assert imports
    # Django rewrites an import only if it ends with a semicolon.
    assert set(imports) <= hashed


def test_only_static_files_with_references_are_searched_again_for_them(
    static_files: HashedStaticFilesStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: Counter[str] = Counter()
    make_converter = static_files.url_converter

    def count(name: str, *arguments: Any) -> Any:
        searches[name] += 1
        return make_converter(name, *arguments)

    monkeypatch.setattr(static_files, "url_converter", count)
    hash_names(static_files)
    once = min(searches.values())
    again = {name for name, number in searches.items() if number > once}
    assert again == {
        module.relative_to(STATIC).as_posix()
        for module in MODULES
        if re.search(IMPORT, module.read_text())
    }


def test_static_files_that_are_there_stay_untouched_and_one_cut_short_is_mended(
    static_files: HashedStaticFilesStorage, tmp_path: Path
) -> None:
    hashed = hash_names(static_files)
    copied = {path.relative_to(STATIC).as_posix() for path in (STATIC / "js").rglob("*.*")}
    # No draft is left.
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert found == copied | hashed | {"staticfiles.json"}

    cut, *others = sorted(hashed)
    whole = (tmp_path / cut).read_text()
    assert len(whole) > 10
    (tmp_path / cut).write_text(whole[:10])
    before = {name: (tmp_path / name).stat().st_ctime_ns for name in others}
    assert hash_names(static_files) == hashed
    assert {name: (tmp_path / name).stat().st_ctime_ns for name in others} == before
    assert (tmp_path / cut).read_text() == whole


def test_a_full_disk_leaves_no_static_file_cut_short(
    static_files: HashedStaticFilesStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_disk(_content: object) -> Iterator[bytes]:
        yield b"the beginning"
        raise OSError(errno.ENOSPC, "No space left on device")

    copied, manifest = "img/one.svg", "staticfiles.json"
    with monkeypatch.context() as patches:
        patches.setattr(ContentFile, "chunks", fill_disk)
        for name in (copied, manifest):
            with pytest.raises(OSError, match="No space"):
                static_files._save(name, ContentFile(b"the beginning and the end"))
    found = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.*")}
    assert found == {"js"}
    static_files.save(copied, ContentFile(b"the beginning and the end"))
    assert (tmp_path / copied).read_bytes() == b"the beginning and the end"


def test_two_that_write_the_same_static_file_do_not_take_it_from_each_other(
    static_files: HashedStaticFilesStorage, tmp_path: Path
) -> None:
    """Not even in containers, where both may be process 1."""

    class Slow(ContentFile):  # type: ignore[type-arg]
        def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
            yield b"the beginning"
            static_files._save("img/one.svg", ContentFile(b"the beginning and the end"))
            yield b" and the end"

    static_files._save("img/one.svg", Slow(b""))
    assert (tmp_path / "img/one.svg").read_bytes() == b"the beginning and the end"
    assert [path.name for path in (tmp_path / "img").iterdir()] == ["one.svg"]


def test_what_a_killed_collectstatic_left_is_removed_once_it_is_a_day_old(
    static_files: HashedStaticFilesStorage, tmp_path: Path
) -> None:
    day_before = time.time() - 25 * 3600
    names = ("js/a.js.0123abcd.partial", "staticfiles.json.01234567.partial")
    others = ("js/b.js.0123abcd.partial", "js/a.partial", "js/c.js")
    for name in (*names, *others):
        (tmp_path / name).touch()
        if name != others[0]:
            os.utime(tmp_path / name, (day_before, day_before))
    list(static_files.post_process({}, dry_run=True))
    assert (tmp_path / names[0]).exists()
    hash_names(static_files)
    assert [name for name in (*names, *others) if (tmp_path / name).exists()] == [*others]


def test_what_a_killed_collectstatic_of_another_account_left_does_no_harm(
    static_files: HashedStaticFilesStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "js/a.js.0123abcd.partial"
    left.touch()
    os.utime(left, (0, 0))

    def refuse(path: Path, *_args: object, **_options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    remove_left_behind(tmp_path)
    assert left.exists()


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-9], lambda _: "[]", lambda _: "[" * 100_000]
)
def test_a_damaged_manifest_is_told_and_written_again(
    static_files: HashedStaticFilesStorage,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[str], str],
) -> None:
    hash_names(static_files)
    whole = (tmp_path / "staticfiles.json").read_text()
    (tmp_path / "staticfiles.json").write_text(damage(whole))
    hash_names(HashedStaticFilesStorage(location=tmp_path, base_url="/static/"))
    assert "until manage.py collectstatic has run" in caplog.text
    assert (tmp_path / "staticfiles.json").read_text() == whole


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("/servers/", "Servers"),
        ("/servers/alpha/", "Servers"),
        ("/servers/alpha/map/", "Servers"),
        ("/servers/alpha/bans/", "Servers"),
        ("/tags/", "Servers"),
        ("/blueprints/", "Blueprints"),
        ("/overlays/", "Blueprints"),
        ("/jobs/", "Jobs"),
        ("/hosts/", "Hosts"),
        ("/accounts/people/", "People"),
    ],
)
def test_the_masthead_marks_where_one_is(
    as_dana: Client, server: Server, address: str, place: str
) -> None:
    page = as_dana.get(address).content.decode()
    masthead = page.partition("</header>")[0]
    assert re.findall(r'aria-current="true">([^<]*)<', masthead) == [place]
