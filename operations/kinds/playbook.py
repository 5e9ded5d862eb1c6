"""A playbook as the ``act`` of a step: inventory of the step's machines, live output, structured
results.

Only the machines concerned are in the inventory, so the cost grows with them and not with the
cluster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from beidou.base import sentences
from beidou.base.errors import BeidouError
from beidou.base.sentences import Sentence
from machines.drivers import ssh
from operations.drivers import ansible
from operations.kinds import hosts, reaching
from operations.kinds.base import Check, StepRun
from operations.models import OperationMachine

# Ansible's own first task of every role with an argument_specs.yml; of interest when it fails.
_ARGUMENT_CHECK = "Validating arguments against arg spec"
_OF_A_CHECK = frozenset({"check", "ok", "found", "wanted", "advice"})


@dataclass
class PlaybookResults:
    """Per machine (key of OperationMachine): the results of its tasks by task name, and failures.

    A machine is in ``failed`` when ansible gave it up, with ansible's words, and in ``unreached``
    with its checks when it could not be signed in to; one whose every task went well is not thereby
    through: that is for ``confirm`` to say.
    """

    tasks: dict[int, dict[str, Mapping[str, Any]]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    unreachable: set[int] = field(default_factory=set)
    unreached: dict[int, list[Check]] = field(default_factory=dict)

    def checks(self, target: OperationMachine) -> Sequence[Check]:
        """What our modules found on it or, without that, how far signing in came."""
        return self.find(target, "checks") or self.unreached.get(target.pk, [])

    def find(self, target: OperationMachine, key: str) -> Any:
        """The newest task result of ``target`` that contains ``key``; None without one.

        Our modules send sentences as JSON; here they become some."""
        for result in reversed(list(self.tasks.get(target.pk, {}).values())):
            if key in result:
                return sentences.spoken(result[key])
        return None


class _Listener:
    """Turns events into output lines and results."""

    def __init__(self, run: StepRun, members: Sequence[OperationMachine]) -> None:
        self.run = run
        self.members = {f"m{member.pk}": member for member in members}
        self.results = PlaybookResults()

    def __call__(self, event: ansible.Event) -> None:
        member = self.members.get(event.host)
        if _ARGUMENT_CHECK in event.task and event.kind in ("task", "ok"):
            return
        if event.kind == "task":
            self.run.say(f"— {event.task}")
        elif event.kind == "text" or member is None:
            self.run.say(event.text or event.task, level="warning")
        else:
            self._host(event, member)

    def _host(self, event: ansible.Event, member: OperationMachine) -> None:
        if event.kind == "skipped":
            return
        if event.kind in ("failed", "unreachable"):
            message = ansible.message_of(event.result)
            sentence = sentences.joined([event.task, message], ": ")
            self.run.say(sentence, target=member, level="error")
            self.results.failed.setdefault(member.pk, sentence)
            if event.kind == "unreachable":
                self.results.unreachable.add(member.pk)
            return
        if not _are_checks(event.result.get("checks", [])):
            nonsense = Sentence(
                "%(task)s: what the machine answered is no list of checks. See what on it changes "
                "the output of programs, then retry.",
                task=event.task,
            )
            self.run.say(nonsense, target=member, level="error")
            self.results.failed.setdefault(member.pk, nonsense)
            return
        self.results.tasks.setdefault(member.pk, {})[event.task] = event.result
        self.run.say(f"{event.task}: {event.kind}", target=member)
        for name in ("stdout", "stderr"):
            text = event.result.get(name)
            if isinstance(text, str) and text.strip():
                self.run.say(text.rstrip(), target=member)


def _are_checks(value: Any) -> bool:
    """Whether they are as our modules send them; whoever has root on a host may send anything."""
    return isinstance(value, list) and all(
        isinstance(check, Mapping) and check.keys() >= _OF_A_CHECK for check in value
    )


def run_playbook(
    run: StepRun,
    playbook: str,
    *,
    variables: Mapping[str, Any],
    per_machine: Mapping[int, Mapping[str, Any]] | None = None,
    members: Sequence[OperationMachine] | None = None,
) -> PlaybookResults:
    """Run ``playbook`` on the step's machines, or on ``members`` of them alone.

    Raises ``Stopped`` when it was ended half way.
    """
    chosen = list(run.targets if members is None else members)
    cluster_settings = hosts.settings_of(run.cluster.pk)
    listener = _Listener(run, chosen)
    entries = []
    for member in chosen:
        try:
            own = (per_machine or {}).get(member.pk, {})
            entries.append(hosts.ansible_host(member, cluster_settings, own))
        except BeidouError as error:
            run.fail(member, error.message, checks=[reaching.refusal(error)])  # this one only
    if not entries:
        return listener.results
    outcome = ansible.run_playbook(
        playbook=playbook,
        hosts=entries,
        variables={"unit_prefix": run.unit_prefix, **variables},
        folder=settings.DATA_DIR / "runs" / run.mark,
        mark=run.mark,
        forks=min(run.operation.forks, settings.ANSIBLE_FORKS),
        on_event=listener,
        should_stop=run.should_stop,
    )
    run.stop_if_asked()
    for key, message in outcome.failed.items():
        listener.results.failed.setdefault(listener.members[key].pk, message)
    look_at_unreached(run, chosen, listener.results)
    return listener.results


def look_at_unreached(
    run: StepRun, members: Sequence[OperationMachine], results: PlaybookResults
) -> None:
    """Say of machines of which nothing was heard why, as far as signing in is to blame.

    Not only those that ansible calls unreachable: with a password it takes a changed host key for a
    failed task.
    """
    silent = [
        member
        for member in members
        if member.pk in results.failed
        and (member.pk in results.unreachable or member.pk not in results.tasks)
    ]
    if not silent:
        return
    for key, checks in reaching.look(run, silent).items():
        if reason := reaching.why(checks):
            results.unreached[key], results.failed[key] = checks, reason


def fail_unreached(run: StepRun, results: PlaybookResults) -> None:
    """Those that the playbook failed on, with what it found."""
    for target in list(run.targets):
        if target.pk in results.failed:
            run.fail(target, results.failed[target.pk], checks=results.checks(target))


def stop_units(run: StepRun) -> None:
    """End what a canceled step left running on its hosts in transient units; says where it could
    not."""
    cluster_settings = hosts.settings_of(run.cluster.pk)
    targets = {}
    for member in run.targets:
        if member.machine is None or not member.machine.host_key:
            continue
        try:
            targets[hosts.ssh_target(member.machine, cluster_settings)] = member
        except BeidouError as error:
            text = f"Nothing could be ended there: {error.message}"
            run.say(text, target=member, level="warning")
    # As the module unit_stop does it: the mark tells a waiting unit_command that it was stopped.
    prefix = run.unit_prefix
    script = (
        f'for d in /run/beidou/{prefix}-*/; do [ -d "$d" ] && touch "$d/stopped"; done; '
        f"rm -f /run/beidou/{prefix}-*.yaml; systemctl stop '{prefix}-*'; "
        f"systemctl reset-failed '{prefix}-*'; true"
    )
    for target, result in ssh.run_many(list(targets), script, timeout=15, connect_timeout=5):
        if isinstance(result, Exception):
            reaching.offer(targets[target], result)
            run.say(
                f"What this step left running could not be ended: {result}",
                target=targets[target],
                level="warning",
            )
