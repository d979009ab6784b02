"""Mails with links, if EMAIL_URL says how to send them.

They are sent outside the request, so that its duration does not reveal whether there was one to send.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.mail import send_mail
from django.db import connection
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from l4d2site.accounts.forms import ResetRequestForm
from l4d2site.accounts.models import Invitation
from l4d2site.accounts.reset_links import ResetTokens

logger = logging.getLogger(__name__)

MOST_WAITING = 20
_sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mail")
_places = BoundedSemaphore(MOST_WAITING)


def has_mail() -> bool:
    """Return whether mails can be sent."""
    return bool(settings.EMAIL_URL)


def warn_of_address(request: HttpRequest, person: User) -> None:
    """Ask the person who has given `person` rights to check the address that gets links for a new password.

    Somebody with fewer rights may have set it.
    """
    if has_mail() and person.email:
        text = _("Links for a new password are mailed to %(email)s: check that this is theirs.")
        messages.warning(request, text % {"email": person.email})


def send_soon(send: Callable[[], object]) -> bool:
    """Run `send` in the thread that sends mails. Return False if too many are waiting."""
    if not _places.acquire(blocking=False):
        logger.error("a mail was not sent: %s are already waiting", MOST_WAITING)
        return False

    def run() -> None:
        try:
            send()
        except Exception:  # Its caller has answered long ago.
            logger.exception("a mail could not be sent")
        finally:
            connection.close()
            _places.release()

    _sender.submit(run)
    return True


def send_reset_mail(form: ResetRequestForm) -> bool:
    """Mail a link to each account with the address in `form`. Return False if too many mails are waiting."""
    panel = urlsplit(settings.PANEL_URL)
    return send_soon(
        lambda: form.save(
            domain_override=panel.netloc,
            use_https=panel.scheme == "https",
            subject_template_name="accounts/reset_mail_subject.txt",
            email_template_name="accounts/reset_mail.txt",
            token_generator=ResetTokens(),
        )
    )


def send_invitation_mail(invitation: Invitation) -> bool:
    """Mail an invitation's link to its address. Return False if too many mails are waiting."""
    link = settings.PANEL_URL + invitation.mailed_url
    text = render_to_string("accounts/invitation_mail.txt", {"link": link})
    return send_soon(
        lambda: send_mail(_("Your invitation to Saferoom"), text, None, [invitation.email])
    )
