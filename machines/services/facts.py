"""Visits over SSH: ask many machines at once for their facts, and store what each one says."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import msgspec
import structlog
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django_q.models import OrmQ

from beidou.base import audit, context, permissions
from beidou.base.errors import BeidouError, Conflict, ExternalError
from beidou.base.sentences import Sentence
from beidou.base.tasks import WORK, enqueue_on_commit
from machines.drivers import facts as facts_driver
from machines.drivers import ssh
from machines.models import Machine, MachineAddress, MachineFacts, SshCredential
from machines.services import credentials, drift, host_keys, lifecycle, registration, signing

logger = structlog.get_logger(__name__)

GATHER: Final = "machines.tasks.gather_facts"  # the task of the queue
MACHINES_PER_TASK: Final = 200
STALE_EVERY_MINUTES: Final = 30  # how often the clock looks for old facts
QUEUE_LOOKED_AT: Final = 500  # the newest tasks of the queue
KEYS_PER_QUERY: Final = 500
SCANS_AT_ONCE: Final = 30
FRESH_FOR: Final = timedelta(hours=24)
TRY_AGAIN_AFTER: Final = timedelta(hours=1)
_LOCAL: Final = ("127.", "::1", "fe80:", "169.254.")


@dataclass(frozen=True)
class Request:
    """What came of asking for visits: machines that will be visited, and sentences why not."""

    accepted: list[Machine]
    refused: dict[int, str]


def request_gathering(*, machines: Sequence[Machine], acting_user: Any) -> Request:
    """Have the worker visit these machines soon."""
    accepted: list[Machine] = []
    refused: dict[int, str] = {}
    known = signing.by_machine(machines)
    for machine in machines:
        permissions.require(acting_user, machine, permissions.OPERATE)
        problem = (
            host_keys.blocked_reason(machine)
            if machine.pk in known
            else credentials.no_credential(machine)
        )
        if problem:
            refused[machine.pk] = problem
        else:
            accepted.append(machine)
    _queue(accepted)
    return Request(accepted=accepted, refused=refused)


def _queue(machines: Sequence[Machine]) -> None:
    """Visits that a person asked for, so many per task as a worker visits at once."""
    with transaction.atomic():
        for start in range(0, len(machines), MACHINES_PER_TASK):
            chunk = machines[start : start + MACHINES_PER_TASK]
            audit.record(
                "gather facts",
                chunk[0] if len(chunk) == 1 else None,
                name="" if len(chunk) == 1 else f"{len(chunk)} machines",
                after={"machines": [str(machine.address) for machine in chunk]},
            )
            enqueue_on_commit(GATHER, *[each.pk for each in chunk])


def visit_new(*, machines: Sequence[Machine], acting_user: Any) -> None:
    """Visit machines right after they were added, as far as they can be: a person who adds one
    wants to know at once whether it answers, and it becomes Available by the visit."""
    ready = [
        machine
        for machine in machines
        if signing.credential_of(machine) is not None
        and permissions.may(acting_user, machine, permissions.OPERATE)
    ]
    if ready:
        request_gathering(machines=ready, acting_user=acting_user)


def visit_imported(*, keys: Sequence[int], acting_user: Any) -> int:
    """Visit the machines of an imported file that never were; returns how many will be.

    Few queries, however long the file.  What is more than the clock would ask for at once is left
    to the clock, which takes those never visited first.
    """
    limit = asked_at_once(Machine.objects.count())
    operable = permissions.visible_to(acting_user, Machine.objects.all(), permissions.OPERATE)
    unvisited = operable.filter(signing.has_one(), offered_host_key="", facts__isnull=True)
    unvisited = unvisited.exclude(state=Machine.State.RETIRED).order_by("pk")
    found: list[Machine] = []
    for start in range(0, len(keys), KEYS_PER_QUERY):
        if len(found) >= limit:
            break
        chunk = keys[start : start + KEYS_PER_QUERY]
        found += unvisited.filter(pk__in=chunk)[: limit - len(found)]
    _queue(found)
    return len(found)


def request_stale(limit: int | None = None) -> int:
    """Have the machines visited whose facts are old; the clock calls this.

    Those never visited come first.  Nothing is asked for while visits still wait in the
    queue: a slow worker would get the same machines again.
    """
    if _visits_wait():
        return 0
    if limit is None:
        limit = asked_at_once(Machine.objects.count())
    now = timezone.now()
    due = (
        Machine.objects.filter(signing.has_one(), offered_host_key="")
        .exclude(state=Machine.State.RETIRED)
        .filter(
            Q(facts__isnull=True)
            | Q(facts__gathered_at__isnull=True)
            | Q(facts__gathered_at__lt=now - FRESH_FOR)
        )
        .exclude(facts__failed_at__gt=now - TRY_AGAIN_AFTER)
        .order_by(F("facts__gathered_at").asc(nulls_first=True), "pk")
        .values_list("pk", flat=True)[:limit]
    )
    keys = list(due)
    with transaction.atomic():
        for start in range(0, len(keys), MACHINES_PER_TASK):
            enqueue_on_commit(GATHER, *keys[start : start + MACHINES_PER_TASK])
    return len(keys)


def asked_at_once(fleet: int) -> int:
    """So many machines per call that the fleet is visited twice while facts stay fresh."""
    calls = FRESH_FOR // timedelta(minutes=STALE_EVERY_MINUTES)
    return max(1000, 2 * fleet // calls)


def _visits_wait() -> bool:
    """Whether visits are queued that no worker has finished.  A queue in Redis cannot be looked
    into; what is due twice there is visited twice, which costs time and nothing else."""
    waiting = OrmQ.objects.filter(key=WORK).order_by("-pk")[:QUEUE_LOOKED_AT]
    return any(each.func() == GATHER for each in waiting)


def gather(machine_ids: Iterable[int], *, concurrency: int = ssh.CONCURRENCY) -> dict[int, str]:
    """Visit the machines and store what they say; returns key -> what went wrong ("" for nothing).

    Each answer is stored as it arrives, so one hanging host holds up nobody, and a worker that dies
    loses only what was under way.
    """
    machines = list(Machine.objects.filter(pk__in=list(machine_ids)).select_related("credential"))
    known = signing.by_machine(machines)
    outcomes: dict[int, str] = {}
    for machine, error in _pin_unknown(machines, known):
        outcomes[machine.pk] = _kept(machine, error)
    targets: dict[ssh.Target, Machine] = {}
    for machine in machines:
        if machine.pk in outcomes:
            continue
        try:
            target = credentials.target_for(machine, credential=known.get(machine.pk))
            targets[target] = machine
        except BeidouError as error:
            outcomes[machine.pk] = _kept(machine, error)
    for target, answer in facts_driver.gather(targets, concurrency=concurrency):
        machine = targets[target]
        outcomes[machine.pk] = _kept(machine, answer)
    logger.info(
        "facts_gathered",
        machines=len(outcomes),
        failed=sum(1 for each in outcomes.values() if each),
    )
    return outcomes


def _kept(machine: Machine, answer: facts_driver.Facts | BeidouError) -> str:
    """Store one answer and say what was wrong; a machine that was deleted or got another address
    meanwhile stops no other's."""
    try:
        if isinstance(answer, facts_driver.Facts):
            store(machine, answer)
            return ""
        return store_failure(machine, answer)
    except Machine.DoesNotExist:
        logger.info("visited_machine_is_gone", machine=str(machine.address))
        return _gone(machine).message
    except host_keys.Moved as moved:
        logger.info("visited_machine_has_moved", machine=str(machine.address))
        return moved.message


