"""Versions of overlays on a host: fetched, laid out by links, safe from kills and from each other, pruned."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostops.blob_sources import FolderSource
from hostops.blobs import BlobFolder
from hostops.callbacks import Callbacks
from hostops.content.version_folders import Needs, hold_ready, prune
from hostops.errors import HostError, OperationCancelled
from hostops.instances import instance_files
from hostops.layout import HostLayout
from hostops.linux.files import remove_tree, walk_files
from hostops.specs import CancelToken, InstanceSpec, OverlayReference, PrunedContent, Readable
from tests.hostops.content.stores import add_version
from tests.hostops.forked_cli import ForkedCLI
from tests.hostops.hosts import STRIDE, Output
from tests.ports import find_free_port

DAYS = 24 * 3600
ADDON = "left4dead2/addons/one.vpk"
FILES = {
    ADDON: b"a pack" * 500,
    "left4dead2/addons/same.vpk": b"a pack" * 500,
    "left4dead2/cfg/server.cfg": b"sv_tags one\n",
    "left4dead2/empty": b"",
    "bin/tool": b"#!/bin/sh\n",
}


class WatchedSource(FolderSource):
    """A folder of blobs that records what was read from it, and from which offset."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened: list[tuple[str, int]] = []

    def connect(self) -> "WatchedSource":
        """Return itself."""
        return self

    @contextlib.contextmanager
    def open(self, sha256: str, offset: int = 0) -> Iterator[Readable]:
        """Open a blob and record that."""
        self.opened.append((sha256, offset))
        with super().open(sha256, offset) as file:
            yield file


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return the folder of a panel's store."""
    return tmp_path / "store"


@pytest.fixture
def source(store: Path) -> WatchedSource:
    """Return the source of the host's files."""
    return WatchedSource(store)


@pytest.fixture
def layout(tmp_path: Path) -> HostLayout:
    """Return the layout of a host that has no files yet."""
    layout = HostLayout(tmp_path / "host")
    layout.root.mkdir()
    return layout


