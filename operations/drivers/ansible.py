"""Run one playbook with ansible-runner: private, isolated, stoppable, and told event by event.

Everything a run needs lies in a 0700 folder that is removed afterwards: inventory, variables, keys
and known hosts.  Nothing of the portal user's own SSH or Ansible configuration is read.  Host keys
must match the pinned ones.  ansible-runner's event files are not written; the events go to
``on_event``.
"""

import os
import shlex
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible_runner.config.runner import RunnerConfig
from ansible_runner.runner import Runner

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence, joined, spoken
from beidou.base.storable import storable
from operations.drivers import built_modules, processes

ROOT = Path(__file__).resolve().parent.parent / "ansible"
ASK_SECONDS = 0.5


@dataclass(frozen=True)
class Host:
    """One host of the inventory; ``key`` is its name there and in every event.

    ``private_key`` carries no passphrase; ``host_key`` is ``type base64``; ``variables`` are its
    own.
    """

    key: str
    address: str
    port: int
    user: str
    host_key: str
    private_key: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    become: bool = False
    become_password: str = field(default="", repr=False)
    variables: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """A playbook that is none of ours: ``write`` puts its source into a folder that is not there
    yet.

    It runs with its source's roles and collections and with no module of ours, where it cannot see
    ``hidden``; without ``must_hide`` it runs also where the system cannot hide them.  ``limit`` are
    those hosts of the inventory that it works on; empty: all of them.
    """

    playbook: str
    write: Callable[[Path], None]
    hidden: tuple[Path, ...]
    must_hide: bool
    limit: tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """``kind``: task (one begins), ok, changed, failed, unreachable, skipped, item or text."""

    kind: str
    host: str
    task: str
    result: Mapping[str, Any]
    text: str = ""


@dataclass(frozen=True)
class Outcome:
    """``status``: successful, failed or canceled; ``failed`` hosts with ansible's message.

    ``recap`` is ansible's own at the end, by host: how many tasks were ok, changed, failed,
    unreachable …; without one it did not come to its end.
    """

    status: str
    failed: Mapping[str, str]
    recap: Mapping[str, Mapping[str, int]] | None = None
    last_text: str = ""


_ERROR = "[ERROR]"
_KINDS = {
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
}


def run_playbook(
    *,
    playbook: str,
    hosts: Sequence[Host],
    variables: Mapping[str, Any],
    folder: Path,
    mark: str,
    forks: int,
    on_event: Callable[[Event], None],
    should_stop: Callable[[], bool],
    site: Site | None = None,
) -> Outcome:
    """Run ``playbooks/<playbook>.yml``, or the ``site``'s, on ``hosts``; returns when nothing of it
    is left here.

    ``folder`` is made and removed; ``mark`` names the run in the environment of its processes.
    ``should_stop`` is asked about twice a second, and alone ends a run that takes too long.  What
    runs on the hosts in units of its own is not ended here.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    # A short path: sockets allow about 100 characters.  Named by the run, so that the folder of one
    # that was killed is found.
    sockets = tempfile.mkdtemp(prefix=f"{mark}-", dir=processes.private_folder())
    try:
        return _run(
            playbook, hosts, variables, folder, sockets, mark, forks, on_event, should_stop, site
        )
    finally:
        processes.end_marked(mark)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(sockets, ignore_errors=True)


def socket_folders() -> Iterator[tuple[str, Path]]:
    """The mark of a run, and its folder of SSH control sockets: all that are on this machine and
    belong to our user, whatever portal they are of."""
    for folder in processes.private_folder().glob("*-*"):
        try:
            found = folder.lstat()
        except OSError:
            continue  # removed just now
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            yield folder.name.rpartition("-")[0], folder


def _run(
    playbook: str,
    hosts: Sequence[Host],
    variables: Mapping[str, Any],
    folder: Path,
    sockets: str,
    mark: str,
    forks: int,
    on_event: Callable[[Event], None],
    should_stop: Callable[[], bool],
    site: Site | None,
) -> Outcome:
    inventory = write_inventory(hosts, folder)
    reached = _reached(folder) if site is not None else {}
    _write(folder / "variables.yml", as_plain_yaml({**variables, **reached}))
    collector = _Collector(on_event)
    envvars = environment(folder, sockets, mark)
    envvars["ANSIBLE_INVENTORY_ENABLED"] = "yaml"  # ours; five other plugins need not be loaded
    path = ROOT / "playbooks" / f"{playbook}.yml"
    options = ["--forks", str(forks), "--extra-vars", f"@{folder / 'variables.yml'}"]
    prefix = processes.isolation()
    if site is None:
        envvars |= built_modules.variables(ROOT, folder.parent)
    else:
        source = folder / "source"
        site.write(source)
        path = source / site.playbook
        envvars |= _of_source(source)
        if site.limit:
            _write(folder / "limit", "\n".join([*site.limit, "localhost"]) + "\n")
            options += ["--limit", f"@{folder / 'limit'}"]
        prefix = _hiding(site, folder, Path(sockets))
    config = RunnerConfig(
        private_data_dir=str(folder),
        playbook=str(path),
        inventory=str(inventory),
        ident="run",
        envvars=envvars,
        cmdline=shlex.join(options),
        suppress_output_file=True,
        suppress_ansible_output=True,
        quiet=True,
    )
    config.prepare()
    # Settings that are given to it, and not in a file, are lost in prepare().
    config.pexpect_timeout = ASK_SECONDS
    config.env = _without_ours(config.env, envvars)
    config.command = [*prefix, *config.command]
    runner = Runner(config, event_handler=collector.handle, cancel_callback=should_stop)
    status, _code = runner.run()
    if status == "error" or (status == "failed" and not collector.saw_host):
        raise PermanentError(
            Sentence(
                "The playbook %(playbook)s could not start: %(why)s",
                playbook=playbook,
                why=collector.last_text or Sentence("no output"),
            ),
            code="playbook_broken",
        )
    return Outcome(status, collector.failed, collector.recap, collector.last_text)


def _hiding(site: Site, folder: Path, sockets: Path) -> tuple[str, ...]:
    """Sockets of other runs lead to machines that are none of this one's."""
    hidden = (*site.hidden, processes.private_folder())
    prefix = processes.hiding(hidden, run=folder, own=sockets)
    if not prefix and site.must_hide:
        raise PermanentError(
            Sentence(
                "The worker's machine cannot hide the portal's own files from a playbook (no mount "
                "namespaces). Allow unprivileged user namespaces there, or see "
                "BEIDOU_PLAYBOOK_ISOLATION."
            ),
            code="not_isolated",
        )
    return prefix or processes.isolation()


