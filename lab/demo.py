"""The main job, end to end, through the portal's public API: ``python -m lab demo-up``.

Brings up a lab with a real cluster and two spare machines, starts the portal unless it runs, adopts
the cluster, registers the machines and scales up; ``demo-down`` removes all of it again.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lab import site, state
from lab.client import PortalClient, PortalError
from lab.cluster import LabCluster
from lab.errors import LabError
from lab.fleet import Lab, remove_lab
from lab.hosts import Host

NAME = "demo"
ROOT = Path(__file__).resolve().parent.parent
ADDRESS = f"http://127.0.0.1:{os.environ.get('BEIDOU_PORT', '8000')}"
# What the demo makes, in the order in which it can be removed, and its page.
_PAGES = {
    "clusters": "/clusters/cluster/{}/change/",
    "machines": "/machines/machine/{}/change/",
    "credentials": "/machines/sshcredential/{}/change/",
}
NOT_FOUND, CONFLICT = 404, 409
_SIGNS = {"succeeded": "✓", "failed": "✗", "partial": "✗", "running": "◐", "canceled": "✗"}


def up() -> None:
    """The whole demo; ``LabError`` says where it stopped."""
    began = time.monotonic()
    with _stage("Lab: one cluster, two spare machines"):
        lab = _lab()
        cluster, spares = lab.find_cluster(NAME), _spares(lab)
    with _stage("Portal"):
        _start_portal(lab)
        client = PortalClient(ADDRESS, _token(lab))
    with _stage(f"Adopt the cluster {cluster.name}"):
        made = _Made(lab)
        adopted = _adopt(client, lab, cluster, made)
    with _stage("Register the machines"):
        machines = [_register(client, host, adopted["credential"], made) for host in spares]
        client.post("machines/gather-facts/", {"machines": machines})
        _wait(lambda: _are_available(client, machines), "the machines' facts", 90)
    operation = _scale_up(client, adopted["id"], machines)
    _show_progress(client, operation["id"])
    row = client.get(f"operations/{operation['id']}/")
    if row["status"] != "succeeded":
        raise LabError(f"The operation ended as {row['status']}: {row['message']}\n{row['page']}")
    _prove(cluster, spares)
    print(f"\n{cluster.kubectl('get nodes')}")
    print(f"Done in {time.monotonic() - began:.0f} s. The operation's page: {row['page']}")
    print("Remove everything with: make demo-down")


def down() -> None:
    """Take the demo's rows out of the portal, stop the portal if the demo started it, remove the
    lab."""
    record = state.find(NAME)
    if record is None:
        print("There is no demo.")
        return
    lab = Lab.attach(NAME) if record.is_alive() else None
    if lab is not None:
        client = PortalClient(ADDRESS, _kept_token(lab))
        if client.token and client.answers():
            made = _Made(lab)
            _end_what_runs(client, made)
            _forget(client, made)
            _revoke_token(client)
        _stop_portal(lab)
    remove_lab(record)
    print("The demo is gone.")


# --- lab and portal --------------------------------------------------------------------------


def _lab() -> Lab:
    record = state.find(NAME)
    if record is not None and record.is_alive():
        lab = Lab.attach(NAME)
    else:
        lab = Lab.start(NAME, keep=True)
    if NAME not in lab.cluster_names():
        lab.cluster(NAME, control_planes=1, workers=1)
    if not _spares(lab):
        lab.hosts(2, prefix="spare")
    lab.artifacts()
    return lab


def _spares(lab: Lab) -> list[Host]:
    return [host for host in lab.find_hosts() if host.name.startswith("spare")]


def _start_portal(lab: Lab) -> None:
    client = PortalClient(ADDRESS, "")
    if client.answers():
        return
    _manage("prepare")
    said = _manage("ensure_admin")
    with (lab.folder / "portal.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve"],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (lab.folder / "portal.pid").write_text(str(process.pid))
    _wait(client.answers, f"the portal (its log: {lab.folder / 'portal.log'})", 120)
    if "password" in said:
        print(f"\n    {said.strip()}")


def _stop_portal(lab: Lab) -> None:
    path = lab.folder / "portal.pid"
    if not path.exists():
        return
    with contextlib.suppress(ProcessLookupError):
        pid = int(path.read_text())
        os.kill(pid, signal.SIGINT)
        _wait(lambda: not Path(f"/proc/{pid}").exists(), "the portal to stop", 60)


def _token(lab: Lab) -> str:
    if token := _kept_token(lab):
        return token
    token = _manage("create_token", "admin", "--name", "demo").split()[-1]
    path = lab.folder / "portal.token"
    path.touch(mode=0o600)
    path.write_text(token)
    return token


def _kept_token(lab: Lab) -> str:
    path = lab.folder / "portal.token"
    return path.read_text().strip() if path.exists() else ""


def _manage(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise LabError(f"manage.py {arguments[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


class _Made:
    """What the demo has put into the portal, by kind and key: that alone it uses again and takes
    away, whatever else is called alike."""

    def __init__(self, lab: Lab) -> None:
        self._path = lab.folder / "portal.rows"
        kept = self._path.read_text() if self._path.exists() else "{}"
        self._rows: dict[str, dict[str, int]] = json.loads(kept)

    def find(self, kind: str, name: str) -> int | None:
        return self._rows.get(kind, {}).get(name)

    def all(self, kind: str) -> list[int]:
        return list(self._rows.get(kind, {}).values())

    def keep(self, kind: str, name: str, key: int) -> int:
        self._rows.setdefault(kind, {})[name] = key
        self._path.write_text(json.dumps(self._rows))
        return key


# --- the main job ----------------------------------------------------------------------------


def _adopt(client: PortalClient, lab: Lab, cluster: LabCluster, made: _Made) -> dict[str, Any]:
    key = made.find("clusters", cluster.name)
    if key is None:
        wish = {"name": cluster.name, "kubeconfig": cluster.kubeconfig}
        key = made.keep("clusters", cluster.name, client.post("clusters/", wish)["cluster"]["id"])
    credential = made.find("credentials", NAME)
    if credential is None:
        wish = {"name": NAME, "user": "root", "private_key": lab.ssh_key}
        credential = made.keep("credentials", NAME, client.post("credentials/", wish)["id"])
    client.patch(
        f"operation-settings/{key}/",
        {
            "artifact_source": lab.artifacts().url,
            "credential": credential,
            "policy": site.POLICY,
            "overrides": site.OVERRIDES,
        },
    )
    return {"id": key, "credential": credential}


def _register(client: PortalClient, host: Host, credential: int, made: _Made) -> int:
    key = made.find("machines", host.address)
    if key is None:
        wish = {"address": host.address, "hostname": host.name, "credential": credential}
        key = made.keep("machines", host.address, client.post("machines/", wish)["id"])
    return key


def _are_available(client: PortalClient, machines: list[int]) -> bool:
    states = {client.get(f"machines/{key}/")["state"] for key in machines}
    if "in_service" in states:
        raise LabError("The demo ran already; remove it first with `make demo-down`.")
    return states == {"available"}


def _scale_up(client: PortalClient, cluster: int, machines: list[int]) -> dict[str, Any]:
    body = {
        "kind": "ScaleUp",
        "cluster": cluster,
        "machines": machines,
        "reason": "the demo",
    }
    return dict(client.post("operations/", body))


def _show_progress(client: PortalClient, operation: int) -> None:
    """A bar that moves with the cells of the matrix that are done."""
    began, last = time.monotonic(), ""
    while True:
        row = client.get(f"operations/{operation}/")
        cells = [cell for member in row["machines"] for cell in member["steps"]]
        done = sum(cell["status"] in ("succeeded", "skipped", "failed") for cell in cells)
        width = 24 * done // max(len(cells), 1)
        steps = " ".join(f"{_SIGNS.get(s['status'], '○')} {s['name']}" for s in row["steps"])
        line = (
            f"  Scale up  [{'█' * width}{'░' * (24 - width)}] {done}/{len(cells)}  {steps}"
            f"  {time.monotonic() - began:3.0f} s"
        )
        if sys.stdout.isatty():
            print(f"\r{line}\x1b[K", end="", flush=True)
        elif steps != last:
            print(line, flush=True)
        last = steps
        if row["status"] in ("succeeded", "partial", "failed", "canceled"):
            print()
            return
        time.sleep(0.3)


def _prove(cluster: LabCluster, spares: list[Host]) -> None:
    """Ask the real cluster, not the portal."""
    for host in spares:
        line = cluster.kubectl(f"get node {host.name} --no-headers")
        if " Ready " not in f"{line} ":
            raise LabError(f"Node {host.name} is not Ready and schedulable: {line.strip()}")


def _end_what_runs(client: PortalClient, made: _Made, seconds: float = 120) -> None:
    """Cancel what somebody began on the demo's clusters: while a task or an operation has not
    ended, the portal gives away neither cluster nor machines, nor so the credential.

    What cannot be ended is told, and stops nothing: the lab goes in any case.
    """
    for key in made.all("clusters"):
        try:
            _wait(partial(_cancel_rest, client, key), "what runs to end", seconds)
        except LabError as error:
            print(f"Something on the demo's cluster has not ended: {error}")


def _cancel_rest(client: PortalClient, cluster: int) -> bool:
    """Cancel what can be, tasks first, which begin operations; true once everything has ended."""
    has_ended = True
    for kind in ("auto-operation-tasks", "operations"):
        for row in client.get(f"{kind}/?cluster={cluster}&active=true")["results"]:
            has_ended = False
            if "cancel" not in row["actions"]:
                continue
            try:
                client.post(f"{kind}/{row['id']}/cancel/", {"reason": "the demo is removed"})
            except PortalError as error:
                if error.status != CONFLICT:  # it has ended meanwhile, or goes on to do so
                    raise
    return has_ended


def _forget(client: PortalClient, made: _Made) -> None:
    """Rows that somebody renamed or still needs are told and left; what is gone is gone."""
    for kind, page in _PAGES.items():
        confirmed = f"?confirm={NAME}" if kind == "clusters" else ""
        for key in made.all(kind):
            try:
                client.request("DELETE", f"{kind}/{key}/{confirmed}")
            except PortalError as error:
                if error.status == NOT_FOUND:
                    continue
                why = error.body.get("message", error)
                print(f"Left in the portal, for you to remove: {client.address}{page.format(key)}")
                print(f"  {why}")


def _revoke_token(client: PortalClient) -> None:
    """Its own token, as the last request it allows."""
    for row in client.get("tokens/")["results"]:
        if client.token.startswith(row["hint"]) and row["revoked_at"] is None:
            client.request("DELETE", f"tokens/{row['id']}/")


# --- the terminal ----------------------------------------------------------------------------


@contextlib.contextmanager
def _stage(title: str) -> Iterator[None]:
    print(f"  {title} …", end="", flush=True)
    began = time.monotonic()
    yield
    print(f" {time.monotonic() - began:.1f} s", flush=True)


def _wait(condition: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"Waited {seconds:.0f} s in vain for {what}.")
        time.sleep(0.3)
