"""How times are written: how long something has lasted, and moments within translated sentences.

`static/js/live/times.js` keeps both up to date while the page is open.
"""

from datetime import datetime

from django import template
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString

from servers.durations import describe_age

register = template.Library()


@register.filter
def age(moment: datetime) -> str:
    """Return how long ago `moment` was, such as `9 min`."""
    return describe_age((timezone.now() - moment).total_seconds())


@register.simple_tag
def time_ago(moment: datetime) -> SafeString:
    """Return what `_time.html` shows, for use within a sentence: `{% time_ago x as since %}`."""
    return render_to_string("_time.html", {"time": moment})


@register.simple_tag
def time_at(moment: datetime) -> SafeString:
    """Return what `_moment.html` shows, for use within a sentence."""
    return render_to_string("_moment.html", {"time": moment})
