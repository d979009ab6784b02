"""SteamCMD is found or fetched, run as it needs to be, and its failures are explained."""

import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from hostops.callbacks import Callbacks
from hostops.errors import CommandError, HostError, OperationCancelled
from hostops.layout import HostLayout
from hostops.linux.process_identity import living_processes, read_command
from hostops.specs import CancelToken
from hostops.steam import steamcmd
from hostops.steam.staging import PlainFolder
from hostops.steam.steamcmd import SteamCmd
from tests.clocks import Clock
from tests.hostops.hosts import BUILD_ID, LATER_BUILD_ID, Output, write_control


class FakeSteamCmd:
    """Stands in for the process: prints the output declared for each run, and refuses any other run."""

    def __init__(self, install_dir: Path, *runs: tuple[str, int, str]) -> None:
        self.install_dir = install_dir
        self._runs = list(runs)

    def __call__(self, argv: list[str], **options: object) -> None:
        assert self._runs, f"No such run was declared: {argv}"
        platform, exit_code, output = self._runs.pop(0)
        assert argv == [
            "/opt/steamcmd.sh",
            "+@sSteamCmdForcePlatformType",
            platform,
            "+force_install_dir",
            str(self.install_dir),
            "+login",
            "anonymous",
            "+app_update",
            "222860",
            "validate",
            "+quit",
        ]
        assert options["environment"] == {"HOME": "/home"}
        assert options["use_pty"] is True
        assert options["pass_fds"] == (9,)
        on_line = options["on_line"]
        assert callable(on_line)
        for line in output.splitlines():
            on_line("stdout", line)
        if exit_code:
            raise CommandError("it failed", argv, exit_code)

    def assert_done(self) -> None:
        assert not self._runs, f"These runs never came: {self._runs}"


SUCCESS = "Success! App '222860' fully installed."
MISSING_CONFIGURATION = "ERROR! Failed to install app '222860' (Missing configuration)"
INVALID_PLATFORM = "ERROR! Failed to install app '222860' (Invalid platform)"


@pytest.fixture
def install_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(steamcmd, "_RETRY_SECONDS", 0)
    return tmp_path / "staging"


def make_whole(install_dir: Path, state_flags: str = "4") -> None:
    (install_dir / "steamapps").mkdir(parents=True, exist_ok=True)
    (install_dir / "steamapps" / "appmanifest_222860.acf").write_text(
        f'"AppState"\n{{\n\t"StateFlags"\t\t"{state_flags}"\n\t"buildid"\t\t"{BUILD_ID}"\n}}\n'
    )
    for name in ("srcds_run", "srcds_linux"):
        (install_dir / name).touch(mode=0o755)


def install(
    monkeypatch: pytest.MonkeyPatch,
    install_dir: Path,
    *runs: tuple[str, int, str],
    output: Output | None = None,
) -> str:
    output = output or Output()
    fake = FakeSteamCmd(install_dir, *runs)
    monkeypatch.setattr(steamcmd, "run", fake)
    tool = SteamCmd(("/opt/steamcmd.sh",), {"HOME": "/home"})
    build_id = tool.install(PlainFolder(install_dir), 9, Callbacks(output.on_line, output.on_stage))
    fake.assert_done()
    return build_id


def test_an_interrupted_install_takes_the_windows_files_first(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path
) -> None:
    make_whole(install_dir, "1026")  # interrupted
    with pytest.raises(HostError, match="does not say that the game is fully installed"):
        install(monkeypatch, install_dir, ("windows", 0, SUCCESS))


def test_an_update_takes_the_linux_files_alone(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path
) -> None:
    make_whole(install_dir)
    assert install(monkeypatch, install_dir, ("linux", 0, SUCCESS)) == BUILD_ID


def test_an_update_that_is_refused_takes_the_windows_files_after_all(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path
) -> None:
    make_whole(install_dir)
    output = Output()
    runs = (
        ("linux", 8, INVALID_PLATFORM),
        ("windows", 0, SUCCESS),
        ("linux", 0, SUCCESS),
    )
    assert install(monkeypatch, install_dir, *runs, output=output) == BUILD_ID
    assert "asking for the Windows files first" in output.errors()


