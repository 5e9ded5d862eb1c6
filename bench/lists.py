"""The big lists: server time and queries at full size, and how they grow with ten times the rows.

Through the whole stack of the page (middleware, admin, template) with Django's test client, once as
a superuser and once as a member of a team that is Operator of every cluster.  The rows are as full
as a fleet's: labels, conditions, sums, facts of visits, addresses, and drift of one machine in ten.
Growth is that of CPU seconds between a tenth of the rows and all of them; both fill a page, so the
same rows are drawn.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from beidou.base.models import User
from bench.report import Measure, middle, p95
from clusters.models import Cluster, Node
from clusters.services import grants
from machines.models import Drift, Machine, MachineAddress, MachineFacts

ROUNDS = 15
CLUSTERS = 200
FACTS = {
    "hostname": "node",
    "time": 0,
    "seconds_taken": 1,
    "is_root": True,
    "unread": {f"part {n}": "x" * 60 for n in range(60)},  # as long as a real host's
}
CONDITIONS = [
    {"type": kind, "status": "False", "reason": f"KubeletHasNo{kind}", "message": "x" * 60}
    for kind in ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable", "Ready")
]


def run() -> Iterator[Measure]:
    _clusters(0, CLUSTERS)
    people = _people()
    yield from _measure(people, "node list", "/clusters/node/", 5_000, _nodes)
    yield from _measure(people, "machine list", "/machines/machine/", 50_000, _machines)
    # The last, since ten times as many clusters as a fleet has would change the other lists.
    yield from _measure(
        people, "cluster list", "/clusters/cluster/", CLUSTERS, _more_clusters, grown=True
    )


def _people() -> dict[str, Client]:
    admin = User.objects.create_superuser("bench-admin")
    operator = User.objects.create_user("bench-operator", is_staff=True)
    team = Group.objects.create(name="bench")
    operator.groups.add(team)
    grants.create_grant(team=team, role="operator", label="bench=yes", user=admin)
    clients = {}
    for user in (admin, operator):
        client = Client(SERVER_NAME="127.0.0.1")
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        clients[user.username.removeprefix("bench-")] = client
    return clients


def _measure(
    people: dict[str, Client],
    name: str,
    path: str,
    rows: int,
    fill: Callable[[int, int], None],
    *,
    grown: bool = False,
) -> Iterator[Measure]:
    """``rows`` against a tenth of them, or with ``grown`` against ten times as many."""
    less, more = (rows, rows * 10) if grown else (rows // 10, rows)
    fill(0, less)
    small = {who: _times(client, path) for who, client in people.items()}
    fill(less, more)
    large = {who: _times(client, path) for who, client in people.items()}
    for who in people:
        walls, cpu, queries = (small if grown else large)[who]
        growth = middle(large[who][1]) / middle(small[who][1])
        yield Measure(
            f"{name} as {who}, {rows:,} rows",
            f"p95 {p95(walls) * 1000:.0f} ms ({middle(cpu) * 1000:.0f} ms CPU), {queries} queries",
            f"{more:,} rows cost {growth:.2f} x the time of {less:,}",
            "<= 200 ms, <= 15 queries, <= 1.3 x",
            p95(walls) <= 0.2 and queries <= 15 and growth <= 1.3,
        )


def _times(client: Client, path: str) -> tuple[list[float], list[float], int]:
    """Wall seconds, CPU seconds, and the queries of one request."""
    walls, cpu = [], []
    for number in range(ROUNDS + 2):
        began, used = time.perf_counter(), time.process_time()
        with CaptureQueriesContext(connection) as captured:
            answer = client.get(path)
        if answer.status_code != 200:
            raise RuntimeError(f"{path} answered {answer.status_code}")
        if number >= 2:  # templates and the content of the page cache are warm by then
            walls.append(time.perf_counter() - began)
            cpu.append(time.process_time() - used)
    return walls, cpu, len(captured)


def _machines(low: int, high: int) -> None:
    clusters = list(Cluster.objects.order_by("pk"))
    states = [Machine.State.AVAILABLE, Machine.State.IN_SERVICE, Machine.State.FAULTY]
    Machine.objects.bulk_create(
        (
            Machine(
                address=f"10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}",
                hostname=f"node-{n:06}",
                serial=f"SN{n:08}",
                rack=f"r{n // 40:04}",
                state=states[n % 3],
                cluster=clusters[n % len(clusters)] if n % 3 == 1 else None,
            )
            for n in range(low, high)
        ),
        batch_size=2000,
    )
    _visited(Machine.objects.order_by("pk")[low:high])


def _visited(machines: Iterable[Machine]) -> None:
    """What visits leave: facts of nearly all, two addresses each, drift of one machine in ten."""
    now = timezone.now()
    facts, addresses, drift = [], [], []
    for n, machine in enumerate(machines):
        is_lost = n % 50 == 0
        facts.append(
            MachineFacts(
                machine=machine,
                hostname=machine.hostname,
                facts={} if is_lost else FACTS,
                gathered_at=None if is_lost else now,
                error="No SSH connection" if is_lost else "",
                failed_at=now if is_lost else None,
            )
        )
        addresses += [
            MachineAddress(machine=machine, address=machine.address, interface="eth0"),
            MachineAddress(machine=machine, address=f"fd00::{machine.pk:x}", interface="eth1"),
        ]
        if n % 10 == 0:
            drift += [
                Drift(machine=machine, field="kernel", intended="6.1.0-1", observed="6.1.0-2"),
                Drift(machine=machine, field="memory_mib", intended="524288", observed="491520"),
            ]
    MachineFacts.objects.bulk_create(facts, batch_size=2000)
    MachineAddress.objects.bulk_create(addresses, batch_size=2000)
    Drift.objects.bulk_create(drift, batch_size=2000)


def _clusters(low: int, high: int) -> None:
    Cluster.objects.bulk_create(
        Cluster(
            name=f"list-{n}",
            labels={"bench": "yes"},
            uid=f"list-{n}",
            server="https://x",
            version="v1.36.3",
            health=Cluster.Health.HEALTHY,
            nodes_total=100,
            nodes_ready=99,
            cpu_allocatable=100_000,
            cpu_requested=60_000,
            observed_at=timezone.now(),
        )
        for n in range(low, high)
    )


def _more_clusters(low: int, high: int) -> None:
    """The first are there already."""
    if low:
        _clusters(low, high)
        grants.derive_all()


def _nodes(low: int, high: int) -> None:
    cluster = Cluster.objects.filter(name__startswith="list-").first()
    now = timezone.now()
    Node.objects.bulk_create(
        (
            Node(
                cluster=cluster,
                name=f"node-{n:05}",
                uid=f"uid-{n}",
                is_ready=n % 100 > 0,
                observed_at=now,
                internal_ip=f"10.9.{n // 250}.{n % 250 + 1}",
                roles=["control-plane"] if n < 3 else ["worker"],
                labels={f"example.org/label-{k}": f"value-{n}" for k in range(20)},
                annotations={f"example.org/note-{k}": "x" * 100 for k in range(10)},
                taints=[{"key": "example.org/gpu", "value": "yes", "effect": "NoSchedule"}],
                conditions=CONDITIONS,
                cpu_allocatable=64_000,
                cpu_requested=40_000,
                memory_allocatable=256 << 30,
                memory_requested=100 << 30,
                pods_allocatable=110,
                pods_count=30,
                kubelet_version="v1.36.3",
            )
            for n in range(low, high)
        ),
        batch_size=1000,
    )
