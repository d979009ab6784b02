"""Where everything lies below a host's root."""

import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from hostops.specs import NAME_PATTERN, OverlayReference, require_name


def find_code_dir() -> Path:
    """Return the folder that this package lies in, by the name that Python was started by.

    That may be a link to one of several releases. What is written down, as in units, then stays right when
    the link is switched.
    """
    code_dir = Path(__file__).resolve().parents[1]
    around = Path(sys.prefix).parent
    return around if around.resolve() == code_dir else code_dir


@dataclass(frozen=True)
class InstanceLayout:
    """The files of one instance. `dir` may not exist."""

    root: Path
    name: str

    @property
    def trusted_dir(self) -> Path:
        """The folder of all instances. Nothing below it is to be opened but by `linux.untrusted`."""
        return self.root / "instances"

    @property
    def dir(self) -> Path:
        """The folder of the instance."""
        return self.root / "instances" / self.name

    @property
    def record_path(self) -> Path:
        """What the instance is made of; it exists from the moment the instance is whole."""
        return self.dir / "instance.json"

    @property
    def config_chain_path(self) -> Path:
        """The config chain as it was last written, for people: without passwords."""
        return self.dir / "chain.json"

    @property
    def admins_path(self) -> Path:
        """What is about to be written into the file of admins; there only while that is under way."""
        return self.dir / "admins.json"

    @property
    def layers_dir(self) -> Path:
        """The generated layers, each named by the digest of its files."""
        return self.dir / "layers"

    @property
    def upper_dir(self) -> Path:
        """What the server itself wrote."""
        return self.dir / "upper"

    @property
    def work_dir(self) -> Path:
        """overlayfs's own scratch folder."""
        return self.dir / "work"

    @property
    def merged_dir(self) -> Path:
        """Where the game sees its tree; on the host it is always empty."""
        return self.dir / "merged"

    @property
    def tree_dir(self) -> Path:
        """The server's full copy of the game, on hosts that cannot mount overlays."""
        return self.dir / "tree"

    @property
    def tree_manifest_path(self) -> Path:
        """Which files of `tree_dir` are ours, and in what version."""
        return self.dir / "tree.json"

    @property
    def home_dir(self) -> Path:
        """HOME of the game, where it has a box of its own."""
        return self.dir / "home"

    @property
    def console_dir(self) -> Path:
        """The console output, a file for each run."""
        return self.dir / "console"

    @property
    def console_input_path(self) -> Path:
        """The FIFO that the game reads commands from."""
        return self.dir / "console.in"

    @property
    def launch_path(self) -> Path:
        """What the launcher is to start."""
        return self.dir / "launch.json"

    @property
    def launch_report_path(self) -> Path:
        """The FIFO by which a launch under systemd tells the driver how it went."""
        return self.dir / "launch.report"

    @property
    def run_lock_path(self) -> Path:
        """The lock that the game and all its children hold while they live."""
        return self.dir / "run.lock"

    @property
    def run_path(self) -> Path:
        """The last run, as its launcher wrote it down."""
        return self.dir / "run.json"

    @property
    def ready_path(self) -> Path:
        """The last run that was seen to answer."""
        return self.dir / "ready.json"

    @property
    def silent_path(self) -> Path:
        """The last run that was given up on: it ran, and did not answer queries."""
        return self.dir / "silent.json"

    @property
    def stop_path(self) -> Path:
        """The last run that was asked to end."""
        return self.dir / "stop.json"

    @property
    def end_path(self) -> Path:
        """How the last run ended: $SERVICE_RESULT, $EXIT_CODE and $EXIT_STATUS, on one line.

        Written by the game's init or by systemd; while it runs it is empty, or not there.
        """
        return self.dir / "end"

    @property
    def final_path(self) -> Path:
        """The last run after whose crash nothing is started again by itself, and how it ended."""
        return self.dir / "final.json"

    def console_log_path(self, run: int) -> Path:
        """The console output of one run."""
        return self.console_dir / f"{run}.log"

    def console_run_path(self, run: int) -> Path:
        """What the launcher wrote down of one run. It stays as long as the run's output."""
        return self.console_dir / f"{run}.json"

    def console_stop_path(self, run: int) -> Path:
        """There if one run was asked to end."""
        return self.console_dir / f"{run}.stop"


