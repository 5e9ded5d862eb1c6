"""The members of etcd as a control plane that stays tells them; the guard is on the host.

See ``operations/ansible/library/etcd_members.py``: what is looked at and what is done about it lie
there in one call.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from beidou.base import sentences
from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence
from operations.kinds import hosts, playbook
from operations.kinds.base import Check, StepRun, check
from operations.kinds.checks import describe
from operations.kinds.control_planes import keeper
from operations.models import OperationMachine

PAUSE_SECONDS = 3.0


@dataclass(frozen=True)
class Member:
    name: str
    is_learner: bool = False
    is_healthy: bool = False
    hosts: frozenset[str] = frozenset()

    @property
    def is_whole(self) -> bool:
        """It votes and answers."""
        return self.is_healthy and not self.is_learner


@dataclass(frozen=True)
class Members:
    """``found``: the leaving one is among them; ``why_it_stays``: why it must not go."""

    members: tuple[Member, ...]
    found: bool = False
    why_it_stays: str = ""

    def without(self, names: Collection[str]) -> "Members":
        """The others, when these are about to be removed."""
        return replace(self, members=tuple(m for m in self.members if m.name not in names))

    @property
    def whole(self) -> set[str]:
        return {each.name for each in self.members if each.is_whole}

    @property
    def sick(self) -> list[str]:
        """Those that do not answer or do not vote."""
        return [each.name or "?" for each in self.members if not each.is_whole]

    def require_own(self, name: str, addresses: Set[str]) -> None:
        """``PermanentError`` when the member ``name`` works on another machine."""
        for each in self.members:
            if each.name == name and each.is_healthy and each.hosts.isdisjoint(addresses):
                raise PermanentError(
                    Sentence(
                        "etcd has a healthy member %(member)s that is another machine: it has the "
                        "address %(found)s, which this machine has not. Nothing was removed.",
                        member=name,
                        found=", ".join(sorted(each.hosts)) or "–",
                    ),
                    code="foreign_member",
                )

    @property
    def voters(self) -> int:
        return sum(not each.is_learner for each in self.members)

    @property
    def has_majority(self) -> bool:
        """Whether anything can be written."""
        return 2 * len(self.whole) > self.voters


def look(run: StepRun, *, leaving: str = "", address: str = "") -> Members:
    return _ask(run, leaving, address, remove=False)


def remove(run: StepRun, *, leaving: str, address: str) -> Members:
    """Have it leave; ``PermanentError`` when the others could not do without.  One that is gone
    already is no failure."""
    return _ask(run, leaving, address, remove=True)


def _ask(run: StepRun, leaving: str, address: str, *, remove: bool) -> Members:
    own = {"etcd_leaving": leaving, "etcd_leaving_address": address, "etcd_remove": remove}
    settings = hosts.settings_of(run.cluster.pk)
    answer = keeper.run_there(
        run, "etcd_members", own, variables=settings.overrides if settings else {}
    )
    return read(answer)


def ask(run: StepRun, member: OperationMachine, variables: Mapping[str, Any]) -> Members:
    """As this control plane of the operation tells them; ``PermanentError`` without an answer."""
    results = playbook.run_playbook(run, "etcd_members", variables=variables, members=[member])
    found = results.find(member, "members")
    if found is None:
        why = results.failed.get(member.pk) or Sentence("etcd gave no answer")
        raise PermanentError(why, code="etcd")
    return read({"members": found})


def read(answer: Mapping[str, Any]) -> Members:
    return Members(
        members=tuple(
            Member(
                name=str(each.get("name", "")),
                is_learner=bool(each.get("is_learner")),
                is_healthy=bool(each.get("is_healthy")),
                hosts=_hosts_of(each),
            )
            for each in answer.get("members", ())
        ),
        found=bool(answer.get("found")),
        why_it_stays=sentences.spoken(answer.get("why_it_stays") or ""),
    )


def _hosts_of(member: Mapping[str, Any]) -> frozenset[str]:
    """Where the others reach it."""
    urls = [str(url) for url in member.get("peer_urls") or ()]
    return frozenset(filter(None, (urlsplit(url).hostname for url in urls)))


def wait_for(
    run: StepRun, name: str, seconds: float, *, ask: Callable[[StepRun], Members] = look
) -> Members:
    """The members once ``name`` is whole, or as they are after that time."""
    return _wait(run, ask, lambda found: name in found.whole, seconds)


def require_whole(run: StepRun, seconds: float, *, but: Collection[str]) -> None:
    """``PermanentError`` unless every member is, leaving out those that are about to join; one that
    has just changed has that time."""
    found = _wait(run, look, lambda found: not found.without(but).sick, seconds)
    whole = whole_check(found.without(but))
    if not whole["ok"]:
        raise PermanentError(
            Sentence("Nothing was begun. %(check)s", check=describe(whole)), code="etcd"
        )


def _wait(
    run: StepRun,
    ask: Callable[[StepRun], Members],
    is_so: Callable[[Members], bool],
    seconds: float,
) -> Members:
    deadline = time.monotonic() + seconds
    while True:
        found = ask(run)
        if is_so(found) or time.monotonic() > deadline:
            return found
        run.stop_if_asked()
        time.sleep(PAUSE_SECONDS)


def leave_waiting(
    run: StepRun, waiting: Sequence[OperationMachine], plane: OperationMachine
) -> None:
    """etcd may be half changed: nobody else is made a member of it before that is mended."""
    for other in waiting:
        run.fail(
            other,
            Sentence(
                "%(machine)s did not join; this machine is prepared and was not begun with. Mend "
                "what is wrong there, then retry.",
                machine=str(plane),
            ),
        )


def whole_check(found: Members) -> Check:
    """Nothing is added to an etcd that lacks a member: the new one would be needed at once."""
    return check(
        "etcd-members",
        not found.sick,
        _listed(found.sick, Sentence("all %(count)s healthy", count=len(found.members))),
        Sentence("every member of etcd healthy and voting"),
        Sentence("mend it, or take its control plane out with RemoveControlPlane, then retry"),
    )


def _listed(sick: Iterable[str], otherwise: Sentence) -> Sentence:
    names = ", ".join(sick)
    return Sentence("not healthy: %(names)s", names=names) if names else otherwise
