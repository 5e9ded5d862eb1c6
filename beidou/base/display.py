"""How states, times, amounts and shares look on every page: one word, one colour, one icon.

Plain functions that return safe HTML, for admin columns; the template library ``beidou`` gives the
same ones to templates.  A state is never told by colour alone, a relative time always carries the
exact one, an amount its unit.  Widths are SVG attributes, because the Content-Security-Policy
forbids inline styles.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib.humanize.templatetags.humanize import naturaltime
from django.db import models
from django.utils import formats, timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

GOOD, WARNING, BAD, BUSY, NEUTRAL = "good", "warning", "bad", "busy", "neutral"
NOTHING = "–"

# unfold's own classes of labels, so that a badge looks like one of the theme in light and dark.
_COLOURS = {
    GOOD: "bg-green-100 text-green-700 dark:bg-green-500/20 dark:text-green-400",
    WARNING: "bg-orange-100 text-orange-700 dark:bg-orange-500/20 dark:text-orange-400",
    BAD: "bg-red-100 text-red-700 dark:bg-red-500/20 dark:text-red-400",
    BUSY: "bg-blue-100 text-blue-700 dark:bg-blue-500/20 dark:text-blue-400",
    NEUTRAL: "bg-base-500/8 text-base-700 dark:bg-base-500/20 dark:text-base-200",
}
_ICONS = {
    GOOD: "check_circle",
    WARNING: "warning",
    BAD: "error",
    BUSY: "progress_activity",
    NEUTRAL: "radio_button_unchecked",
}

# state -> (tone, icon or "" for the tone's own); one table for all apps.
_STATES: dict[str, tuple[str, str]] = {
    # health of clusters
    "healthy": (GOOD, ""),
    "degraded": (WARNING, ""),
    "unreachable": (BAD, "cloud_off"),
    "unknown": (NEUTRAL, "help"),
    # phases of clusters
    "pending": (NEUTRAL, "schedule"),
    "provisioning": (BUSY, ""),
    "updating": (BUSY, ""),
    "deleting": (BUSY, "delete"),
    # lifecycle of machines
    "discovered": (NEUTRAL, "search"),
    "available": (GOOD, ""),
    "reserved": (NEUTRAL, "lock"),
    "joining": (BUSY, ""),
    "in_service": (GOOD, "dns"),
    "cordoned": (WARNING, "block"),
    "draining": (BUSY, "outbound"),
    "leaving": (BUSY, "logout"),
    "maintenance": (WARNING, "build"),
    "faulty": (BAD, ""),
    "retired": (NEUTRAL, "archive"),
    "open": (WARNING, "pending"),
    "wrong": (BAD, ""),
    "accepted": (GOOD, ""),
    # operations, steps, attempts
    "waiting": (NEUTRAL, "schedule"),
    "running": (BUSY, ""),
    "paused": (WARNING, "pause_circle"),
    "canceling": (WARNING, "cancel"),
    "canceled": (NEUTRAL, "cancel"),
    "succeeded": (GOOD, ""),
    "partial": (WARNING, ""),
    "failed": (BAD, ""),
    "skipped": (NEUTRAL, "skip_next"),
    "done": (GOOD, ""),
    "lost": (BAD, "link_off"),
    "errored": (BAD, "bug_report"),
    "refused": (WARNING, "block"),
    "ok": (GOOD, ""),
}
# The same word means another thing here.
_STATES_OF: dict[tuple[str, str], tuple[str, str]] = {
    ("clusters.cluster", "running"): (GOOD, ""),
}


def badge(text: object, tone: str = NEUTRAL, *, icon: str = "", title: object = "") -> SafeString:
    """A label with colour, icon and word."""
    return format_html(
        '<span class="inline-flex items-center font-semibold rounded-default text-[11px] uppercase '
        'whitespace-nowrap h-6 leading-6 px-2 {}" title="{}">'
        '<span class="material-symbols-outlined text-sm -ml-0.5 mr-0.5" aria-hidden="true">{}'
        "</span>{}</span>",
        _COLOURS.get(tone, _COLOURS[NEUTRAL]),
        title,
        icon or _ICONS.get(tone, _ICONS[NEUTRAL]),
        text,
    )


def badges(*shown: object) -> SafeString:
    """Several badges side by side, or below each other where there is no room, never touching."""
    parts = format_html_join("", "{}", ((each,) for each in shown if each))
    return format_html('<span class="bd-badges">{}</span>', parts)


def insecure_badge() -> SafeString:
    """The red mark beside a cluster whose certificate is not verified, wherever it is named."""
    return badge(
        _("TLS not verified"),
        BAD,
        icon="no_encryption",
        title=_("The server's certificate is not checked: whoever stands between can read all."),
    )


def tone_of(state: str, model: str = "") -> str:
    """good, warning, bad, busy or neutral; ``model`` is a lower-case label such as app.model."""
    return _look(state, model)[0]


def _look(state: str, model: str) -> tuple[str, str]:
    known = _STATES_OF.get((model, state)) or _STATES.get(state)
    return known or (NEUTRAL, "")


def state_badge(obj: models.Model, field: str = "", title: object = "") -> SafeString:
    """The badge of a row's state; ``field`` defaults to the model's ``STATUS_FIELD``."""
    name = field or getattr(obj, "STATUS_FIELD", "status")
    value = str(getattr(obj, name))
    tone, icon = _look(value, obj._meta.label_lower)
    word = getattr(obj, f"get_{name}_display")()
    return badge(word, tone, icon=icon, title=title)


def ago(moment: datetime | None) -> SafeString:
    """Relative time with the exact one on hover; the script of the pages keeps it current."""
    if not moment:  # also the empty text that a template makes of a missing value
        return format_html("<span>{}</span>", NOTHING)
    return format_html(
        '<time datetime="{}" title="{}" data-relative>{}</time>',
        moment.isoformat(),
        _written(moment),
        naturaltime(moment),
    )


def exact(moment: datetime | None) -> SafeString:
    """The moment to the second, for records; how long ago is told on hover."""
    if not moment:
        return format_html("<span>{}</span>", NOTHING)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(),
        naturaltime(moment),
        _written(moment),
    )


def lasting(moment: datetime | None) -> SafeString:
    """How long something has been so: “for 3 hours”, with the moment of its beginning on hover."""
    if not moment:
        return format_html("<span>{}</span>", NOTHING)
    phrase = _("for %(time)s")
    is_new = (timezone.now() - moment).total_seconds() < 60
    return format_html(
        '<time datetime="{}" title="{}" data-lasting="{}">{}</time>',
        moment.isoformat(),
        _written(moment),
        phrase,
        _("for less than a minute") if is_new else phrase % {"time": timesince(moment, depth=1)},
    )


def _written(moment: datetime) -> str:
    return formats.date_format(timezone.localtime(moment), "DATETIME_FORMAT")


def byte_size(amount: float | None, digits: int = 1) -> str:
    """Bytes in binary units: 1536 -> ``1.5 KiB``."""
    if amount is None:
        return NOTHING
    value = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            return f"{_number(value, 0 if unit == 'B' else digits)} {unit}"
        value /= 1024
    return f"{_number(value, digits)} PiB"


def cores(millicores: float | None) -> str:
    """Millicores as cores: 1500 -> ``1.5``."""
    return NOTHING if millicores is None else _number(millicores / 1000, 1)


def _number(value: float, digits: int) -> str:
    text = formats.number_format(round(value, digits), decimal_pos=digits, force_grouping=True)
    tail = formats.get_format("DECIMAL_SEPARATOR") + "0" * digits
    return text.removesuffix(tail) if digits else text


def share(used: float, total: float) -> int | None:
    """Percent, rounded; None when there is nothing to share."""
    return round(100 * used / total) if total > 0 else None


def _count(amount: float) -> str:
    return _number(amount, 0)


_UNITS: dict[str, Callable[[float], str]] = {"cpu": cores, "bytes": byte_size}


def usage_bar(
    used: float, total: float, unit: str = "", *, label: object = "", stale: bool = False
) -> SafeString:
    """Used of total as a bar with the percentage beside it.

    ``unit``: ``cpu`` (millicores), ``bytes`` or empty for plain counts.  Past 80 % the bar is
    orange, past 95 % red.  ``stale`` greys it: the figures are those of an earlier time.
    """
    percent = share(used, total)
    if percent is None:
        return format_html('<span class="bd-bar-none">{}</span>', NOTHING)
    write = _UNITS.get(unit, _count)
    what = _("%(used)s of %(total)s") % {"used": write(used), "total": write(total)}
    level = "stale" if stale else "bad" if percent > 95 else "warning" if percent > 80 else "good"
    words = f"{label}: {what}" if label else what
    return format_html(
        '<span class="bd-bar bd-bar-{level}" title="{words}"><svg viewBox="0 0 100 8" '
        'preserveAspectRatio="none" role="img" aria-label="{words}, {percent} %">'
        '<rect class="bd-bar-room" width="100" height="8"></rect>'
        '<rect class="bd-bar-used" width="{width}" height="8"></rect></svg>'
        '<span class="bd-bar-text">{percent} %</span></span>',
        level=level,
        words=words,
        percent=percent,
        width=max(0, min(100, percent)),
    )


def yes_no(value: bool | None, yes: object, no: object, *, unknown: object = "?") -> SafeString:
    """A badge for a truth: good when true, bad when false, neutral when nobody knows."""
    if value is None:
        return badge(unknown, NEUTRAL, icon="help")
    return badge(yes, GOOD) if value else badge(no, BAD)


def value_text(value: Any) -> str:
    """A stored value (text, number, truth, list, mapping) as people read it."""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, dict):
        parts = [
            f"{name}: ({value_text(each)})"
            if each and isinstance(each, dict)
            else f"{name}: {value_text(each)}"
            for name, each in value.items()
        ]
        return "; ".join(parts) or NOTHING
    if isinstance(value, list | tuple):
        parts = [
            f"({value_text(each)})" if isinstance(each, dict | list | tuple) else value_text(each)
            for each in value
        ]
        return ", ".join(parts) or NOTHING
    return NOTHING if value in (None, "") else str(value)


def copyable(text: Any) -> SafeString:
    """An address or identifier that one click copies (``data-copy`` is handled by a script)."""
    if not text:
        return format_html("<span>{}</span>", NOTHING)
    return format_html('<code class="bd-copy" data-copy="{0}" tabindex="0">{0}</code>', text)