@dataclass(frozen=True)
class HostLayout:
    """The folders below a host's root. The root may not exist."""

    root: Path

    @property
    def releases_dir(self) -> Path:
        """The installed builds, each named by its build id."""
        return self.root / "releases"

    @property
    def current_link(self) -> Path:
        """The symlink to the release that the next start takes."""
        return self.root / "current"

    @property
    def latest_build_path(self) -> Path:
        """Which build Steam handed out when it was last asked."""
        return self.root / "latest.json"

    @property
    def staging_dir(self) -> Path:
        """The install that is in progress, or was interrupted."""
        return self.root / "staging"

    @property
    def overlays_dir(self) -> Path:
        """The overlays, put there by people."""
        return self.root / "overlays"

    @property
    def blobs_dir(self) -> Path:
        """The cache of files by their hashes. What is in a version of an overlay is linked from here."""
        return self.root / "blobs"

    @property
    def versions_dir(self) -> Path:
        """The versions of overlays that are laid out: `<name>/<digest>`, each whole, and never changed."""
        return self.root / "versions"

    def overlay_folder(self, reference: str) -> Path:
        """Return where an overlay or a version of one lies, or would lie. Raises ValueError."""
        overlay = OverlayReference.parse(reference)
        if overlay.digest is None:
            return self.overlays_dir / overlay.name
        return self.versions_dir / overlay.name / overlay.digest

    @property
    def content_dir(self) -> Path:
        """What was found in packs of releases and overlays, so that each is read once."""
        return self.root / "content"

    @property
    def instances_dir(self) -> Path:
        """The instances, each named as its server."""
        return self.root / "instances"

    @property
    def steamcmd_dir(self) -> Path:
        """SteamCMD, if this program fetched it."""
        return self.root / "steamcmd"

    @property
    def home_dir(self) -> Path:
        """HOME of SteamCMD and of the games."""
        return self.root / "home"

    @property
    def simulator_path(self) -> Path:
        """The simulator's control file."""
        return self.root / "simulator.json"

    @property
    def host_lock_path(self) -> Path:
        """Held alone by an install, shared by operations on instances."""
        return self.root / "locks" / "host.lock"

    @property
    def steam_lock_path(self) -> Path:
        """Held alone by whoever runs SteamCMD: two of them must not share its folder and its home."""
        return self.root / "locks" / "steam.lock"

    @property
    def content_lock_path(self) -> Path:
        """Shared by who needs versions of overlays, until it is written down; held alone by who prunes them."""
        return self.root / "locks" / "content.lock"

    def version_lock_path(self, name: str) -> Path:
        """Held alone by whoever lays out a version of one overlay. It outlives the overlay."""
        return self.root / "locks" / "versions" / f"{require_name(name)}.lock"

    def instance_lock_path(self, name: str) -> Path:
        """Held alone by an operation on one instance. It outlives the instance."""
        return self.root / "locks" / "instances" / f"{require_name(name)}.lock"

    def instance(self, name: str) -> InstanceLayout:
        """The layout of one instance; ValueError if that cannot be a name."""
        return InstanceLayout(self.root, require_name(name))

    def instance_names(self) -> list[str]:
        """The names of all instances that are whole."""
        try:
            names = sorted(os.listdir(self.instances_dir))  # noqa: PTH208 - a look many times a second
        except FileNotFoundError:
            return []
        # Among the others are those that are being deleted: they begin with a dot.
        return [name for name in names if re.fullmatch(NAME_PATTERN, name) and self._is_whole(name)]

    def overlay_names(self) -> list[str]:
        """The names of all overlays: folders, or links to some, whose name an overlay can have."""
        try:
            names = sorted(os.listdir(self.overlays_dir))  # noqa: PTH208 - as above
        except FileNotFoundError:
            return []
        return [
            name
            for name in names
            if re.fullmatch(NAME_PATTERN, name) and (self.overlays_dir / name).is_dir()
        ]

    def _is_whole(self, name: str) -> bool:
        """Whether an instance has its record, or something in its place; no link is followed."""
        folder = f"{self.instances_dir}/{name}"
        try:
            return stat.S_ISDIR(os.lstat(folder).st_mode) and os.path.lexists(
                f"{folder}/instance.json"
            )
        except FileNotFoundError:  # deleted meanwhile
            return False
