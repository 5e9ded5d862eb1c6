"""Finding playbooks: what a person may run, and what an operation was begun with."""

from typing import Any

from django.db.models import Q, QuerySet

from beidou.base import permissions
from beidou.base.errors import PermanentError
from clusters.models import Cluster
from operations.models import Operation
from operations.playbooks.declaration import Playbook
from operations.playbooks.models import PlaybookRun, SitePlaybook, SourceRevision, read


def offered(user: Any) -> QuerySet[SitePlaybook]:
    """Those that ``user`` may run somewhere, as far as teams say so."""
    rows = SitePlaybook.objects.filter(SitePlaybook.OFFERED).select_related("source__released")
    rows = rows.defer("source__secret", "source__released__archive")
    if not user.is_superuser:
        rows = rows.filter(
            Q(source__teams=None) | Q(source__teams__in=user.groups.values("pk"))
        ).distinct()
    return rows.order_by("source__name", "name")


def find(reference: str, rows: QuerySet[SitePlaybook]) -> SitePlaybook | None:
    source, _slash, name = reference.partition("/")
    return rows.filter(source__name=source, name=name).first()


def may_run(user: Any, cluster: Cluster, playbook: Playbook) -> bool:
    return permissions.may(user, cluster, playbook.permission)


def declared(reference: str, content: str) -> Playbook | None:
    """The playbook as that content (a digest) of its source declares it; None where that is not
    there, ``PermanentError`` where this version of the portal cannot read it."""
    source, _slash, name = reference.partition("/")
    rows = SourceRevision.objects.filter(source__name=source, digest=content)
    declarations = rows.order_by("-pk").values_list("declaration", flat=True)
    for declaration in declarations:
        for each in declaration.get("playbooks", []):
            if each.get("name") == name:
                return read(Playbook, each)
    return None


def declared_if_readable(reference: str, content: str) -> Playbook | None:
    """To tell of what was begun: None also for what this version cannot read."""
    try:
        return declared(reference, content)
    except PermanentError:
        return None


def run_of(operation: Operation) -> PlaybookRun | None:
    rows = PlaybookRun.objects.select_related("revision__source")
    return rows.filter(operation=operation).defer("revision__source__secret").first()
