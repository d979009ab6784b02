"""Packs (VPK files) from strangers: their contents and their faults are reported, and none does any harm."""

import json
import os
import random
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

from hostops.content import pack_reader, packs
from hostops.content.pack_facts import Pack
from hostops.content.packs import read_packs
from hostops.errors import HostError, OperationCancelled
from hostops.linux.process import minimal_environment, run
from hostops.specs import CampaignMode, CancelToken, Chapter
from tests.hostops.content.test_missions import MISSION
from tests.hostops.content.vpk_files import make_pack, make_tree, with_tree

FILES = {
    "missions/db.txt": MISSION.encode(),
    "maps/db_one.bsp": b"VBSP" * 100,
    "maps/DB_two.bsp": b"VBSP",
    "cfg/autoexec.cfg": b"",
    "addoninfo": b"",
}
A = "addons/a.vpk"
NO_PLACE = struct.pack("<IHHIIH", 0, 0, 0x7FFF, 0, 0, 0xFFFF)


def read(path: Path) -> Pack:
    """Read a pack as the child does, without its limits."""
    file, folder = os.open(path, os.O_RDONLY), os.open(path.parent, os.O_RDONLY)
    try:
        return pack_reader.read_pack(file, folder, path.name.removesuffix("_dir.vpk"))
    finally:
        os.close(file)
        os.close(folder)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_maps_campaigns_and_configs_of_a_pack_are_found(tmp_path: Path, version: int) -> None:
    pack = read(write(tmp_path / "db.vpk", make_pack(FILES, version=version)))
    assert (pack.version, pack.fault, pack.is_whole, pack.odd_paths) == (version, "", True, 0)
    assert pack.maps == ("db_one", "db_two")
    assert pack.configs == ("cfg/autoexec.cfg",)
    (campaign,) = pack.campaigns
    assert (campaign.title, campaign.path) == ("Dead Beat", "missions/db.txt")
    assert campaign.modes[1] == CampaignMode("survival", (Chapter("db_two", "The End"),))


def test_the_parts_of_a_pack_are_read_and_missed(tmp_path: Path) -> None:
    path = write(tmp_path / "db_dir.vpk", make_pack(FILES, archive=3))
    assert read(path).fault == "lacks its part db_003.vpk"
    part = write(tmp_path / "db_003.vpk", b"".join(FILES.values()))
    pack = read(path)
    assert (pack.fault, pack.campaigns[0].title) == ("", "Dead Beat")
    part.write_bytes(part.read_bytes()[:-1])
    assert read(path).fault.startswith("is cut short: its part db_003.vpk has")
    secret = write(tmp_path / "secret", part.read_bytes() + b"x")
    part.unlink()
    part.symlink_to(secret)
    pack = read(path)
    assert "its part db_003.vpk" in pack.fault
    assert pack.campaigns == ()


@pytest.mark.parametrize(
    ("content", "said", "maps"),
    [
        (make_pack(FILES)[:-1], "cut short", ("db_one", "db_two")),
        (make_pack(FILES)[:30], "cut short: it ends within its directory", ()),
        (make_pack(FILES)[:8], "has only 8 bytes", ()),
        (b"PK\3\4" + bytes(100), "is no VPK", ()),
        (make_pack(FILES, version=3), "version 3", ()),
        (struct.pack("<III", 0x55AA1234, 1, 2**31) + bytes(100), "takes 2,147,483,648 bytes", ()),
        (with_tree(b"bsp\0maps\0a\0" + bytes(18)), "damaged", ()),
        (with_tree(b"x" * 1000), "damaged", ()),
        (with_tree(make_tree([("maps/a.bsp", NO_PLACE)])[:-3]), "damaged", ()),
    ],
)
def test_what_is_wrong_with_a_pack_is_told(
    tmp_path: Path, content: bytes, said: str, maps: tuple[str, ...]
) -> None:
    pack = read(write(tmp_path / "a.vpk", content))
    assert said in pack.fault
    assert pack.maps == maps
    assert pack.has_directory == bool(maps)


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd.bsp",
        "maps/../../../a.bsp",
        "/etc/passwd.bsp",
        "maps\\a.bsp",
        "C:/maps/a.bsp",
        "maps//a.bsp",
        "maps/./a.bsp",
        "maps/a\n.bsp",
        "maps/\udcff.bsp",
        f"maps/{'a' * 300}.bsp",
    ],
)
def test_paths_that_no_file_of_the_game_has_are_counted_and_taken_for_nothing(
    tmp_path: Path, path: str
) -> None:
    tree = make_tree([(path, NO_PLACE), ("maps/good.bsp", NO_PLACE)])
    pack = read(write(tmp_path / "a.vpk", with_tree(tree)))
    assert (pack.odd_paths, pack.maps) == (1, ("good",))


