"""What every request passes before it costs anything: limits kept in the web process's memory.

`entrance` wraps the ASGI application; `worker` is gunicorn's, and limits connections. Nothing here reads or
writes the database. There is no door to import from: `settings` needs `addresses` before Django is set up, and
gunicorn and Django name `worker` and `password_hashing` by their paths.
"""
