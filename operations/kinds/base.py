"""What an operation kind is: typed parameters, a permission, and steps that prove what they did.

A kind is one module that builds a ``Kind`` and registers it.  The engine knows nothing else about
it.  Each step has two halves: ``act`` does the work, ``confirm`` looks at the world afterwards and
alone may call ``run.succeed``; exit code 0 is not success.  Whatever ``confirm`` leaves unsettled
has failed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from django.conf import settings
from django.utils.translation import gettext as _
from pydantic import BaseModel

from beidou.base.errors import InvalidInput
from beidou.base.models import User
from beidou.base.permissions import OPERATE
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from machines.models import Machine
from operations.kinds.lifecycle import Move
from operations.models import Operation, OperationMachine

Check = dict[str, Any]
Checks = Sequence[Mapping[str, Any]]


def check(
    name: str, ok: bool, found: str, wanted: str, advice: str = "", severity: str = "error"
) -> Check:
    """One thing looked at, as the modules on the hosts report theirs; a warning never blocks."""
    return {
        "check": name,
        "ok": ok,
        "found": found,
        "wanted": wanted,
        "advice": advice,
        "severity": severity,
    }


def asking(failed: Check, *answers: str) -> Check:
    """A failed check that asks: with one of these ``answers`` of the kind it would not block."""
    return {**failed, "answers": list(answers)}


AGAIN_FROM = "again_from"
"""In the evidence of a machine that failed: the step before that a retry does again for it, because
what that step has done holds no more."""


class Stopped(Exception):  # noqa: N818  not an error: somebody asked for it
    """The step must end now: canceled, out of time, or its lease was lost."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class StepRun(Protocol):
    """What a step sees of the engine while it runs.  All writes are fenced by the attempt."""

    operation: Operation
    cluster: Cluster
    params: Any
    step_name: str
    unit_prefix: str  # names what runs on hosts on its own, the same for every attempt of the step
    mark: str  # names this attempt's processes here
    number: int  # which attempt of the step this is, from 1
    timeout_seconds: int

    @property
    def targets(self) -> Sequence[OperationMachine]:
        """The machines of this step that have not failed in it."""

    def say(
        self, text: str, *, target: OperationMachine | None = None, level: str = "info"
    ) -> None:
        """One line of output; level is info, warning or error."""

    def note(self, target: OperationMachine, message: str) -> None:
        """What is being done with this machine now; shown in the matrix."""

    def succeed(
        self,
        target: OperationMachine,
        *,
        message: str = "",
        evidence: Mapping[str, Any] | None = None,
        checks: Checks = (),
    ) -> None: ...

    def fail(
        self,
        target: OperationMachine,
        message: str,
        *,
        evidence: Mapping[str, Any] | None = None,
        checks: Checks = (),
    ) -> None: ...

    def should_stop(self) -> bool:
        """Cheap; asked often."""

    def stop_if_asked(self) -> None:
        """Raise ``Stopped`` when the step must end."""


def mistake(error: Exception) -> Sentence:
    """Our own mistake, for people; the traceback is in the log."""
    return Sentence(
        "The portal made a mistake in this step (%(error)s); see its log.",
        error=type(error).__name__,
    )


Params = Mapping[str, Any]
Act = Callable[[StepRun], Any]
Confirm = Callable[[StepRun, Any], None]


