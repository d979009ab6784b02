"""What an installed game consists of: a small tree in the shape of Left 4 Dead 2's dedicated server."""

import shlex
import struct
from pathlib import Path
from typing import NamedTuple

CAMPAIGNS = (
    ("Dead Center", "c1m1_hotel c1m2_streets c1m3_mall c1m4_atrium"),
    (
        "Dark Carnival",
        "c2m1_highway c2m2_fairgrounds c2m3_coaster c2m4_barns c2m5_concert",
    ),
    ("Swamp Fever", "c3m1_plankcountry c3m2_swamp c3m3_shantytown c3m4_plantation"),
    (
        "Hard Rain",
        "c4m1_milltown_a c4m2_sugarmill_a c4m3_sugarmill_b c4m4_milltown_b c4m5_milltown_escape",
    ),
    ("The Parish", "c5m1_waterfront c5m2_park c5m3_cemetery c5m4_quarter c5m5_bridge"),
    ("The Passing", "c6m1_riverbank c6m2_bedlam c6m3_port"),
    ("The Sacrifice", "c7m1_docks c7m2_barge c7m3_port"),
    ("No Mercy", "c8m1_apartment c8m2_subway c8m3_sewers c8m4_interior c8m5_rooftop"),
    ("Crash Course", "c9m1_alleys c9m2_lots"),
    (
        "Death Toll",
        "c10m1_caves c10m2_drainage c10m3_ranchhouse c10m4_mainstreet c10m5_houseboat",
    ),
    ("Dead Air", "c11m1_greenhouse c11m2_offices c11m3_garage c11m4_terminal c11m5_runway"),
    (
        "Blood Harvest",
        "c12m1_hilltop c12m2_traintunnel c12m3_bridge c12m4_barn c12m5_cornfield",
    ),
    (
        "Cold Stream",
        "c13m1_alpinecreek c13m2_southpinestream c13m3_memorialbridge c13m4_cutthroatcreek",
    ),
    ("The Last Stand", "c14m1_junkyard c14m2_lighthouse"),
)

EMPTY_PACK = struct.pack("<III", 0x55AA1234, 1, 1) + b"\0"
"""A VPK of version 1 whose directory names nothing: signature, version, size of the directory, directory."""

LIBRARIES = ("dedicated", "engine", "filesystem_stdio", "materialsystem", "steam_api", "vphysics")

# What L4D2's own script does, mistakes included; of what it can do only what bears on the arguments.
SRCDS_RUN = """\
#!/bin/sh
# Written by the simulator of SteamCMD: this is not Valve's srcds_run, but it is as careless as that: arguments
# are split once more and expanded, and some of them evaluated. Nothing of Saferoom executes it: the launcher
# starts ./srcds_linux itself.
init() {
    restart=yes timeout=10 game=left4dead2 binary=./srcds_linux autoupdate= steam_dir= steamcmd_script= map=
    params=$*
    while [ $# -gt 0 ]; do
        case "$1" in
        -norestart) restart= ;;
        -timeout) timeout=$2 ;;
        -game) game=$2 ;;
        -binary) binary=$2 ;;
        -autoupdate) autoupdate=yes ;;
        -steam_dir) steam_dir=$2 ;;
        -steamcmd_script) steamcmd_script=$2 ;;
        -nodefaultmap | +map) map=given ;;
        esac
        shift
    done
    [ "$map" ] || params="$params +map c1m1_hotel"
    if [ ! -d "$game" ]; then
        echo "ERROR: Invalid game type '$game' sepecified."
        exit 1
    fi
    if [ ! -x "$binary" ]; then
        echo "ERROR: Source Engine binary '$binary' not found, exiting"
        exit 1
    fi
}
update() {
    [ "$autoupdate" ] || return 0
    echo 'Updating server using Steam.'
    eval "$steam_dir/steamcmd.sh +runscript $steamcmd_script"
}
export LD_LIBRARY_PATH=".:bin:$LD_LIBRARY_PATH"
cd "${0%/*}" || exit 1
# Unquoted, here and below: an argument with a space in it becomes two, and a star the names of files.
init $*
update
[ "$restart" ] || exec $binary $params
echo 'Server will auto-restart if there is a crash.'
trap 'exit 0' INT
until $binary $params; do
    echo "Add \\"-debug\\" to the $0 command line to generate a debug.log to help with solving this problem"
    echo "$(date): Server restart in $timeout seconds"
    sleep "$timeout"
    update
done
echo "$(date): Server Quit"
"""

# A release may outlive the checkout or the Python that installed it.
SRCDS_LINUX = """\
#!/bin/sh
# Written by the simulator of SteamCMD: this is not Valve's srcds_linux.
python={python} srcds={srcds}
if [ ! -x "$python" ] || [ ! -r "$srcds" ]; then
    echo "The game simulator is no longer at $srcds (run by $python): install the game again."
    exit 1
fi
exec "$python" -I -S "$srcds" "$@"
"""


class GameFile(NamedTuple):
    """One file: `content`, then a hole up to `size`. An update rewrites it in place if `is_patched`."""

    path: str
    content: bytes
    size: int = 0
    is_executable: bool = False
    is_patched: bool = False

    @property
    def length(self) -> int:
        """How many bytes the file has."""
        return max(self.size, len(self.content))

    def write(self, root: Path) -> None:
        """Write the file below `root`, into the same inode if it is there; not atomic, as SteamCMD is not."""
        path = root / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(self.content)
            file.truncate(self.length)
        path.chmod(0o755 if self.is_executable else 0o644)

    def is_whole(self, root: Path) -> bool:
        """Whether the file below `root` is exactly this one."""
        path = root / self.path
        try:
            status = path.stat()
            if status.st_size != self.length or self.is_executable != bool(status.st_mode & 0o100):
                return False
            return path.read_bytes() == self.content.ljust(self.size, b"\0")
        except (FileNotFoundError, NotADirectoryError):
            return False


