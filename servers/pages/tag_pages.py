"""The page of the user's tags: how many servers have each, renaming them, and removing them."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from servers.access import SignedInRequest, sign_in_required
from servers.fleet import (
    TagsError,
    configurable_by,
    count_tags,
    parse_tag,
    rename_tag,
    take_tag,
)
from servers.models import TAG_CHARS


@require_safe
@sign_in_required
def tag_list(request: SignedInRequest) -> HttpResponse:
    """List the tags of the servers that the user may configure, with a form for each."""
    counts = count_tags(configurable_by(request.user))
    tags = sorted(counts, key=lambda one: one[0].casefold())
    return render(request, "servers/tags.html", {"tags": tags, "tag_chars": TAG_CHARS})


@require_POST
@sign_in_required
def tag_rename(request: SignedInRequest) -> HttpResponse:
    """Give the tag `tag` the name `name`, on all servers that the user may configure."""
    name = read_tag(request)
    try:
        new_name = parse_tag(request.POST.get("name", ""))
    except TagsError as error:
        messages.error(request, error.messages[0])
        return redirect("servers:tags")
    count = rename_tag(configurable_by(request.user), name, new_name)
    if count:
        text = ngettext(
            "Tag %(old)s is now %(new)s, on %(count)d server.",
            "Tag %(old)s is now %(new)s, on %(count)d servers.",
            count,
        )
        messages.success(request, text % {"old": name, "new": new_name, "count": count})
    else:
        messages.error(request, _("None of your servers has that tag now."))
    return redirect("servers:tags")


@require_POST
@sign_in_required
def tag_remove(request: SignedInRequest) -> HttpResponse:
    """Remove the tag `tag` from all servers that the user may configure."""
    name = read_tag(request)
    say_taken(request, name, take_tag(configurable_by(request.user), name))
    return redirect("servers:tags")


def say_taken(request: SignedInRequest, name: str, count: int) -> None:
    """Say from how many servers a tag was removed."""
    text = ngettext(
        "Tag %(tag)s was removed from %(count)d server.",
        "Tag %(tag)s was removed from %(count)d servers.",
        count,
    )
    messages.success(request, text % {"tag": name, "count": count})


def read_tag(request: SignedInRequest) -> str:
    """Return the tag that a form is about. Of one that is too long, enough is left to be no tag at all."""
    return request.POST.get("tag", "").replace("\0", "")[: TAG_CHARS + 1]
