from django.apps import AppConfig
from django.db.models.signals import pre_delete
from django.utils.translation import gettext_lazy as _


class ClustersConfig(AppConfig):
    name = "clusters"
    verbose_name = _("Clusters")

    def ready(self) -> None:
        from beidou.base import notices, tasks
        from clusters.models import ClusterGrant
        from clusters.services import grants, news

        pre_delete.connect(
            grants.gone_with_team, sender=ClusterGrant, dispatch_uid="beidou-grant-gone-with-team"
        )
        notices.register(
            notices.Kind(news.UNREACHABLE, _("Cluster unreachable")),
            notices.Kind(news.RECOVERED, _("Cluster reachable again")),
            notices.Kind(news.CREDENTIAL, _("Credential expires")),
            notices.Kind(news.CERTIFICATE, _("Certificate expires")),
        )
        tasks.register(
            tasks.Periodic(
                "clusters: tell of health",
                "clusters.tasks.tell_health",
                1,
                "tells of clusters that stay away, and of those that stay back",
            ),
            tasks.Periodic(
                "clusters: tell of ends",
                "clusters.tasks.tell_expiry",
                60,
                "tells of credentials and certificates that expire soon",
            ),
            tasks.Periodic(
                "clusters: derive rights",
                "clusters.services.grants.derive_all",
                30,
                "mends rights on clusters that do not follow from the grants",
            ),
        )
