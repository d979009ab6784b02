"""The limits that every request passes before it costs anything, kept in the web process's memory.

`entrance` wraps the ASGI application; `worker` is gunicorn's, and limits connections. Nothing here uses the
database. There is nothing to import from this package itself: `settings` needs `addresses` before Django is set
up, and gunicorn and Django refer to `worker` and `password_hashing` by their paths.
"""
