"""Valid rows with one line; every argument can be overridden."""

import itertools
import json
import zlib
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.utils import timezone
from guardian.shortcuts import assign_perm

from beidou.base.models import Notice, User
from beidou.base.permissions import ROLES
from clusters.models import Cluster, ClusterGrant, Node
from events.models import AlertRule, Event, EventAlert, EventStream
from machines.models import Machine, SshCredential
from notifications.models import Delivery, NotificationRule, Receiver
from notifications.services import content
from operations.drivers import trees
from operations.models import PlaybookSource, SitePlaybook, SourceRevision, TaskTemplate

_numbers = itertools.count(1)


def make_user(name: str = "", *, teams: tuple[Group, ...] = (), **values: Any) -> User:
    values = {"is_staff": True, **values}
    user = User.objects.create_user(name or f"user-{next(_numbers)}", password="pw", **values)
    user.groups.set(teams)
    return user


def make_team(name: str = "") -> Group:
    return Group.objects.create(name=name or f"team-{next(_numbers)}")


def grant(team: Group, cluster: Cluster, role: str) -> ClusterGrant:
    """A grant as the grant page makes it, with guardian's rows derived."""
    row = ClusterGrant.objects.create(team=team, cluster=cluster, role=role)
    for action in ROLES[role]:
        assign_perm(f"clusters.{action}_cluster", team, cluster)
    return row


def give(team: Group, permission: str) -> None:
    """A model permission for a team, for example ``machines.add_machine``."""
    app, codename = permission.split(".")
    team.permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))


def make_cluster(name: str = "", **values: Any) -> Cluster:
    number = next(_numbers)
    return Cluster.objects.create(
        **{
            "name": name or f"cluster-{number}",
            "uid": f"uid-{number}",
            "server": f"https://127.0.0.1:{6443 + number}",
            "version": "v1.36.3",
            **values,
        }
    )


def make_node(cluster: Cluster, name: str = "", **values: Any) -> Node:
    number = next(_numbers)
    return Node.objects.create(
        **{
            "cluster": cluster,
            "name": name or f"node-{number}",
            "uid": f"node-uid-{number}",
            "internal_ip": f"10.1.{number // 250}.{number % 250 + 1}",
            "is_ready": True,
            "observed_at": timezone.now(),
            **values,
        }
    )


def make_event(cluster: Cluster, message: str = "", **values: Any) -> Event:
    """A minute old; ``object`` is the whole of it."""
    number = next(_numbers)
    seen = values.pop("last_seen", timezone.now() - timedelta(minutes=1))
    whole = values.pop("object", {"metadata": {"uid": f"event-{number}"}, "note": message})
    return Event.objects.create(
        **{
            "cluster": cluster,
            "uid": f"event-{number}",
            "version": number,
            "day": seen.date(),
            "first_seen": seen,
            "last_seen": seen,
            "count": 1,
            "type": "Normal",
            "reason": "Scheduled",
            "namespace": "shop",
            "kind": "Pod",
            "name": f"web-{number}",
            "message": message,
            "raw": zlib.compress(json.dumps(whole).encode()),
            **values,
        }
    )


def make_credential(name: str = "", **values: Any) -> SshCredential:
    return SshCredential.objects.create(
        **{"name": name or f"key-{next(_numbers)}", "password": "secret", **values}
    )


def make_machine(address: str = "", **values: Any) -> Machine:
    number = next(_numbers)
    return Machine.objects.create(
        **{
            "address": address or f"10.2.{number // 250}.{number % 250 + 1}",
            "hostname": f"host-{number}",
            "state": Machine.State.AVAILABLE,
            **values,
        }
    )


def make_notice(title: str = "", *, cluster: Cluster | None = None, **values: Any) -> Notice:
    return Notice.objects.create(
        **{
            "kind": "cluster.unreachable",
            "severity": Notice.Severity.CRITICAL,
            "title": title or f"notice {next(_numbers)}",
            "cluster_id": None if cluster is None else cluster.pk,
            **values,
        }
    )


def make_receiver(name: str = "", **values: Any) -> Receiver:
    return Receiver.objects.create(
        **{
            "name": name or f"receiver-{next(_numbers)}",
            "channel": Receiver.Channel.EMAIL,
            "addresses": "oncall@example.com",
            **values,
        }
    )


def make_rule(
    *receivers: Receiver, clusters: tuple[Cluster, ...] = (), **values: Any
) -> NotificationRule:
    rule = NotificationRule.objects.create(
        **{
            "name": f"rule-{next(_numbers)}",
            "severity": Notice.Severity.INFO,
            "scope": "chosen" if clusters else "all",
            **values,
        }
    )
    rule.receivers.set(receivers)
    rule.clusters.set(clusters)
    return rule


def make_delivery(receiver: Receiver | None = None, **values: Any) -> Delivery:
    about = content.of_notices([make_notice(routed_at=timezone.now())])
    return Delivery.objects.create(
        **{
            "receiver": receiver or make_receiver(),
            "content": about,
            "severity": content.severity(about),
            **values,
        }
    )


def make_playbook_source(**values: Any) -> PlaybookSource:
    name = f"source-{next(_numbers)}"
    return PlaybookSource.objects.create(
        **{"name": name, "kind": "folder", "location": f"/srv/{name}", **values}
    )


def make_source_revision(source: PlaybookSource | None = None) -> SourceRevision:
    entries = trees.checked([trees.Entry("greet.yml", trees.FILE, b"[]")])
    return SourceRevision.objects.create(
        source=source or make_playbook_source(),
        revision=f"{next(_numbers):040}",
        digest=trees.digest_of(entries),
        archive=trees.pack(entries),
        files=1,
        size=2,
        declaration={"version": 1, "playbooks": [_DECLARED]},
    )


_DECLARED = {"name": "greet", "playbook": "greet.yml", "title": "Greet"}


def make_task_template(name: str = "") -> TaskTemplate:
    row = TaskTemplate.objects.create(name=name or f"template-{next(_numbers)}", title="Ask first")
    content = {"title": "Ask first", "steps": [{"key": "ask", "step": "WorkOrder"}]}
    row.versions.create(number=1, content=content)
    return row


def make_site_playbook() -> SitePlaybook:
    return SitePlaybook.objects.create(
        source=make_playbook_source(), name="greet", title="Greet", declaration=_DECLARED
    )


def make_event_stream(cluster: Cluster, **values: Any) -> EventStream:
    return EventStream.objects.create(cluster=cluster, **values)


def make_event_alert(rule: AlertRule, cluster: Cluster | None, **values: Any) -> EventAlert:
    """One that fires, and began just now."""
    now = timezone.now()
    moments = {"since": now - rule.window, "began_at": now, "last_at": now}
    counts = {"count": rule.threshold, "peak": rule.threshold}
    return EventAlert.objects.create(
        rule=rule, cluster=cluster, **{"group_by": rule.group_by, **moments, **counts, **values}
    )


def make_alert_rule(owner: User, **values: Any) -> AlertRule:
    """Three events within ten minutes, for each cluster."""
    return AlertRule.objects.create(
        **{
            "name": f"alert-rule-{next(_numbers)}",
            "owner": owner,
            "owner_name": owner.get_username(),
            "threshold": 3,
            "window_minutes": 10,
            **values,
        }
    )
