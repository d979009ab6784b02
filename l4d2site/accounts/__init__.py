"""People and their accounts: sign-in, second factors, sessions, invitations, and the record of all this.

This is a Django app, so nothing may be imported here before the apps are loaded. Its doors are `addresses`
(where a request came from), `events` (the record), `pages` (the pages in `urls`), `restored_backups` (what a
restore must not bring back), `names` (for commands) and `middleware`.
"""
