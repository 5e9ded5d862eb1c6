"""Every kind of operation, killed at every boundary of a step: nothing lost, nothing done twice, no
process left, and the state tells the truth.

That a step may be done again is each kind's own word; what it then does to real hosts is proved by
the kinds' own tests in the lab, where ansible is killed as well.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil
import pytest

from lab import Lab
from lab.client import PortalError
from tests.operations.durability.points import POINTS
from tests.operations.lab.portal import ROOT, Portal, wait_until

pytestmark = pytest.mark.lab

Stories = dict[str, dict[str, Any]]
SECONDS = 90
DONE_AGAIN = {"acting": 2, "acted": 2, "half-written": 1}  # machines of two, after a loss there


class FragilePortal(Portal):
    """A portal of harmless operations, with what was done to their machines."""

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__(folder)
        self.environment |= {
            "DJANGO_SETTINGS_MODULE": "tests.operations.durability.settings",
            "DURABILITY_FOLDER": str(folder),
            **environment,
        }

    def __enter__(self) -> "FragilePortal":
        super().__enter__()
        with self.log.open("ab") as log:
            self.answering = subprocess.Popen(
                [sys.executable, "manage.py", "answer"], cwd=ROOT, env=self.environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        return self

    def __exit__(self, *exc: object) -> None:
        self.answering.stdin.close()
        self.answering.stdout.close()
        self.answering.wait(timeout=30)
        super().__exit__(*exc)

    def ask(self, *question: Any) -> Any:
        """What the program ``answer`` says."""
        self.answering.stdin.write(f"{json.dumps(question)}\n")
        self.answering.stdin.flush()
        return json.loads(self.answering.stdout.readline())

    def begin_each(self, point: str, victim: str, *kinds: str) -> list[int]:
        return self.ask("begin", point, victim, kinds)

    def tell_each(self, keys: list[int]) -> Stories:
        return {kind_of(name): story for name, story in self.ask("tell", keys).items()}

    def wait_for_each(self, keys: list[int]) -> Stories:
        """What became of them.  A portal that was killed is started again, as systemd would."""

        def ended() -> bool:
            if self.process.poll() is not None:
                wait_until(lambda: self.family() == [], "its processes to be gone", 10)
                self.start()
            try:
                rows = [self.api.get(f"operations/{key}/") for key in keys]
            except (OSError, HTTPException):  # killed, perhaps while it answered
                return False
            except PortalError as error:
                if error.status < 500:
                    raise
                return False  # its database is being started
            return all(row["finished_at"] is not None for row in rows)

        wait_until(ended, "the operations to end", SECONDS)
        return self.tell_each(keys)

    def deeds(self, point: str, victim: str) -> Counter[tuple[str, str, str, str]]:
        """(kind, step, deed, address) and how often it was done, of the operations so named."""
        lines = [line.split() for line in (self.folder / "deeds").read_text().splitlines()]
        return Counter(
            (kind_of(name), step, deed, address)
            for name, step, deed, address in lines
            if name.startswith(f"{point}--{victim}--")
        )

    def family(self) -> list[psutil.Process]:
        """Every process of this portal, wherever it hangs in the tree."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get("DURABILITY_FOLDER") == str(self.folder)
                if is_ours and process.pid != self.answering.pid:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def strays(self) -> list[psutil.Process]:
        return [
            each
            for each in self.family()
            if each.pid != self.process.pid and self.process.pid not in parents_of(each)
        ]


def parents_of(process: psutil.Process) -> set[int]:
    try:
        return {parent.pid for parent in process.parents()}
    except psutil.NoSuchProcess:
        return set()


def kind_of(name: str) -> str:
    return name.rsplit("--", 1)[1]


@pytest.fixture(scope="module")
def portal(tmp_path_factory):
    with FragilePortal(tmp_path_factory.mktemp("fragile")) as portal:
        yield portal


@pytest.fixture(scope="module")
def undisturbed(portal) -> Stories:
    """What becomes of an operation of each kind when nothing is killed."""
    stories = portal.wait_for_each(portal.begin_each("starting", "nobody"))
    assert {story["status"] for story in stories.values()} == {"succeeded"}
    assert {story["ends"] for story in stories.values()} == {1}
    return stories


@pytest.mark.parametrize("point", POINTS)
def test_every_kind_survives_the_death_of_its_worker(portal, undisturbed, point):
    stories = portal.wait_for_each(portal.begin_each(point, "child"))
    assert len(interrupted(portal, point, "child")) == len(stories)
    assert stories == undisturbed
    assert_done_once(portal, point, "child", stories)
    wait_until(lambda: portal.strays() == [], "processes of the killed to be gone", 10)


@pytest.mark.parametrize("point", POINTS)
def test_the_death_of_programs_costs_nothing_but_time(portal, undisturbed, point):
    """Those that only look, and the whole portal with them; the kinds take turns."""
    turn = POINTS.index(point) * 2
    for number, victim in enumerate(("readers", "portal")):
        kind = sorted(undisturbed)[(turn + number) % len(undisturbed)]
        stories = portal.wait_for_each(portal.begin_each(point, victim, kind))
        assert interrupted(portal, point, victim)
        assert stories == {kind: undisturbed[kind]}, victim
        assert_done_once(portal, point, victim, stories)
        wait_until(lambda: portal.strays() == [], "processes of the killed to be gone", 10)


def interrupted(portal: FragilePortal, point: str, victim: str) -> list[str]:
    """The names of the operations that were interrupted."""
    return sorted(each.name for each in portal.folder.glob(f"{point}--{victim}--*"))


def assert_done_once(portal, point: str, victim: str, stories: Stories) -> None:
    """Each machine is settled once in each step, and what is done again is only what was open."""
    deeds = portal.deeds(point, victim)
    names = interrupted(portal, point, victim)
    assert names
    again = 0 if victim == "readers" else DONE_AGAIN.get(point, 0)
    for name in names:
        kind = kind_of(name)
        wanted = 2 * len(stories[kind]["steps"])
        counts = {
            deed: [n for (its, _step, done, _), n in deeds.items() if (its, done) == (kind, deed)]
            for deed in ("act", "settle")
        }
        assert counts["settle"] == [1] * wanted, (name, deeds)
        assert sum(counts["act"]) == wanted + again, (name, deeds)


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory):
    """A portal on a PostgreSQL of its own, which the tests stop and start."""
    with Lab.start(f"durability-{os.getpid()}") as lab:
        folder = tmp_path_factory.mktemp("on-postgres")
        with FragilePortal(folder, BEIDOU_DATABASE_URL=lab.postgres()) as portal:
            yield lab, portal


@pytest.mark.parametrize("point", POINTS)
def test_a_database_that_is_started_again_in_the_middle_costs_nothing_but_time(on_postgres, point):
    lab, portal = on_postgres
    keys = portal.begin_each(point, "database", "ScaleUp")
    wait_until(
        lambda: interrupted(portal, point, "database"), "the operation at the point", SECONDS
    )
    lab.restart_postgres()
    (name,) = interrupted(portal, point, "database")
    (portal.folder / f"{name}.back").touch()
    (story,) = portal.wait_for_each(keys).values()
    assert (story["status"], story["ends"]) == ("succeeded", 1)
    assert story["machines"] == ["succeeded", "succeeded"]
    assert portal.strays() == []
