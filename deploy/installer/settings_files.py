"""The settings of web process and worker, in /etc/saferoom: made once, and afterwards only added to."""

import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from deploy.installer import env_files, places
from deploy.installer.answers import Answers
from deploy.installer.errors import InstallError
from deploy.installer.machine import Machine

WEB = places.SETTINGS_DIR / "web.env"
WORKER = places.SETTINGS_DIR / "worker.env"


@dataclass(frozen=True)
class Given:
    """What both sides need to know besides the answers."""

    database_url: str
    secrets_keys: str


def known_value(name: str) -> str:
    """Return the value that one of the files gives a setting; empty if none does."""
    return env_files.read(WEB).get(name) or env_files.read(WORKER).get(name, "")


def make_fernet_key() -> str:
    """Return a key for SECRETS_KEYS, as `manage.py makesecretskey` makes one."""
    return urlsafe_b64encode(secrets.token_bytes(32)).decode()


def write(machine: Machine, answers: Answers, last: Answers, page: str, given: Given) -> None:
    """Write both files, or add the settings that they lack. A changed answer changes its line."""
    described = env_files.describe(page)
    shared = {"DATABASE_URL": given.database_url, "SECRETS_KEYS": given.secrets_keys}
    web, worker = _of_web(answers), _of_worker(answers)
    before = {**_of_web(last), **_of_worker(last)} if last.name else {}
    for path, group, wanted, what in (
        (WEB, places.WEB_ACCOUNT, web, "The settings of the web process"),
        (WORKER, places.WORKER_ACCOUNT, worker, "The settings of the worker"),
    ):
        # Each has its own: neither has to trust what the other has signed.
        settings = {"SECRET_KEY": secrets.token_urlsafe(50), **shared, **wanted}
        changed = {
            name: value for name, value in wanted.items() if before.get(name, value) != value
        }
        try:
            text = env_files.change(env_files.read_text(path), changed)
            text = env_files.add_missing(text, settings, described)
        except FileNotFoundError:
            text = env_files.render(settings, described, f"{what}. docs/settings.md explains each.")
        except InstallError as error:
            raise InstallError(f"{path}: {error}", error.cure) from error
        machine.write(path, text, mode=0o640, group="root" if machine.is_dry_run else group)


def write_passphrase(machine: Machine, given: Path | None) -> None:
    """Write the passphrase that seals backups: the one in `given`, or, if there is none yet, a new one.

    Each one before is kept beside it: it opens the backups that it has sealed.
    """
    group = "root" if machine.is_dry_run else places.WORKER_ACCOUNT
    if given is not None:
        text = env_files.read_text(given)
        if places.PASSPHRASE.exists():
            before = env_files.read_text(places.PASSPHRASE)
            if before != text:
                machine.write(_find_free(places.PASSPHRASE), before, mode=0o640, group=group)
    elif places.PASSPHRASE.exists():
        return
    else:
        text = f"{secrets.token_urlsafe(32)}\n"
    machine.write(places.PASSPHRASE, text, mode=0o640, group=group)


def _find_free(path: Path) -> Path:
    """Return where to keep the file at `path` under a name that no other has."""
    return next(
        one
        for number in count(1)
        if not (one := path.with_name(f"{path.name}.before-{number}")).exists()
    )


def replace_keys(machine: Machine, keys: str, before: str) -> None:
    """Set the SECRETS_KEYS of both sides to these, and behind them those from `before`, which still decrypt."""
    keys = ",".join(dict.fromkeys(filter(None, [*keys.split(","), *before.split(",")])))
    for path, group in ((WEB, places.WEB_ACCOUNT), (WORKER, places.WORKER_ACCOUNT)):
        text = env_files.change(env_files.read_text(path), {"SECRETS_KEYS": keys})
        machine.write(path, text, mode=0o640, group=group)


def _of_web(answers: Answers) -> dict[str, str]:
    host = f"[{answers.name}]" if ":" in answers.name else answers.name
    settings = {
        "VAR_DIR": str(places.VAR_DIR),
        "STATIC_ROOT": str(places.STATIC_DIR),
        # A monitor on this machine uses the last one, and so does the installer.
        "ALLOWED_HOSTS": f"{host},localhost",
        "CSRF_TRUSTED_ORIGINS": f"https://{host}",
        "PANEL_URL": f"https://{host}",
        "BEHIND_TLS_PROXY": "true",
        "TRUSTED_PROXIES": "unix",
    }
    if not known_value("HEALTH_TOKEN"):
        settings["HEALTH_TOKEN"] = secrets.token_hex(32)
    return settings


def _of_worker(answers: Answers) -> dict[str, str]:
    return {
        "VAR_DIR": str(places.VAR_DIR),
        "HOST_ROOT": str(places.HOST_ROOT),
        "HOST_DRIVER": answers.driver,
        "HOST_ADDRESS": answers.players_address,
        "GAME_SOURCE": answers.game,
        "BACKUP_DIR": str(places.BACKUPS_DIR),
        "BACKUP_PASSPHRASE_FILE": str(places.PASSPHRASE),
    }


def read_page(folder: Path) -> str:
    """Return the page of a release that explains every setting. Older releases have it in their README."""
    page = folder / "docs/settings.md"
    return (page if page.exists() else folder / "README.md").read_text(encoding="utf-8")
