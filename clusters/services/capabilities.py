"""The capability report: which features will work with a cluster's credential, and why not.

One table says what each feature needs.  The cluster itself answers (SelfSubjectAccessReview, which
changes nothing there).  Stored is what is missing and the RBAC objects that would mend it; the
sentence is made when it is shown, in the reader's language.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from beidou.base.errors import PermanentError
from clusters.drivers.answers import Access, AccessAnswer, Identity
from clusters.drivers.kubernetes import KubernetesClient

RBAC_NAME = "beidou"
SERVICE_ACCOUNT = "system:serviceaccount:"


def _allow(
    verbs: str, resource: str, *, group: str = "", namespace: str = "", subresource: str = ""
) -> tuple[Access, ...]:
    return tuple(
        Access(
            verb=verb,
            resource=resource,
            group=group,
            namespace=namespace,
            subresource=subresource,
        )
        for verb in verbs.split()
    )


@dataclass(frozen=True)
class Capability:
    """One feature and all that it needs.

    ``kubeadm``: it also needs kubeadm's ConfigMaps.  ``planned``: a later version will have it;
    its rights are looked at already, and it counts for nothing.
    """

    key: str
    label: Promise
    accesses: tuple[Access, ...]
    kubeadm: bool = field(default=False)
    planned: bool = field(default=False)


_OWNERS = ("deployments", "statefulsets", "replicasets")
_WORKLOADS = ("deployments", "statefulsets", "daemonsets", "replicasets")

CAPABILITIES = (
    Capability(
        "inventory",
        gettext_lazy("Inventory of nodes and pods"),
        (*_allow("list watch", "nodes"), *_allow("list watch", "pods")),
    ),
    Capability(
        "components",
        gettext_lazy("Component health and workload counts"),
        (
            *_allow("list", "pods", namespace="kube-system"),
            *_allow("get", "leases", group="coordination.k8s.io", namespace="kube-system"),
            *_allow("list", "namespaces"),
            *_allow("list", "services"),
            *_allow("list", "deployments", group="apps"),
            *_allow("list", "statefulsets", group="apps"),
            *_allow("list", "daemonsets", group="apps"),
            *_allow("list", "jobs", group="batch"),
        ),
    ),
    Capability("cordon", gettext_lazy("Cordon and uncordon nodes"), _allow("get patch", "nodes")),
    Capability(
        "scale_up",
        gettext_lazy("Bring machines in (ScaleUp)"),
        (
            *_allow("create delete", "secrets", namespace="kube-system"),
            *_allow("get", "configmaps", namespace="kube-system"),
            *_allow("get", "configmaps", namespace="kube-public"),
            *_allow("get list patch", "nodes"),
            *_allow("create get delete", "pods", namespace="kube-system"),
        ),
        kubeadm=True,
    ),
    Capability(
        "health_check",
        gettext_lazy("Check nodes with test pods (HealthCheck)"),
        (
            *_allow("list", "nodes"),
            *_allow("list", "pods"),
            *_allow("get", "daemonsets", group="apps", namespace="kube-system"),
            *_allow("create list delete", "pods", namespace="kube-system"),
        ),
    ),
    Capability(
        "drain",
        gettext_lazy("Drain nodes by eviction"),
        (
            *_allow("list", "pods"),
            *_allow("create", "pods", subresource="eviction"),
            *_allow("list", "poddisruptionbudgets", group="policy"),
            *_allow("patch", "nodes"),
        ),
    ),
    Capability(
        "scale_down",
        gettext_lazy("Take machines out (ScaleDown)"),
        (
            *_allow("get list patch delete", "nodes"),
            *_allow("list", "pods"),
            *_allow("create", "pods", subresource="eviction"),
            *_allow("list", "poddisruptionbudgets", group="policy"),
            *(access for kind in _OWNERS for access in _allow("get list", kind, group="apps")),
            *_allow("get list", "replicationcontrollers"),
            *_allow("get", "configmaps", namespace="kube-system"),
            *_allow("get", "configmaps", namespace="kube-public"),
        ),
        kubeadm=True,
    ),
    Capability(
        "upgrade",
        gettext_lazy("Upgrade the cluster (UpgradeCluster)"),
        (
            *_allow("get list patch", "nodes"),
            *_allow("list", "pods"),
            *_allow("get", "pods", namespace="kube-system"),
            *_allow("create", "pods", subresource="eviction"),
            *_allow("list", "poddisruptionbudgets", group="policy"),
            *(access for kind in _OWNERS for access in _allow("get list", kind, group="apps")),
            *_allow("get list", "replicationcontrollers"),
            *_allow("get", "daemonsets", group="apps", namespace="kube-system"),
            *_allow("get", "configmaps", namespace="kube-system"),
            *_allow("get", "configmaps", namespace="kube-public"),
        ),
        kubeadm=True,
    ),
    Capability(
        "past_budgets",
        gettext_lazy("Get past disruption budgets: another copy, or deletion"),
        (
            *(access for kind in _OWNERS for access in _allow("patch", kind, group="apps")),
            *_allow("delete", "pods"),
        ),
    ),
    Capability("delete_nodes", gettext_lazy("Remove nodes"), _allow("delete", "nodes")),
    Capability("events", gettext_lazy("Events"), _allow("list watch", "events")),
    Capability(
        "inspection",
        gettext_lazy("Inspections"),
        (
            *_allow("list", "nodes"),
            *_allow("list", "pods"),
            *_allow("list", "services"),
            *_allow("list", "endpoints"),
            *_allow("list", "persistentvolumes"),
            *_allow("list", "persistentvolumeclaims"),
            *(access for kind in _WORKLOADS for access in _allow("list", kind, group="apps")),
            *_allow("list", "poddisruptionbudgets", group="policy"),
        ),
        planned=True,
    ),
    Capability(
        "deploy",
        gettext_lazy("Deploy applications with Helm"),
        (
            *_allow("get list create update delete", "secrets"),
            *_allow("get list create patch delete", "configmaps"),
            *_allow("get list create patch delete", "services"),
            *_allow("create patch delete", "serviceaccounts"),
            *_allow("create", "namespaces"),
            *_allow("get list create patch delete", "deployments", group="apps"),
            *_allow("get list create patch delete", "statefulsets", group="apps"),
            *_allow("create delete", "jobs", group="batch"),
        ),
        planned=True,
    ),
)
PLANNED = frozenset(item.key for item in CAPABILITIES if item.planned)
LABELS: dict[str, Promise] = {item.key: item.label for item in CAPABILITIES}


def report(client: KubernetesClient, identity: Identity) -> list[dict[str, Any]]:
    """One JSON row per feature: ``key``, ``ok``, ``missing``, ``trouble`` and ``rbac``.

    ``trouble`` is what the cluster answered where nothing is missing and it will not work all the
    same; see ``why`` for the sentence.
    ExternalError when the cluster does not answer the questions at all.
    """
    wanted = list(dict.fromkeys(access for item in CAPABILITIES for access in item.accesses))
    answers = {answer.access: answer for answer in client.can_i(wanted)}
    return [_row(item, answers, client, identity) for item in CAPABILITIES]


def _row(
    item: Capability,
    answers: dict[Access, AccessAnswer],
    client: KubernetesClient,
    identity: Identity,
) -> dict[str, Any]:
    missing = [access for access in item.accesses if not answers[access].is_allowed]
    trouble = _kubeadm_trouble(client) if item.kubeadm and not missing else ""
    return {
        "key": item.key,
        "ok": not missing and not trouble,
        "missing": [str(access) for access in missing],
        "trouble": trouble,
        "rbac": rbac_snippet(item.accesses, identity, of=item.key) if missing else "",
    }


def why(row: Mapping[str, Any]) -> str:
    """Why the feature of a stored row will not work, as a sentence; empty when it will."""
    if missing := row.get("missing"):
        return ngettext(
            "The credential may not %(what)s.", "The credential may not: %(what)s.", len(missing)
        ) % {"what": ", ".join(missing)}
    if trouble := row.get("trouble"):
        return _("The cluster does not look like one of kubeadm: %(why)s") % {"why": trouble}
    return ""


def shown(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stored rows with ``label`` and ``why`` in the reader's language; what is planned, last."""
    told = [
        {
            **row,
            "label": str(LABELS.get(row["key"], row["key"])),
            "why": why(row),
            "planned": row["key"] in PLANNED,
        }
        for row in rows
    ]
    return sorted(told, key=lambda row: bool(row["planned"]))


