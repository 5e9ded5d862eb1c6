"""What the measures of events share: API servers that have nothing but events, the collector that
reads them, and where it keeps them.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from django.conf import settings

from bench.event_server import VERSION
from clusters.drivers import kubeconfig
from clusters.drivers.connection import Connection
from clusters.drivers.transport import Transport
from clusters.models import Cluster, ClusterCredential
from tests.fakes.authority import Authority

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Served:
    """API servers of ``bench.event_server``."""

    port: int
    ca_pem: str
    clusters: int

    def connection(self, cluster: int = 0) -> Connection:
        return self._at(f"/{cluster}")

    def _at(self, path: str) -> Connection:
        return Connection(
            server=f"https://127.0.0.1:{self.port}{path}",
            ca_pem=self.ca_pem,
            token="bench",  # noqa: S106
        )

    def adopt(self) -> None:
        """In place of all clusters that there are, and of what waits of theirs."""
        Cluster.objects.all().delete()
        shutil.rmtree(Path(settings.DATA_DIR) / "spool", ignore_errors=True)
        for number in range(self.clusters):
            connection = self.connection(number)
            cluster = Cluster.objects.create(
                name=f"stream-{number}",
                uid=f"bench-{self.port}-{number}",
                server=connection.server,
                version="v1.36.3",
            )
            ClusterCredential.objects.create(
                cluster=cluster, kubeconfig=kubeconfig.to_kubeconfig(connection)
            )

    def stop(self) -> int:
        """No further events; gives how many there are in all."""
        return self._ask("/stop")["events"]

    @property
    def newest(self) -> int:
        """The newest version of any cluster."""
        return VERSION + self._ask("/sent")["most"]

    def _ask(self, path: str) -> dict[str, int]:
        transport = Transport(self._at(""), cluster_name="bench", timeout=10)
        found: dict[str, int] = json.loads(transport.call("GET", path, action="ask"))
        transport.close()
        return found


@contextmanager
def served(clusters: int = 1, *, at_once: int = 0, rate: int = 0) -> Iterator[Served]:
    """Each with ``at_once`` events, and ``rate`` more a second once all are watched."""
    authority = Authority("bench")
    issued = authority.issue("server", names=("127.0.0.1",))
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        certificate.write_text(issued.certificate_pem)
        key.write_text(issued.key_pem)
        numbers = [str(each) for each in (clusters, at_once, rate)]
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.event_server", certificate, key, *numbers],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield Served(port, authority.ca_pem, clusters)
        finally:
            process.kill()
            process.wait()


@contextmanager
def collecting(address: str) -> Iterator[psutil.Process]:
    """A collector that stores at ``address``, as BEIDOU_EVENT_STORE_URL says it."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "collect"],
        cwd=ROOT,
        env={**os.environ, "BEIDOU_EVENT_STORE_URL": address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=30)
