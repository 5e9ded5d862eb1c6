"""What the page of key events counts, each by a search that anybody can look at.

The reasons are those of Kubernetes' own components (kubelet, scheduler, controllers) and of the
node problem detector; where one reason stands for several things, words of the message tell them
apart.  ``docs/events.md`` has the same table for operators.
"""

from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from events.services.stores.base import WARNING, Query


@dataclass(frozen=True)
class Measure:
    """``reasons``, ``kinds`` and ``types`` mean any of them; ``text`` is typed as in a search."""

    name: str
    label: str | Promise
    reasons: tuple[str, ...] = ()
    text: str = ""
    kinds: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    parts: tuple["Measure", ...] = field(default=())
    """What it is made of; one event may be in several."""

    def query(self, **times_and_clusters: Any) -> Query:
        return Query.of(
            text=self.text, reason=self.reasons, kind=self.kinds, type=self.types,
            **times_and_clusters,
        )  # fmt: skip

    def address(self, given: QueryDict) -> str:
        """Of the search behind it, with what is given for time and clusters."""
        found = given.copy()
        if self.text:
            found["q"] = self.text
        for name, values in (("reason", self.reasons), ("kind", self.kinds), ("type", self.types)):
            if values:
                found.setlist(name, list(values))
        return found.urlencode()


def _scheduling(name: str, label: str | Promise, text: str) -> Measure:
    return Measure(f"scheduling_{name}", label, ("FailedScheduling",), text)


# In the words of the scheduler's plug-ins.
_SCHEDULING = (
    _scheduling("cpu", _("not enough CPU"), '"insufficient cpu"'),
    _scheduling("memory", _("not enough memory"), '"insufficient memory"'),
    _scheduling("pods", _("too many pods on the nodes"), '"too many pods"'),
    _scheduling("taints", _("taints that are not tolerated"), "taint*"),
    _scheduling("cordoned", _("nodes are cordoned"), '"were unschedulable"'),
    _scheduling("node_affinity", _("node selector or affinity"), '"node affinity selector"'),
    _scheduling("pod_affinity", _("affinity or anti-affinity of pods"), '"affinity rules"'),
    _scheduling("spread", _("topology spread constraints"), '"topology spread"'),
    _scheduling("ports", _("ports of the host are taken"), '"free ports"'),
    _scheduling("volumes", _("volumes are elsewhere, or too many"), "volume*"),
    _scheduling("claims", _("volume claims are not bound"), "persistentvolumeclaim*"),
)

MEASURES = (
    Measure("oom", _("OOM kills"), ("OOMKilling", "SystemOOM", "OOMKilled")),
    Measure("backoff", _("Containers that crash again and again"), ("BackOff",),
            '-"pulling image"'),
    Measure("scheduling", _("Pods that find no node"), ("FailedScheduling",), parts=_SCHEDULING),
    Measure("not_ready", _("Nodes not ready"), ("NodeNotReady",), kinds=("Node",)),
    Measure("evictions", _("Evictions"), ("Evicted", "TaintManagerEviction", "Preempted"),
            "-cancelling"),
    Measure("images", _("Image pull failures"), ("Failed", "ErrImageNeverPull", "InspectFailed"),
            "image"),
    Measure("probes", _("Probe failures"), ("Unhealthy", "ProbeError")),
    Measure("volumes", _("Volume failures"), (
        "FailedMount", "FailedAttachVolume", "FailedDetachVolume", "FailedMapVolume",
        "FailedUnMount", "FailedBinding", "ProvisioningFailed", "VolumeResizeFailed",
        "FileSystemResizeFailed", "VolumeFailedDelete",
    )),
    Measure("certificates", _("Certificate errors"), text="certificate*", types=(WARNING,)),
    Measure("admission", _("Admission errors"), (
        "FailedCreate", "PolicyViolation", "UnexpectedAdmissionError", "TopologyAffinityError",
    )),
)  # fmt: skip
ALL = {each.name: each for measure in MEASURES for each in (measure, *measure.parts)}
