from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ClustersConfig(AppConfig):
    name = "clusters"
    verbose_name = _("Clusters")

    def ready(self) -> None:
        from beidou.base import tasks

        tasks.register(
            tasks.Periodic(
                "clusters: derive rights",
                "clusters.services.grants.derive_all",
                30,
                "mends rights on clusters that do not follow from the grants",
            )
        )
