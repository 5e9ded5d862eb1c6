"""A portal of harmless operations that is killed in their middle, and what became of them."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psutil

from tests.operations.durability.points import POINTS
from tests.operations.lab.portal import ROOT, Portal, wait_until

Story = dict[str, Any]
Stories = dict[str, Story]
SECONDS = 90
# Machines of two, after a loss there.
DONE_AGAIN = {"acting": (2,), "acted": (2,), "half-written": (1,)}
# With these everybody's work ends, also the next step's, which another worker may have by then.
ALL_WORKERS = ("main", "portal", "database")


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

    def wait_for_each(self, keys: list[int]) -> Stories:
        """What became of the operations, by their kind."""
        self.wait_for("ended", keys, SECONDS)
        return {kind_of(name): story for name, story in self.ask("tell", keys).items()}

    def wait_for(self, question: str, keys: list[int], seconds: float) -> None:
        """Until the answer is yes.  A portal that was killed is started again, as systemd would."""

        def ended() -> Any:
            if self.process.poll() is not None:
                wait_until(lambda: self.family() == [], "its processes to be gone", 10)
                self.start()
            return self.ask(question, keys)

        wait_until(ended, "all that was begun to end", seconds)

    def deeds(self, point: str, victim: str) -> Counter[tuple[str, str, str, str]]:
        """(kind, step, deed, address) and how often it was done, of the operations so named."""
        lines = [line.split() for line in (self.folder / "deeds").read_text().splitlines()]
        return Counter(
            (kind_of(name), step, deed, address)
            for name, step, deed, address in lines
            if name.startswith(f"{point}--{victim}--")
        )

    def interrupted(self, point: str, victim: str, kind: str = "*") -> list[str]:
        """The names of what was interrupted."""
        return sorted(each.name for each in self.folder.glob(f"{point}--{victim}--{kind}"))

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

    def wait_for_strays(self) -> None:
        """Until nothing is left of what was killed."""
        wait_until(lambda: self._strays() == [], "processes of the killed to be gone", 10)

    def _strays(self) -> list[psutil.Process]:
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


def whose_turn(kinds: Collection[str], point: str, shift: int = 0) -> list[str]:
    """One or two kinds at each point, and each kind at one."""
    turn = POINTS.index(point) + shift
    assert len(kinds) >= len(POINTS)
    return [kind for number, kind in enumerate(sorted(kinds)) if (number - turn) % len(POINTS) == 0]


def assert_done_once(portal: FragilePortal, point: str, victim: str, stories: Stories) -> None:
    """Each of these was interrupted; each machine is settled once in each step, and what is done
    again is only what was open."""
    deeds = portal.deeds(point, victim)
    again = done_again(point, victim)
    for kind, story in stories.items():
        assert portal.interrupted(point, victim, kind)
        wanted = 2 * len(story["steps"])
        counts = {
            deed: [n for (its, _step, done, _), n in deeds.items() if (its, done) == (kind, deed)]
            for deed in ("act", "settle")
        }
        assert counts["settle"] == [1] * wanted, (kind, deeds)
        assert sum(counts["act"]) - wanted in again, (kind, deeds)


def done_again(point: str, victim: str) -> tuple[int, ...]:
    """How many machines may have been open when the victim died there."""
    if victim == "readers":
        return (0,)
    if point == "between" and victim in ALL_WORKERS:
        return (0, 1, 2)
    return DONE_AGAIN.get(point, (0,))
