from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MachinesConfig(AppConfig):
    name = "machines"
    verbose_name = _("Machines")

    def ready(self) -> None:
        from beidou.base import notices, tasks
        from clusters.services import removal
        from machines.services import facts, unadoption

        notices.register(notices.Kind("machine.host_key_changed", _("Host key changed")))
        removal.register_consequence(unadoption.consequences)
        removal.register_follower(unadoption.unlink)
        tasks.register(
            tasks.Periodic(
                "machines: follow nodes",
                "machines.tasks.follow_nodes",
                1,
                "links machines to nodes that come and go, and follows their cordons",
            ),
            tasks.Periodic(
                "machines: stale facts",
                "machines.tasks.gather_stale_facts",
                facts.STALE_EVERY_MINUTES,
                "visits machines whose facts are older than a day",
            ),
        )
