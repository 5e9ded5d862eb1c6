"""Facts of hosts: run ``facts_script.py`` on many over SSH and decode what each one prints.

What a host says is foreign input: it is decoded against the shape below with bounds on every
number, and anything else is ``MalformedFacts``.  Lists of a part that could not be read are None,
not empty; ``Facts.unread`` says why.  All sizes are bytes.
"""

from collections.abc import Generator, Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Final

import msgspec

from beidou.base.errors import PermanentError, shorten
from beidou.base.sentences import Sentence
from machines.drivers import ssh

MAX_FACTS_LENGTH: Final = 512 * 1024
_NO_COMMAND: Final = 127

Text = Annotated[str, msgspec.Meta(max_length=1000)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=2**33)]


class MalformedFacts(PermanentError):
    """The host ran the script and did not print facts."""

    code = "malformed_facts"


class OperatingSystem(msgspec.Struct, frozen=True, kw_only=True):
    """``id`` and ``version`` as in os-release ("debian", "12"); ``kernel`` as uname -r."""

    id: Text | None
    version: Text | None
    name: Text | None
    kernel: Text
    architecture: Text


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """Processors that are switched on."""

    model: Text | None
    sockets: Count
    cores: Count
    threads: Count


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """``swap`` is 0 where there is none."""

    total: Size
    swap: Size


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A block device with hardware (or a hypervisor) behind it."""

    name: Text
    size: Size
    is_rotational: bool | None
    model: Text | None
    serial: Text | None


class FileSystem(msgspec.Struct, frozen=True, kw_only=True):
    """Where data written under ``path`` lands; ``free`` is what an ordinary user may fill."""

    path: Text
    mount: Text
    type: Text | None
    size: Size
    free: Size


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface; ``addresses`` carry their prefix length ("10.0.0.5/24")."""

    name: Text
    mac: Text | None
    addresses: list[Text]
    speed_mbit: Count | None
    state: Text | None
    is_physical: bool


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """A display or accelerator device on the PCI bus (a server's console graphics included)."""

    bus: Text
    vendor_id: Text | None
    device_id: Text | None
    name: Text | None
    driver: Text | None


class System(msgspec.Struct, frozen=True, kw_only=True):
    """What firmware and installation say about identity.

    ``uuid`` and ``serial`` need root.  Where firmware gives no UUID, the kubelet reports
    ``machine_id`` as the node's system UUID.
    """

    uuid: Text | None
    serial: Text | None
    vendor: Text | None
    model: Text | None
    asset_tag: Text | None
    machine_id: Text | None
    virtualization: Text | None


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """containerd, dockerd, crio or kubelet as far as they are installed or running."""

    name: Text
    version: Text | None
    is_running: bool


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What one host said about itself at ``time`` (its own clock).

    ``clock_offset`` is its clock minus the portal's in seconds, right to within
    ``clock_uncertainty``: half of the part of the conversation that was not the script's own work.
    """

    hostname: Text
    time: Seconds
    seconds_taken: Seconds
    is_root: bool
    os: OperatingSystem | None = None
    cpu: Cpu | None = None
    memory: Memory | None = None
    disks: list[Disk] | None = None
    filesystems: list[FileSystem] | None = None
    nics: list[Nic] | None = None
    gpus: list[Gpu] | None = None
    system: System | None = None
    boot_time: Size | None = None
    is_time_synchronized: bool | None = None
    programs: list[Program] | None = None
    unread: dict[Text, Text] = {}
    clock_offset: float = 0.0
    clock_uncertainty: float = 0.0


_DECODER: Final = msgspec.json.Decoder(Facts)


def gather(
    targets: Iterable[ssh.Target],
    *,
    concurrency: int = ssh.CONCURRENCY,
    timeout: float = ssh.RUN_TIMEOUT,
    connect_timeout: float = ssh.CONNECT_TIMEOUT,
) -> Generator[tuple[ssh.Target, Facts | ssh.Failure], None, None]:
    """Ask many hosts; yields each one's facts, or why there are none, as soon as it is known."""
    outcomes = ssh.run_many(
        targets,
        script(),
        interpreter="python3",
        concurrency=concurrency,
        timeout=timeout,
        connect_timeout=connect_timeout,
    )
    for target, outcome in outcomes:
        yield target, _facts(target, outcome) if isinstance(outcome, ssh.Result) else outcome


@cache
def script() -> str:
    """Return the program that is sent to the hosts."""
    return Path(__file__).with_name("facts_script.py").read_text(encoding="utf-8")


def _facts(target: ssh.Target, result: ssh.Result) -> Facts | MalformedFacts:
    try:
        return parse(result, place=target.place)
    except MalformedFacts as error:
        return error


def parse(result: ssh.Result, *, place: str) -> Facts:
    """Decode what the script printed at ``place``; raises ``MalformedFacts``."""
    if result.status != 0:
        said = shorten(result.stderr, 200) or Sentence("nothing")
        raise MalformedFacts(
            Sentence("%(place)s has no Python 3, which reading its facts needs.", place=place)
            if result.status == _NO_COMMAND
            else Sentence(
                "Reading the facts of %(place)s ended with status %(status)s; it said: %(said)s",
                place=place,
                status=result.status,
                said=said,
            )
        )
    # A login shell's greeting may come first; the facts are the last line.
    line = result.stdout.rstrip().rpartition("\n")[2]
    if len(line) > MAX_FACTS_LENGTH:
        raise MalformedFacts(
            Sentence(
                "The facts of %(place)s are longer than %(limit)s characters.",
                place=place,
                limit=MAX_FACTS_LENGTH,
            )
        )
    if "\\u0000" in line:  # no database stores it
        raise MalformedFacts(
            Sentence("The facts of %(place)s contain NUL characters.", place=place)
        )
    try:
        facts = _DECODER.decode(line)
    except msgspec.DecodeError as error:
        reason = shorten(str(error), 200)
        raise MalformedFacts(
            Sentence(
                "%(place)s did not print facts but something else: %(why)s.",
                place=place,
                why=reason,
            )
        ) from error
    return _with_clock(facts, result)


def _with_clock(facts: Facts, result: ssh.Result) -> Facts:
    """Compare the host's clock with the middle of the time in which it can have been read."""
    latest = max(result.started_at, result.ended_at - facts.seconds_taken)
    return msgspec.structs.replace(
        facts,
        clock_offset=facts.time - (result.started_at + latest) / 2,
        clock_uncertainty=(latest - result.started_at) / 2,
    )
