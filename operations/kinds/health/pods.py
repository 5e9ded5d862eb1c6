"""Test pods on many nodes at once: each starts, is reached and reaches others, and goes away.

1. On every node a pod begins to serve a word over HTTP; if an image is to be pulled, another one
   tries that.
2. On every node whose pod serves, a second one asks its peers, a Service and a name, all side by
   side, and writes what it reached as its termination message: no exec right is needed, and nothing
   passes through the portal.
3. All are deleted, and the kubelets have to let them go.

Pods are placed by ``nodeName``, so a cordoned node is tested, too.  They carry the name of the step
and the number of the attempt as labels: by these they are watched in one request, and found again
by whoever cleans up.  An attempt that has lost its lease deletes its own pods alone.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

from beidou.base.errors import ExternalError, TemporaryError
from beidou.base.sentences import Sentence
from clusters.drivers.answers import PodDetail
from clusters.drivers.kubernetes import KubernetesClient
from operations.kinds.probe import LABELS, PORT, Probe, probe_pod, serving_pod

STEP_LABEL: Final = "beidou.io/step"
ATTEMPT_LABEL: Final = "beidou.io/attempt"
CALLS_AT_ONCE: Final = 8
GONE_SECONDS = 30
PAUSE_SECONDS = 0.5
_NOT_PULLED: Final = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "ImageInspectError",
)
# Nothing of somebody's image is run: that this program is missing shows that the image is there.
_NO_PROGRAM: Final = "/beidou-health-check-runs-nothing"


@dataclass(frozen=True)
class Answer:
    """What the pods of one node found out; None: it was not tried.

    ``trouble`` says why no pod serves, ``ask_trouble`` why nothing could be asked, ``pull_trouble``
    why the image was not pulled.
    """

    address: str = ""
    seconds: float = 0.0
    trouble: str = ""
    reached: Mapping[str, bool] = field(default_factory=dict)
    service: bool | None = None
    dns: bool | None = None
    ask_trouble: str = ""
    pull_seconds: float | None = None
    pull_trouble: str = ""
    is_gone: bool | None = None


class PodRound:
    """One round of test pods; ``run`` returns an answer for every node."""

    def __init__(
        self,
        client: KubernetesClient,
        probe: Probe,
        *,
        prefix: str,
        attempt: int = 1,
        pull_image: str = "",
        stop_if_asked: Callable[[], None],
    ) -> None:
        self._client = client
        self._probe = probe
        self._prefix = prefix
        self._attempt = attempt
        self._own = {STEP_LABEL: prefix, ATTEMPT_LABEL: str(attempt)}
        self._seen: dict[str, PodDetail] = {}
        self._pull_image = pull_image
        self._stop_if_asked = stop_if_asked
        self._answers: dict[str, Answer] = {}
        self._pause = PAUSE_SECONDS

    def run(self, peers: Mapping[str, Sequence[str]]) -> dict[str, Answer]:
        """``peers``: node → the nodes its pod is to reach.  No pod is left, whatever happens."""
        nodes = list(peers)
        self._answers = dict.fromkeys(nodes, Answer())
        self._pause = max(PAUSE_SECONDS, len(nodes) / 200)
        try:
            # A lost attempt may have left some.
            remove(self._client, self._probe.namespace, {STEP_LABEL: self._prefix})
            self._serve(nodes)
            self._ask(peers)
            self._let_go(nodes)
        finally:
            remove(self._client, self._probe.namespace, self._own)
        return self._answers

    # --- the three parts ----------------------------------------------------------------------

    def _serve(self, nodes: Sequence[str]) -> None:
        wanted = {self._name("serve", at): node for at, node in enumerate(nodes)}
        pulls = {self._name("pull", at): node for at, node in enumerate(nodes)}
        if not self._pull_image:
            pulls = {}
        began = time.monotonic()
        manifests = [serving_pod(name, node, self._probe) for name, node in wanted.items()]
        manifests += [self._pulling_pod(name, node) for name, node in pulls.items()]
        refused = self._create(manifests)
        for name, why in refused.items():
            if name in wanted:
                self._note(wanted.pop(name), trouble=why)
            else:
                self._note(pulls.pop(name), pull_trouble=why)
        last: dict[str, PodDetail] = {}
        deadline = time.monotonic() + self._probe.wait_seconds
        while (wanted or pulls) and time.monotonic() < deadline:
            self._stop_if_asked()
            last = self._look()
            seconds = round(time.monotonic() - began, 1)
            for name, node in list(wanted.items()):
                pod = last.get(name)
                if pod is not None and pod.is_ready and pod.pod_ip:
                    self._note(node, address=pod.pod_ip, seconds=seconds)
                    del wanted[name]
            for name, node in list(pulls.items()):
                pull_trouble = _why_not_pulled(last.get(name))
                if pull_trouble is not None:
                    took = None if pull_trouble else seconds
                    self._note(node, pull_trouble=pull_trouble, pull_seconds=took)
                    del pulls[name]
            if wanted or pulls:
                time.sleep(self._pause)
        for name, node in wanted.items():
            self._note(node, trouble=self._too_late(last.get(name)))
        for name, node in pulls.items():
            self._note(node, pull_trouble=self._too_late(last.get(name)))

    def _ask(self, peers: Mapping[str, Sequence[str]]) -> None:
        addresses = {n: answer.address for n, answer in self._answers.items() if answer.address}
        asked = {
            node: [peer for peer in peers[node] if peer in addresses]
            for node in peers
            if node in addresses
        }
        wanted = {self._name("ask", at): node for at, node in enumerate(peers) if node in addresses}
        refused = self._create(
            self._asking_pod(name, node, [addresses[peer] for peer in asked[node]])
            for name, node in wanted.items()
        )
        for name, why in refused.items():
            self._note(wanted.pop(name), ask_trouble=why)
        began = time.monotonic()
        last: dict[str, PodDetail] = {}
        while wanted and time.monotonic() - began < self._probe.wait_seconds:
            self._stop_if_asked()
            last = self._look()
            for name, node in list(wanted.items()):
                pod = last.get(name)
                if pod is not None and pod.phase in ("Succeeded", "Failed"):
                    self._heard(node, asked[node], pod)
                    del wanted[name]
            if wanted:
                time.sleep(self._pause)
        for name, node in wanted.items():
            self._note(node, ask_trouble=self._too_late(last.get(name)))

    def _heard(self, node: str, peers: Sequence[str], pod: PodDetail) -> None:
        said = pod.said.split()
        if "end" not in said:  # it was killed, or evicted
            self._note(node, ask_trouble=pod.message or pod.said or pod.phase)
            return
        self._note(
            node,
            reached={peer: f"p{at}" in said for at, peer in enumerate(peers)},
            service="service" in said,
            dns="dns" in said,
        )

    def _let_go(self, nodes: Sequence[str]) -> None:
        """With a moment of grace the pod is gone only once its kubelet says so."""
        serving = {
            self._name("serve", at): node
            for at, node in enumerate(nodes)
            if self._answers[node].address
        }
        _each(
            lambda name: self._client.delete_pod(self._probe.namespace, name, grace_seconds=1),
            serving,
        )
        began = time.monotonic()
        staying: set[str] = set(serving)
        while staying and time.monotonic() - began < GONE_SECONDS:
            self._stop_if_asked()
            staying &= self._look().keys()
            if staying:
                time.sleep(self._pause)
        for name, node in serving.items():
            self._note(node, is_gone=name not in staying)

    # --- small parts --------------------------------------------------------------------------

    def _name(self, what: str, at: int) -> str:
        return f"{self._prefix}-{self._attempt}-{what}-{at}"

    def _note(self, node: str, **values: Any) -> None:
        self._answers[node] = replace(self._answers[node], **values)

    def _look(self) -> dict[str, PodDetail]:
        """The pods as they are or, while the API server does not answer, as they were."""
        try:
            found = self._client.find_pods(self._probe.namespace, self._own)
        except TemporaryError:
            return self._seen
        self._seen = {pod.name: pod for pod in found}
        return self._seen

    def _create(self, manifests: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """Create them a few at a time; returns why some could not be."""
        refused: dict[str, str] = {}

        def create(manifest: Mapping[str, Any]) -> None:
            try:
                self._client.create_pod(self._probe.namespace, self._labelled(manifest))
            except ExternalError as error:
                refused[manifest["metadata"]["name"]] = error.message

        _each(create, manifests)
        return refused

    def _labelled(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {**manifest["metadata"], "labels": {**LABELS, **self._own}}
        return {**manifest, "metadata": metadata}

    def _asking_pod(self, name: str, node: str, addresses: Sequence[str]) -> dict[str, Any]:
        script = asking_script(addresses, self._probe.dns_name)
        return probe_pod(name, node, self._probe, script, restart="Never")

    def _pulling_pod(self, name: str, node: str) -> dict[str, Any]:
        manifest = probe_pod(name, node, self._probe, "", restart="Never")
        (container,) = manifest["spec"]["containers"]
        container |= {
            "image": self._pull_image,
            "imagePullPolicy": "Always",
            "command": [_NO_PROGRAM],
        }
        return manifest

    def _too_late(self, pod: PodDetail | None) -> str:
        if pod is None:
            return Sentence("the pod was deleted by somebody else")
        return Sentence(
            "not ready within %(limit)s s: %(last)s",
            limit=self._probe.wait_seconds,
            last="; ".join(pod.waiting) or pod.message or pod.phase,
        )


def asking_script(addresses: Sequence[str], dns_name: str) -> str:
    """Ask everybody side by side, each up to three times, and write down who answered.

    The API server answers plain HTTP with 400: that is heard of the Service ``kubernetes``, whose
    address every container finds in its environment.
    """
    tries = [f"try p{at} web {_host(address)}:{PORT}" for at, address in enumerate(addresses)]
    tries += [f"try dns timeout 5 nslookup {dns_name}", "try service api"]
    everything = "".join(f"{each} & " for each in tries)
    return (
        'try() { n=$1; shift; for i in 1 2 3; do "$@" >/dev/null 2>&1 && { echo $n; return; }; '
        "sleep 1; done; }\n"
        'web() { timeout 3 wget -qO- "http://$1/" | grep -q beidou; }\n'
        'api() { h=$KUBERNETES_SERVICE_HOST; case $h in *:*) h="[$h]";; esac; '
        'timeout 3 wget -O- "http://$h:$KUBERNETES_SERVICE_PORT/" 2>&1 | grep -q " 400"; }\n'
        f"{{ {everything}wait; echo end; }} > /dev/termination-log"
    )


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _why_not_pulled(pod: PodDetail | None) -> str | None:
    """Empty when the image was pulled; None while that is not known."""
    if pod is None:
        return None
    waiting = "; ".join(pod.waiting)
    if any(reason in waiting for reason in _NOT_PULLED):
        return waiting
    begun = pod.phase in ("Succeeded", "Failed", "Running") or pod.exit_code is not None
    return "" if begun or "RunContainerError" in waiting else None


def remove(client: KubernetesClient, namespace: str, labels: Mapping[str, str]) -> None:
    """Delete every pod with these labels at once, whatever its kubelet says."""
    found = client.find_pods(namespace, labels)
    _each(lambda pod: client.delete_pod(namespace, pod.name, grace_seconds=0), found)


def _each(action: Callable[[Any], Any], items: Iterable[Any]) -> None:
    with ThreadPoolExecutor(max_workers=CALLS_AT_ONCE) as pool:
        for done in [pool.submit(action, item) for item in items]:
            done.result()
