#!/usr/bin/python
"""Restart the programs of a control plane that work with an older certificate than its file."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou import issued
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.sentences import Sentence, failure

DOCUMENTATION = r"""
module: restart_static_pods
short_description: Restart the programs of a control plane that work with an older certificate
description:
  - One after the other, etcd first. Each is ended, killed if it has not ended after as long as a
    kubelet waits for a pod, and the kubelet starts it again; no manifest is touched. One that began
    after its certificate was written is left alone, so that a call that was interrupted is made up
    for by the next.
options:
  wait_seconds: {description: How long each may take to run again., type: int, default: 180}
"""
EXAMPLES = r"""
- name: Restart what works with old certificates
  restart_static_pods:
"""
RETURN = r"""
restarted: {description: What was restarted., type: list, elements: str, returned: always}
"""
PAUSE_SECONDS = 0.5
GRACE_SECONDS = 30
"""An API server that waits for its last requests shows nobody anything meanwhile."""
SETTLE_SECONDS = 3
"""How long a program must have run: one that ends at once again does not run."""


def restart(host: HostFiles, name: str, seconds: float) -> str:
    """Why it does not run again; empty when it does."""
    old = issued.running(host, name)
    if old is None:
        return ""
    end(old.pid, signal.SIGTERM)
    began, is_killed = time.monotonic(), False
    while time.monotonic() < began + seconds:
        new = issued.running(host, name)
        if new == old and not is_killed and time.monotonic() > began + GRACE_SECONDS:
            is_killed = True
            end(old.pid, signal.SIGKILL)
        if new is not None and new.pid != old.pid and time.time() - new.began >= SETTLE_SECONDS:
            return ""
        time.sleep(PAUSE_SECONDS)
    return Sentence(
        "%(name)s was ended for its new certificate and does not run again after %(limit)s s; see "
        "its log below /var/log/pods.",
        name=name,
        limit=round(seconds),
    )


def end(pid: int, number: int) -> None:
    """One that has ended meanwhile is what is wanted."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> None:
    module = AnsibleModule(argument_spec={"wait_seconds": {"type": "int", "default": 180}})
    host, restarted = HostFiles(), []
    for name in issued.USES:
        if not issued.works_with_older(host, name):
            continue
        restarted.append(name)
        problem = restart(host, name, module.params["wait_seconds"])
        if problem:
            module.fail_json(**failure(problem), restarted=restarted)
    module.exit_json(changed=bool(restarted), restarted=restarted)


if __name__ == "__main__":
    main()