def _gone(machine: Machine) -> Conflict:
    return Conflict(
        Sentence("%(machine)s was deleted while it was visited.", machine=machine), code="gone"
    )


def _pin_unknown(
    machines: Sequence[Machine], known: Mapping[int, SshCredential]
) -> Iterator[tuple[Machine, BeidouError]]:
    """First contact with those whose key is not known yet; yields those that did not answer."""
    unknown = [
        each
        for each in machines
        if not each.host_key and each.pk in known and not each.offered_host_key
    ]
    if not unknown:
        return
    with ThreadPoolExecutor(SCANS_AT_ONCE, thread_name_prefix="scan-host-key") as pool:
        scans = [
            (each, pool.submit(_scan, str(each.address), known[each.pk].port)) for each in unknown
        ]
        for machine, scan in scans:
            answer = scan.result()
            if not isinstance(answer, ssh.HostKey):
                yield machine, answer
                continue
            try:
                host_keys.pin(machine=machine, key=answer)
            except Machine.DoesNotExist:
                yield machine, _gone(machine)
            except host_keys.Moved as moved:
                yield machine, moved


def _scan(address: str, port: int) -> ssh.HostKey | ExternalError:
    try:
        return ssh.scan_host_key(address, port)
    except ExternalError as error:
        return error