def _of_source(source: Path) -> dict[str, str]:
    return {
        "ANSIBLE_CONFIG": str(ROOT / "site.cfg"),
        "ANSIBLE_ROLES_PATH": str(source / "roles"),
        "ANSIBLE_COLLECTIONS_PATH": str(source / "collections"),
        "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "False",
    }


def _reached(folder: Path) -> dict[str, Any]:
    """Variables that win over all of a source's: which options and programs SSH is called with.

    Settings do not: any ``vars`` of a play replaces them, and the pinned host keys with them.
    """
    extra = ("ssh_common", "ssh_extra", "sftp_extra", "scp_extra")
    checking = ("host_key_checking", "ssh_host_key_checking", "paramiko_host_key_checking")
    return {
        "ansible_ssh_args": _ssh_options(folder),
        **{f"ansible_{name}_args": "" for name in extra},
        **{f"ansible_{name}_executable": name for name in ("ssh", "sftp", "scp")},
        **{f"ansible_{name}": True for name in checking},
    }


def _without_ours(prepared: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """ansible-runner puts the environment on top of the worker's own, in which our settings and
    keys are; what it adds itself stays."""
    return {
        name: value
        for name, value in prepared.items()
        if name in wanted or os.environ.get(name) != value
    }


def write_inventory(hosts: Sequence[Host], folder: Path) -> Path:
    """Write inventory, keys and known hosts; returns the inventory's path."""
    known, entries = [], {}
    for host in hosts:
        place = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
        known.append(f"{place} {host.host_key}")
        entry: dict[str, Any] = {
            "ansible_host": host.address,
            "ansible_port": host.port,
            "ansible_user": host.user,
            "ansible_become": host.become,
            "ansible_python_interpreter": "/usr/bin/python3",
            **host.variables,
        }
        if host.private_key:
            key = folder / f"key-{host.key}"
            _write(key, host.private_key.rstrip() + "\n")
            entry["ansible_ssh_private_key_file"] = str(key)
        if host.password:
            entry["ansible_password"] = host.password
        if host.become_password:
            entry["ansible_become_password"] = host.become_password
        entries[host.key] = entry
    _write(folder / "known_hosts", "\n".join(known) + "\n")
    inventory = folder / "inventory.yml"
    groups: dict[str, list[str]] = {}
    for host in hosts:
        for name in host.groups:
            groups.setdefault(name, []).append(host.key)
    _write(inventory, as_inventory(entries, groups))
    return inventory


def _ssh_options(folder: Path) -> str:
    options = [
        "-F /dev/null",
        f"-o UserKnownHostsFile={folder / 'known_hosts'}",
        "-o GlobalKnownHostsFile=/dev/null",
        "-o StrictHostKeyChecking=yes",
        "-o IdentitiesOnly=yes",
        "-o IdentityAgent=none",
        "-o ServerAliveInterval=5",
        "-o ServerAliveCountMax=3",
        "-o ControlMaster=auto",
        "-o ControlPersist=60s",
    ]
    return " ".join(options)


def environment(folder: Path, sockets: str, mark: str) -> dict[str, str]:
    """The whole environment of a run: nothing of the portal's own settings or keys is in it."""
    return {
        processes.MARK: mark,
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin",
             "/usr/sbin", "/sbin"]
        ),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "ansible-home"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_ARGS": _ssh_options(folder),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
        "ANSIBLE_TIMEOUT": "15",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
    }  # fmt: skip


