"""How a node looks from its own host: services, kubelet, versions and what the log complains of."""

from __future__ import annotations

import http.client
import re
from collections.abc import Sequence

from ansible.module_utils.beidou.checks import WARNING, Check
from ansible.module_utils.beidou.host_facts import output_of
from ansible.module_utils.beidou.reach import describe
from ansible.module_utils.beidou.sentences import Sentence

KLOG_ERROR = re.compile(r"\b[EF]\d{4} \d\d:\d\d:\d\d")
"""klog marks errors in the text; to the journal all lines of the kubelet have one priority."""


def check_service(name: str, state: str) -> Check:
    found = state or Sentence("unknown")
    return Check(f"service:{name}", state == "active", found, "active", see_log_of(name))


def see_log_of(unit: str) -> Sentence:
    return Sentence("see journalctl -u %(unit)s", unit=unit)


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
        found = Sentence(
            "no answer from %(place)s: %(why)s",
            place=f"{host}:{port}",
            why=describe(error, timeout),
        )
        return Check(name, False, found, wanted, see_log_of("kubelet"))
    finally:
        connection.close()
    found = body if response.status == 200 else f"HTTP {response.status}: {body}"
    return Check(name, found == "ok", found, wanted, see_log_of("kubelet"))


def check_kubelet_version(found: str, wanted: str) -> Check:
    advice = Sentence("run the step again: it installs the wanted version")
    shown = found or Sentence("unknown")
    return Check("kubelet-version", found == wanted, shown, wanted, advice)


def kubelet_version(program: str) -> str:
    """``v1.36.3`` out of ``Kubernetes v1.36.3``."""
    return output_of(program, "--version").strip().rsplit(" ", 1)[-1]


def check_runtime(answer: str) -> Check:
    """``answer`` is what ``ctr version`` prints: the server's part shows that it really answers."""
    found = re.search(r"Server:\s+Version:\s+(\S+)", answer)
    return Check(
        "containerd-answers",
        found is not None,
        Sentence("version %(version)s", version=found.group(1)) if found else Sentence("no answer"),
        Sentence("an answer on its socket"),
        see_log_of("containerd"),
    )


def check_processes(running: Sequence[str], wanted: Sequence[str]) -> list[Check]:
    return [
        Check(
            f"process:{name}",
            name in running,
            Sentence("runs") if name in running else Sentence("does not run"),
            Sentence("runs"),
            Sentence("see the pods of kube-system on this node"),
        )
        for name in wanted
    ]


def service_age(name: str, now: float) -> float:
    """Seconds since the service became active, by the clock systemd uses; 0 if it is not."""
    wanted = "--property=ActiveEnterTimestampMonotonic"
    shown = output_of("systemctl", "show", wanted, "--value", f"{name}.service").strip()
    return now - int(shown) / 1e6 if shown.isdigit() and shown != "0" else 0.0


def errors_in_log(log: str, since: float) -> list[str]:
    """Lines of ``journalctl --output=short-unix`` that klog calls errors, from ``since`` on."""
    return [
        line.split(": ", 1)[-1]
        for line in log.splitlines()
        if KLOG_ERROR.search(line) and _time_of(line) >= since
    ]


def _time_of(line: str) -> float:
    found = re.match(r"\d+\.\d+", line)
    return float(found.group()) if found else 0.0


def check_log(errors: Sequence[str], looked_back: float) -> Check:
    """Never blocks: what an error means to the node, the other checks tell."""
    return Check(
        "kubelet-log",
        not errors,
        Sentence("errors: %(count)d, last: %(last)s", count=len(errors), last=errors[-1][:300])
        if errors
        else Sentence("no errors"),
        Sentence("no errors within %(seconds)d s", seconds=round(looked_back)),
        see_log_of("kubelet"),
        WARNING,
    )
