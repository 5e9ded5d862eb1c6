"""What became of the machines of a step that is an operation, batch by batch, and of the step.

Looked at as often as anybody likes: what is written follows from the rows alone.
"""

from beidou.base.sentences import Sentence, joined
from operations.flows import news
from operations.flows.base import Flow
from operations.flows.models import TaskMachine, TaskPart, TaskStep
from operations.models import Operation, OperationMachine
from operations.services import asking

Status = TaskStep.Status
NAMED_AT_MOST = 10
NONE_LEFT = Sentence("No machine is left that could take part.")


def is_over(part: TaskPart) -> bool:
    operation = part.operation
    return operation is not None and not operation.is_active and not part.is_to_be_retried


def kept(part: TaskPart) -> list[int]:
    """The machines of the batch; those that its operation was begun without leave it."""
    keys: list[int] = part.machines
    if part.operation is None:
        return keys
    taken = set(part.operation.machines.values_list("address", flat=True))
    rows = TaskMachine.objects.filter(pk__in=part.machines, state=TaskMachine.State.WAITING)
    left_out = {key for key, address in rows.values_list("pk", "address") if address not in taken}
    if left_out:
        part.machines = keys = [key for key in keys if key not in left_out]
        part.save(update_fields=["machines"])
    return keys


def members(part: TaskPart) -> list[TaskMachine]:
    rows = TaskMachine.objects.filter(pk__in=part.machines)
    return list(rows.select_related("machine__cluster", "machine__credential").order_by("pk"))


def pairs(part: TaskPart) -> list[tuple[TaskMachine, OperationMachine | None]]:
    """The machines of the batch, each with what its operation says of it, if it was begun with
    it."""
    rows = part.operation.machines.all() if part.operation is not None else ()
    its = {(member.machine_id, member.address): member for member in rows}
    by_address = {address: member for (_key, address), member in its.items()}
    return [
        (each, its.get((each.machine_id, each.address)) or by_address.get(each.address))
        for each in members(part)
    ]


def is_through(result: OperationMachine) -> bool:
    return result.state == OperationMachine.State.SUCCEEDED


def not_through(part: TaskPart) -> list[tuple[TaskMachine, OperationMachine]]:
    """The machines of the batch with which the operation has not succeeded."""
    return [
        (member, result)
        for member, result in pairs(part)
        if result is not None and not is_through(result)
    ]


def take(flow: Flow, step: TaskStep, part: TaskPart, operation: Operation) -> None:
    """What became of each machine; the same however often it is looked at.  One that asks drops out
    as others do, with its question and the names of the answers that a retry may bring."""
    asked = asking.unanswered(operation)
    for member, result in not_through(part):
        if step.compensates or member.state != TaskMachine.State.WAITING:
            continue
        said = result.message or operation.message or Sentence("Canceled.")
        if result.pk in asked:
            names = ", ".join(sorted(asked[result.pk]))
            said = Sentence(
                "Waits for an answer (%(answers)s): %(question)s", answers=names, question=said
            )
        flow.fail_machine(member, step, said)


def count_failed(step: TaskStep) -> tuple[int, int]:
    """How many machines failed here, of how many.  What its operations say counts too: a machine
    that failed in a step beside it before has failed there, and may have failed here as well."""
    parts = list(step.parts.select_related("operation"))
    keys = [key for part in parts for key in part.machines]
    rows = step.task.machines.filter(pk__in=keys, failed_in=step.key)
    failed = set(rows.values_list("pk", flat=True))
    for part in parts:
        if part.operation is not None and is_over(part):
            failed |= {member.pk for member, _result in not_through(part)}
    return len(failed), len(keys)


def tolerated(flow: Flow, step: TaskStep) -> int:
    """Percent of the machines that may fail without failing the step."""
    return 0 if step.params.get("all_or_nothing") else flow.task.max_failed_percent


def end(flow: Flow, step: TaskStep) -> None:
    failed, total = count_failed(step)
    if not failed:
        if not step.parts.exclude(operation=None).exists():
            # All of them have failed elsewhere since it began.
            flow.finish(step, Status.FAILED, NONE_LEFT)
            return
        flow.finish(step, Status.SUCCEEDED, _elsewhere(step))
        return
    allowed = tolerated(flow, step)
    if failed == total:
        # A single operation has said better why.
        said = step.parts.values_list("operation__message", flat=True)
        sentence = Sentence("All %(total)s machines failed.", total=total)
        flow.finish(step, Status.FAILED, said[0] or sentence if len(said) == 1 else sentence)
    elif failed * 100 > allowed * total:
        sentence = Sentence(
            "Stopped: %(failed)s of %(total)s machines failed, more than %(allowed)s %% allowed.",
            failed=failed,
            total=total,
            allowed=allowed,
        )
        flow.finish(step, Status.FAILED, sentence)
    else:
        sentence = Sentence("%(failed)s of %(total)s machines failed.", failed=failed, total=total)
        told = (sentence, _unanswered(step), _elsewhere(step))
        flow.finish(step, Status.PARTIAL, joined(filter(None, told)))


def _unanswered(step: TaskStep) -> str:
    """The machines that dropped out with a question; the end of the task names them, too."""
    names = []
    for part in step.parts.exclude(operation=None).select_related("operation"):
        if part.operation is not None and (asked := asking.unanswered(part.operation)):
            its = not_through(part)
            names += [member.address for member, result in its if result.pk in asked]
    step.progress = {**step.progress, "unanswered": names}
    step.save(update_fields=["progress"])
    return news.unanswered(names)


def _elsewhere(step: TaskStep) -> str:
    """Of machines that are none of the task's: on which it was not done."""
    bad = OperationMachine.objects.filter(
        operation__task_part__step=step, state=OperationMachine.State.FAILED
    ).values_list("address", flat=True)
    own = set(step.task.machines.values_list("address", flat=True))
    names = sorted({*bad, *step.progress.get("left_out", [])} - own)
    if not names:
        return ""
    shown = ", ".join(names[:NAMED_AT_MOST])
    return Sentence("Not done on other machines of the cluster: %(names)s", names=shown)
