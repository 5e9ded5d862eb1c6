"""The members of an etcd, asked through its JSON gateway, and when one of them may leave.

The module's user is a control plane of kubeadm; the certificate is that of kubelet's probes.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import ssl
import urllib.parse
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.beidou.sentences import Sentence

LOCAL = "https://127.0.0.1:2379"


class EtcdProblem(Exception):
    """Why etcd did not do what was asked, as a sentence."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclasses.dataclass(frozen=True)
class Member:
    """``id`` is a number as text; one that has never started has no ``name`` and no ``url``."""

    id: str
    name: str = ""
    url: str = ""
    peer_urls: tuple[str, ...] = ()
    is_learner: bool = False
    is_healthy: bool = False

    def is_called(self, name: str, address: str) -> bool:
        """Whether this is the member of the host with that name; of one that has never started only
        the address is known."""
        if self.name:
            return self.name == name
        hosts = [urllib.parse.urlsplit(url).hostname for url in self.peer_urls]
        return bool(address) and address in hosts


class Etcd:
    """The etcd of the host this runs on."""

    def __init__(self, pki_dir: str, timeout: float, local: str = LOCAL) -> None:
        self.local, self.timeout = local, timeout
        try:
            self.context = ssl.create_default_context(cafile=f"{pki_dir}/ca.crt")
            self.context.load_cert_chain(
                f"{pki_dir}/healthcheck-client.crt", f"{pki_dir}/healthcheck-client.key"
            )
        except OSError as error:
            raise EtcdProblem(_untold(error)) from error

    def members(self) -> list[Member]:
        """All of them, each asked at its own address for its health."""
        answer = self._ask(self.local, "/v3/cluster/member/list", {})
        found = answer.get("members")
        if not isinstance(found, list):
            raise EtcdProblem(_untold("no members"))
        return [self._member(each) for each in found if isinstance(each, dict)]

    def remove(self, member: Member) -> None:
        self._ask(self.local, "/v3/cluster/member/remove", {"ID": member.id})

    def _member(self, raw: dict[str, Any]) -> Member:
        url = next(iter(raw.get("clientURLs") or []), "")
        return Member(
            id=str(raw.get("ID", "")),
            name=str(raw.get("name", "")),
            url=url,
            peer_urls=tuple(str(each) for each in raw.get("peerURLs") or ()),
            is_learner=bool(raw.get("isLearner")),
            is_healthy=bool(url) and self._is_healthy(url),
        )

    def _is_healthy(self, url: str) -> bool:
        try:
            return str(self._ask(url, "/health", None).get("health")) == "true"
        except EtcdProblem:
            return False

    def _ask(self, url: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        place = urllib.parse.urlsplit(url)
        connection = http.client.HTTPSConnection(
            place.hostname or "", place.port, timeout=self.timeout, context=self.context
        )
        try:
            method, text = ("GET", None) if body is None else ("POST", json.dumps(body))
            connection.request(method, path, text)
            answer = connection.getresponse()
            content = json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise EtcdProblem(_untold(error)) from error
        finally:
            connection.close()
        if not isinstance(content, dict):
            raise EtcdProblem(_untold("no object"))
        if answer.status != http.client.OK and "health" not in content:
            raise EtcdProblem(_untold(content.get("message") or content.get("error")))
        return content


def _untold(why: object) -> str:
    return Sentence("etcd did not answer as it should: %(why)s", why=str(why))


def find(members: Sequence[Member], name: str, address: str) -> Member | None:
    """The member of the host ``name``; else one that has never started at its ``address``."""
    called = [each for each in members if each.is_called(name, address)]
    return next((each for each in called if each.name), called[0] if called else None)


def why_it_stays(members: Sequence[Member], leaving: Member) -> str:
    """Why ``leaving`` must not be taken away; empty when it may.

    Without it more than half of the voting members that remain must be healthy: else nothing can be
    written any more, and no member be added or removed.
    """
    if leaving.is_learner:
        return ""
    left = [each for each in members if not each.is_learner and each.id != leaving.id]
    if not left:
        return Sentence("%(member)s is the last member of etcd", member=leaving.name or leaving.id)
    healthy = sum(each.is_healthy for each in left)
    needed = len(left) // 2 + 1
    if healthy >= needed:
        return ""
    return Sentence(
        "without %(member)s %(healthy)s of %(all)s members of etcd would be healthy, and it needs "
        "%(needed)s",
        member=leaving.name or leaving.id,
        healthy=healthy,
        all=len(left),
        needed=needed,
    )