@dataclass(frozen=True)
class StepKind:
    """One step.

    ``timeout_seconds`` plus ``seconds_per_round`` for every ``forks`` machines is its time limit.
    ``idempotent``: after a lost worker it may simply be done again; otherwise a person is asked.
    ``repeats`` says it of one operation, where not all of the kind are alike.

    ``touches``: the step changes machines, so one that failed in it is not as it was delivered.

    ``may_be_skipped``: False where what comes later must be able to count on it.
    ``cleanup`` ends what the step left running: after a cancel, a failure or a loss of the whole
    step, and for machines that failed in a step that was done for others.

    ``part`` picks those of a plan's machines that the step does something with; the others pass it.

    ``wave`` picks those of the waiting machines that go next; each wave is an attempt of its own,
    with its own time limit, and between two of them an operation is paused, canceled or stopped.

    ``outside``: with these parameters it does nothing but ask a system outside and wait for what
    that says, for an hour perhaps.  It is done beside the workers and keeps none of them.
    """

    name: str
    title: Any
    act: Act
    confirm: Confirm
    timeout_seconds: int
    seconds_per_round: int = 0
    idempotent: bool = True
    touches: bool = False
    may_be_skipped: bool = True
    cleanup: Callable[[StepRun], None] | None = None
    repeats: Callable[[Operation], bool] = lambda _: True
    part: Callable[[Any, Sequence[Machine]], Sequence[Machine]] = lambda _params, machines: machines
    wave: Callable[[Any, Sequence[OperationMachine]], Sequence[OperationMachine]] | None = None
    outside: Callable[[Params], bool] = lambda _: False

    def may_be_repeated(self, operation: Operation) -> bool:
        return self.idempotent and self.repeats(operation)

    def time_limit(self, machines: int, forks: int) -> int:
        """Seconds for this many machines, at most what the queue lets a task run."""
        rounds = -(-machines // max(forks, 1))
        wanted = self.timeout_seconds + self.seconds_per_round * rounds
        return min(wanted, int(settings.STEP_TIMEOUT_MAX))


@dataclass(frozen=True)
class Blocker:
    """Why a machine (or, with None, the whole operation) cannot take part: one reason, the cause of
    the ``further`` ones."""

    machine: Machine | None
    reason: str
    further: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        return (self.reason, *self.further)

    def __str__(self) -> str:
        return "; ".join(self.reasons)


@dataclass(frozen=True)
class Remark:
    """What somebody should know of a machine (with None, of the whole) before they start; it stops
    nothing."""

    machine: Machine | None
    text: str


@dataclass(frozen=True)
class Kind:
    """One kind of operation; ``name`` is what manifests, API and pages call it.

    ``reserve`` (before the operation begins) and ``release`` (at its end; None: nothing was begun)
    say what a machine becomes.  The engine does it for all machines at once.

    ``blockers`` says all that is in the way of a machine, the cause of the rest first; it is asked
    by a plan and again by a retry, unless ``retry_blockers`` takes its place there: machines that
    have gone half the way may not be judged as before the first step.

    ``remarks`` are told with a plan to the person who asks for it, and block nothing.

    ``fresh_states``: a machine with which more than ``looks`` was begun and that is in one of these
    was brought back to the beginning meanwhile (cleaned, say), so that a retry begins with its
    first step.

    ``outdated`` are steps whose results are too old by now to go on with: a retry and a resume do
    them again for the machines that are not through.
    ``takes_roles``: machines become what their role says, so a machine's own must be one of
    ``roles`` unless another is given; other kinds make nothing of it.

    ``role``: what every machine is in it, whatever its own role says.

    ``concerns``: whether it is of any use for a machine; pages offer it for such alone.

    ``whole_cluster``: it works on machines of its cluster; none chosen means all of them.

    ``whole_only``: some of those machines are not enough, so that no task does it in batches.

    ``compares``: its checks say what has changed since the last time, and are shown in a table.

    ``looks`` are steps that only look: an operation of such alone leaves machines what they are,
    and is no change for windows, freezes and limits.

    ``found``: a sentence on all its checks, said at its end beside which machines failed.

    ``phases``: where in its life the cluster must be.  ``makes_cluster``: the operation's cluster
    is made together with it, by ``services.create_cluster``, and it is begun in no other way.

    ``stops_at_first``: the first machine that fails ends the operation, whatever share of failures
    was asked for; those that were not begun stay as they are.

    ``answers`` are parameters that a retry may change, ``approvals`` those of them that nobody may
    choose for an operation of their own: somebody else with the right to approve does, each time.

    Where parameters mean something only together with stored rows: ``settle`` completes typed ones
    for who asks and refuses wrong ones; ``secrets`` names those of typed ones that are never stored
    with the rest, so that no task can hold them until it has its turn; ``keep`` stores with a new
    operation what does not belong into its parameters; ``is_same`` compares stored parameters with
    typed ones that ask again; ``require`` refuses whoever may not have this operation done again;
    ``changes`` says of which the kind's ``mutating`` is true; ``holds`` False is for a change that
    works beside others on the same machines; ``options`` is the JSON schema of the form by what is
    chosen so far; ``about`` are label and text of what is done, for plan and page; ``is_offered``
    whether there is anything of the kind for a person to begin; ``alike`` are the parameters that
    must be the same for earlier runs to tell how long one takes.
    """

    name: str
    title: Any
    description: Any
    params: type[BaseModel]
    steps: tuple[StepKind, ...]
    icon: str = "settings"
    permission: str = OPERATE
    mutating: bool = True
    holds: bool = True
    roles: tuple[str, ...] = ("Compute",)
    takes_roles: bool = False
    role: str = ""
    whole_cluster: bool = False
    whole_only: bool = False
    compares: bool = False
    startable_states: frozenset[str] = frozenset({Machine.State.AVAILABLE})
    fresh_states: frozenset[str] = frozenset()
    looks: frozenset[str] = frozenset()
    phases: frozenset[str] = frozenset({Cluster.Phase.RUNNING})
    makes_cluster: bool = False
    stops_at_first: bool = False
    answers: frozenset[str] = frozenset()
    approvals: frozenset[str] = frozenset()
    concerns: Callable[[Machine], bool] = lambda _: True
    blockers: Callable[[Cluster, Sequence[Machine], Any], list[Blocker]] = lambda *_: []
    remarks: Callable[[Cluster, Sequence[Machine], User], list[Remark]] = lambda *_: []
    retry_blockers: Callable[[Cluster, Sequence[Machine], Any], list[Blocker]] | None = None
    outdated: Callable[[Operation], Collection[str]] = lambda _: ()
    reserve: Callable[[Operation, Machine], Move | None] = lambda *_: None
    release: Callable[[OperationMachine, str | None], Move | None] = lambda *_: None
    settle: Callable[[Cluster, Any, User], None] = lambda *_: None
    secrets: Callable[[Any], Sequence[str]] = lambda _: ()
    keep: Callable[[Operation, Any], None] = lambda *_: None
    is_same: Callable[[Params, Any], bool] | None = None
    require: Callable[[Operation, User], None] = lambda *_: None
    changes: Callable[[Params], bool] = lambda _: True
    options: Callable[[Params, User], dict[str, Any]] | None = None
    about: Callable[[Params], list[tuple[str, str]]] = lambda _: []
    found: Callable[[Operation], str] = lambda _: ""
    is_offered: Callable[[User], bool] = lambda _: True
    alike: tuple[str, ...] = ()
    step_names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "step_names", frozenset(step.name for step in self.steps))

    def is_mutating(self, params: Params) -> bool:
        return self.mutating and self.changes(params)

    def changes_in(self, steps: Collection[str], params: Params) -> bool:
        """Whether these of its steps change anything."""
        return self.is_mutating(params) and not set(steps) <= self.looks

    def holds_machines(self, params: Params) -> bool:
        return self.holds and self.is_mutating(params)

    def step(self, name: str) -> StepKind:
        return next(step for step in self.steps if step.name == name)

    def find_step(self, name: str) -> StepKind | None:
        """None for a step that this version does not know, as after a downgrade."""
        return next((step for step in self.steps if step.name == name), None)

    def phase_blockers(self, cluster: Cluster) -> list[Blocker]:
        """One when the cluster is at a place in its life where this cannot be done to it."""
        if cluster.phase in self.phases:
            return []
        reason = _("the cluster is “%(phase)s”") % {"phase": cluster.get_phase_display()}
        return [Blocker(None, reason)]


KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> Kind:
    KINDS[kind.name] = kind
    return kind


def goes_in_waves(kind: str, step: str) -> bool:
    """Whether a step is many attempts, each with some of its machines."""
    known = KINDS.get(kind)
    found = known.find_step(step) if known is not None else None
    return found is not None and found.wave is not None


def get(name: str) -> Kind:
    """The kind called ``name``; ``InvalidInput`` names those there are."""
    try:
        return KINDS[name]
    except KeyError:
        sentence = _("There is no operation kind “%(name)s”; known are %(known)s.") % {
            "name": name,
            "known": ", ".join(sorted(KINDS)),
        }
        raise InvalidInput(sentence, code="unknown_kind", fields={"kind": sentence}) from None
