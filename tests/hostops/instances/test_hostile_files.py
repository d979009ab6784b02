"""Whatever a game puts in place of an instance's file, the host layer copes, and touches nothing outside.

Without overlays, and without a box around it, a game can write to the whole folder of its instance.
"""

import contextlib
import json
import math
import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hostops.errors import HostError
from hostops.host import Host
from hostops.instances import console_files, runs
from hostops.specs import ConsolePosition, InstanceSpec, InstanceState
from tests.hostops.hosts import Output, instance_of

pytestmark = pytest.mark.timeout(120)

CFG = Path("left4dead2", "cfg")
SECRET = "of somebody else\n"

Attack = Callable[[Path, Path], None]


def link_to_file(place: Path, outside: Path) -> None:
    place.symlink_to(outside / "secret")


def link_to_folder(place: Path, outside: Path) -> None:
    place.symlink_to(outside)


def fifo(place: Path, _outside: Path) -> None:
    os.mkfifo(place)


def folder(place: Path, _outside: Path) -> None:
    place.mkdir()


def garbage(place: Path, _outside: Path) -> None:
    place.write_bytes(b"\xff\0{[" * 100)


def endless_zeros(place: Path, _outside: Path) -> None:
    with place.open("wb") as file:
        file.truncate(2**40)


ATTACKS = [link_to_file, link_to_folder, fifo, folder, garbage, endless_zeros]
PLACES = [
    "instance.json",
    "launch.json",
    "run.json",
    "ready.json",
    "stop.json",
    "end",
    "run.lock",
    "console.in",
    "console",
    "console/1.log",
    "console/1.json",
    "console/1.stop",
    "layers",
    "tree.json",
]


