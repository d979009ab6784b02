"""The first admin: created by whatever sets up a panel, with a password that is shown once."""

import secrets
from collections.abc import Callable

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from l4d2site.accounts.models import FirstPassword
from l4d2site.accounts.password_changes import require_signable


def make_first_admin(name: str, say: Callable[[str], None], given: str = "") -> bool:
    """Create an admin if there is none; return whether one was created.

    The password is `given`, or generated here. A generated one is stored nowhere and must be changed. Raises
    `ValidationError` for a given one that is too long.
    """
    if User.objects.filter(is_superuser=True).exists():
        return False
    require_signable(given)
    password = given or secrets.token_urlsafe(12)
    with transaction.atomic():
        admin = User.objects.create_superuser(name, password=password)
        if not given:
            # It is now in a terminal's history, or in a journal.
            FirstPassword.objects.create(user=admin)
        # Shown before the commit: an admin whose password nobody has seen would lock everybody out.
        if given:
            text = _("Sign in as %(name)s with the password in SAFEROOM_ADMIN_PASSWORD.")
            say(text % {"name": name})
        else:
            text = _(
                "Sign in as %(name)s with this password, which is not shown again. "
                "You choose your own then."
            )
            # On a line of its own, so that nothing else is copied with it.
            say(f"{text % {'name': name}}\n\n    {password}\n")
    return True
