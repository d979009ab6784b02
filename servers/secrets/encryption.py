"""Servers' passwords, encrypted with the keys in `SECRETS_KEYS`: the first encrypts, all of them decrypt.

Fernet tokens are stored. Nothing here keeps a plain text.
"""

import hmac
import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from django.db.models import TextChoices
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

PASSWORD_CHARS = 24
"""The length of a password that Saferoom makes, from 62 characters: 142 bits."""

NO_KEYS = gettext_noop(
    "SECRETS_KEYS is not set, so servers’ passwords stay in their configs, where everybody who "
    "may read those can see them. Run manage.py makesecretskey, put the line it prints into the "
    "settings of the panel and of every worker, and restart them."
)


class ServerSecret(TextChoices):
    """A server's password. The value is the name of its form field, and the start of its column's name."""

    RCON_PASSWORD = "rcon_password", gettext_lazy("RCON password")
    JOIN_PASSWORD = "join_password", gettext_lazy("Join password")

    @property
    def column(self) -> str:
        """The column of `Server` that holds its token."""
        return f"{self.value}_token"

    @property
    def what(self) -> str:
        """The word before “password” in what the host layer says."""
        return "RCON" if self is ServerSecret.RCON_PASSWORD else "join"

    @property
    def words(self) -> str:
        """What it is called within a sentence."""
        if self is ServerSecret.RCON_PASSWORD:
            return _("RCON password")
        return _("join password")

    @property
    def cvar(self) -> str:
        """The console variable that holds it."""
        return "rcon_password" if self is ServerSecret.RCON_PASSWORD else "sv_password"


class SecretError(ValueError):
    """A secret that cannot be stored or read.

    The text says why; the texts raised in this module follow the name of the secret: “cannot be read: …”.
    """


def has_keys() -> bool:
    """Return whether secrets can be stored."""
    return bool(settings.SECRETS_KEYS)


def keys_note() -> str:
    """Return what admins are told if there are no keys; empty if there are."""
    return "" if has_keys() else _(NO_KEYS)


def encrypt(plain: str) -> str:
    """Return a secret's token, made with the first key. Raises `SecretError` if there is none."""
    return _fernet(is_to_store=True).encrypt(plain.encode()).decode()


def decrypt(token: str) -> str:
    """Return the secret in a token. Raises `SecretError` if no key fits."""
    with _explaining_wrong_keys():
        return _fernet(is_to_store=False).decrypt(token.encode()).decode()


def rotate(token: str) -> str:
    """Return a token of the same secret, made with the first key. Raises `SecretError` if no key fits."""
    with _explaining_wrong_keys():
        return _fernet(is_to_store=False).rotate(token.encode()).decode()


class DigestKey(NamedTuple):
    """A key for digests, and the ID with which it can be found again."""

    id: str
    key: bytes


def new_digest_key() -> DigestKey:
    """Return the key for new digests: made from the first of `SECRETS_KEYS` or, without any, `SECRET_KEY`."""
    return next(iter(_digest_keys().values()))


def find_digest_key(key_id: str) -> DigestKey:
    """Return the key of earlier digests. Raises `SecretError` if the setting it was made from is gone."""
    try:
        return _digest_keys()[key_id]
    except KeyError:
        raise SecretError(_("cannot be compared: its key is no longer in SECRETS_KEYS")) from None


def make_digest(key: DigestKey, plain: str) -> str:
    """Return a digest that tells only whether a text is the same one; empty for an empty text.

    It is keyed, so that nobody who only reads the database can try passwords until one fits.
    """
    return hmac.digest(key.key, plain.encode(), "sha256").hex() if plain else ""


@lru_cache(
    maxsize=8192
)  # A list of servers asks for each password's digest, and decrypting takes 60 µs.
def digest_token(key: DigestKey, token: str) -> str:
    """Return the digest of the secret in a token; empty for no token. Raises `SecretError`."""
    return make_digest(key, decrypt(token)) if token else ""


def _digest_keys() -> dict[str, DigestKey]:
    """Return the keys for digests by ID, the one for new digests first."""
    return _make_digest_keys(tuple(settings.SECRETS_KEYS), settings.SECRET_KEY)


@lru_cache(maxsize=4)  # Of keys, which are in the settings anyway.
def _make_digest_keys(keys: tuple[str, ...], secret_key: str) -> dict[str, DigestKey]:
    made = [hmac.digest(key.encode(), b"saferoom digests", "sha256") for key in (*keys, secret_key)]
    found = [DigestKey(hmac.digest(key, b"id", "sha256").hex()[:8], key) for key in made]
    return {key.id: key for key in found}


def make_password() -> str:
    """Return a random password of letters and digits, which every console and tool accepts."""
    characters = string.ascii_letters + string.digits
    return "".join(secrets.choice(characters) for _ in range(PASSWORD_CHARS))


_WRONG_KEY = gettext_noop(
    "cannot be decrypted: none of the keys in SECRETS_KEYS is the one that it was encrypted with. Put that key "
    "back behind the others, or set a new password"
)


@contextmanager
def _explaining_wrong_keys() -> Iterator[None]:
    """Raise `SecretError` in place of `InvalidToken`, whose text is empty."""
    from cryptography.fernet import InvalidToken

    try:
        yield
    except InvalidToken:
        raise SecretError(_(_WRONG_KEY)) from None


def _fernet(*, is_to_store: bool) -> "MultiFernet":
    if not has_keys():
        raise SecretError(
            _("cannot be stored: SECRETS_KEYS is not set. Set it to what the rest of the panel has")
            if is_to_store
            else _(
                "cannot be read: SECRETS_KEYS is not set. Set it to what the rest of the panel has"
            )
        )
    return _make_fernet(tuple(settings.SECRETS_KEYS))


@lru_cache(maxsize=4)  # Of keys, which are in the settings anyway; never of secrets.
def _make_fernet(keys: tuple[str, ...]) -> "MultiFernet":
    # Only here: loading it takes a twentieth of a start, and few commands need a secret.
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(key) for key in keys])
