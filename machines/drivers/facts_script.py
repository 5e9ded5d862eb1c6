"""What a host is made of: this file is sent to the host and run there; it prints one JSON line.

It uses the standard library of Python 3.6 and newer alone (hence quoted types and no newer
syntax), reads files rather than starting programs, changes nothing, and works without root:
what could not be read is named under ``unread`` with the reason.  Sizes are bytes, times are
seconds since 1970.  ``time`` is taken first, and ``seconds_taken`` at the end, so that the portal
can tell the host's clock from the length of the conversation.
"""

import ctypes
import glob
import json
import os
import re
import socket
import struct
import subprocess
import time

MAIN_PATHS = (
    "/",
    "/var",
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/etcd",
)
# Made by container networks in large numbers; they say nothing about the machine.
POD_INTERFACES = re.compile(
    r"(lo$|veth[0-9a-f]|cali|lxc|cilium|cni|flannel|kube-|docker|br-[0-9a-f]{12}$|nodelocal"
    r"|tunl|ifb|dummy|sit|gre|erspan|ip6)"
)
VIRTUAL_DISKS = re.compile(r"(loop|ram|zram|sr|fd|dm-|md|nbd)")
COMMAND_SECONDS = 5
# What vendors leave in the firmware when they fill in nothing; the same on many machines.
PLACEHOLDER = re.compile(
    r"(to be filled by o\.e\.m\.|default string|system (serial number|product name)|none|n/?a"
    r"|not (specified|available|applicable|present)|unknown|chassis.*tag"
    r"|0+|[0f]{8}-[0f-]+|03000200-0400-.+|\.+)$",
    re.IGNORECASE,
)
MAX_SYNC_ERROR_MICROSECONDS = 16000000  # the kernel's own limit for "synchronized"

unread = {}  # type: dict[str, str]


def read(path: "str") -> "str | None":
    """Return a file's text without the NULs of device trees, None when there is no such file.

    A file that exists and may not be read is noted under ``unread``.
    """
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace").replace("\0", "").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        unread[path] = os.strerror(error.errno or 0)
        return None


