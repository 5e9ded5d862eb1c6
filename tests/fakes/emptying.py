"""A cluster whose nodes can be emptied: an API server with the controllers that answer evictions.

Its time is simulated: ``sleep`` passes it and lets the controllers do their work, so that a drain
of minutes is tested in a moment; with ``is_hasty`` every request passes half a second::

    with EmptyingCluster() as api:
        api.add_node("n1"), api.add_node("n2")
        api.deploy("web", on=["n1", "n1"])
        …
        api.sleep(1)
"""

import itertools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fakes import kube_objects
from tests.fakes.kube_api import Answer, FakeKubeApi, Reply, Request, list_reply, status_reply

Item = dict[str, Any]
_APPS = re.compile(r"/apis/apps/v1/(?:namespaces/([^/]+)/)?(\w+)(?:/([^/]+))?")
_POD = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)(/eviction)?")
_POD_LIST = re.compile(r"/api/v1(?:/namespaces/([^/]+))?/pods")
_NODE = re.compile(r"/api/v1/nodes/([^/]+)")
_PLURALS = {"deployments": "Deployment", "statefulsets": "StatefulSet", "replicasets": "ReplicaSet"}
_BEGINNING = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class EmptyingCluster(FakeKubeApi):
    """``starts_after`` seconds until a new pod is ready; ``stubborn`` pods never end;
    ``down`` makes every request fail; ``on_tick`` is called whenever time passes."""

    def __init__(self, *, is_hasty: bool = False) -> None:
        super().__init__()
        self.is_hasty = is_hasty
        self.beginning = datetime.now(UTC) if is_hasty else _BEGINNING
        self.seconds = 0.0
        self.nodes: dict[str, Item] = {}
        self.pods: dict[tuple[str, str], Item] = {}
        self.workloads: dict[tuple[str, str], Item] = {}  # (kind, name), all in shop
        self.budgets: list[Item] = []
        self.starts_after = 1.0
        self.stubborn: set[str] = set()
        self.down = False
        self.deleted_past_budgets: list[str] = []
        self.evicted: list[str] = []
        self.most_away: dict[str, int] = {}
        self.on_tick: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)

    # --- time -------------------------------------------------------------------------------------

    def clock(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self.beginning + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.on_tick()
        self._end_pods()
        for (kind, name), workload in list(self.workloads.items()):
            if kind != "ReplicaSet":
                self._reconcile(name, workload)
        for pod in self.pods.values():
            if pod["starts"] <= self.seconds and pod["spec"].get("nodeName"):
                self._set_ready(pod, True)
        self._count_budgets()

    def _end_pods(self) -> None:
        for key, pod in list(self.pods.items()):
            ends = pod["metadata"].get("deletionTimestamp")
            if ends and pod["ends"] <= self.seconds and key[1] not in self.stubborn:
                del self.pods[key]

    def _reconcile(self, name: str, workload: Item) -> None:
        own = [p for p in self._of(name) if "deletionTimestamp" not in p["metadata"]]
        ready = sum(p["status"]["conditions"][0]["status"] == "True" for p in own)
        away = workload["spec"]["replicas"] - ready
        self.most_away[name] = max(self.most_away.get(name, 0), away)
        for _ in range(workload["spec"]["replicas"] - len(own)):
            self._add_copy(name, self._free_node())
        for pod in own[workload["spec"]["replicas"] :]:
            del self.pods[pod["metadata"]["namespace"], pod["metadata"]["name"]]

    def _free_node(self) -> str:
        free = [n for n, item in self.nodes.items() if not item["spec"].get("unschedulable")]
        return free[0] if free else ""

    def _count_budgets(self) -> None:
        for budget in self.budgets:
            apps = _apps_of(budget)
            replicas = sum(
                item["spec"]["replicas"]
                for (kind, name), item in self.workloads.items()
                if name in apps and kind != "ReplicaSet"
            )
            healthy = sum(
                p["status"]["conditions"][0]["status"] == "True"
                and "deletionTimestamp" not in p["metadata"]
                for app in apps
                for p in self._of(app)
            )
            wanted = budget["spec"].get("minAvailable")
            if wanted is None:
                wanted = replicas - budget["spec"]["maxUnavailable"]
            budget["status"] = {
                "disruptionsAllowed": max(healthy - wanted, 0),
                "currentHealthy": healthy,
                "desiredHealthy": wanted,
                "expectedPods": replicas,
            }

    # --- what there is ----------------------------------------------------------------------------

    def add_node(self, name: str, *, ready: str = "True", **labels: str) -> None:
        item = kube_objects.node(name, ready=ready)
        item["metadata"]["labels"] |= labels
        self.nodes[name] = item

    def deploy(self, name: str, on: list[str], *, kind: str = "Deployment", grace: int = 0) -> None:
        """A workload with one ready copy on each of these nodes."""
        selector = {"matchLabels": {"app": name}}
        spec = {"replicas": len(on), "selector": selector}
        self.workloads[kind, name] = _workload(kind, name, spec)
        if kind == "Deployment":
            owner = {"kind": kind, "name": name, "uid": f"uid-{kind}-{name}", "controller": True}
            self.workloads["ReplicaSet", f"{name}-rs"] = _workload(
                "ReplicaSet", f"{name}-rs", dict(spec), owner
            )
        self.workloads[kind, name]["grace"] = grace
        for node in on:
            self._set_ready(self._add_copy(name, node), True)

    def add_pod(self, name: str, on: str, *, owner: Item | None = None, **spec: Any) -> Item:
        pod = kube_objects.pod(name, namespace="shop", node_name=on, **spec)
        pod["metadata"]["uid"] = f"uid-{name}-{next(self._numbers)}"
        pod["metadata"]["ownerReferences"] = [owner] if owner else []
        pod |= {"starts": self.seconds, "ends": 0.0}
        self.pods["shop", name] = pod
        return pod

    def _add_copy(self, name: str, node: str) -> Item:
        kind = next(k for k, n in self.workloads if n == name and k != "ReplicaSet")
        owner_kind, owner_name = ("ReplicaSet", f"{name}-rs") if kind == "Deployment" else (
            kind, name)  # fmt: skip
        pod = self.add_pod(
            f"{name}-{next(self._numbers)}",
            node,
            owner={
                "kind": owner_kind,
                "name": owner_name,
                "uid": f"uid-{owner_kind}-{owner_name}",
                "controller": True,
            },
            terminationGracePeriodSeconds=self.workloads[kind, name]["grace"],
        )
        pod["metadata"]["labels"] = {"app": name}
        pod["starts"] = self.seconds + self.starts_after
        self._set_ready(pod, False)
        if not node:
            message = "0/1 nodes are available: 1 node(s) were unschedulable."
            pod["status"]["conditions"].append(
                {"type": "PodScheduled", "status": "False", "message": message}
            )
        return pod

    def budget(self, name: str, *others: str, **spec: Any) -> None:
        """A budget for the workload of the same name, and for ``others``."""
        chosen = {"key": "app", "operator": "In", "values": [name, *others]}
        self.budgets.append(
            {
                "metadata": {"name": f"{name}-budget", "namespace": "shop"},
                "spec": {"selector": {"matchExpressions": [chosen]}, **spec},
            }
        )
        self._count_budgets()

    def on_node(self, node: str) -> list[str]:
        return [key[1] for key, pod in self.pods.items() if pod["spec"].get("nodeName") == node]

    def replicas(self, name: str, kind: str = "Deployment") -> int:
        return int(self.workloads[kind, name]["spec"]["replicas"])

    def _of(self, app: str) -> list[Item]:
        return [p for p in self.pods.values() if p["metadata"].get("labels", {}).get("app") == app]

    def _set_ready(self, pod: Item, is_ready: bool) -> None:
        pod["status"]["conditions"] = [{"type": "Ready", "status": str(is_ready)}]
        pod["status"]["phase"] = "Running" if is_ready else "Pending"

    # --- the API ----------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        if self.down:
            return status_reply(503, "the server is shutting down")
        if self.is_hasty:
            self.sleep(0.5)
        routed = self._route(request)
        if routed is None:
            return super().answer(request)
        self.requests.append(request)
        return routed

    def _route(self, request: Request) -> Answer | None:
        if request.path == "/api/v1/nodes":
            return list_reply(list(self.nodes.values()))
        if request.path == "/apis/policy/v1/poddisruptionbudgets":
            return list_reply(self.budgets)
        if request.path in (
            "/api/v1/persistentvolumes",
            "/api/v1/replicationcontrollers",
            "/api/v1/namespaces",
        ):
            return list_reply([])
        for pattern, handler in (
            (_NODE, self._node),
            (_POD, self._pod),
            (_POD_LIST, self._pod_list),
            (_APPS, self._workload),
        ):
            if match := pattern.fullmatch(request.path):
                return handler(request, *match.groups())
        return None

    def _node(self, request: Request, name: str) -> Answer:
        item = self.nodes.get(name)
        if item is None:
            return status_reply(404, f'nodes "{name}" not found')
        if request.method == "DELETE":
            del self.nodes[name]
            for key in [key for key in self.pods if self.pods[key]["spec"]["nodeName"] == name]:
                del self.pods[key]
        if request.method == "PATCH":
            item["spec"] |= request.body.get("spec", {})
            item["metadata"]["labels"] |= request.body.get("metadata", {}).get("labels", {})
        return Reply(body=item)

    def _pod_list(self, request: Request, namespace: str | None) -> Answer:
        found = [p for p in self.pods.values() if namespace in (None, p["metadata"]["namespace"])]
        if node := request.query.get("fieldSelector", "").removeprefix("spec.nodeName="):
            found = [p for p in found if p["spec"].get("nodeName") == node]
        if app := re.fullmatch(r"app in \((.+)\)", request.query.get("labelSelector", "")):
            found = [p for p in found if p["metadata"].get("labels", {}).get("app") == app[1]]
        return list_reply(found)

    def _pod(self, request: Request, namespace: str, name: str, eviction: str | None) -> Answer:
        pod = self.pods.get((namespace, name))
        if pod is None:
            return status_reply(404, f'pods "{name}" not found')
        options = (request.body or {}).get("deleteOptions", request.body) or {}
        if options.get("preconditions", {}).get("uid") not in (None, pod["metadata"]["uid"]):
            return status_reply(409, "the UID in the precondition does not match")
        if eviction:
            if refusal := self._refusal(pod):
                return refusal
            self.evicted.append(name)
        else:
            self.deleted_past_budgets.append(name)
        grace = options.get("gracePeriodSeconds")
        if grace == 0:
            del self.pods[namespace, name]
        else:
            self.begin_end(pod, pod["spec"].get("terminationGracePeriodSeconds", 0))
        self._count_budgets()
        return Reply(status=201, body={"kind": "Status", "status": "Success"})

    def begin_end(self, pod: Item, grace: float) -> None:
        ends = self.now() + timedelta(seconds=grace)
        pod["metadata"].setdefault("deletionTimestamp", ends.isoformat())
        pod["ends"] = self.seconds + grace

    def _refusal(self, pod: Item) -> Reply | None:
        app = pod["metadata"].get("labels", {}).get("app")
        own = [b for b in self.budgets if app in _apps_of(b)]
        if len(own) > 1:
            return status_reply(500, "This pod has more than one PodDisruptionBudget, which …")
        if own and not own[0]["status"]["disruptionsAllowed"]:
            reply = status_reply(429, "Cannot evict pod as it would violate the budget.")
            reply.body["details"] = {"causes": [{"reason": "DisruptionBudget", "message": "no"}]}
            return reply
        return None

    def _workload(
        self, request: Request, namespace: str | None, plural: str, name: str | None
    ) -> Answer:
        if plural not in _PLURALS:
            return list_reply([])
        kind = _PLURALS[plural]
        if name is None:
            return list_reply([item for (k, _n), item in self.workloads.items() if k == kind])
        item = self.workloads.get((kind, name))
        if item is None:
            return status_reply(404, f"{plural} {name!r} not found")
        if request.method == "PATCH":
            metadata, sent = item["metadata"], request.body["metadata"]
            if sent["resourceVersion"] != metadata["resourceVersion"]:
                return status_reply(409, "the object has been modified")
            item["spec"] |= request.body["spec"]
            annotations = metadata["annotations"] | sent["annotations"]
            metadata["annotations"] = {k: v for k, v in annotations.items() if v is not None}
            metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)
        return Reply(body=item)


def _workload(kind: str, name: str, spec: Item, owner: Item | None = None) -> Item:
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{kind}-{name}",
            "resourceVersion": "1",
            "annotations": {},
            "ownerReferences": [owner] if owner else [],
        },
        "spec": spec,
        "grace": 0,
    }


def _apps_of(budget: Item) -> list[str]:
    found: list[str] = budget["spec"]["selector"]["matchExpressions"][0]["values"]
    return found