class _Plain(str):
    """Text that ansible must take as it is."""


_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _PlainDumper(_Dumper):  # type: ignore[misc]
    """Writes ``_Plain`` with ansible's tag ``!unsafe``, which keeps Jinja away from it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_PlainDumper.add_representer(
    _Plain, lambda dumper, data: dumper.represent_scalar("!unsafe", str(data), style='"')
)


def as_plain_yaml(value: Any) -> str:
    """``value`` as YAML in which no text is ever a template, be it a value or a key.

    Parameters, hostnames and what nodes report about themselves reach playbooks as variables.
    Ansible evaluates ``{{ … }}`` in variables on the portal's machine; a label like ``{{
    lookup('pipe', …) }}`` would run a command there.  Keys count too: ``dict2items`` makes values
    of them.
    """
    return _dump(_plain(value))


def as_inventory(
    hosts: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Hosts, their variables and groups as an inventory, as plain as ``as_plain_yaml``.

    Only the words of the inventory's own structure are bare.
    """
    whole: dict[str, Any] = {"hosts": _plain(hosts)}
    if groups:
        whole["children"] = {
            name: {"hosts": _plain(dict.fromkeys(keys, {}))} for name, keys in groups.items()
        }
    return _dump({"all": whole})


def _dump(value: Any) -> str:
    return yaml.dump(value, Dumper=_PlainDumper, allow_unicode=True, width=1 << 20)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _Plain(value)
    if isinstance(value, Mapping):
        return {_Plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


class _Collector:
    """Turns ansible-runner's events into ours; called for every event, so it must stay quick.

    Ansible hands on as surrogates what a host says in bytes that are no UTF-8.  They end here, so
    that nothing behind this point fails because of what one host said.
    """

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self.on_event = on_event
        self.failed: dict[str, str] = {}
        self.saw_host = False
        self.last_text = ""
        self.recap: dict[str, dict[str, int]] | None = None

    def handle(self, event: Mapping[str, Any]) -> bool:
        name = event.get("event", "")
        data: Mapping[str, Any] = event.get("event_data") or {}
        if name in _KINDS:
            self._host(name, data)
        elif name == "playbook_on_task_start":
            self.on_event(Event("task", "", storable(str(data.get("task", ""))), {}))
        elif name == "playbook_on_stats":
            self.recap = _recap(data)
        elif name in ("verbose", "warning", "error", "system_warning", "deprecated"):
            text = storable(str(event.get("stdout", ""))).strip()
            if text:
                # An error comes line by line, and its last one says least.
                is_more = self.last_text.startswith(_ERROR) and not text.startswith(_ERROR)
                self.last_text = f"{self.last_text}\n{text}" if is_more else text
                self.on_event(Event("text", "", "", {}, text))
        return False  # ansible-runner then writes no file for the event

    def _host(self, name: str, data: Mapping[str, Any]) -> None:
        self.saw_host = True
        result: Mapping[str, Any] = storable(data.get("res") or {})
        host, task = str(data.get("host", "")), storable(str(data.get("task", "")))
        kind = _KINDS[name]
        if kind == "ok" and result.get("changed"):
            kind = "changed"
        if kind in ("failed", "unreachable"):
            if data.get("ignore_errors"):
                kind = "ok"
            else:
                self.failed.setdefault(host, joined([task, message_of(result)], ": "))
        self.on_event(Event(kind, host, task, result))


_RECAP = {
    "ok": "ok", "changed": "changed", "failures": "failed", "dark": "unreachable",
    "skipped": "skipped", "rescued": "rescued", "ignored": "ignored",
}  # fmt: skip


def _recap(data: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """By host, of those that ansible has done anything with."""
    counts: dict[str, dict[str, int]] = {
        str(host): dict.fromkeys(_RECAP.values(), 0) for host in data.get("processed") or {}
    }
    for theirs, ours in _RECAP.items():
        for host, count in (data.get(theirs) or {}).items():
            counts.setdefault(str(host), dict.fromkeys(_RECAP.values(), 0))[ours] = int(count)
    return counts


def message_of(result: Mapping[str, Any]) -> str:
    """The most telling words of a failed result; our own modules send a sentence."""
    sentence = spoken(result.get("sentence"))
    if isinstance(sentence, Sentence):
        return sentence
    for name in ("msg", "stderr", "module_stderr", "stdout", "module_stdout", "reason"):
        text = str(result.get(name) or "").strip()
        if text and text != "non-zero return code":
            return text
    return Sentence("no message")