def test_the_transient_answer_is_tried_three_times_and_no_more(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path
) -> None:
    make_whole(install_dir, "1026")
    failing = ("windows", 8, MISSING_CONFIGURATION)
    with pytest.raises(CommandError, match="try again in some minutes") as caught:
        install(monkeypatch, install_dir, failing, failing, failing)
    assert caught.value.returncode == 8


@pytest.mark.parametrize(
    "line",
    [
        "[----] !!! Fatal Error: Steamcmd needs to be online to update.\t Please confirm it.",
        "Connecting anonymously to Steam Public...FAILED (No Connection)",
        "ERROR! Timed out waiting for AppInfo update.",
        "Error! App '222860' state is 0x602 after update job.",
        '/x/steamcmd.sh: line 38: 12 Segmentation fault      $DEBUGGER "$STEAMEXE" "$@"',
    ],
)
def test_what_passes_is_tried_again_and_told(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path, line: str
) -> None:
    make_whole(install_dir)
    output = Output()
    runs = (("linux", 1, line), ("linux", 1, line), ("linux", 0, SUCCESS))
    assert install(monkeypatch, install_dir, *runs, output=output) == BUILD_ID
    told = output.errors().splitlines()
    assert [text[-35:] for text in told] == [
        "Trying again, 2 more times at most.",
        "Trying again, 1 more times at most.",
    ]
    assert all("Steam" in text for text in told)


def test_no_other_answer_is_tried_again(monkeypatch: pytest.MonkeyPatch, install_dir: Path) -> None:
    refused = "ERROR! Failed to install app '222860' (No subscription)"
    with pytest.raises(CommandError, match="refuses the game to the anonymous user"):
        install(monkeypatch, install_dir, ("windows", 8, refused))


def test_an_update_of_itself_is_run_again(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path
) -> None:
    make_whole(install_dir)
    runs = (("linux", 42, "[100%] Update complete"), ("linux", 0, SUCCESS))
    assert install(monkeypatch, install_dir, *runs) == BUILD_ID


def test_success_with_a_bad_exit_code_is_success_and_told(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path
) -> None:
    make_whole(install_dir)
    output = Output()
    install(monkeypatch, install_dir, ("linux", -11, SUCCESS), output=output)
    assert "ended with exit code -11" in output.errors()


def test_silence_with_exit_code_zero_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path
) -> None:
    make_whole(install_dir)
    with pytest.raises(HostError, match="without reporting success"):
        install(monkeypatch, install_dir, ("linux", 0, ""))


def test_success_without_the_program_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path
) -> None:
    make_whole(install_dir)
    (install_dir / "srcds_linux").unlink()
    with pytest.raises(HostError, match="srcds_run or srcds_linux is missing"):
        install(monkeypatch, install_dir, ("linux", 0, SUCCESS))


@pytest.mark.parametrize(
    ("line", "exit_code", "words"),
    [
        ("Error! App '222860' state is 0x202 after update job.", 8, "The disk is full"),
        ("Error! App '222860' state is 0x212 after update job.", 8, "The disk is full"),
        ("Error! App '222860' state is 0x606 after update job.", 8, "could not write to the disk"),
        ("Error! App '222860' state is 0x626 after update job.", 8, "Files are missing"),
        ("Error! App '222860' state is 0x6A6 after update job.", 8, "Files are damaged"),
        ("Error! App '222860' state is 0x999 after update job.", 8, "gave up half-way"),
        ("FAILED (Rate Limit Exceeded)", 5, "wait half an hour"),
        ("Logging in user 'bob' to Steam Public...ERROR (Rate Limit Exceeded)", 5, "half an hour"),
        (
            "Connecting anonymously to Steam Public...FAILED (No match)",
            5,
            "“No match” is the reason",
        ),
        ("ERROR! Failed to install app '222860' (Not enough disk space)", 8, "The disk is full"),
        ("ERROR! Failed to install app '222860' (Disk write failure)", 8, "not write to the disk"),
        ("ERROR! Failed to install app '222860' (Moon is full)", 8, "gave “Moon is full” as its"),
        (
            "[  0%] !!! Fatal Error: Steamcmd needs at least 250MB of free disk space",
            254,
            "is full",
        ),
        ("[  0%] !!! Fatal Error: %appname% can't write to its install dir.", 151, "not write to"),
        ("CWorkThreadPool::StartWorkThread: Thread creation failed.", 1, "cannot start threads"),
        ('/x/steamcmd.sh: line 38:  1712 Killed    $DEBUGGER "$STEAMEXE" "$@"', 137, "memory"),
        ("Killed", 137, "memory"),
        ("/x/steamcmd.sh: line 38: /x/linux32/steamcmd: Permission denied", 126, "noexec"),
        ("/x: 8: exec: /x/steamcmd/steamcmd.sh: Permission denied", 126, "noexec"),
        (
            "/x/steamcmd.sh: line 37: /x/linux32/steamcmd: cannot execute: required file not found",
            127,
            "32-bit program",
        ),
        ("steamcmd: error while loading shared libraries: libstdc++.so.6: no", 127, "32-bit"),
        ("KeyValues Error: LoadFromBuffer: missing { in file manifest", 254, "in Steam's place"),
        (
            "steamcmd.sh: line 39: /x/linux32/steamcmd: No such file or directory",
            127,
            "32-bit program",
        ),
        ("", 5, "login to Steam failed"),
        ("", -9, "memory"),
        ("", 137, "memory"),
        ("", 126, "noexec"),
        ("", -15, "was ended by signal 15"),
        ("", 77, "look at its output above"),
        (
            "Error: nobody has ever seen this",
            8,
            "last error: “Error: nobody has ever seen this”",
        ),
    ],
)
def test_a_failure_is_explained_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path, line: str, exit_code: int, words: str
) -> None:
    make_whole(install_dir)
    with pytest.raises(CommandError, match=words) as caught:
        install(monkeypatch, install_dir, ("linux", exit_code, line))
    assert caught.value.returncode == exit_code
    assert f"exit code: {exit_code}." in str(caught.value)


