"""Undoing after a failure: with which machines it is done, and how those begin anew.

A step that compensates is done once with each machine that failed in what it compensates, also with
those that fail later.  From then on what was done with such a machine does not count: it takes part
in nothing, until a retry that comes to it has it leave the batches of all that is to be done with
it again, those of the compensation too.
"""

from collections.abc import Collection, Mapping, Sequence

from django.utils.translation import gettext as _

from beidou.base.errors import Conflict
from beidou.base.sentences import Sentence
from operations.flows import catalog, graph, nesting, results
from operations.flows.base import Flow
from operations.flows.models import AutoOperationTask, TaskMachine, TaskPart, TaskStep
from operations.kinds.base import KINDS, Kind
from operations.models import OperationMachine

Status = TaskStep.Status
NAMED_AT_MOST = 10
# In a step's ``progress``: operation, or task below -> addresses of the machines that left it.
LEFT = "left"


# --- with which machines --------------------------------------------------------------------------


def add(flow: Flow, step: TaskStep) -> list[TaskMachine]:
    """The machines that are to be undone, and are in no batch of it yet.  What fails no machine, as
    a gate, an approval, or a task that ended at one, has failed with all that had come to it; a
    task below that failed in part has not: its machines go on."""
    for failed in _failed_as_a_whole(flow, step):
        why = Sentence("Came as far as %(step)s, which failed.", step=catalog.title_of(failed))
        for member in flow.machines(failed.params.get("group", "")):
            flow.fail_machine(member, failed, why)
    return _failed_one_by_one(step)


def is_called_again(flow: Flow, step: TaskStep) -> bool:
    """Whether machines have failed since it was done."""
    return bool(_failed_one_by_one(step)) or any(
        flow.machines(failed.params.get("group", "")) for failed in _failed_as_a_whole(flow, step)
    )


def _asking(step: TaskStep) -> list[TaskStep]:
    compensated = step.task.steps.filter(key__in=step.compensates).order_by("position")
    return [each for each in compensated if graph.asks_to_undo(each)]


def _failed_as_a_whole(flow: Flow, step: TaskStep) -> list[TaskStep]:
    failed_in = flow.task.failed_in
    return [
        each
        for each in _asking(step)
        if each.kind != "operation" and each.status == Status.FAILED and each.key not in failed_in
    ]


def _failed_one_by_one(step: TaskStep) -> list[TaskMachine]:
    known = [key for part in step.parts.all() for key in part.machines]
    keys = [each.key for each in _asking(step)]
    rows = step.task.machines.filter(failed_in__in=keys, machine__isnull=False)
    return list(rows.exclude(pk__in=known).select_related("machine").order_by("pk"))


# --- what became of it ----------------------------------------------------------------------------


def take(step: TaskStep, part: TaskPart) -> None:
    """As soon as one machine could not be undone nothing further begins."""
    if results.not_through(part):
        _set_failed(step, True)


def _set_failed(step: TaskStep, has_failed: bool) -> None:
    if step.progress.get("has_failed", False) != has_failed:
        step.progress = {**step.progress, "has_failed": has_failed}
        step.save(update_fields=["progress"])


def end(flow: Flow, step: TaskStep) -> None:
    done: list[str] = []
    left: list[str] = []
    for part in step.parts.select_related("operation").order_by("number"):
        for member, result in results.pairs(part):
            is_through = result is not None and results.is_through(result)
            (done if is_through else left).append(member.address)
    if left:
        sentence = Sentence("Not everything could be undone; look at the machines.")
        flow.finish(step, Status.FAILED, sentence)
    elif not done:
        flow.finish(step, Status.SUCCEEDED, results.NONE_LEFT)
    else:
        names = ", ".join(done[:NAMED_AT_MOST])
        flow.finish(
            step,
            Status.SUCCEEDED,
            Sentence(
                "Undone with %(count)s machines (%(names)s); a retry begins anew with them.",
                count=len(done),
                names=names,
            ),
        )


# --- afterwards -----------------------------------------------------------------------------------


def touched(task: AutoOperationTask) -> dict[int, TaskMachine]:
    """Its machines that a compensation has changed since they began themselves, by key; what was
    taken out of the queue, or failed while it looked, has undone nothing."""
    return {
        member.pk: member
        for step in task.steps.exclude(compensates=[])
        for part in step.parts.filter(operation__isnull=False).select_related("operation")
        for member, result in results.pairs(part)
        if result is not None and _has_changed(result)
    }


def _has_changed(result: OperationMachine) -> bool:
    kind = KINDS.get(result.operation.kind)
    names = _touching(kind) if kind is not None else []
    begun = result.cells.filter(started_at__isnull=False)
    return (begun.filter(step__name__in=names) if names else begun).exists()


