from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OperationsConfig(AppConfig):
    name = "operations"
    verbose_name = _("Operations")

    def ready(self) -> None:
        from django_q.signals import post_spawn

        from beidou.base import callers, notices, tasks
        from beidou.base.page_head import buttons, lines
        from clusters.models import Cluster, Node
        from clusters.services import nodes, removal
        from machines import timeline
        from machines.models import Machine
        from machines.services import lifecycle, signing
        from machines.services import removal as machine_removal
        from operations import signals
        from operations.flows import (
            due,
            manifest,  # noqa: F401  registers its document
            parts,  # noqa: F401  registers itself
        )
        from operations.flows import neighbours as flow_neighbours
        from operations.flows import news as flow_news
        from operations.flows.kinds import (  # noqa: F401  likewise
            gate,
            notify,
            operation,
            task,
            wait,
            work_order,
        )
        from operations.flows.schedules import running
        from operations.kinds import (  # noqa: F401  register themselves
            clean_up,
            health_check,
            renew_certificates,
            scale_down,
            scale_up,
            uncordon_nodes,
        )
        from operations.kinds.add_control_plane import kind as add_control_plane  # noqa: F401
        from operations.kinds.create_cluster import kind as create_cluster  # noqa: F401
        from operations.kinds.delete_cluster import kind as delete_cluster  # noqa: F401
        from operations.kinds.network import kind as network  # noqa: F401
        from operations.kinds.remove_control_plane import kind as remove_control_plane  # noqa: F401
        from operations.kinds.run_playbook import kind as run_playbook  # noqa: F401
        from operations.kinds.upgrade_cluster import kind as upgrade_cluster  # noqa: F401
        from operations.outside import delivery
        from operations.services import cluster_settings, finish, neighbours, news, recovery

        timeline.register("operation", _("Operations"), "bolt", neighbours.timeline_entries)
        buttons.register(Machine, "operations", neighbours.buttons_of_machine)
        buttons.register(Cluster, "operations", neighbours.buttons_of_cluster)
        lines.register(Machine, "health", neighbours.last_health_check)
        lines.register(Node, "health", neighbours.last_health_check_of_node)
        lines.register(Cluster, "calendar", neighbours.calendar_of_cluster)
        lifecycle.register_blocker("operations", neighbours.why_machine_is_held)
        machine_removal.register_blocker("operations", neighbours.why_machines_stay)
        signing.register_fallback(cluster_settings.credentials_of_clusters)
        nodes.register_blocker(neighbours.why_node_stays_closed)
        nodes.register_hold(neighbours.what_changes_wait_for)
        removal.register_blocker(neighbours.why_cluster_is_held)
        machine_removal.register_blocker("tasks", flow_neighbours.why_machines_stay)
        removal.register_blocker(flow_neighbours.why_cluster_is_held)
        removal.register_consequence(neighbours.what_goes_with_cluster)
        removal.register_consequence(flow_neighbours.what_goes_with_cluster)
        removal.register_sweeper(neighbours.sweep_after_cluster)

        notices.register(
            notices.Kind(news.SUCCEEDED, _("Operation succeeded")),
            notices.Kind(news.PARTIAL, _("Operation failed in part")),
            notices.Kind(news.FAILED, _("Operation failed")),
            notices.Kind(news.WORKER_LOST, _("Worker lost")),
            notices.Kind(news.NEEDS_PERSON, _("Operation waits for a person")),
            notices.Kind(flow_news.ASKS, _("Task waits for an approval or an answer")),
            notices.Kind(flow_news.SUCCEEDED, _("Task succeeded")),
            notices.Kind(flow_news.PARTIAL, _("Task failed in part")),
            notices.Kind(flow_news.FAILED, _("Task failed")),
            notices.Kind(flow_news.SAYS, _("Message of a task")),
            notices.Kind(running.STOPPED, _("Schedule switched off")),
            notices.Kind(running.MISSED, _("Schedule could not begin its task")),
        )
        tasks.register(
            tasks.Periodic(
                name="operations: maintain",
                function="operations.tasks.maintain",
                minutes=1,
                why="Finds steps whose worker was lost and wakes what the queue forgot.",
            ),
            tasks.Periodic(
                name="operations: schedules of tasks",
                function="operations.tasks.run_schedules",
                minutes=1,
                why="Begins the tasks whose time has come.",
            ),
        )
        tasks.BUSY["operations: steps"] = finish.workers_are_busy
        tasks.LOOKS["operations: steps of tasks"] = due.DueSteps().look
        tasks.LOOKS["operations: questions to sites"] = delivery.sweep
        callers.ENDS["operations: steps"] = recovery.hand_back
        post_spawn.connect(signals.worker_spawned, dispatch_uid="operations-worker-spawned")
