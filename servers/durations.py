"""Durations in words. `static/js/log/durations.js` uses the same words for what is still running."""

from django.utils.translation import gettext


def describe_duration(seconds: float) -> str:
    """Return `seconds` in words, such as `4.2 s`, `1 min 5 s` or `2 h 3 min`."""
    if seconds < 10:
        return gettext("%(count).1f s") % {"count": max(seconds, 0)}
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return gettext("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    if minutes:
        return gettext("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": seconds}
    return gettext("%(count)d s") % {"count": seconds}


def describe_age(seconds: float) -> str:
    """Return roughly how long something has lasted, such as `40 s`, `9 min`, `2 h 5 min` or `3 days`.

    `static/js/live/times.js` uses the same words while a page is open.
    """
    minutes = int(max(seconds, 0)) // 60
    if minutes < 1:
        return gettext("%(count)d s") % {"count": int(max(seconds, 0))}
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return gettext("%(count)d min") % {"count": minutes}
    if hours < 48:
        return gettext("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    return gettext("%(count)d days") % {"count": hours // 24}
