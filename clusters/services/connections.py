"""From a stored credential to a client; the only place where a cluster's kubeconfig is read."""

from django.conf import settings

from beidou.base.errors import Conflict
from beidou.base.sentences import Sentence
from clusters.drivers import kubeconfig
from clusters.drivers.connection import Connection
from clusters.drivers.kubernetes import KubernetesClient
from clusters.models import Cluster, ClusterCredential


def connection_for(cluster: Cluster) -> Connection:
    """How to reach the cluster; Conflict without a credential, InvalidInput with an expired one."""
    credential = ClusterCredential.objects.filter(cluster=cluster).first()
    if credential is None or not credential.kubeconfig:
        raise Conflict(
            Sentence(
                "Cluster %(name)s has no credential; replace it on its page under Access.",
                name=cluster.name,
            ),
            code="no_credential",
        )
    return kubeconfig.parse(
        credential.kubeconfig,
        allow_insecure=settings.ALLOW_INSECURE_TLS and cluster.insecure_tls,
    )


def client_for(cluster: Cluster, *, timeout: float = 10) -> KubernetesClient:
    """A client for the cluster; use it in ``with``, and never while a list page is rendered."""
    return KubernetesClient(connection_for(cluster), cluster_name=cluster.name, timeout=timeout)
