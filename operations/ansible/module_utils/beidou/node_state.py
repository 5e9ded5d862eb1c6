"""How a node looks from its own host: services, kubelet, versions and what the log complains of."""

from __future__ import annotations

import http.client
import re
from collections.abc import Sequence

from ansible.module_utils.beidou.checks import WARNING, Check
from ansible.module_utils.beidou.host_facts import output_of

KLOG_ERROR = re.compile(r"\b[EF]\d{4} \d\d:\d\d:\d\d")
"""klog marks errors in the text; to the journal all lines of the kubelet have one priority."""


def check_service(name: str, state: str) -> Check:
    advice = f"see journalctl -u {name}"
    return Check(f"service:{name}", state == "active", state or "unknown", "active", advice)


def service_state(name: str) -> str:
    shown = output_of("systemctl", "show", "--property=ActiveState", "--value", f"{name}.service")
    return shown.strip()


def check_kubelet_health(host: str, port: int, timeout: float) -> Check:
    name, wanted = "kubelet-health", "ok"
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        body = response.read(200).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        found = f"no answer from {host}:{port}: {error}"
        return Check(name, False, found, wanted, "see journalctl -u kubelet")
    finally:
        connection.close()
    found = body if response.status == 200 else f"HTTP {response.status}: {body}"
    return Check(name, found == "ok", found, wanted, "see journalctl -u kubelet")


def check_kubelet_version(found: str, wanted: str) -> Check:
    advice = "run the step again: it installs the wanted version"
    return Check("kubelet-version", found == wanted, found or "unknown", wanted, advice)


def kubelet_version(program: str) -> str:
    """``v1.36.3`` out of ``Kubernetes v1.36.3``."""
    return output_of(program, "--version").strip().rsplit(" ", 1)[-1]


def check_runtime(answer: str) -> Check:
    """``answer`` is what ``ctr version`` prints: the server's part shows that it really answers."""
    found = re.search(r"Server:\s+Version:\s+(\S+)", answer)
    return Check(
        "containerd-answers",
        found is not None,
        f"version {found.group(1)}" if found else "no answer",
        "an answer on its socket",
        "see journalctl -u containerd",
    )


def check_processes(running: Sequence[str], wanted: Sequence[str]) -> list[Check]:
    return [
        Check(
            f"process:{name}",
            name in running,
            "runs" if name in running else "does not run",
            "runs",
            "see the pods of kube-system on this node",
        )
        for name in wanted
    ]


def errors_in_log(log: str) -> list[str]:
    return [line for line in log.splitlines() if KLOG_ERROR.search(line)]


def check_log(errors: Sequence[str], minutes: int) -> Check:
    """Never blocks: a starting kubelet complains of what is about to come."""
    return Check(
        "kubelet-log",
        not errors,
        f"{len(errors)} errors, last: {errors[-1][:300]}" if errors else "no errors",
        f"no errors within {minutes} minutes",
        "see journalctl -u kubelet",
        WARNING,
    )