def test_an_entry_that_lies_past_the_end_is_not_read_from_elsewhere(tmp_path: Path) -> None:
    place = struct.pack("<IHHIIH", 0, 0, 0x7FFF, 2**31, 2**31, 0xFFFF)
    pack = read(write(tmp_path / "a.vpk", with_tree(make_tree([("missions/a.txt", place)]))))
    assert pack.fault.startswith("is cut short")
    assert pack.campaigns == ()


def test_no_bytes_of_a_pack_raise_anything(tmp_path: Path) -> None:
    dice = random.Random(15)
    whole = make_pack(FILES)
    path = tmp_path / "a.vpk"
    until = time.monotonic() + 1
    while time.monotonic() < until:
        noise = bytearray(whole[:300])
        for _ in range(dice.randrange(1, 6)):
            noise[dice.randrange(12, 300)] = dice.randrange(256)
        read(write(path, bytes(noise) + whole[300:]))


# --- In the child -------------------------------------------------------------------------------


def test_a_pack_that_costs_too_much_ends_the_child_and_hides_none_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = write(
        tmp_path / "reader.py",
        f"import sys\nsys.path.append({str(Path(__file__).parents[3])!r})\n"
        "from hostops.content import pack_reader\n"
        "pack_reader.CPU_SECONDS = 1\n"
        "read = pack_reader.read_pack\n"
        "def read_pack(file, folder, name, **how):\n"
        "    while name == 'bomb.vpk': pass\n"
        "    return read(file, folder, name, **how)\n"
        "pack_reader.read_pack = read_pack\n"
        "sys.exit(pack_reader.main(sys.argv[1:]))\n".encode(),
    )
    monkeypatch.setattr(packs, "READER_PATH", limited)
    first, bomb, last = names = [f"addons/{name}.vpk" for name in ("a", "bomb", "c")]
    for name in names:
        write(tmp_path / "layer" / name, make_pack(FILES))
    found = read_packs(tmp_path / "layer", names, cache_dir=tmp_path / "kept")
    assert found[first].maps == found[last].maps == ("db_one", "db_two")
    assert "within the limits: the reader was ended by SIG" in found[bomb].fault
    # It is not tried again as long as it stays the same.
    monkeypatch.setattr(packs, "READER_PATH", tmp_path / "none")
    assert read_packs(tmp_path / "layer", names, cache_dir=tmp_path / "kept") == found


def test_the_limits_hold_in_the_child(tmp_path: Path) -> None:
    """One child tries everything that a reader has no use for, and more memory than it may have."""
    tries = write(
        tmp_path / "tries.py",
        f"import sys\nsys.path.append({str(Path(__file__).parents[3])!r})\n"
        "import errno, json, os, resource, signal, socket\n"
        "from hostops.content import pack_reader\n"
        "pack_reader.limit()\n"
        "def code(act):\n"
        "    try: act()\n"
        "    except MemoryError: return 'memory'\n"
        "    except OSError as error: return errno.errorcode[error.errno]\n"
        "print(json.dumps({\n"
        "    'socket': code(lambda: socket.socket()),\n"
        "    'unix': code(lambda: socket.socketpair()),\n"
        "    'exec': code(lambda: os.execv('/bin/true', ['true'])),\n"
        "    'kill': code(lambda: os.kill(os.getppid(), 0)),\n"
        "    'memory': code(lambda: bytearray(2**30)),\n"
        "    'write': code(lambda: os.ftruncate(os.memfd_create('x'), 2**30)),\n"
        "    'core': resource.getrlimit(resource.RLIMIT_CORE),\n"
        "    'cpu': resource.getrlimit(resource.RLIMIT_CPU),\n"
        "}))\n".encode(),
    )
    said: list[str] = []
    run(
        [sys.executable, "-I", str(tries)],
        environment=minimal_environment(tmp_path),
        on_line=lambda _, line: said.append(line),
    )
    assert json.loads(said[-1]) == {
        **dict.fromkeys(("socket", "unix", "exec", "kill"), "EPERM"),
        "memory": "memory",
        "write": "EFBIG",
        "core": [0, 0],
        "cpu": [pack_reader.CPU_SECONDS] * 2,
    }


