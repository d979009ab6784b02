"""Backups of the panel and of this host, and the way back: `manage.py backup` and `manage.py restore`.

An archive is a compressed tar, sealed where there is a passphrase. It holds the database, what servers wrote
themselves, the overlays that are kept by hand, the panel's store of overlays unless that is left out, and, only
if it is sealed, SECRETS_KEYS; not the game, which is installed again.
"""
