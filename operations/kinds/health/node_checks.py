"""What the cluster knows of a node, and what was found out between nodes, as checks."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence, joined
from clusters.drivers.objects import Condition, NodeInfo, PodInfo
from operations.kinds import versions
from operations.kinds.base import Check, check
from operations.kinds.health import pairs
from operations.kinds.health.changes import NOT_TRIED
from operations.kinds.health.pods import Answer

WARNING: Final = "warning"
NAMED_AT_MOST: Final = 5
_BAD_WHEN_TRUE: Final = frozenset(
    {"MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"}
)
_CHECK_NETWORK: Final = Sentence(
    "check the network plugin on it, the pod network's routes, and firewalls between the nodes"
)


def named(names: Iterable[str]) -> str:
    """A few of them, and how many more."""
    every = list(names)
    shown = ", ".join(every[:NAMED_AT_MOST])
    rest = len(every) - NAMED_AT_MOST
    return Sentence("%(shown)s and %(rest)d more", shown=shown, rest=rest) if rest > 0 else shown


# --- what the cluster knows -----------------------------------------------------------------------


def no_api(why: str) -> Check:
    return check(
        "api", False, why, Sentence("an answer of the cluster's API server"),
        Sentence("see the cluster's page; what needs the API server was not checked"),
    )  # fmt: skip


def no_node(name: str) -> Check:
    return check(
        "node", False, Sentence("the cluster has no node %(node)s", node=name),
        Sentence("a node of this name"),
        Sentence("see the kubelet's log on the host; or take the machine out of the cluster"),
    )  # fmt: skip


def foreign_node(name: str, addresses: Iterable[str]) -> Check:
    return check(
        "node", False,
        Sentence(
            "node %(node)s has other addresses: %(found)s", node=name, found=", ".join(addresses)
        ),
        Sentence("an address of this machine"),
        Sentence("correct the machine's address, or the link between machine and node"),
    )  # fmt: skip


def of_node(node: NodeInfo, pods: Iterable[PodInfo], server: str) -> list[Check]:
    """Conditions, versions, and the DaemonSets' pods on it."""
    return [
        *(_condition(item) for item in node.conditions),
        *([] if node.conditions else [_never_reported()]),
        _version(node.kubelet_version, server),
        _daemon_sets(pods),
    ]


def _never_reported() -> Check:
    return check(
        "condition:Ready", False, Sentence("no condition"), "True",
        Sentence("see the kubelet's log on the host"),
    )  # fmt: skip


def _condition(item: Condition) -> Check:
    """Ready has to be True, everything else must not be; who reports more than the kubelet does
    (node-problem-detector) is heard as a warning."""
    is_ready = item.type == "Ready"
    ok = item.status == "True" if is_ready else item.status != "True"
    known = is_ready or item.type in _BAD_WHEN_TRUE
    said = ": ".join(filter(None, [item.reason, item.message]))
    return check(
        f"condition:{item.type}",
        ok,
        item.status if ok or not said else f"{item.status} ({said[:300]})",
        "True" if is_ready else Sentence("not True"),
        Sentence("see the kubelet's log on the host"),
        "error" if known else WARNING,
    )


def _version(kubelet: str, server: str) -> Check:
    try:
        why = versions.why_not_join(kubelet, server)
    except InvalidInput as error:
        return check(
            "kubelet-version", False, error.message, server,
            Sentence("see which program runs as kubelet on the host"), WARNING,
        )  # fmt: skip
    return check(
        "kubelet-version", not why, why or kubelet,
        Sentence("not newer than %(server)s, at most %(minors)s minors older", server=server,
                 minors=versions.OLDER_KUBELETS),
        Sentence("upgrade the older of the two"),
    )  # fmt: skip


def _daemon_sets(pods: Iterable[PodInfo]) -> Check:
    """Those of kube-system are what the node needs; others are somebody's own."""
    own = [pod for pod in pods if pod.owner_kind == "DaemonSet" and not pod.is_terminating]
    bad = [pod for pod in own if not pod.is_ready]
    needed = any(pod.namespace == "kube-system" for pod in bad)
    return check(
        "daemonset-pods",
        not bad,
        Sentence("not ready: %(names)s", names=named(f"{p.namespace}/{p.name}" for p in bad))
        if bad
        else Sentence("%(count)s ready", count=len(own)),
        Sentence("all pods of DaemonSets ready"),
        Sentence("see the events and logs of these pods"),
        "error" if needed else WARNING,
    )


# --- what test pods found out ---------------------------------------------------------------------


def not_tested(why: str) -> Check:
    return check(
        "pod", False, why, Sentence("a test pod that starts and gets an address"),
        Sentence("see the node's conditions and the kubelet's log"),
    )  # fmt: skip


