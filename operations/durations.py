"""Spans of time as people say them."""

from django.utils.translation import gettext as _


def spoken(seconds: float) -> str:
    """``42 s``, ``2 m 10 s``, ``1 h 5 m``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return _("%(h)d h %(m)d m") % {"h": hours, "m": minutes}
    if minutes:
        return _("%(m)d m %(s)d s") % {"m": minutes, "s": secs}
    return _("%(s)d s") % {"s": secs}


def spoken_range(low: float, high: float) -> str:
    """``4 m – 6 m 30 s``; one figure when both say the same."""
    first, last = spoken(low), spoken(high)
    return first if first == last else f"{first} – {last}"


def is_interrupted(worked: float, span: float) -> bool:
    """Whether so much of ``span`` is no work (it lay failed or paused, or waited for a worker) that
    both are worth telling; live.js has the same rule."""
    return span - worked > max(10, span / 10)
