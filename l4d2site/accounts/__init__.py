"""People and their accounts: the sign-in, second factors, sessions, invitations, and the record of it all.

It is a Django app, so nothing is imported here before the apps are there. Its doors are `addresses` (where a
request came from), `events` (the record), `pages` (the addresses in `urls`) and `middleware`.
"""
