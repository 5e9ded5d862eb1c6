"""The driver ``webhook``: the site's own network system does it.

It is told once which machines there are (again with the same key until it has the message), and
answers per machine, at once or by its callback.  What it does not answer in time has failed.  What
it has said yes to is not asked again, also when the worker was lost before that could be written.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from beidou.base.errors import BeidouError, PermanentError, TemporaryError
from beidou.base.sentences import Sentence
from clusters.drivers.objects import NodeInfo
from clusters.models import Cluster
from clusters.services.connections import client_for
from machines.models import Machine
from operations.kinds import joining
from operations.kinds.base import Blocker, StepRun
from operations.models import OperationMachine, Step
from operations.outside import requests, systems
from operations.outside.models import SiteRequest, SiteSystem

LOOK_SECONDS: Final = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
NETWORK = SiteSystem.Purpose.NETWORK


def blockers(cluster: Cluster, machines: Sequence[Machine], params: Any) -> list[Blocker]:
    if systems.find(cluster.pk, NETWORK) is None:
        return [Blocker(None, systems.missing(cluster, NETWORK))]
    return []


def act(run: StepRun) -> Mapping[str, Any]:
    """The answers by address."""
    known = _said_yes_to(run)
    left = [target for target in run.targets if target.address not in known]
    if not left:
        return known
    request = _request(run, left)
    if request.accepted_at is None:
        try:
            _hand_over(run, request)
        except PermanentError as error:
            requests.close(request, error.message)
            for target in left:
                run.fail(target, error.message)
            return known
    return {**known, **_wait(run, request)}


def _step(run: StepRun) -> Step:
    return Step.objects.get(operation=run.operation, name=run.step_name)


def _said_yes_to(run: StepRun) -> dict[str, Any]:
    """What earlier requests of this step brought for machines that are still to be settled."""
    wanted = {target.address for target in run.targets}
    closed = _step(run).site_requests.filter(ended_at__isnull=False)
    return {
        address: said
        for answer in closed.order_by("pk").values_list("answer", flat=True)
        for address, said in answer.items()
        if address in wanted and said["ok"]
    }


def _request(run: StepRun, targets: Sequence[OperationMachine]) -> SiteRequest:
    """The open one of this step, after a lost worker; else a new one about what is to be done."""
    addresses = [target.address for target in targets]
    step = _step(run)
    last = step.site_requests.order_by("pk").last()
    if last is not None and last.ended_at is None:
        if [each["address"] for each in last.data["machines"]] == addresses:
            return last
        requests.close(last)
    return SiteRequest.objects.create(
        cluster=run.cluster,
        purpose=NETWORK,
        step=step,
        data={
            "purpose": "network",
            "action": run.params.action,
            "cluster": run.cluster.name,
            "operation": run.operation.name,
            "by": run.operation.requested_by_name,
            "machines": _machines(run, targets),
        },
    )


def _machines(run: StepRun, targets: Sequence[OperationMachine]) -> list[dict[str, Any]]:
    """What a network system needs to know; of a node that is gone no ranges are known."""
    nodes: dict[str, NodeInfo] = {}
    try:
        with client_for(run.cluster, timeout=15) as client:
            nodes = {node.name: node for node in client.list_nodes()}
    except BeidouError:
        if run.params.action == "add":
            raise
    return [_machine(target, nodes) for target in targets]


def _machine(target: OperationMachine, nodes: Mapping[str, NodeInfo]) -> dict[str, Any]:
    name = joining.linked_node_name(target)
    node = nodes.get(name)
    return {
        "address": target.address,
        "hostname": target.hostname,
        "role": target.role,
        "node": name,
        "pod_cidrs": list(node.pod_cidrs) if node else [],
    }


def _deadline(run: StepRun, request: SiteRequest) -> datetime:
    """Counted from the question, whichever worker waits."""
    return request.created_at + timedelta(minutes=run.params.minutes)


def _hand_over(run: StepRun, request: SiteRequest) -> None:
    """Until the system has it; ``PermanentError`` when it never will."""
    pause = FIRST_PAUSE
    while True:
        run.stop_if_asked()
        SiteRequest.objects.filter(pk=request.pk).update(tries=request.tries + 1)
        request.tries += 1
        try:
            requests.send(request)
        except TemporaryError as error:
            SiteRequest.objects.filter(pk=request.pk).update(last_error=error.message)
            run.say(error.message, level="warning")
            wait = max(pause, min(error.retry_after, LONGEST_PAUSE))
            if timezone.now() + timedelta(seconds=wait) >= _deadline(run, request):
                raise PermanentError(error.message, code=error.code) from error
            _sleep(run, wait)
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            run.say(Sentence("The network system has the request %(key)s.", key=str(request.key)))
            return


def _sleep(run: StepRun, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run.stop_if_asked()
        time.sleep(min(LOOK_SECONDS, max(0.0, end - time.monotonic())))


def _wait(run: StepRun, request: SiteRequest) -> Mapping[str, Any]:
    for target in run.targets:
        run.note(target, Sentence("waiting for the network system"))
    while True:
        run.stop_if_asked()
        request.refresh_from_db()
        if request.ended_at is not None or timezone.now() >= _deadline(run, request):
            requests.close(request)
            request.refresh_from_db()  # what came in the last moment counts
            answers: Mapping[str, Any] = request.answer
            return answers
        _sleep(run, LOOK_SECONDS)


def confirm(run: StepRun, answers: Mapping[str, Any]) -> None:
    """Its own word is all there is: nobody else sees the site's network."""
    for target in list(run.targets):
        said = answers.get(target.address)
        if said is None:
            run.fail(
                target,
                Sentence(
                    "The network system did not answer within %(minutes)s minutes.",
                    minutes=run.params.minutes,
                ),
            )
        elif said["ok"]:
            run.succeed(target, message=said["message"], evidence={"answer": said})
        else:
            run.fail(
                target,
                Sentence(
                    "The network system says no: %(why)s",
                    why=said["message"] or Sentence("no reason given"),
                ),
                evidence={"answer": said},
            )


def give_up(run: StepRun) -> None:
    """After a cancel: answers that come later are refused, so that nobody takes them for done."""
    rows = SiteRequest.objects.filter(step__operation=run.operation, ended_at=None)
    for request in rows:
        requests.close(request, Sentence("Canceled."))
