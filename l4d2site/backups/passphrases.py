"""The passphrase that seals backups: in a file, never in a setting or an argument, which others might see."""

from pathlib import Path

LEAST_PASSPHRASE = 12
"""Characters. Anybody with an archive can try passphrases for as long as they like."""


class PassphraseError(Exception):
    """There is no usable passphrase; the text says why."""


def read_passphrase(path: Path | None) -> str:
    """Return the first line of the file at `path`; empty if `path` is None. Raises `PassphraseError`."""
    if path is None:
        return ""
    try:
        with path.open(encoding="utf-8") as file:
            passphrase = file.readline(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PassphraseError(f"The passphrase in {path} cannot be read: {error}") from error
    if len(passphrase) < LEAST_PASSPHRASE:
        raise PassphraseError(
            f"The passphrase in {path} has {len(passphrase)} characters, and needs at least {LEAST_PASSPHRASE}."
        )
    return passphrase