def present(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those rows whose feature this version has."""
    return [row for row in rows if row["key"] not in PLANNED]


def _kubeadm_trouble(client: KubernetesClient) -> str:
    """Joining reads what kubeadm left behind; clusters made otherwise have none of it."""
    try:
        client.kubelet_config()
        client.cluster_info()
    except PermanentError as error:
        return error.message
    return ""


def summary(rows: Iterable[dict[str, Any]]) -> str:
    """``8 of 10 features will work; not: …``, of the features that this version has."""
    listed = present(rows)
    bad = [str(LABELS.get(row["key"], row["key"])) for row in listed if not row["ok"]]
    text = _("%(good)d of %(all)d features will work") % {
        "good": len(listed) - len(bad),
        "all": len(listed),
    }
    return text + (_("; not: %(bad)s") % {"bad": ", ".join(bad)} if bad else "") + "."


# --- what would mend it -------------------------------------------------------------------------


def rbac_snippet(accesses: Sequence[Access], identity: Identity, *, of: str = "") -> str:
    """YAML that grants ``accesses``: a ClusterRole, or a Role per namespace.

    Called after the feature, and with all that it needs: applied, it takes nothing away from what
    was applied for another feature, or for this one before.
    """
    name = "-".join([RBAC_NAME, *of.split("_")]).rstrip("-")
    documents: list[dict[str, Any]] = []
    for namespace in dict.fromkeys(access.namespace for access in accesses):
        own = [access for access in accesses if access.namespace == namespace]
        documents += _role_and_binding(own, name, namespace, identity)
    return yaml.safe_dump_all(documents, sort_keys=False)


def _role_and_binding(
    accesses: Sequence[Access], name: str, namespace: str, identity: Identity
) -> list[dict[str, Any]]:
    kind = "Role" if namespace else "ClusterRole"
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    api = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{api}/v1", "kind": kind, "metadata": metadata, "rules": _rules(accesses)},
        {
            "apiVersion": f"{api}/v1",
            "kind": f"{kind}Binding",
            "metadata": dict(metadata),
            "roleRef": {"apiGroup": api, "kind": kind, "name": name},
            "subjects": [_subject(identity.username)],
        },
    ]


def _rules(accesses: Sequence[Access]) -> list[dict[str, Any]]:
    """One rule per resource with all its verbs."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for access in accesses:
        name = f"{access.resource}/{access.subresource}" if access.subresource else access.resource
        verbs.setdefault((access.group, name), []).append(access.verb)
    return [
        {"apiGroups": [group], "resources": [resource], "verbs": list(dict.fromkeys(names))}
        for (group, resource), names in verbs.items()
    ]


def _subject(username: str) -> dict[str, str]:
    if username.startswith(SERVICE_ACCOUNT):
        namespace, _colon, name = username.removeprefix(SERVICE_ACCOUNT).partition(":")
        return {"kind": "ServiceAccount", "namespace": namespace, "name": name}
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": username}
