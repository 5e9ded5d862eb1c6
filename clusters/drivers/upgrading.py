"""What an upgrade asks a cluster: who still uses what goes, and which images its parts have.

A part of ``KubernetesClient`` (``client.upgrading``), apart because only upgrades need it.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import msgspec

from beidou.base.sentences import Sentence
from clusters.drivers import errors
from clusters.drivers.transport import Transport

_METRIC: Final = re.compile(
    r"^apiserver_requested_deprecated_apis\{(?P<labels>[^}]*)\} (?P<value>\S+)"
)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')

REMOVED: Final = {
    "admissionregistration.k8s.io/v1beta1": (1, 34),
    "networking.k8s.io/v1beta1": (1, 37),
    "storage.k8s.io/v1beta1": (1, 37),
}
"""Versions of built-in APIs by the release that no longer has them; alpha ones are off by default.

From ``APILifecycleRemoved`` of k8s.io/api, for the releases from 1.33 to 1.37.
"""


@dataclass(frozen=True, slots=True, order=True)
class DeprecatedUse:
    """Somebody asked for this since the API server began; ``removed`` is (0, 0) when nobody has
    said yet which release no longer has it."""

    api: str
    resource: str
    removed: tuple[int, int]

    @property
    def release(self) -> str:
        return f"{self.removed[0]}.{self.removed[1]}" if self.removed[0] else ""


class _Container(msgspec.Struct, frozen=True):
    image: str = ""


class _PodSpec(msgspec.Struct, frozen=True):
    containers: list[_Container] | None = None


class _Template(msgspec.Struct, frozen=True):
    spec: _PodSpec = _PodSpec()


class _SetSpec(msgspec.Struct, frozen=True):
    template: _Template = _Template()


class _Set(msgspec.Struct, frozen=True):
    spec: _SetSpec = _SetSpec()


class Upgrading:
    """See the module's text."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def deprecated_uses(self) -> list[DeprecatedUse]:
        """What the API server that answers has been asked for since it began; ``Forbidden`` where
        we may not read its metrics."""
        data = self._transport.call(
            "GET",
            "/metrics",
            action=Sentence("read the metrics of the API server"),
            accept="text/plain",
        )
        return parse_deprecated_uses(data.decode("utf-8", "replace"))

    def serves(self, api: str) -> bool:
        """Whether the API server has ``group/version``."""
        group, _slash, version = api.partition("/")
        path = f"/apis/{quote(group, safe='')}/{quote(version, safe='')}"
        try:
            self._transport.call("GET", path, action=Sentence("ask for the API %(api)s", api=api))
        except errors.NotFound:
            return False
        return True

    def daemon_set_images(self, namespace: str, name: str) -> tuple[str, ...]:
        """The images of its containers; NotFound when there is none of that name."""
        path = f"/apis/apps/v1/namespaces/{quote(namespace, safe='')}/daemonsets/{quote(name)}"
        action = Sentence("read %(kind)s %(key)s", kind="DaemonSet", key=f"{namespace}/{name}")
        found = self._transport.get(path, _Set, action=action)
        return tuple(each.image for each in found.spec.template.spec.containers or ())


def parse_deprecated_uses(text: str) -> list[DeprecatedUse]:
    found = set()
    for line in text.splitlines():
        match = _METRIC.match(line)
        if match is None or match["value"] in ("0", "0.0"):
            continue
        labels = dict(_LABEL.findall(match["labels"]))
        group, version = labels.get("group", ""), labels.get("version", "")
        resource = "/".join(
            part for part in (labels.get("resource", ""), labels.get("subresource", "")) if part
        )
        api = f"{group}/{version}" if group else version
        found.add(DeprecatedUse(api, resource, _release(labels.get("removed_release", ""))))
    return sorted(found)


def _release(text: str) -> tuple[int, int]:
    major, _dot, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)