def take_away(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text(SECRET)
    return outside


@pytest.fixture
def copying(root: Path) -> Host:
    return Host(root, game_source="simulator", stop_timeout_seconds=2, layering="copy")


@pytest.fixture(scope="module")
def _small_memory() -> object:
    """Nothing that is read in small pieces exceeds this."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4 * 1024**3, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def listing(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.usefixtures("_small_memory")
@pytest.mark.parametrize("place", PLACES)
def test_an_instance_whose_files_were_replaced_is_read_and_deleted(
    copying: Host, root: Path, alpha: Path, outside: Path, place: str
) -> None:
    copying.start("alpha")
    copying.stop("alpha")
    for attack in ATTACKS:
        take_away(alpha / place)
        attack(alpha / place, outside)
        # None of these may raise anything except what is meant for people.
        assert copying.statuses().keys() == {"alpha"}
        copying.releases()
        for position in (ConsolePosition(), ConsolePosition(1, 10, 5.0)):
            with contextlib.suppress(HostError):
                copying.read_console("alpha", position)
        copying.release_console("alpha", ConsolePosition(1, 2**33))
        copying.instance_settings("alpha")
        copying.run_facts("alpha", 1)
        with contextlib.suppress(HostError):
            copying.send_command("alpha", "say hi")
        if attack in (link_to_file, link_to_folder, fifo):
            # It may well refuse to start, in words for people.
            with contextlib.suppress(HostError):
                copying.start("alpha")
            copying.stop("alpha")
        assert listing(outside) == {"secret": SECRET}, f"{attack.__name__} led outside"
    copying.delete("alpha")
    assert copying.status("alpha").state is InstanceState.ABSENT
    assert listing(outside) == {"secret": SECRET}


def run_record(**changes: object) -> bytes:
    record = {"run": 1, "pid": 1, "start_ticks": 1, "boot_id": "x", "started_at": 1}
    return json.dumps({**record, "release": "1", "port": 27015, "at": 1} | changes).encode()


@pytest.mark.parametrize(
    "record",
    [
        b"[]",
        b"null",
        b"NaN",
        b"[" * 100_000,
        b'{"run": -1}',
        json.dumps({"run": 10**30, "pid": 1, "start_ticks": 1, "boot_id": "x"}).encode(),
        run_record(started_at=math.inf),
        run_record(started_at=1e300),
        run_record(run=True),
        run_record(release=["1"]),
        run_record(release="1" * 33),
        run_record(port=0),
        run_record(crashed=[[1]]),
        run_record(restarted_at="often"),
    ],
)
def test_a_record_that_is_none_says_nothing(host: Host, alpha: Path, record: bytes) -> None:
    for name in ("run.json", "console/1.json"):
        (alpha / name).write_bytes(record)
    instance = instance_of(alpha.parents[1])
    assert runs.read_run(instance) is None
    assert host.status("alpha").state is InstanceState.STOPPED
    assert host.run_facts("alpha", 1) is None


def test_the_numbers_of_runs_are_those_that_a_launcher_gives(host: Host, alpha: Path) -> None:
    for name in ("1", "01", "0", "-1", "9" * 200, "٣", "1.5", "x"):
        (alpha / "console" / f"{name}.log").write_text("line\n")
    assert console_files.list_runs(instance_of(alpha.parents[1])) == [1]
    host.start("alpha")
    assert host.status("alpha").run == 2


def test_a_console_folder_of_too_many_files_is_refused(
    host: Host, alpha: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_files, "_MAX_ENTRIES", 100)
    for number in range(101):
        (alpha / "console" / f"x{number}").touch()
    with pytest.raises(HostError, match="holds more than 100 files"):
        host.read_console("alpha", ConsolePosition())


def test_a_link_in_the_place_of_a_folder_of_the_copy_leads_nowhere(
    copying: Host, alpha: Path, outside: Path
) -> None:
    copying.start("alpha")
    copying.stop("alpha")
    cfg = alpha / "tree" / CFG
    cfg.rename(cfg.with_name("mine"))
    cfg.symlink_to(outside)
    output = Output()
    copying.start("alpha", on_line=output.on_line)
    assert listing(outside) == {"secret": SECRET}
    assert "exec saferoom/90-config.cfg\n" in (cfg / "server.cfg").read_text()
    assert not cfg.is_symlink()
    assert "The server had cfg in the way" in output.errors()


def test_a_manifest_that_names_files_outside_removes_none(
    copying: Host, alpha: Path, outside: Path
) -> None:
    copying.start("alpha")
    copying.stop("alpha")
    status = (outside / "secret").stat()
    version = [status.st_size, status.st_mtime_ns]
    up = "../" * 20
    names = [f"{up}{outside}/secret", str(outside / "secret"), f"link/{outside}/secret", "..", "."]
    (alpha / "tree" / "link").symlink_to("/")
    manifest = json.loads((alpha / "tree.json").read_text())
    (alpha / "tree.json").write_text(json.dumps(manifest | {name: [version] for name in names}))
    copying.start("alpha")
    assert listing(outside) == {"secret": SECRET}


def test_what_is_no_file_in_an_overlay_is_left_out_of_a_copy_and_told(
    copying: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    overlay = root / "overlays" / "maps"
    overlay.mkdir()
    os.mkfifo(overlay / "pipe")
    (overlay / "link").symlink_to("/etc/passwd")
    (overlay / ("x" * 255)).write_text("long")
    copying.initialize(replace(spec, overlays=("maps",)))
    output = Output()
    copying.start("alpha", on_line=output.on_line)
    assert "maps/pipe is neither a file nor a link: it is left out." in output.errors()
    assert (alpha / "tree" / "link").readlink() == Path("/etc/passwd")
    assert (alpha / "tree" / ("x" * 255)).read_text() == "long"
    assert not (alpha / "tree" / "pipe").exists()


def test_fifos_and_links_in_an_overlay_do_not_hold_up_a_mounted_one(
    host: Host, root: Path, spec: InstanceSpec
) -> None:
    overlay = root / "overlays" / "maps"
    overlay.mkdir()
    os.mkfifo(overlay / "pipe")
    (overlay / "link").symlink_to("/etc/passwd")
    host.initialize(replace(spec, overlays=("maps",)))
    host.start("alpha")
    host.stop("alpha")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("place", ["left4dead2", "left4dead2/cfg", "left4dead2/cfg/server.cfg"])
def test_what_hides_our_config_in_the_upper_layer_is_moved_aside(
    host: Host, alpha: Path, outside: Path, place: str, attack: Attack
) -> None:
    target = alpha / "upper" / place
    target.parent.mkdir(parents=True, exist_ok=True)
    attack(target, outside)
    target.parent.chmod(0)
    host.start("alpha")
    host.stop("alpha")
    assert listing(outside) == {"secret": SECRET}
    if place != "left4dead2/cfg/server.cfg" and attack is folder:
        return  # It hides nothing.
    assert list(target.parent.glob(f"{target.name}.saved-*"))


def test_a_console_that_the_game_has_cut_goes_on_with_its_new_beginning(
    host: Host, alpha: Path
) -> None:
    instance = instance_of(alpha.parents[1])
    host.start("alpha")
    host.stop("alpha")
    read = host.read_console("alpha", ConsolePosition())
    instance.console_log_path(1).write_text("all that is left\n")
    chunk = host.read_console("alpha", read.position)
    assert chunk.lines == ((1, "all that is left"),)


def test_a_hole_of_any_size_in_a_console_is_one_line(host: Host, alpha: Path) -> None:
    instance = instance_of(alpha.parents[1])
    log = instance.console_log_path(1)
    log.write_text("one\n")
    os.truncate(log, 2**40)
    with log.open("a") as file:
        file.write("\ntwo\n")
    position, lines = ConsolePosition(), []
    while (chunk := host.read_console("alpha", position)).position != position:
        position = chunk.position
        lines += [line for _, line in chunk.lines]
    assert lines[0] == "one"
    assert lines[-1] == "two"
    assert len(lines) < 100
