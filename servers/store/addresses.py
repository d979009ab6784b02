"""Addresses at which workers on other machines fetch files from the store: signed, for one file, for an hour.

The worker itself signs them. It shares SECRETS_KEYS with the panel but has a different SECRET_KEY, so that
neither has to trust what the other signs for itself; SECRET_KEY is only used if there are no SECRETS_KEYS.
"""

from urllib.parse import urlencode

from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.urls import reverse

from hostops.specs import SHA256

VALID_SECONDS = 3600

_SALT = "servers.store.addresses"


def sign_blob_path(sha256: str) -> str:
    """Return the path, with its query, at which the panel serves a blob for an hour."""
    signed = _make_signer().sign(sha256).removeprefix(f"{sha256}:")
    return f"{reverse('servers:blob', args=[sha256])}?{urlencode({'signed': signed})}"


def is_signed(sha256: str, signed: str) -> bool:
    """Return whether `signed` is the query of an address for this blob that is still valid."""
    if not SHA256.fullmatch(sha256):
        return False
    try:
        _make_signer().unsign(f"{sha256}:{signed}", max_age=VALID_SECONDS)
    except BadSignature:
        return False
    return True


def _make_signer() -> TimestampSigner:
    """Return a signer that signs with the first of the keys and accepts signatures of any of them."""
    keys: list[str | bytes] = [*settings.SECRETS_KEYS] or [settings.SECRET_KEY]
    return TimestampSigner(key=keys[0], fallback_keys=keys[1:], salt=_SALT)