def read_int(path: "str") -> "int | None":
    """Return a file's number; interfaces that are down answer with an error or -1."""
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def output(*command: "str") -> "str | None":
    """Return what a program prints, None when it is not installed or does not answer."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return None
    except (OSError, subprocess.TimeoutExpired) as error:
        unread[command[0]] = str(error)
        return None
    return done.stdout.decode("utf-8", "replace").replace("\0", "").strip()


def operating_system() -> "dict[str, object]":
    text = read("/etc/os-release") or read("/usr/lib/os-release") or ""
    values = dict(re.findall(r'^(\w+)=["\']?(.*?)["\']?$', text, re.MULTILINE))
    return {
        "id": values.get("ID"),
        "version": values.get("VERSION_ID"),
        "name": values.get("PRETTY_NAME"),
        "kernel": os.uname().release,
        "architecture": os.uname().machine,
    }


def cpu() -> "dict[str, object]":
    """Count what the kernel has switched on; virtual machines without topology are one socket."""
    sockets = set()
    cores = set()
    for folder in glob.glob("/sys/devices/system/cpu/cpu[0-9]*/topology"):
        package = read_int(folder + "/physical_package_id")
        sockets.add(package)
        cores.add((package, read(folder + "/core_id"), read(folder + "/die_id")))
    text = read("/proc/cpuinfo") or ""
    model = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", text, re.MULTILINE)
    threads = os.sysconf("SC_NPROCESSORS_ONLN")
    return {
        "model": model.group(1).strip() if model else None,
        "sockets": len(sockets) or 1,
        "cores": len(cores) or threads,
        "threads": threads,
    }


def memory() -> "dict[str, object]":
    text = read("/proc/meminfo") or ""
    values = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}
    return {"total": values["MemTotal"], "swap": values.get("SwapTotal", 0)}


def disks() -> "list[dict[str, object]]":
    found = []  # type: list[dict[str, object]]
    for name in sorted(os.listdir("/sys/block")) if os.path.isdir("/sys/block") else []:
        folder = "/sys/block/" + name
        size = (read_int(folder + "/size") or 0) * 512
        if VIRTUAL_DISKS.match(name) or read_int(folder + "/hidden") == 1 or size == 0:
            continue
        rotational = read_int(folder + "/queue/rotational")
        found.append(
            {
                "name": name,
                "size": size,
                "is_rotational": None if rotational is None else rotational == 1,
                "model": read(folder + "/device/model"),
                "serial": read(folder + "/device/serial"),
            }
        )
    return found


def filesystems() -> "list[dict[str, object]]":
    """Say for each path that matters to a node where its data would land and how much fits."""
    kinds = {}
    for line in (read("/proc/self/mounts") or "").splitlines():
        fields = line.split()
        kinds[fields[1].encode().decode("unicode_escape")] = fields[2]
    found = []  # type: list[dict[str, object]]
    for path in MAIN_PATHS:
        existing = path
        while not os.path.isdir(existing):
            existing = os.path.dirname(existing)
        mount = os.path.realpath(existing)
        while mount != "/" and mount not in kinds:
            mount = os.path.dirname(mount)
        try:
            space = os.statvfs(existing)
        except OSError as error:
            unread[existing] = str(error.strerror)
            continue
        found.append(
            {
                "path": path,
                "mount": mount,
                "type": kinds.get(mount),
                "size": space.f_blocks * space.f_frsize,
                "free": space.f_bavail * space.f_frsize,
            }
        )
    return found


def addresses() -> "dict[str, list[str]]":
    """Return interface -> addresses with prefix length, link-local ones left out."""
    found = {}  # type: dict[str, list[str]]
    for line in (output("ip", "-o", "addr", "show") or "").splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[2] in ("inet", "inet6") and " scope link" not in line:
            found.setdefault(fields[1], []).append(fields[3])
    return found or addresses_from_kernel()


def addresses_from_kernel() -> "dict[str, list[str]]":
    """Do without the ip command: the kernel tells the IPv6 addresses and the first IPv4 one."""
    import fcntl  # noqa: PLC0415 - only where the ip command is missing

    found = {}  # type: dict[str, list[str]]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                address = fcntl.ioctl(probe, 0x8915, request)[20:24]  # SIOCGIFADDR
                mask = fcntl.ioctl(probe, 0x891B, request)[20:24]  # SIOCGIFNETMASK
            except OSError:  # an interface without an IPv4 address
                continue
            prefix = bin(struct.unpack(">I", mask)[0]).count("1")
            found[name] = [f"{socket.inet_ntoa(address)}/{prefix}"]
    for line in (read("/proc/net/if_inet6") or "").splitlines():
        address6, _, length, scope, _, name = line.split()
        if scope != "20":
            text = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address6))
            found.setdefault(name, []).append(f"{text}/{int(length, 16)}")
    return found


def nics() -> "list[dict[str, object]]":
    known = addresses()
    found = []  # type: list[dict[str, object]]
    for name in sorted(os.listdir("/sys/class/net")) if os.path.isdir("/sys/class/net") else known:
        folder = "/sys/class/net/" + name
        if POD_INTERFACES.match(name) or name == "bonding_masters":
            continue
        speed = read_int(folder + "/speed")
        found.append(
            {
                "name": name,
                "mac": read(folder + "/address"),
                "addresses": known.get(name.split("@")[0], []),
                "speed_mbit": speed if speed and speed > 0 else None,
                "state": read(folder + "/operstate"),
                "is_physical": os.path.exists(folder + "/device"),
            }
        )
    return found


def gpus() -> "list[dict[str, object]]":
    """List display (03) and accelerator (12) devices, with NVIDIA's own name where it has one."""
    names = {}
    for path in glob.glob("/proc/driver/nvidia/gpus/*/information"):
        model = re.search(r"^Model:\s*(.+)$", read(path) or "", re.MULTILINE)
        if model:
            names[path.split("/")[-2].lower()] = model.group(1).strip()
    found = []  # type: list[dict[str, object]]
    for folder in sorted(glob.glob("/sys/bus/pci/devices/*")):
        bus = os.path.basename(folder).lower()
        if (read(folder + "/class") or "")[:4] not in ("0x03", "0x12"):
            continue
        found.append(
            {
                "bus": bus,
                "vendor_id": read(folder + "/vendor"),
                "device_id": read(folder + "/device"),
                "name": names.get(bus) or pci_name(bus),
                "driver": os.path.basename(os.path.realpath(folder + "/driver"))
                if os.path.exists(folder + "/driver")
                else None,
            }
        )
    return found