@pytest.fixture(autouse=True)
def closed_umask() -> Iterator[None]:
    """Run as workers do, whose files are closed to everybody else."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def make_ready(
    layout: HostLayout,
    source: FolderSource | None,
    *references: str,
    free: int = 0,
    callbacks: Callbacks | None = None,
) -> None:
    needs = Needs("alpha", source, free)
    with hold_ready(layout, references, needs, callbacks or Callbacks()):
        pass


def report_to(output: Output, cancel: CancelToken | None = None) -> Callbacks:
    return Callbacks(output.on_line, output.on_stage, cancel or CancelToken())


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def incoming_of(layout: HostLayout, name: str = "maps") -> Path:
    return layout.blobs_dir / "incoming" / f"of-{name}"


def test_a_version_is_linked_from_the_cache_with_modes_that_the_game_can_use(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    reference = add_version(store, "maps", 3, FILES, executable={"bin/tool"})
    output = Output()
    make_ready(layout, source, reference, callbacks=report_to(output))
    folder = layout.overlay_folder(reference)
    assert folder == layout.versions_dir / "maps" / reference.partition("-")[2]
    assert {path: (folder / path).read_bytes() for path, _ in walk_files(folder)} == FILES
    modes = {path: stat.S_IMODE(status.st_mode) for path, status in walk_files(folder)}
    assert modes == {path: 0o755 if path == "bin/tool" else 0o644 for path in FILES}
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o755}
    cached = BlobFolder(layout.blobs_dir).path_of(sha256_of(FILES[ADDON]))
    assert (folder / ADDON).samefile(cached)
    assert cached.stat().st_nlink == 3
    assert ("Fetching maps, version 3", 100) in output.stages
    assert not incoming_of(layout).exists()


def test_a_damaged_manifest_in_the_cache_is_fetched_again(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    reference = add_version(store, "maps", 1, FILES)
    make_ready(layout, source, reference)
    remove_tree(layout.overlay_folder(reference))
    digest = OverlayReference.parse(reference).digest or ""
    manifest = BlobFolder(layout.blobs_dir).path_of(digest)
    whole = manifest.read_bytes()
    # A line less: still a manifest, but of another version.
    manifest.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    source.opened.clear()
    make_ready(layout, source, reference)
    assert source.opened == [(digest, 0)]
    assert {path for path, _ in walk_files(layout.overlay_folder(reference))} == set(FILES)
    assert manifest.read_bytes() == whole


def test_only_what_is_missing_is_fetched_and_nothing_for_what_is_there(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    make_ready(layout, source, add_version(store, "maps", 1, FILES))
    second = add_version(store, "maps", 2, FILES | {"left4dead2/cfg/server.cfg": b"sv_tags two\n"})
    source.opened.clear()
    make_ready(layout, source, second, "by-hand")
    digest = OverlayReference.parse(second).digest
    assert source.opened == [(digest, 0), (sha256_of(b"sv_tags two\n"), 0)]
    make_ready(layout, None, second)
    one, two = sorted((layout.versions_dir / "maps").iterdir(), key=lambda path: path.stat().st_ino)
    assert (one / ADDON).samefile(two / ADDON)


def test_a_file_has_a_time_that_its_content_makes(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    # Copies tell versions of it apart by size and time, and the kernel's clock stands still for milliseconds.
    reference = add_version(store, "maps", 1, FILES)
    make_ready(layout, source, reference)
    for path, status in walk_files(layout.overlay_folder(reference)):
        wanted = int(sha256_of(FILES[path])[:8], 16) % 10**9
        assert (path, status.st_mtime_ns % 10**9) == (path, wanted)
        assert 0 < time.time() - status.st_mtime < 3600


def test_a_file_with_all_the_links_that_it_can_have_gets_a_second_one(
    layout: HostLayout, store: Path, source: WatchedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add_version(store, "maps", 1, {ADDON: b"a pack"})
    make_ready(layout, source, first)
    cached = BlobFolder(layout.blobs_dir).path_of(sha256_of(b"a pack"))
    real_link, full = os.link, cached.stat()

    def link(path: Path, target: str) -> None:
        if os.path.samestat(path.stat(), full):
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK), str(path))
        real_link(path, target)

    monkeypatch.setattr(os, "link", link)
    second = add_version(store, "maps", 2, {ADDON: b"a pack", "left4dead2/new": b""})
    make_ready(layout, source, second)
    old, new = (layout.overlay_folder(one) / ADDON for one in (first, second))
    assert (old.read_bytes(), new.read_bytes()) == (b"a pack", b"a pack")
    assert not old.samefile(new)
    assert new.samefile(cached)
    assert (new.stat().st_mode, new.stat().st_mtime_ns) == (full.st_mode, full.st_mtime_ns)


@pytest.mark.parametrize("damage", [b"a pacK", b"a pack and more", b"a pa"])
def test_what_is_not_the_file_of_its_hash_is_never_laid_out(
    layout: HostLayout,
    store: Path,
    source: WatchedSource,
    damage: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hostops.content.blob_fetching.PAUSES_SECONDS", (0.0,))
    reference = add_version(store, "maps", 1, {ADDON: b"a pack"})
    blob = BlobFolder(store).path_of(sha256_of(b"a pack"))
    blob.write_bytes(damage)
    with pytest.raises(HostError, match="alpha needs maps, version 1, which could not be fetched"):
        make_ready(layout, source, reference)
    assert not layout.overlay_folder(reference).exists()
    assert sha256_of(b"a pack") not in BlobFolder(layout.blobs_dir)
    blob.write_bytes(b"a pack")
    make_ready(layout, source, reference)
    assert (layout.overlay_folder(reference) / ADDON).read_bytes() == b"a pack"


def test_a_manifest_that_is_none_is_told(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    with BlobFolder(store).adding():
        digest = BlobFolder(store).add_bytes(b"no manifest\n")
    with pytest.raises(HostError, match="what it is said to consist of cannot be"):
        make_ready(layout, source, str(OverlayReference("maps", 1, digest)))


def test_a_file_that_was_cut_short_is_gone_on_with_and_one_that_was_spoilt_is_not(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    content, spoilt = bytes(range(256)) * 20_000, bytes(range(255, -1, -1)) * 8_000
    reference = add_version(store, "maps", 1, {ADDON: content, "left4dead2/spoilt": spoilt})
    incoming_of(layout).mkdir(parents=True)
    (incoming_of(layout) / sha256_of(content)).write_bytes(content[:2_000_000])
    (incoming_of(layout) / sha256_of(spoilt)).write_bytes(b"\0" * len(spoilt))
    make_ready(layout, source, reference)
    assert (sha256_of(content), 2_000_000) in source.opened
    assert (sha256_of(spoilt), 0) in source.opened
    folder = layout.overlay_folder(reference)
    assert (folder / ADDON).read_bytes() == content
    assert (folder / "left4dead2/spoilt").read_bytes() == spoilt


def test_a_cached_file_of_another_size_is_fetched_again(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    make_ready(layout, source, add_version(store, "maps", 1, {ADDON: b"a pack"}))
    BlobFolder(layout.blobs_dir).path_of(sha256_of(b"a pack")).write_bytes(b"changed by a game")
    second = add_version(store, "maps", 2, {ADDON: b"a pack", "left4dead2/new": b""})
    make_ready(layout, source, second)
    assert (layout.overlay_folder(second) / ADDON).read_bytes() == b"a pack"


def test_two_starts_with_one_new_version_fetch_it_once(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    reference = add_version(store, "maps", 1, FILES)
    barrier, errors = threading.Barrier(3), []

    def start() -> None:
        barrier.wait()
        try:
            make_ready(layout, source, reference)
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    # The manifest, and each content but the empty one.
    assert len(source.opened) == len(set(FILES.values())) == len(set(source.opened))
    assert [path.name for path in (layout.versions_dir / "maps").iterdir()] == [
        OverlayReference.parse(reference).digest
    ]


def test_it_is_refused_before_anything_is_fetched_where_it_does_not_fit(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    reference = add_version(store, "maps", 1, FILES)
    with pytest.raises(HostError, match=r"are needed for maps, version 1, and .* stay free"):
        make_ready(layout, source, reference, free=2**62)
    assert [sha256 for sha256, _ in source.opened] == [OverlayReference.parse(reference).digest]


def test_without_a_source_it_says_which_settings_name_one(layout: HostLayout, store: Path) -> None:
    with pytest.raises(HostError, match=r"CONTENT_ROOT .* PANEL_URL"):
        make_ready(layout, None, add_version(store, "maps", 1, FILES))


def test_a_cancel_leaves_what_has_come_for_the_next_try(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    reference = add_version(store, "maps", 1, FILES)
    cancel, output = CancelToken(), Output()
    output.when("Laying out", cancel.cancel)
    with pytest.raises(OperationCancelled):
        make_ready(layout, source, reference, callbacks=report_to(output, cancel))
    assert not layout.overlay_folder(reference).exists()
    source.opened.clear()
    make_ready(layout, source, reference)
    assert source.opened == []


# --- Killed -------------------------------------------------------------------------------------


def test_killed_at_any_change_a_version_is_whole_or_not_there(
    forked_cli: ForkedCLI, root: Path, store: Path
) -> None:
    layout, port = HostLayout(root), find_free_port()
    forked_cli.environment |= {"CONTENT_ROOT": str(store)}
    killed = 0
    for change in range(1, 500, 2 * STRIDE):
        # Of a different version each time: otherwise the next try would only find what the one before had.
        files = FILES | {"left4dead2/number": b"%d" % change}
        reference = add_version(store, "maps", change, files, executable={"bin/tool"})
        arguments = ["initialize", "alpha", "--port", str(port), "--overlay", reference]
        folder = layout.overlay_folder(reference)
        was_killed = forked_cli.run_killed(change, *arguments)
        if folder.exists():
            assert {path: (folder / path).read_bytes() for path, _ in walk_files(folder)} == files
        forked_cli.succeed(*arguments)
        assert {path: (folder / path).read_bytes() for path, _ in walk_files(folder)} == files
        assert not list(folder.parent.glob(".*"))
        assert not incoming_of(layout).exists()
        if not was_killed:
            break
        killed += 1
    assert killed * STRIDE > 20


def test_killed_while_it_prunes_nothing_is_half_removed(
    forked_cli: ForkedCLI, root: Path, store: Path, source: WatchedSource
) -> None:
    layout = HostLayout(root)
    kept = add_version(store, "kept", 1, FILES)
    spec = InstanceSpec("alpha", find_free_port(), overlays=(kept,))
    killed = 0
    for change in range(1, 200, 3 * STRIDE):
        old = add_version(store, "maps", change, FILES | {"left4dead2/number": b"%d" % change})
        make_ready(layout, source, kept, old)
        instance_files.initialize(layout, spec, Callbacks())
        folder = layout.overlay_folder(old)
        os.utime(folder, (0, 0))
        was_killed = forked_cli.run_killed(change, "prune-content")
        if folder.exists():
            assert len(list(walk_files(folder))) == len(FILES) + 1
        forked_cli.succeed("prune-content")
        assert not folder.exists()
        assert len(list(walk_files(layout.overlay_folder(kept)))) == len(FILES)
        assert not list(layout.versions_dir.glob("*/.*"))
        if not was_killed:
            break
        killed += 1
    assert killed * STRIDE > 3


# --- Pruned -------------------------------------------------------------------------------------


def later(days: float) -> float:
    return time.time() + days * DAYS


@pytest.mark.usefixtures("root")
def test_what_no_server_is_made_of_is_removed_a_day_later(
    root: Path, store: Path, source: WatchedSource
) -> None:
    layout = HostLayout(root)
    recorded, launched, unused = (
        add_version(store, name, 1, {ADDON: name.encode() * 1000, "left4dead2/all": b"all"})
        for name in ("recorded", "launched", "unused")
    )
    make_ready(layout, source, recorded, launched, unused)
    spec = InstanceSpec("alpha", find_free_port(), overlays=(recorded,))
    instance_files.initialize(layout, spec, Callbacks())
    plan = layout.instance("alpha").launch_path
    lower = str(layout.overlay_folder(launched).relative_to(root))
    plan.write_text(f'{{"lower": ["instances/alpha/layers/1", "{lower}", "releases/1"]}}')

    assert prune(layout, now=later(0.9)) == PrunedContent()
    pruned = prune(layout, now=later(1.1))
    assert pruned is not None
    assert pruned.versions == 1
    assert {path.name for path in layout.versions_dir.iterdir()} == {"recorded", "launched"}
    assert pruned.freed_bytes > 6000
    blobs = BlobFolder(layout.blobs_dir)
    assert sha256_of(b"unused" * 1000) not in blobs
    assert sha256_of(b"all") in blobs

    spec = InstanceSpec("alpha", spec.port)
    instance_files.initialize(layout, spec, Callbacks())
    plan.unlink()
    pruned = prune(layout, now=later(2.2))
    assert pruned is not None
    assert pruned.versions == 2
    assert not list(layout.versions_dir.iterdir())


def test_what_somebody_has_said_of_its_files_comes_and_goes_with_a_version(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    choices = {ADDON: True, "left4dead2/cfg/a.cfg": False}
    files = {**dict.fromkeys(choices, b"said"), "left4dead2/cfg/b.cfg": b"not"}
    reference = add_version(store, "maps", 1, files, seeds=choices)
    make_ready(layout, source, reference)
    path = layout.choices_path(layout.overlay_folder(reference))
    assert json.loads(path.read_text()) == choices
    assert [name for name, _ in walk_files(layout.overlay_folder(reference))] == sorted(files)
    prune(layout, now=later(0.9))
    assert path.exists()
    lonely = path.with_name(f"{'0' * 64}.seeds")
    lonely.touch()
    prune(layout, now=later(1.1))
    assert not list(layout.versions_dir.iterdir())


def test_one_that_was_looked_for_today_stays(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    reference = add_version(store, "maps", 1, FILES)
    make_ready(layout, source, reference)
    os.utime(layout.overlay_folder(reference), (0, 0))
    make_ready(layout, None, reference)
    assert prune(layout) == PrunedContent()
    assert layout.overlay_folder(reference).is_dir()


def test_nothing_is_pruned_before_it_is_written_down_what_needs_it(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    reference = add_version(store, "maps", 1, FILES)
    with hold_ready(layout, [reference], Needs("alpha", source, 0), Callbacks()):
        assert prune(layout, now=later(9)) is None
    assert layout.overlay_folder(reference).is_dir()


@pytest.mark.parametrize("file", ["instance.json", "launch.json"])
def test_nothing_is_pruned_while_it_is_not_known_what_a_server_is_made_of(
    layout: HostLayout, store: Path, source: WatchedSource, file: str
) -> None:
    reference = add_version(store, "maps", 1, FILES)
    make_ready(layout, source, reference)
    folder = layout.instance("alpha").dir
    folder.mkdir(parents=True)
    (folder / file).write_text("{}")
    assert prune(layout, now=later(9)) is None
    (folder / file).unlink()
    pruned = prune(layout, now=later(9))
    assert pruned is not None
    assert pruned.versions == 1


def test_a_layout_waits_for_who_prunes(
    layout: HostLayout, store: Path, source: WatchedSource
) -> None:
    reference = add_version(store, "maps", 1, FILES)
    layout.content_lock_path.parent.mkdir()
    output, cancel = Output(), CancelToken()
    output.when("waiting for", cancel.cancel)
    with layout.content_lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OperationCancelled):
            make_ready(layout, source, reference, callbacks=report_to(output, cancel))
    assert source.opened == []
