#!/usr/bin/python
"""Ask the etcd on a control plane for its members, and each member for its health."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou.sentences import Sentence, failure

DOCUMENTATION = r"""
module: etcd_members
short_description: Ask the etcd on a control plane for its members
description:
  - Uses the certificate with which kubelet's probes look at etcd. Every member is asked at its own
    address for its health. Changes nothing.
options:
  pki_dir: {description: Where kubeadm keeps etcd's certificates., type: path,
            default: /etc/kubernetes/pki/etcd}
  timeout_seconds: {description: Longest time for one question., type: int, default: 10}
"""
EXAMPLES = r"""
- name: Look at the members of etcd
  etcd_members:
"""
RETURN = r"""
members:
  description: "C(name), C(url), C(is_learner) and C(is_healthy) of each."
  type: list
  elements: dict
  returned: always
"""


def ask(url: str, path: str, body: str | None, context: ssl.SSLContext, timeout: float) -> Any:
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPSConnection(
        place.hostname or "", place.port, timeout=timeout, context=context
    )
    try:
        connection.request("GET" if body is None else "POST", path, body)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def is_healthy(url: str, context: ssl.SSLContext, timeout: float) -> bool:
    try:
        return str(ask(url, "/health", None, context, timeout).get("health")) == "true"
    except (OSError, ValueError, http.client.HTTPException, AttributeError):
        return False


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "pki_dir": {"type": "path", "default": "/etc/kubernetes/pki/etcd"},
            "timeout_seconds": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    folder, timeout = module.params["pki_dir"], module.params["timeout_seconds"]
    try:
        context = ssl.create_default_context(cafile=f"{folder}/ca.crt")
        context.load_cert_chain(
            f"{folder}/healthcheck-client.crt", f"{folder}/healthcheck-client.key"
        )
        answer = ask("https://127.0.0.1:2379", "/v3/cluster/member/list", "{}", context, timeout)
        members = [
            {
                "name": str(member.get("name", "")),
                "url": next(iter(member.get("clientURLs") or []), ""),
                "is_learner": bool(member.get("isLearner")),
            }
            for member in answer["members"]
        ]
    except (OSError, ValueError, http.client.HTTPException, KeyError, TypeError) as error:
        sentence = Sentence("etcd did not tell its members: %(why)s", why=str(error))
        module.fail_json(**failure(sentence))
    for member in members:
        member["is_healthy"] = bool(member["url"]) and is_healthy(member["url"], context, timeout)
    module.exit_json(changed=False, members=members)


if __name__ == "__main__":
    main()
