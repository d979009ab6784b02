"""Who sends a request about an upload, and what it is about: all reads and writes in the database.

There is one database step per request. The steps run in a thread of the upload door, and each gives
its connection back.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from http import HTTPStatus
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections
from django.utils.translation import gettext as _

from jobs.database import find_outage, write_watch
from l4d2site.accounts.middleware import find_obstacle
from l4d2site.query_texts import clean
from l4d2site.uploads.tus_headers import NewPart, TusRefusedError
from servers import store
from servers.models import Upload, UploadPart

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """A part, its owner, and how much of it is on disk."""

    part: UploadPart
    upload: Upload
    user_id: int
    offset: int


def database_step(step: Callable[P, T]) -> Callable[P, T]:
    """Start a step with a working connection, and refuse in words while the database is away."""

    @wraps(step)
    def with_connection(*args: P.args, **kwargs: P.kwargs) -> T:
        close_old_connections()
        try:
            return step(*args, **kwargs)
        except Exception as error:
            if outage := find_outage(error):
                logger.info("upload: the database %s: %s", outage, error)
                write_watch.note(error)
                raise TusRefusedError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    _("The panel’s database %(outage)s. Nothing that has arrived is lost.")
                    % {"outage": outage},
                    retry_seconds=RETRY_SECONDS,
                    ends_connection=True,
                ) from None
            raise
        finally:
            close_old_connections()

    return with_connection


@database_step
def find_part(request: ASGIRequest, upload_id: int, token: str) -> Found:
    """Return the part with this token, and how much of it has arrived. Raises `RefusedError`."""
    user = _find_user(request)
    parts = UploadPart.objects.select_related("upload__overlay")
    part = parts.filter(token=token, upload__in=_uploads_of(user, upload_id)).first()
    if part is None:
        raise _not_there()
    try:
        store.restore_file(part)
    except OSError as error:
        raise disk_refusal(error, part_name=part.path) from None
    return Found(part, part.upload, user.pk, store.read_offset(part))


@database_step
def create_part(request: ASGIRequest, upload_id: int, new: NewPart) -> Found:
    """Make a part. Raises `RefusedError`."""
    user = _find_user(request)
    upload = _uploads_of(user, upload_id).first()
    if upload is None:
        raise _not_there()
    try:
        part = store.add_part(
            upload,
            new.path,
            new.size,
            modified_ms=new.modified_ms,
            is_bundle=new.is_bundle,
        )
    except store.UploadGoneError:
        raise _not_there() from None
    except ValidationError as refusal:
        raise _refused(refusal) from None
    except OSError as error:
        raise disk_refusal(error, part_name=new.path) from None
    return Found(part, upload, user.pk, 0)


@database_step
def note_received(part: UploadPart) -> None:
    """Record that a part is complete. Raises `RefusedError` if it has been removed."""
    if not store.note_received(part):
        raise _not_there()


@database_step
def remove_part(request: ASGIRequest, upload_id: int, token: str) -> None:
    """Remove a part. Raises `RefusedError`."""
    part = find_part.__wrapped__(request, upload_id, token).part  # type: ignore[attr-defined]
    try:
        store.remove_part(part)
    except store.UploadGoneError:
        raise _not_there() from None
    except ValidationError as refusal:
        raise _refused(refusal) from None


def disk_refusal(error: OSError, *, part_name: str, offset: int | None = None) -> TusRefusedError:
    """Return the refusal for a write error, or raise the error again unless it means a full disk."""
    if error.errno not in store.NO_SPACE:
        raise error
    logger.warning("upload: the disk of the store is full: %s", error)
    return TusRefusedError(
        HTTPStatus.INSUFFICIENT_STORAGE,
        _(
            "The panel’s disk is full. What has arrived of %(path)s is kept. Ask an admin to make room, then "
            "continue."
        )
        % {"path": part_name},
        offset=offset,
        ends_connection=True,
    )


def _uploads_of(user: User, upload_id: int) -> Any:
    return (
        Upload.objects.visible_to(user).select_related("overlay__owner", "by").filter(pk=upload_id)
    )


def _find_user(request: ASGIRequest) -> User:
    """Return the user whom the request's cookie signs in, as Django's own middleware does."""
    engine = import_module(settings.SESSION_ENGINE)
    clean(request)
    request.session = engine.SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    user = get_user(request)
    if not isinstance(user, User):
        raise TusRefusedError(
            HTTPStatus.UNAUTHORIZED,
            _(
                "You are signed out. Sign in again in another tab, then continue: what has arrived is kept."
            ),
            ends_connection=True,
        )
    request.user = user
    if obstacle := find_obstacle(request):
        raise TusRefusedError(HTTPStatus.FORBIDDEN, str(obstacle.sentence), ends_connection=True)
    return user


def _refused(refusal: ValidationError) -> TusRefusedError:
    """Return the answer for a part that an upload refuses."""
    is_full = getattr(refusal, "code", None) == "no_space"
    status = HTTPStatus.INSUFFICIENT_STORAGE if is_full else HTTPStatus.UNPROCESSABLE_ENTITY
    return TusRefusedError(status, " ".join(refusal.messages), ends_connection=True)


def _not_there() -> TusRefusedError:
    return TusRefusedError(
        HTTPStatus.NOT_FOUND,
        _("There is no such upload: it was discarded, or it is not yours."),
        ends_connection=True,
    )
