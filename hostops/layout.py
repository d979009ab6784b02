"""The paths of everything below a host's root."""

import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from hostops.specs import NAME_PATTERN, OverlayReference, require_name


def find_code_dir() -> Path:
    """Return the folder of this package, under the name with which Python was started.

    The name may go through a link to one of several releases. Paths written elsewhere, such as in units, then
    stay right when the link is switched.
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
        """The folder of all instances. Everything below it must be opened with `linux.untrusted`."""
        return self.root / "instances"

    @property
    def dir(self) -> Path:
        """The folder of the instance."""
        return self.root / "instances" / self.name

    @property
    def record_path(self) -> Path:
        """What the instance is made of. It exists once the instance is complete."""
        return self.dir / "instance.json"

    @property
    def config_chain_path(self) -> Path:
        """The config chain as it was last written, without passwords, to show to people."""
        return self.dir / "chain.json"

    @property
    def admins_path(self) -> Path:
        """The text being written into the file of admins; exists only during the write."""
        return self.dir / "admins.json"

    @property
    def layers_dir(self) -> Path:
        """The generated layers, each named by the digest of its files."""
        return self.dir / "layers"

    @property
    def upper_dir(self) -> Path:
        """The files that the server itself wrote."""
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
        """HOME of a game that has its own box."""
        return self.dir / "home"

    @property
    def console_dir(self) -> Path:
        """The console output, one file per run."""
        return self.dir / "console"

    @property
    def console_input_path(self) -> Path:
        """The FIFO that the game reads commands from."""
        return self.dir / "console.in"

    @property
    def launch_path(self) -> Path:
        """What the launcher will start."""
        return self.dir / "launch.json"

    @property
    def launch_report_path(self) -> Path:
        """The FIFO through which a launch under systemd reports its result to the driver."""
        return self.dir / "launch.report"

    @property
    def run_lock_path(self) -> Path:
        """The lock that the game and all its children hold while they live."""
        return self.dir / "run.lock"

    @property
    def run_path(self) -> Path:
        """The last run, as its launcher recorded it."""
        return self.dir / "run.json"

    @property
    def ready_path(self) -> Path:
        """The last run that was seen to answer."""
        return self.dir / "ready.json"

    @property
    def silent_path(self) -> Path:
        """The last run that was given up on: it ran but did not answer queries."""
        return self.dir / "silent.json"

    @property
    def stop_path(self) -> Path:
        """The last run that was asked to end."""
        return self.dir / "stop.json"

    @property
    def end_path(self) -> Path:
        """How the last run ended: $SERVICE_RESULT, $EXIT_CODE and $EXIT_STATUS, on one line.

        The game's init or systemd writes it. While the run lasts, it is empty or missing.
        """
        return self.dir / "end"

    @property
    def final_path(self) -> Path:
        """The last run whose crash is not followed by an automatic restart, and how it ended."""
        return self.dir / "final.json"

    def console_log_path(self, run: int) -> Path:
        """The console output of one run."""
        return self.console_dir / f"{run}.log"

    def console_run_path(self, run: int) -> Path:
        """The launcher's record of one run. It stays as long as the run's output."""
        return self.console_dir / f"{run}.json"

    def console_stop_path(self, run: int) -> Path:
        """Exists if this run was asked to end."""
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
        """The symlink to the release that the next start will use."""
        return self.root / "current"

    @property
    def latest_build_path(self) -> Path:
        """The build that Steam offered when it was last asked."""
        return self.root / "latest.json"

    @property
    def staging_dir(self) -> Path:
        """The install in progress, or an interrupted one."""
        return self.root / "staging"

    @property
    def overlays_dir(self) -> Path:
        """The overlays that people put there by hand."""
        return self.root / "overlays"

    @property
    def blobs_dir(self) -> Path:
        """The cache of files by their hashes. Overlay versions hard-link their files from here."""
        return self.root / "blobs"

    @property
    def versions_dir(self) -> Path:
        """The versions of overlays laid out here: `<name>/<digest>`, each complete and never changed."""
        return self.root / "versions"

    def overlay_folder(self, reference: str) -> Path:
        """Return the path of an overlay or a version, whether or not it exists. Raises ValueError."""
        overlay = OverlayReference.parse(reference)
        if overlay.digest is None:
            return self.overlays_dir / overlay.name
        return self.versions_dir / overlay.name / overlay.digest

    def choices_path(self, version: Path) -> Path:
        """Return the file beside a version's folder that says which of its files are seeds, or are not."""
        return version.with_name(f"{version.name}.seeds")

    @property
    def content_dir(self) -> Path:
        """The cached contents of packs in releases and overlays, so that each is read only once."""
        return self.root / "content"

    @property
    def instances_dir(self) -> Path:
        """The instances, each named after its server."""
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
        """Exclusive for an install, shared for operations on instances."""
        return self.root / "locks" / "host.lock"

    @property
    def steam_lock_path(self) -> Path:
        """Exclusive for running SteamCMD: two of them must not share its folder and its home."""
        return self.root / "locks" / "steam.lock"

    @property
    def content_lock_path(self) -> Path:
        """Shared while versions are made ready, until the need is recorded; exclusive for pruning them."""
        return self.root / "locks" / "content.lock"

    def version_lock_path(self, name: str) -> Path:
        """Exclusive for laying out a version of this overlay. It outlives the overlay."""
        return self.root / "locks" / "versions" / f"{require_name(name)}.lock"

    def instance_lock_path(self, name: str) -> Path:
        """Exclusive for an operation on this instance. It outlives the instance."""
        return self.root / "locks" / "instances" / f"{require_name(name)}.lock"

    def instance(self, name: str) -> InstanceLayout:
        """Return the layout of one instance; ValueError if the name is invalid."""
        return InstanceLayout(self.root, require_name(name))

    def instance_names(self) -> list[str]:
        """Return the names of all complete instances."""
        try:
            names = sorted(os.listdir(self.instances_dir))  # noqa: PTH208 - called many times a second
        except FileNotFoundError:
            return []
        # Instances being deleted are excluded: their names begin with a dot.
        return [name for name in names if re.fullmatch(NAME_PATTERN, name) and self._is_whole(name)]

    def overlay_names(self) -> list[str]:
        """Return the names of all overlays: folders, or links to folders, with a valid overlay name."""
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
        """Whether an instance has its record, or anything in its place; no link is followed."""
        folder = f"{self.instances_dir}/{name}"
        try:
            return stat.S_ISDIR(os.lstat(folder).st_mode) and os.path.lexists(
                f"{folder}/instance.json"
            )
        except FileNotFoundError:  # deleted in the meantime
            return False
