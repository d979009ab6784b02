"""How long something took, in words. `static/js/log/durations.js` says it the same way for what still runs."""


def describe_duration(seconds: float) -> str:
    """Return `seconds` in words, such as `4.2 s`, `1 min 5 s` or `2 h 3 min`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
