"""The live page of a large operation in Chromium: how fast it opens, and whether its heap grows.

100 machines, 5 steps and 100,000 lines of output.  Opening is the time from asking for the address
until the machines and the newest lines are drawn, against an operation of one machine and ten
lines.  Then lines keep coming, and a machine changes every half second, for ``MINUTES`` minutes:
the heap after a collection of garbage, and the nodes of the document, at the end against those
after the first tenth, the page being full of lines from the beginning.
``BENCH_MINUTES=30`` watches for half an hour.
"""

import os
import time
from collections.abc import Iterator
from typing import Any

from django.test import Client
from playwright.sync_api import CDPSession, Page, sync_playwright

from beidou.base.models import User
from bench import web
from bench.report import Measure, middle
from clusters.models import Cluster
from operations.kinds import base as kinds
from operations.models import Attempt, MachineStep, Operation, OperationMachine, Step
from operations.services import output
from operations.services.run import EngineRun, lease_end

MINUTES = float(os.environ.get("BENCH_MINUTES", "3"))
CHROMIUM = "/usr/bin/chromium"
MACHINES, STEPS, LINES = 100, 5, 100_000
LINES_PER_SECOND = 50
ROUNDS = 5
SAMPLES = 10
LINES_IN_PAGE = 2_000  # OperationOutput.LIMIT
TEXT = "TASK [containerd : Write the configuration] changed: 10.0.0.17 → mode 0644"


def run() -> Iterator[Measure]:
    # Playwright runs an event loop in this thread, which makes Django careful without need.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    admin = User.objects.create_superuser("bench-live-page")
    large = _operation("bench-large", machines=MACHINES, lines=LINES)
    small = _operation("bench-small", machines=1, lines=10)
    client = Client()
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    session = client.cookies["beidou_session"].value
    with web.process() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.add_cookies([{"name": "beidou_session", "value": session, "url": address}])
        page = context.new_page()
        opened, plain = [], []
        for _ in range(ROUNDS):
            opened.append(_open(page, address, large, machines=MACHINES))
            plain.append(_open(page, address, small, machines=1))
        yield Measure(
            f"live page, {MACHINES} machines x {STEPS} steps and {LINES:,} lines, opens in",
            f"{middle(opened):.2f} s (at most {max(opened):.2f} s)",
            f"1 machine and 10 lines {middle(plain):.2f} s (median of {ROUNDS})",
            "<= 1 s",
            middle(opened) <= 1.0,
        )
        _open(page, address, large, machines=MACHINES)
        samples = _watch(page, context.new_cdp_session(page), large)
        browser.close()
    (heap, nodes), (last_heap, last_nodes) = samples[0], samples[-1]
    yield Measure(
        f"live page after {MINUTES:g} minutes of {LINES_PER_SECOND} lines/s and changes, heap",
        f"{last_heap / heap:.2f} x ({last_heap / 2**20:.1f} MiB), {last_nodes:,} DOM nodes",
        f"after a tenth of the time {heap / 2**20:.1f} MiB, {nodes:,} DOM nodes",
        "<= 1.1 x",
        last_heap <= 1.1 * heap and last_nodes <= 1.1 * nodes,
    )


def _operation(name: str, *, machines: int, lines: int) -> Operation:
    """One in its middle step: the steps before are done on all machines."""
    cluster = Cluster.objects.create(name=name, uid=name, server="https://x")
    operation = Operation.objects.create(
        name=name, kind="ScaleUp", cluster=cluster, status=Operation.Status.RUNNING
    )
    members = OperationMachine.objects.bulk_create(
        OperationMachine(
            operation=operation, address=f"10.99.{number}.1", hostname=f"{name}-{number:03}.example"
        )
        for number in range(machines)
    )
    for position in range(STEPS):
        status = (Step.Status.SUCCEEDED, Step.Status.RUNNING, Step.Status.WAITING)[
            (position > STEPS // 2) + (position >= STEPS // 2)
        ]
        step = Step.objects.create(
            operation=operation,
            position=position,
            name=f"step{position + 1}",
            status=status,
            attempt=1,
            lease_until=lease_end(),
        )
        MachineStep.objects.bulk_create(
            MachineStep(step=step, machine=member, status=status, attempt=1) for member in members
        )
        if status == Step.Status.RUNNING:
            run = _run_of(Attempt.objects.create(step=step, number=1, holder="bench"))
            for number in range(lines):
                run.say(TEXT, target=members[number % machines])
            run.output.flush()
    return operation


def _run_of(attempt: Attempt) -> EngineRun:
    kind = kinds.get("ScaleUp")
    run = EngineRun(attempt=attempt, kind=kind, step_kind=kind.steps[0])
    run.load(list(attempt.step.cells.select_related("machine").order_by("pk")))
    return run


def _open(page: Page, address: str, operation: Operation, *, machines: int) -> float:
    """Seconds until all rows and the newest line are there."""
    newest = output.last_line(operation.pk)
    page.goto("about:blank")
    began = time.perf_counter()
    page.goto(f"{address}/operations/operation/{operation.pk}/change/", wait_until="commit")
    page.wait_for_function(
        """([machines, newest]) =>
            document.querySelectorAll("#op-matrix tr[data-machine]").length === machines
            && Number(document.querySelector("#op-log")?.lastElementChild?.dataset.number) >= newest
        """,
        arg=[machines, newest],
    )
    return time.perf_counter() - began


def _watch(page: Page, tools: CDPSession, operation: Operation) -> list[tuple[int, int]]:
    """Heap in bytes and nodes of the document, ``SAMPLES`` times, while lines and changes come."""
    run = _run_of(Attempt.objects.get(step__operation=operation))
    members = run.targets
    samples: list[tuple[int, int]] = []
    for _ in range(LINES_IN_PAGE):
        run.say(TEXT, target=members[0])
    began, number = time.monotonic(), 0
    while len(samples) < SAMPLES:
        tick = time.monotonic()
        for _ in range(LINES_PER_SECOND // 2):
            run.say(TEXT, target=members[number % len(members)])
        run.note(members[number % len(members)], f"part {number}")
        run.output.flush()
        number += 1
        if time.monotonic() - began >= MINUTES * 60 * (len(samples) + 1) / SAMPLES:
            samples.append(_weigh(tools))
        page.wait_for_timeout(max(0.0, 500 - (time.monotonic() - tick) * 1000))
    shown = page.evaluate(
        "Number(document.querySelector('#op-log').lastElementChild.dataset.number)"
    )
    if shown < LINES + LINES_IN_PAGE + number * (LINES_PER_SECOND // 2) // 2:
        raise RuntimeError(f"The page stands still at line {shown:,}.")
    return samples


def _weigh(tools: CDPSession) -> tuple[int, int]:
    tools.send("HeapProfiler.collectGarbage")
    used: dict[str, Any] = tools.send("Runtime.getHeapUsage")
    counted: dict[str, Any] = tools.send("Memory.getDOMCounters")
    return int(used["usedSize"]), int(counted["nodes"])
