"""A panel whose database is lost and restored, in a separate process: `-m tests.site.backups.scenario`."""

import errno
import os
from io import StringIO

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "l4d2site.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import override_settings  # noqa: E402

from jobs.models import Job  # noqa: E402
from l4d2site.backups import archives  # noqa: E402
from l4d2site.backups.keeping import read_last  # noqa: E402
from servers.models import (  # noqa: E402
    Blueprint,
    DesiredState,
    Host,
    Overlay,
    OverlayVersion,
    Server,
)
from servers.store import get_store, read_files  # noqa: E402
from tests.hostops.test_command_ends import Failing, run, stream_on  # noqa: E402
from tests.overlays import bring  # noqa: E402

OTHER_KEY = "c2FmZXJvb20tb3RoZXIta2V5LW9mLTMyLWJ5dGVzLSE="
UPPER = settings.HOST_ROOT / "instances/alpha/upper"
BY_HAND = settings.HOST_ROOT / "overlays/by-hand/b.cfg"
PASSPHRASE = "correct horse battery"


def say(*arguments: str) -> str:
    """Run a command that must succeed, and return its output."""
    output = StringIO()
    call_command(*arguments, stdout=output, stderr=output)
    return output.getvalue()


def say_to_nobody(*arguments: str) -> None:
    """Run a command that must succeed although its reader has left, as unbuffered as in a container."""

    def main() -> None:
        call_command(*arguments)

    code, errors = run(main, stream_on(Failing(errno.EPIPE), is_unbuffered=True))
    assert code == 0, errors


def refuse(*arguments: str) -> str:
    """Run a command that must fail, and return the reason."""
    try:
        call_command(*arguments, stdout=StringIO(), stderr=StringIO())
    except CommandError as error:
        return str(error)
    raise AssertionError(f"{arguments} was not refused")


def make_servers() -> None:
    """Make two servers, one of which should be running and has written a file."""
    kim = User.objects.create_user("kim")
    blueprint = Blueprint.objects.create(name="plain", owner=kim)
    for port, name in ((27015, "alpha"), (27016, "bravo")):
        Server.objects.create(
            name=name, owner=kim, host=Host.local(), blueprint=blueprint, port=port
        )
    Server.objects.filter(name="alpha").update(desired_state=DesiredState.RUNNING)
    UPPER.mkdir(parents=True)
    (UPPER / "mine").write_text("by the game")


def make_versions() -> str:
    """Make a version with a file that is also in a folder of the host; return its reference."""
    kim = User.objects.get(username="kim")
    overlay = Overlay.objects.create(name="pack", owner=kim)
    BY_HAND.parent.mkdir(parents=True)
    BY_HAND.write_text("the same")
    files = {"left4dead2/cfg/a.cfg": "its own", "left4dead2/cfg/b.cfg": "the same"}
    return bring(overlay, kim, files).reference


def texts_of(reference: str) -> list[bytes]:
    """Return the contents of a version's files."""
    files = read_files(OverlayVersion.objects.get(reference=reference))
    return [get_store().read(file.sha256, 100) for file in files]


def main() -> None:
    """Back up, be refused whenever something would be lost, and restore."""
    call_command("migrate", verbosity=0)
    make_servers()
    reference = make_versions()
    Client().force_login(User.objects.get(username="kim"))
    assert Session.objects.exists()
    assert "verified" in say("backup")
    [archive] = settings.BACKUP_DIR.glob("*.saferoom-backup")
    last = read_last()
    assert last is not None
    assert (last.path, last.is_sealed, last.error) == (str(archive), True, "")

    assert "has files of servers or overlays already" in refuse("restore", str(archive))
    with archives.members(archive, PASSPHRASE) as found:
        names = [info.name for info, _content in found if "content" in info.name]
    # The manifest and one file; the other one is also the host's.
    assert len(names) == 3
    assert names[-1] == archives.SAME_CONTENT
    UPPER.parents[1].rename(settings.HOST_ROOT / "away")
    BY_HAND.parents[1].rename(settings.HOST_ROOT / "away-too")
    assert "has servers already" in refuse("restore", str(archive))
    with override_settings(SECRETS_KEYS=[OTHER_KEY]):
        assert "keys are not in SECRETS_KEYS" in refuse("restore", str(archive), "--replace")
    keys = ",".join(settings.SECRETS_KEYS)
    assert say("restore", str(archive), "--print-keys") == f"SECRETS_KEYS={keys}\n"
    assert Server.objects.count() == 2

    # One file is lost, and another one has been replaced.
    lost, damaged = read_files(OverlayVersion.objects.get(reference=reference))
    get_store().path_of(lost.sha256).unlink()
    get_store().path_of(damaged.sha256).write_text("not this")
    Server.objects.all().delete()
    OverlayVersion.objects.all().delete()
    User.objects.update(username="somebody")
    say_to_nobody("restore", str(archive))
    assert (UPPER / "mine").read_text() == "by the game"
    UPPER.parents[1].rename(settings.HOST_ROOT / "away-again")
    BY_HAND.parents[1].rename(settings.HOST_ROOT / "away-too-again")
    output = say("restore", str(archive), "--replace")
    assert "Everybody has to sign in again" in output
    assert "Will be started once a worker runs: alpha." in output
    assert not Session.objects.exists()
    assert list(Server.objects.order_by("name").values_list("name", "owner__username")) == [
        ("alpha", "kim"),
        ("bravo", "kim"),
    ]
    jobs = list(Job.objects.order_by("pk").values_list("operation", "server_name"))
    assert jobs == [("install", ""), ("start", "alpha")]
    assert (UPPER / "mine").read_text() == "by the game"
    assert texts_of(reference) == [b"its own", b"the same"]
    assert BY_HAND.read_text() == "the same"

    assert settings.BACKUP_PASSPHRASE_FILE is not None
    get_store().path_of(lost.sha256).write_text("damaged")
    assert "is damaged: its bytes are not those it is named by" in refuse("backup")
    archive.unlink()
    small = say("backup", "--without-content")
    [archive] = settings.BACKUP_DIR.glob("*.saferoom-backup")
    assert "verified" in small
    with archives.members(archive, PASSPHRASE) as found:
        assert not [info.name for info, _content in found if "content" in info.name]

    settings.BACKUP_PASSPHRASE_FILE.write_text("short\n")
    assert "has 5 characters, and needs at least 12" in refuse("backup")
    last = read_last()
    assert last is not None
    assert "has 5 characters" in last.fault
    assert [path.name for path in settings.BACKUP_DIR.iterdir()] == [archive.name]


if __name__ == "__main__":
    main()
