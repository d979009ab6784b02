"""Moves the passwords in stored configs into the servers' fields, and reports which could not be moved.

Each row is moved in its own transaction, which stores its password and removes its line. So a killed process
leaves each row either moved or not, and two concurrent moves take turns.
"""

import logging

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from servers.models import Blueprint, Server
from servers.models.validation import shorten
from servers.secrets import (
    ServerSecret,
    Setting,
    find_settings,
    has_keys,
    sets_secret,
    take_secrets,
)

logger = logging.getLogger(__name__)

TEXT_COLUMNS = ("arguments", "config")
TOKEN_COLUMNS = tuple(secret.column for secret in ServerSecret)


class OtherKeysError(Exception):
    """The stored passwords were encrypted with other keys; the text says so."""


def move_found_secrets() -> int:
    """Move the passwords found, and generate missing RCON passwords; return how many rows changed.

    For the start of a worker, not for requests. Does nothing without keys. Raises `OtherKeysError` if these
    keys cannot read any stored password: then the other processes could not read what this one encrypts.
    """
    if not has_keys():
        return 0
    require_keys_of_panel()
    mention = Q()
    for column in TEXT_COLUMNS:
        for secret in ServerSecret:
            mention |= Q(**{f"{column}__icontains": secret.cvar})
    # Servers first: their own settings override their blueprints'.
    own = list(Server.objects.filter(mention).values_list("pk", flat=True))
    shared = list(Blueprint.objects.filter(mention).values_list("pk", flat=True))
    changed = sum([_move_of_server(pk) for pk in own])
    changed += sum([_move_of_blueprint(pk) for pk in shared])
    lacking = Server.objects.filter(rcon_password_token="").values_list("pk", flat=True)
    changed += sum([give_rcon_password(pk) for pk in list(lacking)])
    if changed:
        logger.info("passwords of %s servers and blueprints are encrypted in their fields", changed)
    return changed


def require_keys_of_panel() -> None:
    """Raise `OtherKeysError` unless one of the latest passwords can be decrypted, or none is stored."""
    stored = Server.objects.exclude(**dict.fromkeys(TOKEN_COLUMNS, "")).order_by("-updated_at")
    newest = list(stored.select_related("blueprint")[:10])
    faults = [fault for server in newest for fault in server.secret_faults]
    readable = [one for server in newest for one in server.launch_texts.readable_passwords()]
    if faults and not readable:
        raise OtherKeysError(
            _(
                "%(fault)s So no password is moved or made here: this process would encrypt it "
                "with a key that the rest of the panel does not have."
            )
            % {"fault": faults[0]}
        )


def _move_of_server(pk: int) -> bool:
    """Move passwords from a server's own texts into its fields; return whether there were any."""
    with transaction.atomic():
        server = Server.objects.select_for_update(no_key=True).filter(pk=pk).first()
        if server is None:  # It was removed in the meantime.
            return False
        taken = take_secrets(server.arguments, server.config)
        for secret, value in taken.values.items():
            server.set_secret(secret, value)
        if taken.values:
            server.arguments, server.config = taken.arguments, taken.config
            server.save(update_fields=[*TEXT_COLUMNS, *TOKEN_COLUMNS, "updated_at"])
    return bool(taken.values)


def _move_of_blueprint(pk: int) -> bool:
    """Move a blueprint's passwords into the servers that use it; return whether there were any.

    A blueprint that no server uses keeps its lines: there is nowhere to move them.
    """
    with transaction.atomic():
        # A full lock: a server being made from it waits, and then copies its passwords by itself.
        blueprint = Blueprint.objects.select_for_update().filter(pk=pk).first()
        if blueprint is None:
            return False
        taken = take_secrets(blueprint.arguments, blueprint.config)
        servers = list(blueprint.servers.select_for_update(no_key=True).order_by("pk"))
        if not taken.values or not servers:
            return False
        for server in servers:
            for secret, value in taken.values.items():
                is_own = sets_secret(server.arguments, server.config, secret)
                if not server.has_secret(secret) and not is_own:
                    server.set_secret(secret, value)
            server.save(update_fields=[*TOKEN_COLUMNS, "updated_at"])
        blueprint.arguments, blueprint.config = taken.arguments, taken.config
        blueprint.save(update_fields=[*TEXT_COLUMNS, "updated_at"])
    return True


def give_rcon_password(pk: int) -> bool:
    """Give a server a random RCON password if nothing sets one; return whether it got one."""
    with transaction.atomic():
        locked = Server.objects.select_for_update(no_key=True, of=("self",))
        server = locked.select_related("blueprint").filter(pk=pk).first()
        if server is None or not server.make_rcon_password():
            return False
        server.save(update_fields=[ServerSecret.RCON_PASSWORD.column, "updated_at"])
    return True


def find_unmoved(row: Server | Blueprint) -> list[str]:
    """Return a sentence for each of the first places in a row that still set a password; none without keys.

    They name the place, never the value.
    """
    if not has_keys():
        return []
    found = find_settings(row.arguments, row.config)
    is_used = bool(found) and (isinstance(row, Server) or row.servers.exists())
    return shorten(found, lambda setting: describe(setting, row, is_used))


def describe(setting: Setting, row: Server | Blueprint, is_used: bool) -> str:
    """Return the sentence for one place."""
    if isinstance(row, Server):
        cannot_move = _(
            "%(place)s of the own %(source)s sets %(cvar)s %(obstacle)s, so Saferoom cannot move it. "
            "Take it out, and put the password into the field “%(label)s” of the server."
        )
        is_moved = _(
            "%(place)s of the own %(source)s sets %(cvar)s. It is moved into the field “%(label)s” of "
            "the server when the worker starts the next time."
        )
    else:
        cannot_move = _(
            "%(place)s of the %(source)s sets %(cvar)s %(obstacle)s, so Saferoom cannot move it. "
            "Take it out, and put the password into the field “%(label)s” of each server."
        )
        is_moved = _(
            "%(place)s of the %(source)s sets %(cvar)s. It is moved into the field “%(label)s” of "
            "each server when the worker starts the next time."
        )
    has_nowhere_to_go = _(
        "%(place)s of the %(source)s sets %(cvar)s, and no server uses this blueprint, so there is "
        "none to move it to. Take it out: the password belongs into the field “%(label)s” of each "
        "server."
    )
    text = cannot_move if setting.obstacle else is_moved if is_used else has_nowhere_to_go
    return text % {
        "place": setting.place,
        "source": setting.source,
        "cvar": setting.secret.cvar,
        "obstacle": setting.obstacle,
        "label": setting.secret.label,
    }


def rotate_secrets() -> tuple[int, list[str]]:
    """Re-encrypt every password with the first key; return how many, and a sentence for each unreadable one.

    Works one row at a time, each in its own transaction: it can be killed and run again.
    """
    rotated, faults = 0, []
    for pk in list(
        Server.objects.exclude(**dict.fromkeys(TOKEN_COLUMNS, "")).values_list("pk", flat=True)
    ):
        with transaction.atomic():
            server = Server.objects.select_for_update(no_key=True).filter(pk=pk).first()
            if server is None:  # It was removed in the meantime.
                continue
            rotated += server.rotate_secrets()
            server.save(update_fields=TOKEN_COLUMNS)
        faults += server.secret_faults
    return rotated, faults