def of_answer(
    answer: Answer, *, dns_name: str, image: str, is_image_named: bool = True
) -> list[Check]:
    """All but the network between pods, for which the others' answers are needed, too."""
    found = [_image(answer, image, is_image_named) if image else _no_image()]
    if answer.trouble or not answer.address:
        return [not_tested(answer.trouble or Sentence("it was not tried")), *found]
    found.insert(0, _pod(answer))
    if answer.ask_trouble:
        found.append(_not_asked(answer.ask_trouble))
    if answer.service is not None:
        found.append(_service(answer.service))
    if answer.dns is not None:
        found.append(_dns(answer.dns, dns_name))
    if answer.is_gone is not None:
        found.append(_gone(answer.is_gone))
    return found


def _pod(answer: Answer) -> Check:
    return check(
        "pod", True,
        Sentence("%(address)s after %(seconds)s s", address=answer.address,
                 seconds=answer.seconds),
        Sentence("a test pod that starts and gets an address"),
    )  # fmt: skip


def _not_asked(why: str) -> Check:
    return check(
        "pod-asks", False, why, Sentence("a test pod that asks the others"),
        Sentence("see the node's conditions and the kubelet's log"),
    )  # fmt: skip


def _service(ok: bool) -> Check:
    return check(
        "pod-service", ok,
        Sentence("reached") if ok else Sentence("not reached"),
        Sentence("a pod reaches the Service kubernetes in default"),
        Sentence("check kube-proxy, or what replaces it, on the node"),
    )  # fmt: skip


def _dns(ok: bool, name: str) -> Check:
    return check(
        "pod-dns", ok,
        Sentence("resolved") if ok else Sentence("not resolved"),
        Sentence("a pod resolves %(name)s", name=name),
        Sentence("check the pods of the cluster's DNS, their Service, and kube-proxy on the node"),
    )  # fmt: skip


def _gone(ok: bool) -> Check:
    return check(
        "pod-gone", ok,
        Sentence("gone") if ok else Sentence("still there; deleted by force"),
        Sentence("the kubelet lets a deleted pod go"),
        Sentence("see the logs of kubelet and container runtime on the host"),
    )  # fmt: skip


def _no_image() -> Check:
    """Neither well nor unwell, and to be seen as that."""
    untried = check(
        "image-pull",
        True,
        Sentence("not tried: no image is named, and no registry mirror for the test image"),
        Sentence("an image that can be pulled"),
    )
    return {**untried, NOT_TRIED: True}


def _image(answer: Answer, image: str, is_named: bool) -> Check:
    """Of the test image nobody has said that the registry has it, so that it is worth no more than
    a warning."""
    return check(
        "image-pull",
        not answer.pull_trouble and answer.pull_seconds is not None,
        answer.pull_trouble
        or Sentence("pulled after %(seconds)s s", seconds=answer.pull_seconds or 0),
        Sentence("%(image)s can be pulled", image=image),
        Sentence("check the registry, its name and credentials, and the way to it from the host")
        if is_named
        else Sentence(
            "check the registry and the way to it from the host; if it does not have the test "
            "image, put it there, or name another one (pull_image)"
        ),
        "error" if is_named else WARNING,
    )


# --- the network ----------------------------------------------------------------------------------


def of_network(
    name: str, node: str, rows: pairs.Rows, guilty: Collection[str], problems: Mapping[str, str]
) -> Check:
    """One node's place in a matrix; ``problems``: by whom → why, where that is known.

    A node that is not to blame for its failed pairs is warned of them alone.
    """
    missed, missed_by = pairs.of(node, pairs.failed(rows))
    asked = rows.get(node, {})
    asked_by = sum(node in row for row in rows.values())
    parts: list[str] = []
    if missed:
        parts.append(Sentence("does not reach %(names)s", names=named(missed)))
    if missed_by:
        parts.append(Sentence("is not reached by %(names)s", names=named(missed_by)))
    if why := next((problems[peer] for peer in missed if problems.get(peer)), ""):
        parts.append(why)
    if not asked and not asked_by:
        parts.append(Sentence("no other node to test with"))
    elif not parts:
        parts.append(
            Sentence(
                "reaches %(count)s of %(count)s, reached by %(by)s", count=len(asked), by=asked_by
            )
        )
    return check(
        name,
        not missed and not missed_by,
        joined(parts, "; "),
        Sentence("it reaches the other nodes and is reached by them")
        if name == "node-network"
        else Sentence("its pods reach those of the other nodes and are reached by them"),
        _CHECK_NETWORK,
        "error" if node in guilty else WARNING,
    )
