"""How well a node's host is now: what was read is judged here, so that made-up values can be tried.

Two limits each: beyond the first is a warning, beyond the second an error.  What the kubelet itself
acts on (eviction at 10 % of a disk, at 5 % of its inodes) is warned of before it does.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta, timezone

from ansible.module_utils.beidou.checks import ERROR, WARNING, Check, listed
from ansible.module_utils.beidou.sentences import Sentence

GIB = 1 << 30
DISK_PERCENT = (15, 5)
INODES_PERCENT = (10, 3)
MEMORY_PERCENT = (10, 3)
HANDLES_PERCENT = (20, 5)
LOAD_PER_CPU = 2.0
CERTIFICATE_DAYS = (30, 3)
RUNTIME_ERROR = re.compile(r"\blevel=(error|fatal|panic)\b")
CRI_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d) \w+ \w ")


def check_disk(path: str, total: int, free: int) -> Check:
    """``free`` is what programs without special rights may still write."""
    advice = Sentence("delete what is not needed (images, logs, core files), or add space")
    found = Sentence(
        "%(percent)d %% free (%(gib)s GiB)", percent=_share(free, total), gib=f"{free / GIB:.1f}"
    )
    return _left(f"disk:{path}", free, total, DISK_PERCENT, found, advice)


def check_inodes(path: str, total: int, free: int) -> Check:
    """File systems that make inodes as they need them tell a total of 0."""
    advice = Sentence("find the folder with very many small files and empty it")
    if not total:
        found = Sentence("not limited")
        return Check(f"inodes:{path}", True, found, _at_least(INODES_PERCENT[0]), advice)
    found = Sentence("%(percent)d %% free", percent=_share(free, total))
    return _left(f"inodes:{path}", free, total, INODES_PERCENT, found, advice)


def check_memory(kib: Mapping[str, int]) -> Check:
    """``kib`` is /proc/meminfo."""
    total, free = kib.get("MemTotal", 0), kib.get("MemAvailable", 0)
    found = Sentence(
        "%(percent)d %% available (%(mib)d MiB)", percent=_share(free, total), mib=free // 1024
    )
    advice = Sentence("see what uses the memory; move pods away or limit them")
    return _left("memory", free, total, MEMORY_PERCENT, found, advice)


def check_swap(kib: Mapping[str, int]) -> Check:
    used = kib.get("SwapTotal", 0) - kib.get("SwapFree", 0)
    found = Sentence("%(mib)d MiB in use", mib=used // 1024)
    advice = Sentence("see what uses the memory; switch swap off unless the kubelet manages it")
    return Check("swap", used <= 0, found, Sentence("none in use"), advice, WARNING)


def check_load(loadavg: str, cpus: int) -> Check:
    """The average of five minutes; a warning, as a load says nothing about who suffers from it."""
    fields = loadavg.split()
    load = float(fields[1]) if len(fields) > 1 else 0.0
    return Check(
        "load",
        load <= LOAD_PER_CPU * cpus,
        Sentence("%(load)s on %(cpus)d processors", load=f"{load:.1f}", cpus=cpus),
        Sentence("at most %(load)s over five minutes", load=f"{LOAD_PER_CPU * cpus:g}"),
        Sentence("see what keeps the processors busy or waits for disks"),
        WARNING,
    )


def check_file_handles(file_nr: str) -> Check:
    """``file_nr`` is /proc/sys/fs/file-nr: allocated, unused, greatest number."""
    numbers = [int(field) for field in file_nr.split() if field.isdigit()]
    used, most = (numbers[0] - numbers[1], numbers[2]) if len(numbers) == 3 else (0, 0)
    found = Sentence("%(used)d of %(most)d in use", used=used, most=most)
    advice = Sentence("find the process with very many open files, or raise fs.file-max")
    return _left("file-handles", most - used, most, HANDLES_PERCENT, found, advice)


def check_certificate(name: str, ends: datetime | None, now: datetime, severity: str) -> Check:
    """``severity`` is the worst that its end means; ``ends`` is None for what cannot be read."""
    wanted = Sentence("valid for %(days)d days and more", days=CERTIFICATE_DAYS[0])
    if ends is None:
        found, advice = Sentence("no certificate"), Sentence("look at the file on the host")
        return Check(f"certificate:{name}", False, found, wanted, advice, WARNING)
    left = ends - now
    day = ends.strftime("%Y-%m-%d")
    found = (
        Sentence("ended on %(day)s", day=day)
        if left <= timedelta(0)
        else Sentence("ends on %(day)s, in %(days)d days", day=day, days=left.days)
    )
    return Check(
        f"certificate:{name}",
        left >= timedelta(days=CERTIFICATE_DAYS[0]),
        found,
        wanted,
        Sentence("renew it: kubeadm certs renew on control planes, the kubelet renews its own"),
        severity if left < timedelta(days=CERTIFICATE_DAYS[1]) else WARNING,
    )


def check_name_servers(answers: Mapping[str, str]) -> Check:
    """``answers`` is server -> why it did not answer, empty where it did.

    A warning: whether a name that the node needs resolves, the way to the API server tells.
    """
    silent: list[str] = [
        Sentence("%(server)s (%(why)s)", server=server, why=why)
        for server, why in answers.items()
        if why
    ]
    advice = Sentence("correct /etc/resolv.conf or bring the name server back")
    wanted = Sentence("every name server of the host answers")
    if not answers:
        return Check("dns", False, Sentence("no name server is set"), wanted, advice, WARNING)
    found = (
        Sentence("no answer from %(servers)s", servers=listed(silent))
        if silent
        else Sentence("%(servers)s answer", servers=listed(list(answers)))
    )
    return Check("dns", not silent, found, wanted, advice, WARNING)


def check_log(name: str, errors: Sequence[str], minutes: float, tolerated: int) -> Check:
    """A warning: what an error means to the node, the other checks tell."""
    found = (
        Sentence("errors: %(count)d, last: %(last)s", count=len(errors), last=errors[-1][:300])
        if errors
        else Sentence("no errors")
    )
    return Check(
        f"log:{name}",
        len(errors) <= tolerated,
        found,
        Sentence(
            "errors: at most %(count)d in %(minutes)d min",
            count=tolerated,
            minutes=max(1, math.ceil(minutes)),  # of a unit that has just started it is 0
        ),
        Sentence("read the log of %(name)s on the host", name=name),
        WARNING,
    )


def runtime_errors(log: str) -> list[str]:
    """Lines of containerd, docker or cri-o that these call errors."""
    return [line.split(": ", 1)[-1] for line in log.splitlines() if RUNTIME_ERROR.search(line)]


def container_errors(log: str, pattern: re.Pattern[str], since: float) -> list[str]:
    """Errors in the log file of a container, as runtimes write it: time, stream, tag, text."""
    found = []
    for line in log.splitlines():
        head = CRI_LINE.match(line)
        if head and pattern.search(line) and _unix(head[1], head[2]) >= since:
            found.append(line[head.end() :])
    return found


def _unix(local: str, zone: str) -> float:
    offset = timedelta(0)
    if zone != "Z":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
        offset = -offset if zone[0] == "-" else offset
    moment = datetime.strptime(local, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)  # noqa: UP017
    return (moment - offset).timestamp()


def name_servers(resolv_conf: str) -> list[str]:
    return re.findall(r"^nameserver\s+(\S+)", resolv_conf, re.MULTILINE)


def dns_question(number: int) -> bytes:
    """Who serves the root? Whoever answers anything at all to that is there."""
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + b"\0" + struct.pack(">HH", 2, 1)


def is_answer(data: bytes, number: int) -> bool:
    return len(data) >= 12 and struct.unpack(">H", data[:2])[0] == number and bool(data[2] & 0x80)


def chosen_runtime(reported: str, loaded: Collection[str]) -> str:
    """The unit of the container runtime: as Kubernetes reports it (``containerd://1.7``), else
    the first that the host has."""
    kind = reported.split("://", 1)[0]
    known = {"containerd": "containerd", "docker": "docker", "cri-o": "crio"}
    if kind in known:
        return known[kind]
    return next((unit for unit in known.values() if unit in loaded), "containerd")


def _share(part: int, whole: int) -> int:
    return 100 * part // whole if whole > 0 else 0


def _at_least(percent: int) -> Sentence:
    return Sentence("at least %(percent)d %% free", percent=percent)


def _left(
    name: str, free: int, total: int, limits: tuple[int, int], found: str, advice: str
) -> Check:
    """Judge what is left by two limits in percent."""
    share = 100 * free / total if total > 0 else 0.0
    severity = ERROR if share < limits[1] else WARNING
    return Check(name, share >= limits[0], found, _at_least(limits[0]), advice, severity)
