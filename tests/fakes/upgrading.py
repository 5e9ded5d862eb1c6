"""A cluster of kubeadm that can be upgraded: versions, static pods, what clients have asked for.

What happens on its hosts is up to the test; ``upgrade("c1", apply=True)`` is what kubeadm does.
"""

from typing import Any

from tests.fakes import kube_objects
from tests.fakes.emptying import EmptyingCluster, Item
from tests.fakes.kube_api import Answer, Reply, Request, status_reply

OLD, NEW = "v1.35.4", "v1.36.3"
_KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
_PROXY = "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy"
_STATIC = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


class UpgradingCluster(EmptyingCluster):
    """``metrics`` is what the API server counts, None when we may not read it; ``served`` are old
    APIs that it has."""

    def __init__(self) -> None:
        super().__init__(is_hasty=True)
        self.version = self.kubeadm_version = self.proxy_version = OLD
        self.metrics: str | None = ""
        self.served: set[str] = set()
        self.has_proxy = True
        self.sick: set[str] = set()

    def add(self, name: str, *, is_plane: bool = False, version: str = OLD) -> None:
        self.add_node(name)
        self.nodes[name]["status"]["nodeInfo"]["kubeletVersion"] = version
        if is_plane:
            self.nodes[name]["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = ""
            for part in (*_STATIC, "etcd"):
                self._add_static(part, name, version)

    def _add_static(self, part: str, node: str, version: str) -> None:
        pod = kube_objects.pod(f"{part}-{node}", namespace="kube-system", node_name=node)
        pod["metadata"]["ownerReferences"] = []
        pod["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
        pod["spec"]["containers"][0]["image"] = f"registry.k8s.io/{part}:{version}"
        self.pods["kube-system", f"{part}-{node}"] = pod | {"starts": 0.0, "ends": 0.0}

    def upgrade(self, name: str, *, apply: bool = False, kubelet: bool = True) -> None:
        if "node-role.kubernetes.io/control-plane" in self.nodes[name]["metadata"]["labels"]:
            for part in _STATIC:
                self._add_static(part, name, NEW)
        if apply:
            self.version = self.kubeadm_version = NEW
        if self._apis() == {NEW}:  # with the last control plane, as kubeadm has it
            self.proxy_version = NEW
        if kubelet:
            self.nodes[name]["status"]["nodeInfo"]["kubeletVersion"] = NEW

    def _apis(self) -> set[str]:
        images = [
            pod["spec"]["containers"][0]["image"]
            for (_namespace, name), pod in self.pods.items()
            if name.startswith("kube-apiserver-")
        ]
        return {image.rpartition(":")[2] for image in images}

    def kubelets(self) -> dict[str, str]:
        return {
            name: item["status"]["nodeInfo"]["kubeletVersion"] for name, item in self.nodes.items()
        }

    def cordoned(self) -> set[str]:
        return {name for name, item in self.nodes.items() if item["spec"].get("unschedulable")}

    def marked(self) -> set[str]:
        return {
            name
            for name, item in self.nodes.items()
            if any(label.startswith("beidou.io/upgrad") for label in item["metadata"]["labels"])
        }

    # --- the API ----------------------------------------------------------------------------------

    def _route(self, request: Request) -> Answer | None:
        if request.path == "/version":
            return Reply({"gitVersion": self.version, "major": "1", "minor": "35"})
        if request.path == "/metrics":
            return status_reply(403, "no") if self.metrics is None else Reply(self.metrics)
        if request.path in ("/readyz", "/livez"):
            return Reply("[-]etcd failed: gone\n" if "etcd" in self.sick else "[+]etcd ok\n")
        if request.path == _KUBEADM:
            return Reply(
                {"data": {"ClusterConfiguration": f"kubernetesVersion: {self.kubeadm_version}"}}
            )
        if request.path == _PROXY:
            return self._proxy()
        if request.path.startswith("/apis/") and request.path.removeprefix("/apis/") in self.served:
            return Reply({"kind": "APIResourceList"})
        return super()._route(request)

    def _proxy(self) -> Answer:
        if not self.has_proxy:
            return status_reply(404, "daemonsets.apps not found")
        image = f"registry.k8s.io/kube-proxy:{self.proxy_version}"
        spec = {"template": {"spec": {"containers": [{"image": image}]}}}
        return Reply({"metadata": {"name": "kube-proxy"}, "spec": spec})

    def _node(self, request: Request, name: str) -> Answer:
        item = self.nodes.get(name)
        labels: dict[str, Any] = {}
        if item is not None and request.method == "PATCH":
            labels = request.body.get("metadata", {}).get("labels", {})
            merged = item["metadata"]["labels"] | labels
            item["metadata"]["labels"] = {k: v for k, v in merged.items() if v is not None}
            if "spec" not in request.body:
                return Reply(body=item)
        return super()._node(request, name)

    def _pod(self, request: Request, namespace: str, name: str, eviction: str | None) -> Answer:
        if request.method == "GET" and (namespace, name) in self.pods:
            return Reply(self.pods[namespace, name])
        return super()._pod(request, namespace, name, eviction)

    def _workload(
        self, request: Request, namespace: str | None, plural: str, name: str | None
    ) -> Answer:
        for (_kind, app), item in self.workloads.items():
            item["status"] = {"readyReplicas": self._ready_of(app.removesuffix("-rs"))}
        if plural == "daemonsets":
            return status_reply(404, "no")
        return super()._workload(request, namespace, plural, name)

    def _ready_of(self, app: str) -> int:
        own: list[Item] = self._of(app)
        return sum(pod["status"]["conditions"][0]["status"] == "True" for pod in own)
