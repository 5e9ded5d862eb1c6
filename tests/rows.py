"""One row of any model in a given cluster, so that rights are tested for models to come as well.

``model_bakery`` fills the fields that must be filled; the way to the cluster is the model's own
``access``.  A model that needs more than that has an entry in ``MAKERS``.
"""

import itertools
from collections.abc import Callable
from datetime import time
from typing import Any

from django.contrib.auth.models import Group
from django.db import models
from django.utils import timezone
from model_bakery import baker

from beidou.base import audit
from beidou.base.models import ApiToken, AuditEntry, Notice, User
from beidou.base.permissions import access_of
from clusters.models import Cluster, ClusterGrant, Node
from events.models import Event
from machines.models import Machine, SshCredential
from notifications.models import Delivery, Receiver
from operations.flows.models import AutoOperationTask
from operations.models import (
    Freeze,
    MaintenanceWindow,
    Operation,
    PlaybookSource,
    SitePlaybook,
    SiteSystem,
    SourceRevision,
    TaskSchedule,
    TaskTemplate,
)
from tests import factories

_numbers = itertools.count(1)

MAKERS: dict[type[models.Model], Callable[[Cluster], models.Model]] = {
    Cluster: lambda cluster: cluster,
    Node: lambda cluster: factories.make_node(cluster),
    Machine: lambda cluster: factories.make_machine(cluster=cluster),
    SshCredential: lambda cluster: factories.make_credential(),
    ClusterGrant: lambda cluster: ClusterGrant.objects.create(
        team=factories.make_team(), cluster=cluster, role="viewer"
    ),
    Operation: lambda cluster: baker.make(
        Operation, cluster=cluster, name=f"operation-{next(_numbers)}", kind="ScaleUp"
    ),
    MaintenanceWindow: lambda cluster: MaintenanceWindow.objects.create(
        cluster=cluster, weekdays=["sat"], start=time(22), minutes=240
    ),
    Freeze: lambda cluster: Freeze.objects.create(cluster=cluster, reason="a test"),
    AutoOperationTask: lambda cluster: baker.make(
        AutoOperationTask,
        cluster=cluster,
        name=f"task-{next(_numbers)}",
        template="ScaleUp",
        status="succeeded",
    ),
    TaskTemplate: lambda cluster: factories.make_task_template(),
    TaskSchedule: lambda cluster: TaskSchedule.objects.create(
        name=f"schedule-{next(_numbers)}", cluster=cluster, template="ScaleUp", cron="0 3 * * *"
    ),
    PlaybookSource: lambda cluster: factories.make_playbook_source(),
    SourceRevision: lambda cluster: factories.make_source_revision(),
    SitePlaybook: lambda cluster: factories.make_site_playbook(),
    Event: lambda cluster: factories.make_event(cluster),
    AuditEntry: lambda cluster: audit.record("change", cluster),
    Notice: lambda cluster: factories.make_notice(cluster=cluster),
    Receiver: lambda cluster: factories.make_receiver(),
    Delivery: lambda cluster: factories.make_delivery(),
    User: lambda cluster: factories.make_user(),
    Group: lambda cluster: factories.make_team(),
    ApiToken: lambda cluster: ApiToken.issue(user=factories.make_user(), name="robot")[0],
}


def _site_system(cluster: Cluster) -> SiteSystem:
    """A cluster has one for each purpose."""
    taken = set(cluster.site_systems.values_list("purpose", flat=True))
    free = [each for each in SiteSystem.Purpose.values if each not in taken]
    return SiteSystem.objects.create(
        cluster=cluster if free else factories.make_cluster(),
        purpose=free[0] if free else "network",
        url="https://site.example/hook",
        secret="sixteen letters at least",
    )


MAKERS[SiteSystem] = _site_system


def make_row(model: type[models.Model], cluster: Cluster) -> Any:
    """A new row of ``model`` that belongs to ``cluster`` as far as its rights say so."""
    if model in MAKERS:
        return MAKERS[model](cluster)
    access = access_of(model)
    if access.cluster and "__" not in access.cluster:
        one_each = model._meta.get_field(access.cluster).one_to_one
        if one_each and model._default_manager.filter(**{access.cluster: cluster}).exists():
            cluster = factories.make_cluster()
    values: dict[str, Any] = {access.cluster: cluster} if access.cluster else {}
    for field in model._meta.concrete_fields:
        if isinstance(field, models.DateTimeField) and field.null:
            values.setdefault(field.name, timezone.now())
    return baker.make(model, **values)


def belongs_to_a_cluster(model: type[models.Model]) -> bool:
    return access_of(model).cluster is not None
