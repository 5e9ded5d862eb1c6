"""Playing the playbook and judging each machine by ansible's own recap.

Exit code 0 is no proof: a machine that no play reached has failed.  What the content says passes
through a masker first, so that no secret that was given to it gets into output, messages or
evidence.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from beidou.base import sentences
from beidou.base.errors import BeidouError, PermanentError
from beidou.base.sentences import Sentence
from operations.drivers import ansible, trees
from operations.drivers.ansible import Event, Host, Outcome, Site
from operations.kinds import hosts, playbook, reaching
from operations.kinds.base import StepRun
from operations.kinds.playbook import PlaybookResults
from operations.models import OperationMachine, PlaybookRun
from operations.playbooks import library
from operations.playbooks.declaration import Playbook
from operations.playbooks.values import Masker

MINUTE: Final = 60
TEXT_MAX: Final = 20_000
_NO_NAMES: Final = frozenset({"localhost", "all", "ungrouped", "127.0.0.1", "::1"})


@dataclass
class Played:
    """By key of the member: ansible's counts, and why it has failed."""

    recap: dict[int, Mapping[str, int]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    results: PlaybookResults = field(default_factory=PlaybookResults)


class _Limit:
    """When the playbook's own time is over; the step's limit and a cancel count as well."""

    def __init__(self, run: StepRun, minutes: int) -> None:
        self.run, self.minutes = run, minutes
        self._end = time.monotonic() + MINUTE * minutes

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._end

    def should_stop(self) -> bool:
        return self.run.should_stop() or self.is_over


def declared_of(run: StepRun) -> Playbook:
    return _stored(run).declared


def _stored(run: StepRun) -> PlaybookRun:
    found = library.run_of(run.operation)
    if found is None:
        raise PermanentError(
            Sentence("What this operation was begun with is not kept any more."), code="gone"
        )
    return found


def play(run: StepRun) -> Played:
    """Batch after batch; machines of batches that are not begun have failed, and say so."""
    stored = _stored(run)
    declared = stored.declared
    played = Played()
    stage = _Stage(run, stored, _Limit(run, declared.timeout_minutes))
    members = stage.members
    size = declared.serial or max(len(members), 1)
    for begin in range(0, len(members), size):
        batch = members[begin : begin + size]
        if why := _why_not_begun(declared, played, len(members), stage.limit):
            played.failed.update({member.pk: why for member in batch})
            continue
        if len(members) > size:
            run.say(
                Sentence(
                    "Machines %(first)s to %(last)s of %(count)s",
                    first=begin + 1,
                    last=begin + len(batch),
                    count=len(members),
                )  # fmt: skip
            )
        stage.play(declared.playbook, batch, played)
    return played


def _why_not_begun(declared: Playbook, played: Played, total: int, limit: _Limit) -> str:
    if limit.is_over:
        return Sentence(
            "Not begun: the %(minutes)s minutes of the playbook were over.", minutes=limit.minutes
        )
    failed = len(played.failed)
    if failed * 100 <= declared.max_failed_percent * total or not failed:
        return ""
    return Sentence(
        "Not begun: %(failed)s of %(total)s machines had failed, and the playbook allows "
        "%(allowed)s %%.",
        failed=failed, total=total, allowed=declared.max_failed_percent,
    )  # fmt: skip


def confirm(run: StepRun, played: Played) -> None:
    """The recap, and then the playbook that proves it."""
    stored = _stored(run)
    declared = stored.declared
    proof = Played()
    passed = [target for target in run.targets if target.pk not in played.failed]
    if declared.verify and passed:
        run.say(Sentence("Proving it with %(playbook)s.", playbook=declared.verify))
        stage = _Stage(run, stored, _Limit(run, declared.timeout_minutes))
        stage.play(declared.verify, passed, proof)
    for target in list(run.targets):
        counts = played.recap.get(target.pk, {})
        evidence: dict[str, Any] = {
            "playbook": run.params.playbook,
            "revision": stored.revision.revision,
            "content": stored.revision.digest,
            "recap": dict(counts),
        }
        if target.pk in proof.recap:
            evidence["proof"] = dict(proof.recap[target.pk])
        if why := played.failed.get(target.pk):
            checks = played.results.unreached.get(target.pk, [])
            run.fail(target, why, evidence=evidence, checks=checks)
        elif target.pk not in played.recap:
            run.fail(target, _nothing_done(), evidence=evidence)
        elif why := _why_not_proved(target.pk, proof, is_wanted=bool(declared.verify)):
            sentence = Sentence("It is done, but not proved: %(why)s", why=why)
            run.fail(target, sentence, evidence=evidence)
        else:
            run.succeed(target, message=_in_short(counts), evidence=evidence)


def _why_not_proved(key: int, proof: Played, *, is_wanted: bool) -> str:
    if why := proof.failed.get(key):
        return why
    return _nothing_done() if is_wanted and key not in proof.recap else ""


def _nothing_done() -> Sentence:
    return Sentence("The playbook did nothing on this machine.")


def _in_short(counts: Mapping[str, int]) -> str:
    if not counts.get("changed"):
        return Sentence("nothing was changed (%(ok)s tasks)", ok=counts.get("ok", 0))
    return Sentence(
        "%(changed)s of %(ok)s tasks changed something", changed=counts["changed"],
        ok=counts.get("ok", 0),
    )  # fmt: skip


class _Stage:
    """What every play of one step has in common: machines, variables, content."""

    def __init__(self, run: StepRun, stored: PlaybookRun, limit: _Limit) -> None:
        self.run, self.limit = run, limit
        self.declared = stored.declared
        secrets = stored.given_secrets
        self.masked = Masker(secrets)
        self.entries = trees.unpack(bytes(stored.revision.archive))
        self.variables = {
            **{name: value for name, value in run.params.variables.items() if name not in secrets},
            **secrets,
            "beidou_cluster": {
                "name": run.cluster.name,
                "server": run.cluster.server,
                "version": run.cluster.version,
            },
            "beidou_operation": run.operation.name,
        }
        self.hosts: dict[int, Host] = {}
        cluster_settings = hosts.settings_of(run.cluster.pk)
        names = _names(run.targets, self.declared)
        for member in list(run.targets):
            try:
                own = hosts.ansible_host(member, cluster_settings, _about(member))
            except BeidouError as error:
                run.fail(member, error.message, checks=[reaching.refusal(error)])  # it alone
                continue
            groups = tuple(
                name for name, roles in self.declared.groups.items() if member.role in roles
            )
            become = own.become and self.declared.become
            self.hosts[member.pk] = replace(own, key=names[member.pk], groups=groups, become=become)

    @property
    def members(self) -> list[OperationMachine]:
        return [member for member in self.run.targets if member.pk in self.hosts]

    def play(self, path: str, batch: Sequence[OperationMachine], played: Played) -> None:
        """All machines are in the inventory, ``batch`` is worked on."""
        run = self.run
        members = {self.hosts[each.pk].key: each for each in batch if each.pk in self.hosts}
        listener = _Listener(run, members, self.masked, played.results)
        forks = min(run.operation.forks, settings.ANSIBLE_FORKS)
        try:
            outcome = ansible.run_playbook(
                playbook=path,
                hosts=[self.hosts[each.pk] for each in self.members],
                variables=self.variables,
                folder=settings.DATA_DIR / "runs" / run.mark,
                mark=run.mark,
                forks=min(forks, self.declared.machines_at_once or forks),
                on_event=listener,
                should_stop=self.limit.should_stop,
                site=Site(
                    playbook=path,
                    write=lambda folder: trees.write(self.entries, folder),
                    hidden=hidden(),
                    must_hide=settings.PLAYBOOK_ISOLATION == "required",
                    limit=tuple(members) if len(members) < len(self.members) else (),
                ),
            )
        except PermanentError as error:
            raise PermanentError(self.masked(error.message), code=error.code) from None
        run.stop_if_asked()
        self._judge(outcome, members, played)
        playbook.look_at_unreached(run, list(members.values()), played.results)
        for key, why in played.results.failed.items():
            if key in played.results.unreached:
                played.failed[key] = why

    def _judge(
        self, outcome: Outcome, members: Mapping[str, OperationMachine], played: Played
    ) -> None:
        recap = outcome.recap
        others = self._failed_elsewhere(recap or {})
        for key, member in members.items():
            counts = (recap or {}).get(key)
            if counts is not None:
                played.recap[member.pk] = counts
            if why := self._why_failed(outcome, key, counts, others):
                played.failed[member.pk] = why
                played.results.failed.setdefault(member.pk, why)

    def _why_failed(
        self, outcome: Outcome, key: str, counts: Mapping[str, int] | None, elsewhere: str
    ) -> str:
        """Empty when the recap says that everything went well there, and ``elsewhere`` too."""
        if outcome.recap is None:
            if self.limit.is_over:
                return Sentence(
                    "Not done within %(minutes)s minutes; it was ended.",
                    minutes=self.limit.minutes,
                )
            said = self.masked(outcome.last_text) or Sentence("no output")
            return Sentence("The playbook broke off: %(why)s", why=said)
        if counts is not None and (counts["failed"] or counts["unreachable"]):
            said = self.masked(outcome.failed.get(key, ""))
            return said if said else Sentence("A task failed.")
        if elsewhere:
            return elsewhere
        if counts is None or not counts["ok"]:
            return _nothing_done()
        return ""

    def _failed_elsewhere(self, recap: Mapping[str, Mapping[str, int]]) -> str:
        """A play on the portal's own machine that failed: what was to come after it is not done."""
        known = {host.key for host in self.hosts.values()}
        for name, counts in recap.items():
            if name not in known and (counts["failed"] or counts["unreachable"]):
                return Sentence(
                    "The playbook failed on %(host)s, which is no machine of the operation.",
                    host=name,
                )
        return ""


def _names(members: Sequence[OperationMachine], declared: Playbook) -> dict[int, str]:
    """Host names of the inventory: roles of others expect those of the machines.  An address where
    there is none, two are alike, it is the address of one, or it means something else to
    ansible."""
    names = [member.hostname.lower() for member in members]
    taken = {*_NO_NAMES, *declared.groups, *(str(member.address) for member in members)}
    return {
        member.pk: name if name and name not in taken and names.count(name) == 1
        else str(member.address)
        for member, name in zip(members, names, strict=True)
    }  # fmt: skip


def _about(member: OperationMachine) -> dict[str, Any]:
    node = member.machine.node if member.machine is not None else None
    return {
        "beidou_machine": {
            "address": str(member.address),
            "hostname": member.hostname,
            "role": member.role,
            "node": node.name if node is not None else "",
        }
    }


def hidden() -> tuple[Path, ...]:
    """What a playbook of the site must not see of the portal: keys, database, sockets, settings."""
    places = [settings.DATA_DIR, *settings.PLAYBOOK_HIDDEN]
    database = settings.DATABASES["default"]
    if "sqlite3" in database["ENGINE"]:
        places += [Path(f"{database['NAME']}{end}") for end in ("", "-wal", "-shm")]
    elif str(database.get("HOST", "")).startswith("/"):
        places.append(Path(str(database["HOST"])))
    return tuple(places)


class _Listener:
    """Turns events into output, without the secrets."""

    def __init__(
        self,
        run: StepRun,
        members: Mapping[str, OperationMachine],
        masked: Masker,
        results: PlaybookResults,
    ) -> None:
        self.run, self.members, self.masked, self.results = run, members, masked, results

    def __call__(self, event: Event) -> None:
        task, text = self.masked(event.task), self.masked(event.text)[:TEXT_MAX]
        member = self.members.get(event.host)
        if event.kind == "task":
            self.run.say(f"— {task}")
        elif event.kind == "text":
            self.run.say(text, level="warning")
        elif event.kind == "skipped":
            return
        else:
            self._host(event, task, member)

    def _host(self, event: Event, task: str, member: OperationMachine | None) -> None:
        result = self.masked(event.result)
        name = "" if member is not None else f"{event.host}: "
        if event.kind in ("failed", "unreachable"):
            said = ansible.message_of(result)
            sentence = sentences.joined([f"{name}{task}", said[:TEXT_MAX]], ": ")
            self.run.say(sentence, target=member, level="error")
            if member is not None:
                self.results.failed.setdefault(member.pk, sentence)
                if event.kind == "unreachable":
                    self.results.unreachable.add(member.pk)
            return
        if member is not None:
            self.results.tasks.setdefault(member.pk, {})[task] = {}
        self.run.say(f"{name}{task}: {event.kind}", target=member)
        for key in ("msg", "stdout", "stderr"):
            said = result.get(key)
            if isinstance(said, str) and said.strip():
                self.run.say(said.rstrip()[:TEXT_MAX], target=member)
