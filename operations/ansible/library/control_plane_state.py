#!/usr/bin/python
"""Tell how far the creation of a control plane has come on the host."""

from __future__ import annotations

import os
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.transient_unit import LIVE_STATES, unit_state

DOCUMENTATION = r"""
module: control_plane_state
short_description: Tell how far the creation of a control plane has come on the host
description:
  - Waits for a C(kubeadm init) that still runs. C(created) means that the API server answers and
    has what C(kubeadm init) makes last.
  - An API server that does not answer is asked for a while when everything else is there, since
    the host may just have started. Changes nothing.
options:
  init_unit: {description: Unit of an earlier C(kubeadm init)., type: str, required: true}
  wait_seconds: {description: How long to wait for it., type: int, default: 900}
  answer_seconds: {description: How long to ask the API server., type: int, default: 120}
  bin_dir: {description: Where kubectl lies., type: path, default: /usr/local/bin}
"""
EXAMPLES = r"""
- name: See how far the control plane has come
  control_plane_state:
    init_unit: beidou-17-2-init
"""
RETURN = r"""
state:
  description: "C(none), C(partial) (an interrupted creation) or C(created)."
  type: str
  returned: always
"""
TRACES = ("/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/admin.conf")
MANIFESTS = "/etc/kubernetes/manifests"
WHOLE = (
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/etc/kubernetes/manifests/etcd.yaml",
    "/var/lib/kubelet/config.yaml",
)


def wait_for_init(unit: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while unit_state(unit) in LIVE_STATES and time.monotonic() < deadline:
        time.sleep(0.5)


def has_addons(kubectl: str) -> bool | None:
    """Whether the last things are there; None when the API server does not answer."""
    command = [
        kubectl, "--kubeconfig=/etc/kubernetes/admin.conf", "--request-timeout=5s",
        "--namespace=kube-system", "get", "daemonset", "kube-proxy", "--ignore-not-found",
        "--output=name",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode else bool(done.stdout.strip())


def look(host: HostFiles, kubectl: str, answer_seconds: float) -> str:
    # A folder that is there and empty, as after a reset, is no trace.
    if not any(host.exists(path) for path in TRACES) and not host.files_below(MANIFESTS):
        return "none"
    if not all(host.exists(path) for path in WHOLE):
        return "partial"
    deadline = time.monotonic() + answer_seconds
    while True:
        found = has_addons(kubectl)
        if found is not None:
            return "created" if found else "partial"
        if time.monotonic() > deadline:
            return "partial"
        time.sleep(2)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "init_unit": {"type": "str", "required": True},
            "wait_seconds": {"type": "int", "default": 900},
            "answer_seconds": {"type": "int", "default": 120},
            "bin_dir": {"type": "path", "default": "/usr/local/bin"},
        },
        supports_check_mode=True,
    )
    values = module.params
    wait_for_init(values["init_unit"], values["wait_seconds"])
    kubectl = os.path.join(values["bin_dir"], "kubectl")
    state = look(HostFiles(), kubectl, values["answer_seconds"])
    module.exit_json(changed=False, state=state)


if __name__ == "__main__":
    main()
