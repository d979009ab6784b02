"""The installer's rules, without a machine: what it asks for, what a release is, what a failed step says."""

import contextlib
import errno
import grp
import os
import pwd
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import run_as
from deploy.installer import (
    answers,
    databases,
    places,
    proxy,
    releases,
    settings_files,
    steps,
)
from deploy.installer.answers import Answers
from deploy.installer.errors import CommandError, InstallError
from deploy.installer.installation import Installation
from deploy.installer.machine import Machine
from deploy.installer.steps import Step
from hostops.command_ends import tell
from tests.hostops.test_command_ends import Failing, run, stream_on
from tests.systemd.sandbox import REPOSITORY
from tests.waiting import wait_until


@pytest.fixture
def nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there are no answers of an earlier run, whatever this machine has."""
    monkeypatch.setattr(places, "ANSWERS", tmp_path / "install.json")


def collect(*arguments: str) -> Answers:
    return answers.collect(answers.parse_arguments(arguments), REPOSITORY)


@pytest.mark.usefixtures("nothing_is_kept")
class TestAnswers:
    def test_flags_win_over_the_last_run_and_that_over_the_defaults(self) -> None:
        first = collect("--name", "panel.test", "--game", "simulator", "--no-nginx")
        places.ANSWERS.write_text(answers.as_json(first))
        second = collect("--name", "other.test")
        assert (second.name, second.game, second.has_nginx) == ("other.test", "simulator", False)
        assert second.source == str(REPOSITORY)

    def test_the_password_of_a_database_is_not_kept_among_them(self) -> None:
        url = "postgres://kim:hunter2@db/panel"
        told = collect("--name", "p.test", "--game", "simulator", "--database", url)
        assert "hunter2" not in answers.as_json(told)
        places.ANSWERS.write_text(answers.as_json(told))
        assert collect().is_postgres

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["--name", "pa nel"], "--name is 'pa nel'"),
            (["--name", 'x";'], "--name is"),
            (["--database", "mysql://x/y"], "--database must be"),
            (["--players-address", "here"], "--players-address is 'here'"),
            (["--certificate", "files", "--certificate-file", "/nowhere"], "no such file"),
            (["--certificate", "certbot", "--name", "192.0.2.1"], "no certificate for 192.0.2.1"),
            (["--wheels", "/nowhere"], "no such folder"),
            (["--from", ""], "--from is empty"),
            (["--name", ""], "--name is empty"),
            (["--players-address", "fe80::1%eth0"], "--players-address is 'fe80::1%eth0'"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_by_its_flag(
        self, arguments: list[str], reason: str
    ) -> None:
        with pytest.raises(InstallError, match=reason):
            collect("--game", "simulator", "--name", "panel.test", *arguments)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (b"{", "are damaged: Expecting property name"),
            (b"[]", "are damaged: it is no object of JSON"),
            (b'{"name": 5}', "are damaged: name is 5"),
            (b'{"admin": "a\\u0000"}', "are damaged: admin is 'a.x00'"),
            (b'{"name": "\xe4"}', "are damaged: 'utf-8' codec"),
        ],
    )
    def test_answers_that_are_damaged_are_told(self, text: bytes, reason: str) -> None:
        places.ANSWERS.write_bytes(text)
        with pytest.raises(InstallError, match=reason) as refused:
            collect("--name", "panel.test")
        assert "Mend the file" in refused.value.cure

    def test_answers_that_only_root_can_read_are_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_path: Path) -> bytes:
            raise PermissionError

        monkeypatch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(InstallError, match="only root can read the answers") as refused:
            collect("--name", "panel.test")
        assert "sudo" in refused.value.cure


OF_POSTGRES = "postgres://saferoom_panel:hunter2@127.0.0.1:5432/saferoom_panel"


@pytest.mark.parametrize(
    ("wanted", "last", "url", "is_refused"),
    [
        ("create", "sqlite", "", False),  # a new installation
        ("create", "sqlite", OF_POSTGRES, False),  # an attempt is repeated
        ("sqlite", "sqlite", "postgres://kim@db/panel", False),  # changed by hand, and no flag
        ("postgres://kim@db/panel", "sqlite", "postgres://kim@db/panel", False),
        ("create", "sqlite", "sqlite:///panel", True),
        ("create", "sqlite", "postgres://saferoom_panel:hunter2@db/saferoom_panel", True),
        ("sqlite", "create", OF_POSTGRES, True),
        ("postgres://kim@db/panel", "sqlite", OF_POSTGRES, True),
    ],
)
def test_another_database_than_the_one_with_the_data_is_refused(
    wanted: str, last: str, url: str, is_refused: bool
) -> None:
    refusal = pytest.raises(InstallError, match="the installer moves no data")
    with refusal if is_refused else contextlib.nullcontext():
        databases.require_same(wanted, last, url)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["worker"], 2),
        (["games", "manage.py"], 2),
        (["web", "manage.py"], "There is no account nobody-has-this-name on this machine"),
    ],
)
def test_a_command_for_no_account_says_so(
    arguments: list[str], code: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run_as.ACCOUNTS, "web", "nobody-has-this-name")
    with pytest.raises(SystemExit) as ended:
        run_as.main(arguments)
    said = ended.value.code
    assert said == code or str(said).startswith(str(code))


def test_a_release_is_named_by_what_is_in_it(tmp_path: Path) -> None:
    machine = Machine(is_dry_run=True, say=lambda _text: None)
    with releases.opened(machine, str(REPOSITORY)) as source:
        name = releases.find(source).name
    copy = tmp_path / "copy"
    releases._copy(REPOSITORY, copy)
    assert releases.find(copy).name == name
    assert not (copy / "tests").exists()
    (copy / "manage.py").write_text("pass\n")
    assert releases.find(copy).name != name


def test_code_that_is_not_saferoom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=r"is not Saferoom's code: it has no CHANGELOG\.md"):
        releases.find(tmp_path)


def test_code_is_fetched_from_a_git_address(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    releases._copy(REPOSITORY, origin)
    git = ["git", "-C", str(origin), "-c", "user.name=kim", "-c", "user.email=kim@panel.test"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "All"]):
        subprocess.run([*git, *arguments], check=True)
    machine = Machine(is_dry_run=False, say=print)
    with releases.opened(machine, origin.as_uri()) as source:
        assert source != origin
        assert releases.find(source).name == releases.find(REPOSITORY).name
    assert not source.exists()
    with (
        pytest.raises(InstallError, match="could not be fetched") as refused,
        releases.opened(machine, (tmp_path / "nowhere").as_uri()),
    ):
        pass
    assert "not read from remote" in str(refused.value)
    assert "apt install git" in refused.value.cure


def test_a_step_that_fails_says_which_why_and_what_to_do_and_ends_the_run() -> None:
    said: list[str] = []
    reached: list[str] = []

    def fail() -> None:
        raise CommandError(["nginx", "-t"], 1, "unknown directive\n")

    plan = [Step("One", lambda: reached.append("one")), Step("Two", fail)]
    plan.append(Step("Three", lambda: reached.append("three")))
    assert not steps.carry_out(plan, said.append, "deploy/install --name x")
    assert reached == ["one"]
    text = "\n".join(said)
    for part in (
        "“Two” failed",
        "code 1",
        "nginx -t",
        "unknown directive",
        "deploy/install --name x",
    ):
        assert part in text
    assert "Three" not in text


def test_a_step_whose_way_back_fails_too_says_both() -> None:
    said: list[str] = []

    def fail() -> None:
        try:
            raise InstallError("The first thing.")
        finally:
            raise InstallError("The second thing.")

    assert not steps.carry_out([Step("One", fail)], said.append, "deploy/install")
    assert "The first thing.\nAnd after that: The second thing." in "\n".join(said)


@pytest.fixture
def ctrl_c_interrupts() -> Iterator[None]:
    """Let SIGINT interrupt, as at a terminal: a shell has what it runs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_step_that_is_interrupted_does_what_has_to_be_done_whatever_fails(
    number: signal.Signals,
) -> None:
    said: list[str] = []
    reached: list[str] = []

    def wait() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            if number != signal.SIGINT:  # A terminal that goes away sends more than one.
                os.kill(os.getpid(), number)
            reached.append("finally")

    before = signal.getsignal(number)
    plan = [Step("One", wait), Step("Two", lambda: reached.append("two"))]
    assert not steps.carry_out(plan, said.append, "deploy/install --upgrade")
    assert reached == ["finally"]
    assert "The step “One” failed.\nIt was interrupted." in "\n".join(said)
    assert "go on with: deploy/install --upgrade" in said[-1]
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_a_command_that_is_interrupted_may_end_in_order(tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    program = (
        f"trap 'sleep 1; touch {ended}; exit' TERM; touch {begun}; while :; do sleep 0.05; done"
    )

    def interrupt() -> None:
        wait_until(begun.exists, 30, "the command does not begin")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    machine = Machine(is_dry_run=False, say=print)
    with pytest.raises(KeyboardInterrupt):
        machine.run("sh", "-c", program, given="a secret")
    thread.join()
    assert ended.exists()


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        hang_up = Step("One", lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert steps.carry_out([hang_up], lambda _text: None, "deploy/install")
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("nothing_is_kept")
@pytest.mark.parametrize("end", [KeyboardInterrupt(), CommandError(["systemctl"], 1, "")])
@pytest.mark.parametrize("at", ["stop", "restart"])
def test_a_worker_runs_after_a_switch_whatever_ends_that(
    monkeypatch: pytest.MonkeyPatch, at: str, end: BaseException
) -> None:
    ran: list[str] = []
    said: list[str] = []
    machine = Machine(is_dry_run=True, say=lambda _text: None)

    def run(*argv: str | Path, **_options: object) -> str:
        verb = str(argv[-2])
        ran.append(verb)
        if verb == at:
            raise end
        return ""

    given = collect("--driver", "systemd-system")
    installation = Installation(machine, given, given, REPOSITORY, said.append)
    monkeypatch.setattr(machine, "run", run)
    for step in ("_collect_static", "_switch", "_install_units"):
        monkeypatch.setattr(installation, step, lambda: None)
    with pytest.raises(type(end)):
        installation._switch_running(None)
    assert ran == [*(["stop"] if at == "stop" else ["stop", "restart"]), "start"]
    assert ("starts again" in said[-1]) == isinstance(end, KeyboardInterrupt)


@pytest.mark.usefixtures("nothing_is_kept")
@pytest.mark.parametrize("is_switched", [False, True])
def test_going_back_a_second_time_is_not_advised_once_it_would_lead_forward(
    is_switched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    for link, name in ((places.CURRENT, "new"), (places.PREVIOUS, "old")):
        monkeypatch.setattr(places, "RELEASES_DIR", tmp_path)
        release = releases.Release(name)
        release.python.parent.mkdir(parents=True)
        release.python.touch()
        (release.dir / ".whole").touch()
        (tmp_path / link.name).symlink_to(release.dir)
    monkeypatch.setattr(places, "CURRENT", tmp_path / places.CURRENT.name)
    monkeypatch.setattr(places, "PREVIOUS", tmp_path / places.PREVIOUS.name)
    given = collect("--driver", "systemd-system")
    machine = Machine(is_dry_run=True, say=said.append)
    installation = Installation(machine, given, given, REPOSITORY, said.append)

    def fail(_before_switch: object) -> None:
        if is_switched:
            places.CURRENT.unlink()
            places.CURRENT.symlink_to(releases.Release("old").dir)
        raise InstallError("No.")

    monkeypatch.setattr(installation, "_switch_running", fail)
    command = "deploy/install --back"
    assert not steps.carry_out(installation.back_steps(), said.append, command)
    assert (f"go on with: {command}" in said[-1]) == (not is_switched)
    assert ("would leave it" in said[-1]) == is_switched


def test_a_file_is_replaced_at_once_and_only_if_it_is_another(tmp_path: Path) -> None:
    machine = Machine(is_dry_run=False, say=lambda _text: None)
    path = tmp_path / "folder/file"
    owner = pwd.getpwuid(os.geteuid()).pw_name
    group = grp.getgrgid(os.getegid()).gr_name
    assert machine.write(path, "one", mode=0o640, owner=owner, group=group)
    assert not machine.write(path, "one", mode=0o600, owner=owner, group=group)
    assert path.stat().st_mode & 0o777 == 0o600
    assert machine.write(path, "two", owner=owner, group=group)
    assert path.read_text() == "two"
    assert [found.name for found in path.parent.iterdir()] == ["file"]


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    machine = Machine(is_dry_run=True, say=said.append)
    machine.write(tmp_path / "file", "text")
    machine.link(tmp_path / "link", "target")
    machine.make_folder(tmp_path / "folder")
    machine.run("touch", tmp_path / "touched")
    (tmp_path / "there").touch()
    machine.remove(tmp_path / "there")
    assert [found.name for found in tmp_path.iterdir()] == ["there"]
    assert len(said) == 5


@pytest.mark.usefixtures("nothing_is_kept")
def test_the_first_password_stands_on_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    machine = Machine(is_dry_run=True, say=said.append)
    given = collect()
    installation = Installation(
        machine, given, given, REPOSITORY, said.append, say_or_raise=said.append
    )
    text = "Sign in as admin with this password:\n\n    Secret-1\n\n"
    monkeypatch.setattr(installation, "_manage", lambda *_: f"A warning.\n{text}")
    installation._make_admin()
    for shown in ("\n".join(said), installation.summary()):
        assert "Secret-1" in [line.strip() for line in shown.splitlines()]
        assert "A warning" not in shown


@pytest.mark.usefixtures("nothing_is_kept")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
def test_no_admin_is_made_while_its_password_cannot_be_shown(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    ran: list[str] = []
    machine = Machine(is_dry_run=True, say=ran.append)

    def main() -> None:
        given = collect()
        installation = Installation(machine, given, given, REPOSITORY, tell)
        with pytest.raises(InstallError, match="The admin's password could not be shown"):
            installation._make_admin()

    run(main, stream_on(Failing(number)))
    assert ran == []


def test_the_sites_name_and_certificates_are_the_ones_that_were_asked_for() -> None:
    template = (REPOSITORY / "deploy/nginx.conf").read_text()
    site = proxy.render(template, "panel.test", Path("/tls/cert.pem"), Path("/tls/key.pem"))
    in_use = [line.strip() for line in site.splitlines() if not line.lstrip().startswith("#")]
    assert "server_name panel.test;" in in_use
    assert "ssl_certificate /tls/cert.pem;" in in_use
    assert "ssl_certificate_key /tls/key.pem;" in in_use
    assert not [line for line in in_use if "example.org" in line]


def test_anybody_may_see_what_would_be_done_and_every_flag_is_explained() -> None:
    done = subprocess.run(
        [REPOSITORY / "deploy/install", "--help"], capture_output=True, text=True, check=True
    )
    for flag in ("--from", "--wheels", "--name", "--database", "--game", "--driver", "--dry-run"):
        assert flag in done.stdout


# --- What a backup that is put back replaces --------------------------------------------------------


class HereMachine(Machine):
    """A machine whose commands do nothing, and on which files belong to the account that runs the tests."""

    worker_runs = False

    def write(self, path: Path, text: str, **_options: Any) -> bool:
        """Write a file."""
        path.write_text(text)
        return True

    def succeeds(self, *_argv: str | Path) -> bool:
        """Say whether the worker runs."""
        return self.worker_runs


@pytest.fixture
def settings_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the installer's settings in a folder of the test."""
    monkeypatch.setattr(places, "PASSPHRASE", tmp_path / "backup.passphrase")
    monkeypatch.setattr(settings_files, "WEB", tmp_path / "web.env")
    monkeypatch.setattr(settings_files, "WORKER", tmp_path / "worker.env")
    return tmp_path


def test_each_passphrase_that_is_replaced_is_kept(settings_dir: Path) -> None:
    machine, given = HereMachine(is_dry_run=False, say=print), settings_dir / "given"
    places.PASSPHRASE.write_text("first\n")
    for text in ("second\n", "second\n", "third\n"):
        given.write_text(text)
        settings_files.write_passphrase(machine, given)
    kept = {path.name: path.read_text() for path in settings_dir.glob("backup.passphrase*")}
    assert kept == {
        "backup.passphrase": "third\n",
        "backup.passphrase.before-1": "first\n",
        "backup.passphrase.before-2": "second\n",
    }


@pytest.mark.parametrize(("before", "after"), [("", "new"), ("old,new", "new,old")])
def test_keys_that_a_backup_replaces_still_decrypt(
    settings_dir: Path, before: str, after: str
) -> None:
    for path in (settings_files.WEB, settings_files.WORKER):
        path.write_text("SECRETS_KEYS=made-by-this-run\n")
    settings_files.replace_keys(HereMachine(is_dry_run=False, say=print), "new", before)
    for path in (settings_files.WEB, settings_files.WORKER):
        assert path.read_text() == f"SECRETS_KEYS={after}\n"


@pytest.mark.usefixtures("nothing_is_kept")
def test_no_backup_is_put_back_over_a_panel_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "a.saferoom-backup"
    machine = HereMachine(is_dry_run=False, say=print)
    told = collect("--name", "p.test", "--game", "simulator")
    installation = Installation(machine, told, told, REPOSITORY, print, archive=archive)
    with pytest.raises(InstallError, match="There is no backup"):
        installation._require_restorable()
    archive.touch()
    monkeypatch.setattr(releases, "current", lambda: "a release")
    monkeypatch.setattr("deploy.installer.units.worker_systemctl", lambda _answers: ("systemctl",))
    installation._require_restorable()
    machine.worker_runs = True
    with pytest.raises(InstallError, match="A panel runs here"):
        installation._require_restorable()
