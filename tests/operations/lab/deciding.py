"""Work orders of one-click tasks: what asks, and somebody who says yes."""

from tests.operations.lab.portal import wait_until


def asking(portal, task):
    """The open work order, as soon as there is one; or the end of the task."""
    row = portal.api.get(f"auto-operation-tasks/{task}/")
    assert row["status"] not in ("failed", "partial", "canceled"), row
    orders = [order for step in row["steps"] for order in step["orders"]]
    return next((order for order in orders if order["status"] == "open"), None)


def say_yes(portal, approver, task, order):
    """Approve what was seen, and wait until that counts."""
    approver.post(
        f"auto-operation-tasks/{task}/approve/",
        {"order": order["id"], "digest": order["digest"], "reason": "looks right"},
    )
    wait_until(
        lambda: (asking(portal, task) or {"id": 0})["id"] != order["id"],
        "the answer to count",
        120,
    )
