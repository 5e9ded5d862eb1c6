"""What the apps below ask of tasks: why a machine or a cluster must be kept."""

from collections.abc import Collection

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from clusters.models import Cluster
from operations.flows.models import AutoOperationTask, TaskMachine
from operations.flows.schedules.models import TaskSchedule

NAMED_AT_MOST = 3


def why_machines_stay(keys: Collection[int]) -> list[str]:
    members = TaskMachine.objects.filter(machine__in=keys, holds_machine=True)
    return [
        _("%(machine)s cannot be deleted while task %(name)s works with it.")
        % {"machine": member.machine, "name": member.task.name}
        for member in members.select_related("machine", "task").order_by("machine__address_key")
    ]


def why_cluster_is_held(cluster: Cluster) -> list[str]:
    active = AutoOperationTask.objects.filter(cluster=cluster, status__in=AutoOperationTask.ACTIVE)
    names = list(active.order_by("pk").values_list("name", flat=True)[:NAMED_AT_MOST])
    if not names:
        return []
    return [
        _("Tasks are active on the cluster: %(names)s. Let them end, or cancel them.")
        % {"names": ", ".join(names)}
    ]


def what_goes_with_cluster(cluster: Cluster) -> list[str]:
    count = TaskSchedule.objects.filter(cluster=cluster).count()
    if not count:
        return []
    return [
        ngettext(
            "%(count)d schedule of tasks is removed.",
            "%(count)d schedules of tasks are removed.",
            count,
        )
        % {"count": count}
    ]
