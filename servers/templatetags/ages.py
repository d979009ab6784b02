"""The filter that says how long something has lasted; `static/js/live/times.js` goes on saying it."""

from datetime import datetime

from django import template
from django.utils import timezone

from servers.durations import describe_age

register = template.Library()


@register.filter
def age(moment: datetime) -> str:
    """Return how long ago `moment` was, such as `9 min`."""
    return describe_age((timezone.now() - moment).total_seconds())