def game_version(build_id: str) -> tuple[str, str]:
    """Return the patch version and the server version that a build calls itself in `steam.inf`."""
    number = int(build_id)
    return f"2.2.{number // 10 % 10}.{number % 10}", str(9000 + number % 1000)


def game_files(build_id: str, count: int) -> list[GameFile]:
    """Return the files that all platforms have. Installed for Linux they make up `count` files, if not more."""
    patch_version, server_version = game_version(build_id)
    mark = f"simulated build {build_id}\n"
    texts = {
        "left4dead2/steam.inf": f"PatchVersion={patch_version}\nProductName=left4dead2\nappID=550\n"
        f"ServerVersion={server_version}\nServerAppID=222860\n",
        "left4dead2/gameinfo.txt": '"GameInfo"\n{\n\tgame\t"Left 4 Dead 2"\n\ttype\tmultiplayer_only\n'
        "\tFileSystem\n\t{\n\t\tSteamAppId\t550\n\t}\n}\n",
        "left4dead2/motd.txt": "Left 4 Dead 2\n",
        "left4dead2/host.txt": "Left 4 Dead 2\n",
        "left4dead2/maplist.txt": "".join(f"{name}\n" for name in map_names()),
        "left4dead2/mapcycle.txt": "c1m1_hotel\n",
        "left4dead2/cfg/config_default.cfg": "// Keys are of no use to a dedicated server.\n",
        "left4dead2/cfg/valve.rc": "exec config_default.cfg\nexec autoexec.cfg\nstuffcmds\n",
        "left4dead2/cfg/skill_manifest.cfg": "// Simulated.\n",
        "left4dead2/scripts/vscripts/readme.txt": "Scripts of the simulated game.\n",
        "left4dead2/addons/readme.txt": "Put .vpk files here.\n",
        "left4dead2/resource/left4dead2_english.txt": '"lang" { "Language" "English" }\n',
    }
    files = [GameFile(path, text.encode("ascii")) for path, text in texts.items()]
    for number, (title, maps) in enumerate(CAMPAIGNS, start=1):
        text = mission_text(number, title, maps.split())
        files.append(GameFile(f"left4dead2/missions/campaign{number}.txt", text.encode("ascii")))
    # One map changes with every build; the others stay as they are.
    for name in map_names():
        content = b"VBSP\x15\0\0\0" + (mark.encode("ascii") if name == "c1m1_hotel" else b"")
        files.append(GameFile(f"left4dead2/maps/{name}.bsp", content, size=65536))
    for path in ("left4dead2/pak01_dir.vpk", "update/pak01_dir.vpk"):
        content = EMPTY_PACK + mark.encode("ascii")
        files.append(GameFile(path, content, size=131072, is_patched=True))
    files += [
        GameFile(f"left4dead2_dlc{n}/pak01_dir.vpk", EMPTY_PACK, size=4096) for n in (1, 2, 3)
    ]
    files += [
        GameFile(
            f"left4dead2/materials/simulated/{number // 100:04}/{number:06}.vmt", b"Simulated\n"
        )
        for number in range(count - len(files) - len(platform_files("linux", build_id)))
    ]
    return files


def platform_files(
    platform: str, build_id: str, python: str = "", srcds_path: str = ""
) -> list[GameFile]:
    """Return the files that only `platform` (`windows` or `linux`) has; `python` is what runs the game."""
    mark = f"simulated build {build_id}\n".encode("ascii")
    if platform == "windows":
        files = [GameFile(f"bin/{name}.dll", b"MZ" + mark) for name in LIBRARIES]
        return [*files, GameFile("srcds.exe", b"MZ" + mark)]
    files = [GameFile(f"bin/{name}.so", b"\x7fELF" + mark) for name in LIBRARIES]
    binary = SRCDS_LINUX.format(python=shlex.quote(python), srcds=shlex.quote(srcds_path))
    return [
        *files,
        GameFile("srcds_run", SRCDS_RUN.encode(), is_executable=True),
        GameFile("srcds_linux", binary.encode(), is_executable=True),
    ]


def map_names() -> list[str]:
    """Return the names of all official maps, in the order they are played."""
    return [name for _, maps in CAMPAIGNS for name in maps.split()]


def mission_text(number: int, title: str, maps: list[str]) -> str:
    """Return a campaign's mission file, in Valve's KeyValues form."""
    chapters = "".join(
        f'\t\t\t"{chapter}"\n\t\t\t{{\n\t\t\t\t"Map" "{name}"\n\t\t\t\t"DisplayName" "{name}"\n\t\t\t}}\n'
        for chapter, name in enumerate(maps, start=1)
    )
    modes = "".join(
        f'\t\t"{mode}"\n\t\t{{\n{chapters}\t\t}}\n' for mode in ("coop", "versus", "realism")
    )
    return (
        f'"mission"\n{{\n\t"Name" "L4D2C{number}"\n\t"Version" "1"\n\t"Author" "Valve"\n'
        f'\t"DisplayTitle" "{title}"\n\t"modes"\n\t{{\n{modes}\t}}\n}}\n'
    )