def store(machine: Machine, found: facts_driver.Facts) -> None:
    """Keep a successful visit: facts, addresses, drift; a newcomer that is no node becomes free."""
    system = found.system
    with audit.entries_last():
        _lock(machine)
        MachineFacts.objects.update_or_create(
            machine=machine,
            defaults={
                "facts": msgspec.to_builtins(found),
                "gathered_at": timezone.now(),
                "hostname": found.hostname[:253],
                "system_uuid": ((system and system.uuid) or "")[:64].lower(),
                "os_machine_id": ((system and system.machine_id) or "")[:64].lower(),
                "error": "",
                "failed_at": None,
            },
        )
        _store_addresses(machine, found)
        drift.refresh([machine])
        if machine.state == Machine.State.DISCOVERED and not registration.is_node(machine):
            lifecycle.transition(
                machine=machine,
                to=Machine.State.AVAILABLE,
                reason=Sentence("first visit over SSH succeeded"),
            )


def _lock(machine: Machine) -> None:
    """Keep the row from being deleted or edited until the transaction ends, and bring ``machine``
    up to date: a visit takes a while, and drift is against what is intended now.

    Raises ``Machine.DoesNotExist`` (a foreign key alone is checked too late: at the commit) and
    ``host_keys.Moved``.
    """
    current = Machine.objects.select_for_update().get(pk=machine.pk)
    host_keys.require_unmoved(current, machine)
    machine.refresh_from_db()


def _store_addresses(machine: Machine, found: facts_driver.Facts) -> None:
    if found.nics is None:
        return
    seen: dict[str, str] = {}
    for nic in found.nics:
        for text in nic.addresses:
            address = text.split("/")[0].split("%")[0].lower()
            if not address.startswith(_LOCAL):
                seen.setdefault(address[:45], nic.name[:64])
    MachineAddress.objects.filter(machine=machine).exclude(address__in=seen).delete()
    MachineAddress.objects.bulk_create(
        [
            MachineAddress(machine=machine, address=address, interface=name)
            for address, name in seen.items()
        ],
        ignore_conflicts=True,
    )


def store_failure(machine: Machine, error: BeidouError) -> str:
    """Keep why a visit failed beside the facts of the last good one; returns the sentence."""
    if isinstance(error, ssh.HostKeyChanged):
        host_keys.offer(machine=machine, key=error.presented)
    with transaction.atomic():
        _lock(machine)
        MachineFacts.objects.update_or_create(
            machine=machine, defaults={"error": error.message, "failed_at": timezone.now()}
        )
    logger.info(
        "facts_failed",
        machine=str(machine.address),
        code=error.code,
        by=context.current().actor_name,
    )
    return error.message