def begin_anew(
    task: AutoOperationTask, steps: Sequence[TaskStep], keys: Collection[str]
) -> tuple[list[str], set[str]]:
    """For a retry of the steps ``keys``: machines that failed there and were undone leave what has
    to be done with them again.  Their addresses, and the keys of the steps that this is about."""
    going = [each for each in touched(task).values() if each.failed_in in keys]
    leaving: dict[str, set[int]] = {step.key: set() for step in steps}
    for member in going:
        for key in _to_do_again(steps, member):
            leaving[key].add(member.pk)
    again = set()
    failed = {each.pk: each for each in task.machines.filter(failed_in__in=keys)}
    for step in steps:
        if step.compensates:
            # Which of them fail this time is to be seen.
            step.parts.filter(operation=None).delete()
            _set_failed(step, False)
            _leave(step, failed)
        elif _leave(step, {each.pk: each for each in going if each.pk in leaving[step.key]}):
            again.add(step.key)
    return sorted(each.address for each in going), again


def _to_do_again(steps: Sequence[TaskStep], member: TaskMachine) -> set[str]:
    """The steps that could begin with the machine as it is now, and all behind one of those that
    changes machines.  One that was taken out is free, and is brought in again; one of which only a
    setting was taken back is a node still, and is not.  What a person has skipped is not done."""
    state = member.machine.state if member.machine is not None else ""
    by_key = {step.key: step for step in steps}
    found: set[str] = set()
    changing: set[str] = set()
    for step in steps:
        is_its = step.params.get("group", "") in ("", member.group)
        if step.compensates or step.status == Status.SKIPPED or not is_its:
            continue
        kinds = _kinds_of(step)
        is_behind = any(each.key in changing for each in graph.before(step, by_key))
        if kinds and (is_behind or any(state in kind.startable_states for kind in kinds)):
            found.add(step.key)
            if any(_touching(kind) for kind in kinds):
                changing.add(step.key)
    return found


def _touching(kind: Kind) -> list[str]:
    return [step.name for step in kind.steps if step.touches]


def _kinds_of(step: TaskStep) -> list[Kind]:
    """Of the operations that it is, or that are below it."""
    below = [each.params for _place, each in nesting.walk(nesting.below(step.params))]
    names = [params.get("kind", "") for params in (step.params, *below)]
    return [KINDS[name] for name in names if name in KINDS]


def _leave(step: TaskStep, going: Mapping[int, TaskMachine]) -> bool:
    left = {key: set(addresses) for key, addresses in step.progress.get(LEFT, {}).items()}
    before = {key: set(addresses) for key, addresses in left.items()}
    for part in step.parts.filter(operation__isnull=False).select_related("operation"):
        gone = [(member, result) for member, result in results.pairs(part) if member.pk in going]
        if not gone:
            continue
        keys = {member.pk for member, _result in gone}
        part.machines = [key for key in part.machines if key not in keys]
        part.is_to_be_retried = part.is_to_be_retried and bool(part.machines)
        part.save(update_fields=["machines", "is_to_be_retried"])
        addresses = {result.address for _member, result in gone if result is not None}
        left.setdefault(str(part.operation_id), set()).update(addresses)
    if step.kind == nesting.KIND:
        known = {each.address for each in going.values()}
        for child in step.children.all():
            rows = child.machines.filter(address__in=known)
            if addresses := set(rows.values_list("address", flat=True)):
                left.setdefault(str(child.pk), set()).update(addresses)
    if left == before:
        return False
    step.progress = {
        **step.progress,
        LEFT: {key: sorted(addresses) for key, addresses in left.items()},
    }
    step.save(update_fields=["progress"])
    return True


def has_left(step: TaskStep, key: int | None) -> set[str]:
    """The addresses of the machines that this operation, or task below, is not about any more."""
    return set(step.progress.get(LEFT, {}).get(str(key), ()))


def left_out(task: AutoOperationTask, key: str) -> list[str]:
    """The machines that a skip of the step does not let on, because they were undone."""
    return sorted(each.address for each in touched(task).values() if each.failed_in == key)


def refuse_skip(task: AutoOperationTask, key: str) -> None:
    """Of a step behind which no machine would be left."""
    undone = touched(task)
    others = task.machines.exclude(pk__in=undone)
    let_on = others.exclude(state=TaskMachine.State.FAILED) | others.filter(failed_in=key)
    if undone and not let_on.exists():
        raise Conflict(
            _(
                "All machines that came to this step were undone, and none would go on: a retry "
                "begins anew with them."
            ),
            code="undone",
        )
