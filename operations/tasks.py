"""Entry points of the queue: an id in, one service call."""

from operations.flows import advance as flows
from operations.flows import looking
from operations.flows.schedules import running
from operations.outside import delivery
from operations.services import dispatch as dispatching
from operations.services import engine, playbook_sources, recovery


def run_step(step_id: int) -> None:
    engine.run_step(step_id)


def dispatch() -> None:
    dispatching.fill()


def maintain() -> None:
    recovery.maintain()
    flows.sweep()


def deliver(request_id: int) -> None:
    delivery.deliver(request_id)


def look_outside(step_id: int) -> None:
    looking.look_outside(step_id)


def advance(task_id: int) -> None:
    flows.advance(task_id)


def run_schedules() -> None:
    running.run_due()


def read_playbooks(source_id: int) -> None:
    playbook_sources.read(source_id)
