"""What a message says: kept without a language while it waits, written when it is sent.

However many notices a message tells of, kept are their counts by kind, severity and cluster, and
the first few of the worst.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override

from beidou.base import links
from beidou.base import notices as news
from beidou.base.models import Notice
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from notifications.drivers.message import Message

LINES: Final = 10
COUNTS: Final = 20
"""So many are written out; kept are all."""
Content = dict[str, Any]


def of_notices(notices: Iterable[Notice]) -> Content:
    """The content of one message about all of them."""
    counts: dict[tuple[Any, ...], int] = {}
    lines: list[dict[str, Any]] = []
    for notice in notices:
        alike = (notice.kind, notice.severity, notice.cluster_id, notice.team_id)
        counts[alike] = counts.get(alike, 0) + 1
        lines.append(_line(notice))
        if len(lines) > 20 * LINES:
            lines = _worst(lines)
    return {"counts": [[*alike, count] for alike, count in counts.items()], "lines": _worst(lines)}


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> Content:
    """Both in one message."""
    counts: dict[tuple[Any, ...], int] = {}
    for *alike, count in [*first["counts"], *second["counts"]]:
        counts[tuple(alike)] = counts.get(tuple(alike), 0) + count
    return {
        "counts": [[*alike, count] for alike, count in counts.items()],
        "lines": _worst([*first["lines"], *second["lines"]]),
    }


def only(content: Mapping[str, Any], may_hear: Callable[[int | None, int | None], bool]) -> Content:
    """Without what (by cluster and team) may not be told."""
    return {
        "counts": [row for row in content["counts"] if may_hear(row[2], row[3])],
        "lines": [row for row in content["lines"] if may_hear(row["cluster"], row["team"])],
    }


def count(content: Mapping[str, Any]) -> int:
    return sum(row[4] for row in content["counts"])


def severity(content: Mapping[str, Any]) -> str:
    """That of the worst."""
    found = [row[1] for row in content["counts"]]
    return max(found, key=_rank, default=Notice.Severity.INFO)


def _rank(name: str) -> int:
    return Notice.RANKS[Notice.Severity(name)]


def _line(notice: Notice) -> dict[str, Any]:
    return {
        "id": notice.pk,
        "at": notice.at.isoformat(),
        "kind": notice.kind,
        "severity": notice.severity,
        "title": notice.title,
        "details": notice.details,
        "cluster": notice.cluster_id,
        "team": notice.team_id,
        "type": notice.object_type,
        "object": notice.object_id,
    }


def _worst(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(lines, key=lambda line: (-_rank(line["severity"]), line["at"], line["id"]))[
        :LINES
    ]


# --- writing --------------------------------------------------------------------------------------


def write(content: Mapping[str, Any], *, key: str, language: str) -> Message:
    """The message in ``language``; asks the database for the names of clusters."""
    named = {row[2] for row in content["counts"][:COUNTS]}
    named |= {line["cluster"] for line in content["lines"]}
    names = dict(Cluster.objects.filter(pk__in=named - {None}).values_list("pk", "name"))
    with override(language):
        return _written(content, key, names)


def _written(content: Mapping[str, Any], key: str, names: Mapping[int, str]) -> Message:
    total, worst = count(content), severity(content)
    lines = [_spoken(line, names) for line in content["lines"]]
    severities = dict(Notice.Severity.choices)
    if total == 1 and lines:
        subject = _("[%(portal)s] %(severity)s: %(title)s") % {
            "portal": settings.LABEL or "Beidou",
            "severity": severities[worst],
            "title": lines[0]["title"],
        }
        text = _one(lines[0])
    else:
        subject = ngettext(
            "[%(portal)s] %(count)d notice, the worst: %(severity)s",
            "[%(portal)s] %(count)d notices, the worst: %(severity)s",
            total,
        ) % {
            "portal": settings.LABEL or "Beidou",
            "count": total,
            "severity": severities[worst],
        }
        text = _many(content, lines, names, total)
    return Message(
        key=key,
        severity=worst,
        subject=subject,
        text=text,
        data={
            "id": key,
            "portal": settings.PUBLIC_URL,
            "severity": worst,
            "count": total,
            "subject": subject,
            "text": text,
            "counts": [
                {
                    "kind": row[0],
                    "severity": row[1],
                    "cluster": names.get(row[2]),
                    "count": row[4],
                }
                for row in _largest(content)
            ],
            "notices": lines,
        },
    )


def _largest(content: Mapping[str, Any]) -> list[Any]:
    return sorted(content["counts"], key=lambda row: (-_rank(row[1]), -row[4]))[:COUNTS]


def _spoken(line: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """One notice as the webhook sends it."""
    return {
        "id": line["id"],
        "at": line["at"],
        "kind": line["kind"],
        "severity": line["severity"],
        "title": _now(line["title"]),
        "details": _now(line["details"]),
        "cluster": names.get(line["cluster"]),
        "link": link(line["type"], line["object"]),
    }


def _now(text: str) -> str:
    return str(text.now()) if isinstance(text, Sentence) else text


def _one(line: Mapping[str, Any]) -> str:
    moment = timezone.localtime(datetime.fromisoformat(line["at"]))
    parts = [line["title"], line["details"], ""]
    if line["cluster"]:
        parts.append(_("Cluster: %(name)s") % {"name": line["cluster"]})
    parts.append(_("Time: %(time)s") % {"time": f"{moment:%Y-%m-%d %H:%M:%S %Z}"})
    parts.append(line["link"] or settings.PUBLIC_URL)
    return "\n".join(part for position, part in enumerate(parts) if part or position == 2)


def _many(
    content: Mapping[str, Any],
    lines: list[dict[str, Any]],
    names: Mapping[int, str],
    total: int,
) -> str:
    parts = []
    for kind, _severity, cluster, _team, number in _largest(content):
        what = news.label_of(kind)
        parts.append(f"{number} × {what}" + (f" ({names[cluster]})" if cluster in names else ""))
    left = len(content["counts"]) - COUNTS
    if left > 0:
        parts.append(
            ngettext("… and %(count)d more line", "… and %(count)d more lines", left)
            % {"count": left}
        )
    parts += ["", _("The first of the worst:")]
    for line in lines:
        moment = timezone.localtime(datetime.fromisoformat(line["at"]))
        parts.append(f"{moment:%H:%M:%S}  {line['title']}")
        if line["link"]:
            parts.append(f"          {line['link']}")
    if total > len(lines):
        parts += ["", _("All of them: %(link)s") % {"link": list_link()}]
    return "\n".join(parts)


def link(object_type: str, object_id: str) -> str:
    """The page of an object, for people outside; empty where it has none."""
    place = links.address_of(object_type, object_id)
    return f"{settings.PUBLIC_URL}{place}" if place else ""


def list_link() -> str:
    return str(settings.PUBLIC_URL + reverse("admin:base_notice_changelist"))
