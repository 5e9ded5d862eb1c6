"""What the machine's page shows: three columns side by side, the host key, the timeline."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from beidou.base import permissions
from beidou.base.page_head import buttons, lines
from machines import timeline
from machines.models import Drift, Machine, MachineFacts
from machines.services import drift, host_keys, lifecycle, observed


@dataclass(frozen=True)
class Row:
    """One field as it is meant, as the system says, as Kubernetes says."""

    label: str
    intended: str
    seen: str
    reported: str
    drift: Drift | None
    is_reported_differently: bool


def context(request: HttpRequest, machine: Machine) -> dict[str, Any]:
    """Everything of the page but the form."""
    facts = MachineFacts.objects.filter(machine=machine).first()
    chosen = [kind for kind in request.GET.getlist("show") if kind]
    may_operate = permissions.may(request.user, machine, permissions.OPERATE)
    return {
        "machine": machine,
        "facts": facts,
        "rows": _rows(machine, facts),
        "addresses": machine.addresses.all()[:50],
        "host_key": host_keys.fingerprint(machine.host_key),
        "offered_host_key": host_keys.fingerprint(machine.offered_host_key),
        "blocked": host_keys.blocked_reason(machine),
        "held": lifecycle.held_by(machine),
        "offers": lifecycle.offers(machine) if may_operate else [],
        "buttons": buttons.of(machine, request.user),
        "lines": lines.of(machine, request.user),
        "may_operate": may_operate,
        "may_change": permissions.may(request.user, machine, permissions.CHANGE),
        "kinds": timeline.kinds(),
        "chosen_kinds": chosen,
        "entries": timeline.entries(machine, request.user, only=chosen),
    }


def _rows(machine: Machine, facts: MachineFacts | None) -> list[Row]:
    found = drift.facts_of(facts) if facts else None
    seen = observed.from_facts(found) if found else {}
    reported = observed.from_node(machine.node) if machine.node else {}
    drifts = {row.field: row for row in machine.drift.all()}
    rows = []
    for field in Drift.FIELDS:
        intended = drift.intended_text(machine, field)
        said = reported.get(field, "")
        rows.append(
            Row(
                label=str(Machine._meta.get_field(field).verbose_name),  # type: ignore[union-attr]
                intended=intended,
                seen=seen.get(field, ""),
                reported=said,
                drift=drifts.get(field),
                is_reported_differently=bool(
                    intended and said and not observed.agree(field, intended, said)
                ),
            )
        )
    return rows


def title(machine: Machine) -> str:
    return _("Machine %(machine)s") % {"machine": machine}
