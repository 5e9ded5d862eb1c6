"""What an operation says of its one machine."""

from operations.services import start


def cell_of(operation, step="preCheck"):
    return operation.machines.get().cells.get(step__name=step)


def failed_checks(operation, step="preCheck"):
    return {
        item["check"]
        for item in cell_of(operation, step).checks
        if not item["ok"] and item["severity"] == "error"
    }


def blocked(cluster, machine, operator, **params):
    plan = start.plan_operation(
        kind="ScaleDown", cluster=cluster, machines=[machine], params=params, acting_user=operator
    )
    return [blocker.reason for blocker in plan.blockers]
