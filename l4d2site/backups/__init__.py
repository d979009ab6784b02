"""Backups of the panel and of this host, and how to restore them: `manage.py backup` and `manage.py restore`.

An archive is a compressed tar, sealed if there is a passphrase. It contains the database, the files that
servers wrote themselves, the overlays maintained by hand, the panel's store of overlays unless that is left
out, and, only if it is sealed, SECRETS_KEYS. It does not contain the game, which is installed again.
"""
