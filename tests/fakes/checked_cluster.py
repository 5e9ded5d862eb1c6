"""A cluster whose nodes run test pods: an API server, and kubelets as well or ill as a test says.

The pods answer at once; what the asking ones reach is worked out from their own script::

    with CheckedCluster("n1", "n2") as api:
        api.cut.add("n2")  # its pods reach nobody, and nobody reaches them
"""

import re
from typing import Any

from tests.fakes import kube_objects
from tests.fakes.kube_api import Answer, FakeKubeApi, Reply, Request, list_reply, status_reply

Item = dict[str, Any]
_PODS = "/api/v1/namespaces/kube-system/pods"
_PEER = re.compile(r"try (p\d+) web (\S+):18080")


class CheckedCluster(FakeKubeApi):
    """Names of nodes: ``dead`` kubelets start nothing, ``refusing`` ones get no pod, ``cut`` ones
    have no pod network, ``clinging`` ones let no pod go, ``without_dns`` and ``without_service``
    say it.  ``asking_fails`` ends asking pods without a word, ``pulls`` is how a pull goes."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.nodes = {name: _node(name, at) for at, name in enumerate(names, start=1)}
        self.pods: dict[str, Item] = {}
        self.others: list[Item] = []
        self.made: list[Item] = []
        self.dead: set[str] = set()
        self.refusing: set[str] = set()
        self.cut: set[str] = set()
        self.clinging: set[str] = set()
        self.without_dns: set[str] = set()
        self.without_service: set[str] = set()
        self.asking_fails: set[str] = set()
        self.pulls = "StartError"
        self.hiccups = 0
        self.down = False
        self.has_kube_proxy = True

    def condition(self, node: str, kind: str, status: str) -> None:
        said = {"type": kind, "status": status, "reason": "Said", "message": "so"}
        kept = [c for c in self.nodes[node]["status"]["conditions"] if c["type"] != kind]
        self.nodes[node]["status"]["conditions"] = [*kept, said]

    def daemon_set_pod(self, name: str, node: str, *, ready: bool, namespace: str) -> None:
        item = kube_objects.pod(name, namespace=namespace, node_name=node)
        owner = {"kind": "DaemonSet", "name": name, "controller": True}
        item["metadata"]["ownerReferences"] = [owner]
        item["status"]["conditions"] = [{"type": "Ready", "status": str(ready)}]
        self.others.append(item)

    # --- the API ----------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            if self.down:
                return status_reply(503, "the server is shutting down")
            return self._route(request)

    def _route(self, request: Request) -> Answer:
        place = (request.method, request.path)
        if place == ("GET", "/version"):
            return Reply({"gitVersion": "v1.36.3", "major": "1", "minor": "36"})
        if place == ("GET", "/api/v1/nodes"):
            return list_reply(list(self.nodes.values()))
        if place == ("GET", "/api/v1/pods"):
            node = request.query["fieldSelector"].removeprefix("spec.nodeName=")
            return list_reply([p for p in self.others if p["spec"]["nodeName"] == node])
        if place == ("GET", "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy"):
            return Reply() if self.has_kube_proxy else status_reply(404, "not found")
        if place == ("POST", _PODS):
            return self._create(request.body)
        if place == ("GET", _PODS):
            return self._list(request.query["labelSelector"])
        if request.method == "DELETE" and request.path.startswith(f"{_PODS}/"):
            return self._delete(request)
        return status_reply(404, "the server could not find the requested resource")

    def _create(self, pod: Item) -> Answer:
        name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
        if node in self.refusing:
            return status_reply(403, "quota exceeded")
        if name in self.pods:
            return status_reply(409, "already exists", "AlreadyExists")
        self.made.append(pod)
        self.pods[name] = {**pod, "status": self._status(pod, node)}
        return Reply(self.pods[name], status=201)

    def _list(self, selector: str) -> Answer:
        if self.hiccups > 0:
            self.hiccups -= 1
            return status_reply(503, "try again")
        wanted = dict(part.split("=", 1) for part in selector.split(","))
        found = [p for p in self.pods.values() if wanted.items() <= p["metadata"]["labels"].items()]
        return list_reply(found)

    def _delete(self, request: Request) -> Answer:
        pod = self.pods.get(request.path.rsplit("/", 1)[1])
        if pod is None:
            return status_reply(404, "not found")
        is_forced = request.query["gracePeriodSeconds"] == "0"
        if is_forced or pod["spec"]["nodeName"] not in self.clinging:
            del self.pods[pod["metadata"]["name"]]
        return Reply()

    # --- the kubelets -----------------------------------------------------------------------------

    def _status(self, pod: Item, node: str) -> Item:
        (container,) = pod["spec"]["containers"]
        if node in self.dead:
            return {"phase": "Pending"}
        if container["imagePullPolicy"] == "Always":
            return _pulled(self.pulls)
        if "readinessProbe" in container:
            address = f"10.244.{list(self.nodes).index(node) + 1}.5"
            ready = [{"type": "Ready", "status": "True"}]
            return {"phase": "Running", "podIP": address, "conditions": ready}
        return self._asked(container["command"][-1], node)

    def _asked(self, script: str, node: str) -> Item:
        if node in self.asking_fails:
            return {"phase": "Failed", "message": "The node was low on resource: memory."}
        said = [word for word, address in _PEER.findall(script) if self._reaches(node, address)]
        if node not in self.without_dns:
            said.append("dns")
        if node not in self.without_service:
            said.append("service")
        ended = {"exitCode": 0, "message": "\n".join([*said, "end"])}
        state = {"name": "probe", "state": {"terminated": ended}}
        return {"phase": "Succeeded", "containerStatuses": [state]}

    def _reaches(self, node: str, address: str) -> bool:
        other = list(self.nodes)[int(address.split(".")[2]) - 1]
        return not {node, other} & self.cut


def _pulled(how: str) -> Item:
    if how == "StartError":
        ended = {"reason": how, "exitCode": 128, "message": "no such file"}
        state = {"name": "probe", "state": {"terminated": ended}}
        return {"phase": "Failed", "containerStatuses": [state]}
    waiting = {"name": "probe", "state": {"waiting": {"reason": how, "message": "no such host"}}}
    return {"phase": "Pending", "containerStatuses": [waiting]}


def _node(name: str, at: int) -> Item:
    item = kube_objects.node(name)
    item["status"]["addresses"] = [
        {"type": "InternalIP", "address": f"10.0.0.{at}"},
        {"type": "Hostname", "address": name},
    ]
    for kind in ("MemoryPressure", "DiskPressure", "PIDPressure"):
        item["status"]["conditions"].append({"type": kind, "status": "False"})
    return item
