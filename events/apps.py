from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class EventsConfig(AppConfig):
    name = "events"
    verbose_name = _("Events")

    def ready(self) -> None:
        from django.contrib.auth.models import Group
        from django.db.models.signals import pre_delete

        from beidou.base import notices, tasks
        from beidou.base.page_head import lines, parts
        from clusters.collector import further
        from clusters.models import Cluster, Node
        from clusters.services import removal
        from events import neighbours
        from events.collector.attached import EventCollector
        from events.services import alerting, namespaces, retention, streams
        from machines import timeline
        from machines.models import Machine
        from operations.models import Operation

        further.register(EventCollector)
        removal.register_consequence(retention.what_goes_with_cluster)
        removal.register_follower(namespaces.gone_with_cluster)
        removal.register_sweeper(retention.forget_soon)
        pre_delete.connect(
            namespaces.gone_with_team, sender=Group, dispatch_uid="beidou-namespaces-gone-with-team"
        )
        lines.register(Cluster, "events", neighbours.of_cluster)
        lines.register(Node, "events", neighbours.of_node)
        lines.register(Machine, "events", neighbours.of_machine)
        notices.register(
            notices.Kind(alerting.KIND, _("Alert on events")),
            notices.Kind(streams.SPOOL, _("Spool of events nearly full")),
            notices.Kind(retention.BEHIND, _("Old events are not deleted in time")),
        )
        timeline.register("event", _("Events"), "notifications", neighbours.timeline_entries)
        parts.register(Operation, "events", neighbours.of_operation)
        tasks.register(
            tasks.Periodic(
                "events: look for alerts",
                "events.tasks.look_for_alerts",
                1,
                "counts what each alert rule searches, and tells what began",
                queue=tasks.OUTSIDE,  # an event store that hangs must keep nothing else waiting
            ),
            tasks.Periodic(
                "events: forget old ones",
                "events.tasks.forget_old",
                60,
                "deletes events past their time, by way of the archive where there is one, and "
                "those of un-adopted clusters",
                queue=tasks.WORK,  # on a large store it lasts
            ),
            tasks.Periodic(
                "events: learn reasons",
                "events.tasks.learn_reasons",
                10,
                "notes which reasons each cluster gives, so that a new one is noticed",
                queue=tasks.OUTSIDE,
            ),
            tasks.Periodic(
                "events: label namespaces",
                "events.tasks.look_for_stale_labels",
                1,
                "has events on a server say which teams see them, after a namespace was granted or "
                "taken back",
            ),
        )
