"""The first admin: created by whatever sets up a panel, with a password that is shown once."""

import secrets
from collections.abc import Callable
from contextlib import suppress

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from l4d2site.accounts.models import FirstPassword
from l4d2site.accounts.names import choose_name


class UnreadPasswordError(Exception):
    """The password of the first admin could not be shown, so there is none; the text says why."""


def make_first_admin(name: str, say: Callable[[str], None], given: str = "") -> bool:
    """Create an admin if there is none; return whether one was created.

    The password is `given`, or generated here. A generated one is stored nowhere and must be changed. Raises
    `ValidationError` for a given one that no form would take, and for a name that nobody could sign in with,
    and `UnreadPasswordError` if `say` cannot print the generated one, which it reports by an `OSError`.
    """
    if User.objects.filter(is_superuser=True).exists():
        return False
    name = choose_name(name)
    if given:
        try:
            validate_password(given, User(username=name))
        except ValidationError as error:
            raise ValidationError(f"SAFEROOM_ADMIN_PASSWORD: {' '.join(error.messages)}") from None
    password = given or secrets.token_urlsafe(12)
    with transaction.atomic():
        admin = User.objects.create_superuser(name, password=password)
        if not given:
            # It is now in a terminal's history, or in a journal.
            FirstPassword.objects.create(user=admin)
        # Shown before the commit: an admin whose password nobody has seen would lock everybody out.
        if given:
            text = _("Sign in as %(name)s with the password in SAFEROOM_ADMIN_PASSWORD.")
            with suppress(OSError):  # The one who gave it knows it.
                say(text % {"name": name})
        else:
            text = _(
                "Sign in as %(name)s with this password, which is not shown again. "
                "You choose your own then."
            )
            # On a line of its own, so that nothing else is copied with it.
            try:
                say(f"{text % {'name': name}}\n\n    {password}\n")
            except OSError as error:
                text = _("No admin was made, as the password could not be shown: %(reason)s.")
                raise UnreadPasswordError(text % {"reason": error.strerror}) from error
    return True