def pci_name(bus: "str") -> "str | None":
    fields = re.findall(r'"([^"]*)"', output("lspci", "-mm", "-s", bus) or "")
    return " ".join(fields[1:3]) if len(fields) >= 3 else None


def firmware(path: "str") -> "str | None":
    """Return what the firmware says, None when that is only a placeholder."""
    text = read(path)
    return None if not text or PLACEHOLDER.match(text) else text


def system() -> "dict[str, object]":
    """Read what the firmware says of the machine; UUID and serial number need root."""
    dmi = "/sys/class/dmi/id/"
    tree = "/proc/device-tree/"
    return {
        "uuid": firmware(dmi + "product_uuid") or firmware(tree + "vm,uuid"),
        "serial": firmware(dmi + "product_serial") or firmware(tree + "serial-number"),
        "vendor": firmware(dmi + "sys_vendor"),
        "model": firmware(dmi + "product_name") or firmware(tree + "model"),
        "asset_tag": firmware(dmi + "chassis_asset_tag"),
        "machine_id": read("/etc/machine-id") or None,
        "virtualization": virtualization(),
    }


def virtualization() -> "str | None":
    """Return the hypervisor's or container's kind, "none" on iron, None when nobody can tell."""
    found = output("systemd-detect-virt")
    if found:
        return found
    flags = re.search(r"^flags\s*:.* hypervisor( |$)", read("/proc/cpuinfo") or "", re.MULTILINE)
    return "unknown hypervisor" if flags else None


def boot_time() -> "int | None":
    found = re.search(r"^btime (\d+)$", read("/proc/stat") or "", re.MULTILINE)
    return int(found.group(1)) if found else None


def is_time_synchronized() -> "bool | None":
    """Ask the kernel, as timedatectl does: whoever keeps the time tells it the maximum error."""
    state = ctypes.create_string_buffer(512)  # struct timex with modes=0: read, change nothing
    if ctypes.CDLL(None, use_errno=True).adjtimex(state) < 0:
        unread["adjtimex"] = os.strerror(ctypes.get_errno())
        return None
    maximum_error = struct.unpack_from("4l", state)[3]  # type: int
    return maximum_error < MAX_SYNC_ERROR_MICROSECONDS


def running_programs() -> "set[str]":
    found = set()
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            with open(folder + "/comm", errors="replace") as file:
                found.add(file.read().strip())
        except OSError:  # it ended meanwhile
            continue
    return found


def programs() -> "list[dict[str, object]]":
    """Say of each program a node consists of whether it is there, which one, and running."""
    running = running_programs()
    found = []  # type: list[dict[str, object]]
    for name in ("containerd", "dockerd", "crio", "kubelet"):
        text = output(name, "--version")
        is_running = name in running
        if text is None and not is_running:
            continue
        version = re.search(r"v?\d+\.\d+\.\d+[^\s,]*", text or "")
        found.append(
            {
                "name": name,
                "version": version.group(0) if version else None,
                "is_running": is_running,
            }
        )
    return found


def collect() -> "dict[str, object]":
    """Gather everything; a part that fails is named and does not spoil the others."""
    started = time.time()
    clock = time.monotonic()
    parts = {
        "os": operating_system,
        "cpu": cpu,
        "memory": memory,
        "disks": disks,
        "filesystems": filesystems,
        "nics": nics,
        "gpus": gpus,
        "system": system,
        "boot_time": boot_time,
        "is_time_synchronized": is_time_synchronized,
        "programs": programs,
    }
    facts = {"hostname": os.uname().nodename, "time": started}  # type: dict[str, object]
    for name, gather in parts.items():
        try:
            facts[name] = gather()
        except (OSError, ValueError, LookupError, AttributeError, struct.error) as error:
            unread[name] = f"{type(error).__name__}: {error}"
    facts["is_root"] = os.geteuid() == 0
    facts["unread"] = unread
    facts["seconds_taken"] = time.monotonic() - clock
    return facts


if __name__ == "__main__":
    print(json.dumps(collect()))  # noqa: T201 - the one line the portal reads