def test_a_reader_that_fails_for_no_pack_is_told_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = write(tmp_path / "reader.py", b"import no_such_module_at_all\n")
    monkeypatch.setattr(packs, "READER_PATH", broken)
    write(tmp_path / "layer" / A, make_pack(FILES))
    with pytest.raises(HostError, match="no_such_module_at_all"):
        read_packs(tmp_path / "layer", [A], cache_dir=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_cancel_ends_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = write(tmp_path / "reader.py", b"while True: pass\n")
    monkeypatch.setattr(packs, "READER_PATH", endless)
    write(tmp_path / "layer" / A, make_pack(FILES))
    cancel = CancelToken()
    threading.Timer(0.2, cancel.cancel).start()
    with pytest.raises(OperationCancelled):
        read_packs(tmp_path / "layer", [A], cancel=cancel)


def test_what_was_kept_and_is_no_longer_readable_is_read_again(tmp_path: Path) -> None:
    write(tmp_path / "layer" / A, make_pack(FILES))
    kept = tmp_path / "kept"
    first = read_packs(tmp_path / "layer", [A], cache_dir=kept)
    (file,) = kept.iterdir()
    for content in (b'{"format": 3, "layer": 1}', file.read_bytes()[:-5]):
        file.write_bytes(content)
        assert read_packs(tmp_path / "layer", [A], cache_dir=kept) == first
        assert json.loads(file.read_bytes())["packs"].keys() == {A}


def test_a_child_that_says_nothing_of_a_pack_is_not_asked_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For instance one that found more in it than it may write, or whose line was cut off."""
    paths = ["addons/one.vpk", "addons/two.vpk"]
    for path in paths:
        write(tmp_path / path, b"any")
    for content in (b"", b"import os, sys; os.write(int(sys.argv[1]), b'half a line')"):
        monkeypatch.setattr(packs, "READER_PATH", write(tmp_path / "reader.py", content))
        read = read_packs(tmp_path, paths)
        assert {pack.fault for pack in read.values()} == {"has more in it than can be told"}


def test_a_pack_is_not_blamed_for_what_those_before_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that has nothing left for the second pack: that pack gets a child to itself."""
    exhausted = write(
        tmp_path / "reader.py",
        b"import json, os, signal, sys\n"
        b"file, folder, kind, name = sys.argv[2].split(':')\n"
        b"pack = {'fault': f'is the {kind} {name}', 'maps': [], 'campaigns': [], 'configs': []}\n"
        b"os.write(int(sys.argv[1]), json.dumps(pack).encode() + b'\\n')\n"
        b"if sys.argv[3:]: os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    monkeypatch.setattr(packs, "READER_PATH", exhausted)
    paths = ["addons/one.vpk", "addons/two.vpk", "missions/three.txt"]
    for path in paths:
        write(tmp_path / path, b"any")
    read = read_packs(tmp_path, paths)
    assert [read[path].fault for path in paths] == [
        "is the pack one.vpk",
        "is the pack two.vpk",
        "is the mission three.txt",
    ]


def test_a_reader_leaves_to_another_what_it_has_no_memory_or_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read_pack(file: int, folder: int, name: str, *, is_mission: bool) -> Pack:
        if name == "large":
            raise MemoryError
        return Pack(fault="x" * 100)

    monkeypatch.setattr(pack_reader, "limit", lambda: None)
    monkeypatch.setattr(pack_reader, "read_pack", read_pack)

    def read_lines(*names: str) -> list[str]:
        results = os.memfd_create("results")
        try:
            targets = [f"0:0:pack:{name}" for name in names]
            assert pack_reader.main([str(results), *targets]) == 0
            lines = os.pread(results, 10_000, 0).splitlines()
            return [json.loads(line)["fault"] for line in lines]
        finally:
            os.close(results)

    assert read_lines("a", "large", "b") == ["x" * 100]
    assert read_lines("large", "b") == ["needs more memory than one may take", "x" * 100]
    monkeypatch.setattr(pack_reader, "_WRITTEN_BYTES", 500)
    assert read_lines("a", "b", "c") == ["x" * 100] * 2


def test_a_layer_that_takes_too_long_or_too_much_memory_is_read_in_part_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first has the name of a mission file before the mark of a pack's directory.
    first, second = paths = ["addons/x.txt_dir.vpk", "addons/y.vpk"]
    for path in paths:
        write(tmp_path / "layer" / path, make_pack(FILES))
    kept = tmp_path / "kept"
    monkeypatch.setattr(packs, "_AT_ONCE", 1)
    with monkeypatch.context() as patch:
        patch.setattr(packs, "MAX_LAYER_RESULT_BYTES", 1)
        read = read_packs(tmp_path / "layer", paths, cache_dir=kept)
    assert read[first].maps == ("db_one", "db_two")
    assert read[second].fault == "is not read: there is more in the packs before it than is kept"
    with monkeypatch.context() as patch:
        patch.setattr(packs, "LAYER_SECONDS", 0.2)
        patch.setattr(packs, "READER_PATH", write(tmp_path / "reader.py", b"while True: pass\n"))
        again = read_packs(tmp_path / "layer", paths, cache_dir=kept)
    assert again[first] == read[first]
    assert again[second].fault == "is not read: the packs before it took 0 s"
    with monkeypatch.context() as patch:
        patch.setattr(packs, "_SECONDS", 0.2)
        patch.setattr(packs, "READER_PATH", tmp_path / "reader.py")
        slow = read_packs(tmp_path / "layer", paths, cache_dir=kept)
    assert slow[second].fault == "cannot be read within the limits: it took more than 0 s"
    # None of that is held against it: with the time that it needs, it is read.
    assert read_packs(tmp_path / "layer", paths, cache_dir=kept)[second].maps == (
        "db_one",
        "db_two",
    )