CASES = {
    "offline, older": (
        (
            "[  0%] Checking for available update...\n"
            "[----] Verifying installation...\n"
            "[  0%] !!! Fatal Error: Steam needs to be online to update.  Please confirm your network "
            "connection and try again."
        ),
        7,
        "no connection to Steam",
        "[ 0%] !!! Fatal Error: Steam needs to be online to update. Please confirm your network",
    ),
    "offline, Debian's": (
        (
            "[  0%] Checking for available updates...\n"
            "[----] !!! Fatal Error: Steamcmd needs to be online to update.\t Please confirm your "
            "network connection and try again.\n"
            "threadtools.cpp (3294) : Assertion Failed: Illegal termination of worker thread 'Thread"
        ),
        254,
        "no connection to Steam",
        "[----] !!! Fatal Error: Steamcmd needs to be online to update. Please confirm your",
    ),
    "threads": (
        (
            "src/tier0/threadtools.cpp (4071) : Probably deadlock or failure waiting for thread to "
            "initialize.\nThread failed to initialize\n"
            "CWorkThreadPool::StartWorkThread: Thread creation failed.\nExiting on SPEW_ABORT"
        ),
        1,
        "cannot start threads",
        "Exiting on SPEW_ABORT",
    ),
    "a consequence behind the cause": (
        (
            "Connecting anonymously to Steam Public...ERROR (Rate Limit Exceeded)\n"
            "ERROR! Failed to request AppInfo update, not online or not logged in to Steam."
        ),
        8,
        "wait half an hour",
        "ERROR! Failed to request AppInfo update, not online or not logged in to Steam.",
    ),
    "an error that looks like progress": (
        " Update state (0x61) downloading, progress: 12.34 (1 / 9) ERROR! the disk said no",
        8,
        "its own words are all that is known",
        "Update state (0x61) downloading, progress: 12.34 (1 / 9) ERROR! the disk said no",
    ),
    "in colours": (
        "\x1b[0mERROR! Failed to install app '222860' (Disk write failure)\x1b[0m",
        8,
        "could not write to the disk",
        "last error: “ERROR! Failed to install app '222860' (Disk write failure)”",
    ),
    "the shell knows nothing of what was said before": (
        (
            "WARNING: setlocale('en_US.UTF-8') failed, using locale: 'C'.\n"
            "/x/steamcmd.sh: line 25: ulimit: open files: cannot modify limit: Operation not permitted"
        ),
        77,
        "ended without reporting success",
        "",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_jobs_error_has_the_cause_and_the_last_error_and_no_line_is_lost(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path, case: str
) -> None:
    text, exit_code, cause, last_error = CASES[case]
    make_whole(install_dir)
    monkeypatch.setattr(steamcmd, "MAX_TRIES", 1)
    output = Output()
    with pytest.raises(CommandError) as caught:
        install(monkeypatch, install_dir, ("linux", exit_code, text), output=output)
    assert cause in str(caught.value)
    assert last_error in str(caught.value)
    assert ("error" in str(caught.value)) is bool(last_error)
    assert output.text == text.replace("\x1b[0m", "")


def test_no_error_is_thinned_out_among_progress(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path
) -> None:
    make_whole(install_dir)
    errors = [f"[ {number}%] !!! Fatal Error: number {number}" for number in range(10, 40)]
    lines = [
        line
        for number, error in enumerate(errors)
        for line in (f"[ {number:2}%] Downloading update (1 of 9 KB)...", error)
    ]
    output = Output()
    with pytest.raises(CommandError, match="number 39"):
        install(monkeypatch, install_dir, ("linux", 8, "\n".join(lines)), output=output)
    assert [line for _, line in output.lines if "Fatal" in line] == errors


def test_an_exit_code_explains_nothing_where_an_error_was_printed(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path
) -> None:
    make_whole(install_dir)
    with pytest.raises(CommandError) as caught:
        install(monkeypatch, install_dir, ("linux", 5, "Error: the clock is wrong"))
    assert "login" not in str(caught.value)
    assert "the clock is wrong" in str(caught.value)


def test_progress_is_reported_and_its_lines_are_thinned_out(
    monkeypatch: pytest.MonkeyPatch, install_dir: Path
) -> None:
    make_whole(install_dir)
    lines = [
        "[  0%] Checking for available updates...",
        "[----] Verifying installation...",
        *(
            f" Update state (0x61) downloading, progress: {percent}.34 ({percent} / 100)"
            for percent in range(100)
            for _ in range(10)
        ),
        " Update state (0x101) committing, progress: 50.00 (5 / 10)",
        SUCCESS,
    ]
    output = Output()
    install(monkeypatch, install_dir, ("linux", 0, "\n".join(lines)), output=output)
    downloading = [percent for name, percent in output.stages if name == "Downloading"]
    # At 0 % all that is known is that it has begun: a bar at 0 would look stuck.
    assert downloading == [None, *range(1, 100)]
    assert ("Updating SteamCMD", None) in output.stages
    assert ("Committing", 50) in output.stages
    assert [line for _, line in output.lines] == [lines[0], lines[1], lines[2], lines[-2], SUCCESS]


@pytest.mark.parametrize("text", ["", '"AppState"\n{\n\t"StateFlags"\t\t"4"\n'])
def test_a_cut_manifest_is_none(tmp_path: Path, text: str) -> None:
    make_whole(tmp_path)
    (tmp_path / "steamapps" / "appmanifest_222860.acf").write_text(text)
    assert steamcmd.read_manifest(PlainFolder(tmp_path)) is None


class Simulated:
    """The simulated SteamCMD as it is really run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        home = root / "home"
        home.mkdir()
        self.tool = SteamCmd(
            steamcmd.find_simulator(),
            {
                "PATH": "/usr/bin",
                "HOME": str(home),
                "SAFEROOM_SIMULATOR": str(root / "simulator.json"),
            },
        )

    def install(self, output: Output | None = None, cancel: CancelToken | None = None) -> str:
        output = output or Output()
        callbacks = Callbacks(output.on_line, output.on_stage, cancel or CancelToken())
        with (self.root / "lock").open("w") as lock:
            return self.tool.install(PlainFolder(self.root / "staging"), lock.fileno(), callbacks)


@pytest.fixture
def simulated(empty_root: Path, monkeypatch: pytest.MonkeyPatch) -> Simulated:
    monkeypatch.setattr(steamcmd, "_RETRY_SECONDS", 0)
    return Simulated(empty_root)


def test_the_simulated_one_installs_and_updates(simulated: Simulated) -> None:
    assert simulated.install() == BUILD_ID
    write_control(simulated.root, steamcmd={"build_id": LATER_BUILD_ID})
    assert simulated.install() == LATER_BUILD_ID


def test_two_transient_failures_of_the_simulated_one_are_survived(simulated: Simulated) -> None:
    write_control(simulated.root, steamcmd={"fail": "missing-configuration", "fail_times": 2})
    assert simulated.install() == BUILD_ID


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("no-subscription", "refuses the game"),
        ("disk-full-0x202", "The disk is full"),
        ("network-0x402", "download servers failed.*tried 3 times"),
        ("disk-write-0x606", "could not write"),
        ("missing-files-0x626", "Files are missing"),
        ("corrupt-0x6A6", "Files are damaged"),
        ("login-failed", "login to Steam failed"),
        ("app-info-timeout", "did not answer"),
        ("exit-0-without-success", "without reporting success"),
        ("success-without-manifest", "manifest does not say"),
        ("crash", "segmentation fault.*tried 3 times.*exit code: -11"),
        ("missing-configuration", "did not hand out"),
        ("self-update-42", "updates itself again and again.*exit code: 42"),
        ("self-update-endless", "updates itself again and again.*did so 6 times"),
        ("offline", "no connection to Steam: none of the servers.*needs to be online.*tried 3"),
        ("offline-old", "no connection to Steam.*“.*Steam needs to be online"),
        ("refused", "no connection to Steam: none of the servers"),
        ("answered-by-another", "answers in Steam's place.*needs to be online"),
        ("answered-with-403", "answers in Steam's place.*http error 403.*needs to be online"),
        ("no-space-for-itself", "disk is full.*needs at least 250MB"),
        ("threads", "cannot start threads.*Thread creation failed.*Exiting on SPEW_ABORT"),
        ("no-exec", "noexec.*linux32/steamcmd: Permission denied.*exit code: 126"),
        ("disk-write-failure", r"could not write to the disk.*\(Disk write failure\)"),
        ("not-enough-disk-space", r"disk is full.*\(Not enough disk space\)"),
        ("unknown-reason", "“Content is being moved” as its reason"),
        ("rate-limit", "wait half an hour.*Rate Limit Exceeded"),
        ("killed", r"killed from outside.*Killed +\$DEBUGGER.*exit code: 137"),
        ("segfault", r"segmentation fault.*Segmentation fault +\$DEBUGGER.*tried 3.*code: 139"),
    ],
)
def test_every_failure_of_the_simulated_one_is_told_and_the_next_try_succeeds(
    simulated: Simulated, failure: str, words: str
) -> None:
    write_control(simulated.root, steamcmd={"fail": failure})
    with pytest.raises(HostError, match=words):
        simulated.install()
    write_control(simulated.root)
    assert simulated.install() == BUILD_ID


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock by which a silence is judged: it stands still."""
    clock = Clock()
    monkeypatch.setattr("hostops.steam.silence.monotonic", clock)
    return clock


class SlowOutput(Output):
    """Lets minutes pass in the first `runs` runs, when a silence begins and when it is reported."""

    def __init__(self, clock: Clock, runs: int) -> None:
        super().__init__()
        self._clock = clock
        self._runs = runs

    def on_line(self, stream: str, line: str) -> None:
        """Take a line."""
        super().on_line(stream, line)
        if line == "[----] Verifying installation..." and self._runs:
            self._runs -= 1
            self._clock.seconds += 121
        elif line.startswith("SteamCMD has printed nothing"):
            self._clock.seconds += 800


def test_a_silence_is_told_ended_and_run_again(simulated: Simulated, clock: Clock) -> None:
    write_control(simulated.root, steamcmd={"fail": ["silent"]})
    output = SlowOutput(clock, runs=1)
    assert simulated.install(output) == BUILD_ID
    told, again = output.errors().splitlines()
    assert "has printed nothing for 2 minutes, since " in told
    assert "Its last line was “[----] Verifying installation...”" in told
    assert "to end it now, cancel this" in told
    assert again.startswith("SteamCMD printed nothing for 15 minutes, since ")
    assert again.endswith("Trying again, 2 more times at most.")


def test_a_silence_that_comes_again_fails_with_what_was_seen(
    simulated: Simulated, clock: Clock
) -> None:
    write_control(simulated.root, steamcmd={"fail": "silent"})
    output = SlowOutput(clock, runs=3)
    with pytest.raises(HostError, match=r"printed nothing for 15 minutes.*tried 3 times"):
        simulated.install(output)
    assert not [process for process in living_processes() if is_ours(process.pid, simulated)]


def test_a_cancel_ends_a_silence(simulated: Simulated, clock: Clock) -> None:
    write_control(simulated.root, steamcmd={"fail": "silent"})
    output, cancel = SlowOutput(clock, runs=1), CancelToken()
    output.when("has printed nothing", cancel.cancel)
    with pytest.raises(OperationCancelled):
        simulated.install(output, cancel)
    assert not [process for process in living_processes() if is_ours(process.pid, simulated)]


def is_ours(pid: int, simulated: Simulated) -> bool:
    return str(simulated.root) in read_command(pid)


def test_a_cancel_ends_a_stalled_download(simulated: Simulated) -> None:
    write_control(simulated.root, steamcmd={"fail": "stall"})
    output, cancel = Output(), CancelToken()
    output.when("Downloading", lambda: cancel.cancel("Alice cancelled it."))
    with pytest.raises(OperationCancelled, match="Alice cancelled it"):
        simulated.install(output, cancel)


# Finding and fetching


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostLayout:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    (tmp_path / "root").mkdir()
    return HostLayout(tmp_path / "root")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder over HTTP; yields it and its URL."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/steamcmd_linux.tar.gz"
        server.shutdown()
        thread.join()


def pack(path: Path, *members: tuple[str, bytes, str]) -> None:
    """Write an archive of (name, tarfile's type, content)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.mode = 0o4755
            if kind == tarfile.SYMTYPE:
                member.linkname = content
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content.encode()))


def test_its_own_is_found_before_any_other(
    layout: HostLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert steamcmd.find(layout) is None
    monkeypatch.setattr("shutil.which", lambda name: name if name.startswith("/") else None)
    assert steamcmd.find(layout) == ("/usr/games/steamcmd",)
    layout.steamcmd_dir.mkdir()
    (layout.steamcmd_dir / "steamcmd.sh").touch()
    assert steamcmd.find(layout) == (str(layout.steamcmd_dir / "steamcmd.sh"),)


def test_it_is_fetched_and_unpacked(layout: HostLayout, served: tuple[Path, str]) -> None:
    folder, url = served
    pack(
        folder / "steamcmd_linux.tar.gz",
        ("linux32", tarfile.DIRTYPE, ""),
        ("linux32/steamclient.so", tarfile.REGTYPE, "library"),
        ("steamcmd.sh", tarfile.REGTYPE, "#!/bin/sh\n"),
    )
    command = steamcmd.fetch(layout, Callbacks(), url)
    assert command == steamcmd.find(layout)
    script = Path(command[0])
    assert script.read_text() == "#!/bin/sh\n"
    assert script.stat().st_mode & 0o7777 == 0o755
    assert steamcmd.link_steam_client(layout)
    library = layout.home_dir / ".steam" / "sdk32" / "steamclient.so"
    assert library.read_text() == "library"
    assert [path.name for path in layout.root.iterdir()] != [".steamcmd.new"]


@pytest.mark.parametrize(
    "member",
    [
        ("../steamcmd.sh", tarfile.REGTYPE, "x"),
        ("/tmp/steamcmd.sh", tarfile.REGTYPE, "x"),
        ("steamcmd.sh", tarfile.SYMTYPE, "/etc/passwd"),
    ],
)
def test_an_archive_that_reaches_out_is_refused(
    layout: HostLayout, served: tuple[Path, str], member: tuple[str, bytes, str]
) -> None:
    folder, url = served
    pack(folder / "steamcmd_linux.tar.gz", member)
    with pytest.raises(HostError, match="which is not a plain file"):
        steamcmd.fetch(layout, Callbacks(), url)
    assert steamcmd.find(layout) is None
    assert not (layout.root.parent / "steamcmd.sh").exists()


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x1f\x8b\x08\x00cut"])
def test_what_is_no_archive_is_refused(
    layout: HostLayout, served: tuple[Path, str], content: bytes
) -> None:
    folder, url = served
    (folder / "steamcmd_linux.tar.gz").write_bytes(content)
    with pytest.raises(HostError, match=r"could not be fetched|is not SteamCMD"):
        steamcmd.fetch(layout, Callbacks(), url)


def test_a_failed_download_says_what_to_do_by_hand(
    layout: HostLayout, served: tuple[Path, str]
) -> None:
    _, url = served
    with pytest.raises(HostError, match=r"could not be fetched .*not found\. .* Debian's package"):
        steamcmd.fetch(layout, Callbacks(), url)
